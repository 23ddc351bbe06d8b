// CLIP's tokenizer (openai/clip-vit-large-patch14, FLUX.1 `tokenizer/`): lower-case byte-level BPE with `</w>` word ends.
// Rules of a repository without tokenizer.json: transformers src/transformers/models/clip/tokenization_clip.py.

import { TokenizerError } from "./errors.ts";
import { jsonFile, parseMergesText, presentFiles, type TokenizerFiles, textFile } from "./files.ts";
import { asObject, asTokenId, type JsonObject } from "./json-fields.ts";
import { Tokenizer } from "./tokenizer.ts";

const startToken = "<|startoftext|>";
const endToken = "<|endoftext|>";
const words = "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+";

/** The matching rules tokenizer_config.json gives a special token, in either of the two places writers put them. */
function declaredRules(config: JsonObject, content: string): JsonObject {
  const declared = [
    ...Object.values(asObject(config["added_tokens_decoder"] ?? {}, "added_tokens_decoder")),
    config["bos_token"],
    config["eos_token"],
  ];
  const rules = declared.find((entry) => typeof entry === "object" && entry !== null && "content" in entry && entry.content === content);
  return (rules ?? { normalized: false }) as JsonObject;
}

function clipJson(vocabulary: JsonObject, merges: string, config: JsonObject): JsonObject {
  const special = (content: string) => {
    const id = asTokenId(vocabulary[content], `vocab.json[${JSON.stringify(content)}]`);
    return { ...declaredRules(config, content), content, id, special: true };
  };
  const [start, end] = [special(startToken), special(endToken)];
  return {
    added_tokens: [start, end],
    normalizer: {
      type: "Sequence",
      normalizers: [{ type: "NFC" }, { type: "Replace", pattern: { Regex: "\\s+" }, content: " " }, { type: "Lowercase" }],
    },
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex: words }, behavior: "Removed", invert: true },
        { type: "ByteLevel", add_prefix_space: false, use_regex: true },
      ],
    },
    post_processor: { type: "RobertaProcessing", cls: [startToken, start.id], sep: [endToken, end.id] },
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", vocab: vocabulary, merges: parseMergesText(merges), end_of_word_suffix: "</w>", unk_token: endToken },
  };
}

function jsonOf(files: TokenizerFiles, config: JsonObject): JsonObject {
  const json = jsonFile(files, "tokenizer.json");
  if (json) return json;
  const vocabulary = jsonFile(files, "vocab.json");
  const merges = textFile(files, "merges.txt");
  if (vocabulary && merges !== undefined) return clipJson(vocabulary, merges, config);
  throw new TokenizerError("clipTokenizer", `needs tokenizer.json, or vocab.json and merges.txt: got ${presentFiles(files)}`);
}

/**
 * Loads CLIP's tokenizer from tokenizer.json or from vocab.json and merges.txt (tokenizer_config.json beside either);
 * FLUX.1 encodes with `{ maxLength: 77, pad: true }`. Throws TokenizerError when a file is missing or malformed.
 */
export function clipTokenizer(files: TokenizerFiles): Tokenizer {
  const config = jsonFile(files, "tokenizer_config.json") ?? {};
  return new Tokenizer(jsonOf(files, config), config, { kind: "clipTokenizer", modelType: "BPE", padToken: endToken });
}
