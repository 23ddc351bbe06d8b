// T5's tokenizer (google/t5-v1_1-xxl, FLUX.1 `tokenizer_2/`): SentencePiece unigram with its precompiled character map.
// Rules of a repository with spiece.model alone: transformers src/transformers/models/t5/tokenization_t5.py.

import { TokenizerError } from "./errors.ts";
import { binaryFile, jsonFile, presentFiles, type TokenizerFiles } from "./files.ts";
import type { JsonObject } from "./json-fields.ts";
import { parseSentencePiece, type SentencePieceFile } from "./sentence-piece.ts";
import { Tokenizer } from "./tokenizer.ts";

const mark = "\u2581";
const endToken = "</s>";
/** Sentinels `<extra_id_99>` to `<extra_id_0>` that follow the pieces of spiece.model. */
const sentinelCount = 100;

function bytesToBase64(bytes: Uint8Array): string {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

function checkPieceTypes(file: SentencePieceFile): void {
  const odd = file.pieces.find((piece) => piece.type === "userDefined" || piece.type === "byte");
  if (!odd) return;
  const what = `${odd.type} piece ${JSON.stringify(odd.text)}`;
  throw new TokenizerError("t5Tokenizer", `spiece.model has pieces T5 does not use: ${what}; load the repository's tokenizer.json instead`);
}

function t5Json(file: SentencePieceFile): JsonObject {
  checkPieceTypes(file);
  const pieces = file.pieces.map(({ text, score }): [string, number] => [text, score]);
  const sentinels = Array.from({ length: sentinelCount }, (_, i): [string, number] => [`<extra_id_${sentinelCount - 1 - i}>`, 0]);
  const vocabulary = [...pieces, ...sentinels];
  const special = (id: number) => ({ id, content: vocabulary[id]![0], special: true, normalized: false });
  const controls = file.pieces.flatMap((piece, id) => (piece.type === "control" || piece.type === "unknown" ? [special(id)] : []));
  const end = controls.find((token) => token.content === endToken);
  if (!end) throw new TokenizerError("t5Tokenizer", `spiece.model has no ${endToken} piece; is it the tokenizer of another text encoder?`);
  return {
    added_tokens: [...controls, ...sentinels.map((_, i) => special(pieces.length + i))],
    normalizer: { type: "Precompiled", precompiled_charsmap: bytesToBase64(file.charsmap) },
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [{ type: "WhitespaceSplit" }, { type: "Metaspace", replacement: mark, prepend_scheme: "always", split: true }],
    },
    post_processor: {
      type: "TemplateProcessing",
      single: [{ Sequence: { id: "A" } }, { SpecialToken: { id: endToken } }],
      special_tokens: { [endToken]: { ids: [end.id] } },
    },
    decoder: { type: "Metaspace", replacement: mark, prepend_scheme: "always" },
    model: { type: "Unigram", vocab: vocabulary, unk_id: file.unknownId, byte_fallback: false },
  };
}

function jsonOf(files: TokenizerFiles): JsonObject {
  const json = jsonFile(files, "tokenizer.json");
  if (json) return json;
  const model = binaryFile(files, "spiece.model");
  if (model) return t5Json(parseSentencePiece(model));
  throw new TokenizerError("t5Tokenizer", `needs tokenizer.json or spiece.model: got ${presentFiles(files)}`);
}

/**
 * Loads T5's tokenizer from tokenizer.json or from spiece.model (tokenizer_config.json beside either); FLUX.1 encodes
 * with `{ maxLength: 512, pad: true }` (schnell 256). Throws TokenizerError when a file is missing or malformed.
 */
export function t5Tokenizer(files: TokenizerFiles): Tokenizer {
  const config = jsonFile(files, "tokenizer_config.json") ?? {};
  return new Tokenizer(jsonOf(files), config, { kind: "t5Tokenizer", modelType: "Unigram", padToken: "<pad>" });
}
