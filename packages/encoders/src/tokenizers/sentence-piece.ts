// Reads spiece.model, a protobuf `ModelProto` (facts: google/sentencepiece src/sentencepiece_model.proto), as far as a
// unigram tokenizer needs it.

import { TokenizerError } from "./errors.ts";

/** One piece of the vocabulary. */
export interface SentencePiece {
  readonly text: string;
  readonly score: number;
  readonly type: "normal" | "unknown" | "control" | "userDefined" | "unused" | "byte";
}

/** What spiece.model holds of a unigram tokenizer. */
export interface SentencePieceFile {
  readonly pieces: readonly SentencePiece[];
  readonly unknownId: number;
  /** The precompiled character map; empty for the identity. */
  readonly charsmap: Uint8Array;
}

// Field numbers of the .proto file.
const modelProto = { pieces: 1, trainerSpec: 2, normalizerSpec: 3 };
const pieceProto = { text: 1, score: 2, type: 3 };
const trainerSpec = { modelType: 3 };
const normalizerSpec = { charsmap: 2 };
const unigram = 1;
const pieceTypes = [undefined, "normal", "unknown", "control", "userDefined", "unused", "byte"] as const;

type Field = { readonly number: number; readonly value: number | Uint8Array };

function damaged(at: number, size: number): TokenizerError {
  return new TokenizerError("spiece.model", `the protobuf breaks off or is malformed: byte ${at} of ${size}; download the file again`);
}

/** Walks the fields of one protobuf message. Fixed 32-bit values come as float, 64-bit ones (none are used) are skipped. */
function* fieldsOf(bytes: Uint8Array): Generator<Field> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; scale < 2 ** 70; scale *= 128) {
      const byte = bytes[at++];
      if (byte === undefined) throw damaged(at, bytes.length);
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw damaged(at, bytes.length);
  };
  const advance = (size: number): number => {
    const start = at;
    if (size > bytes.length - at) throw damaged(at, bytes.length);
    at += size;
    return start;
  };
  while (at < bytes.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    const wireType = tag % 8;
    if (wireType === 0) yield { number, value: varint() };
    else if (wireType === 1) advance(8);
    else if (wireType === 2) {
      const size = varint();
      const start = advance(size);
      yield { number, value: bytes.subarray(start, start + size) };
    } else if (wireType === 5) yield { number, value: view.getFloat32(advance(4), true) };
    else throw damaged(at, bytes.length);
  }
}

function message(value: number | Uint8Array): Uint8Array {
  if (typeof value === "number")
    throw new TokenizerError("spiece.model", "a message is stored as a number; this is no SentencePiece model");
  return value;
}

function parsePiece(bytes: Uint8Array): SentencePiece {
  let text = "";
  let score = 0;
  let type: SentencePiece["type"] = "normal";
  for (const { number, value } of fieldsOf(bytes)) {
    if (number === pieceProto.text) text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(message(value));
    else if (number === pieceProto.score) score = Number(value);
    else if (number === pieceProto.type) type = pieceTypes[Number(value)] ?? "normal";
  }
  return { text, score, type };
}

function checkModelType(trainer: Uint8Array): void {
  for (const { number, value } of fieldsOf(trainer)) {
    if (number === trainerSpec.modelType && value !== unigram) {
      throw new TokenizerError("spiece.model", `model type ${String(value)} is not supported; a T5 tokenizer is unigram (${unigram})`);
    }
  }
}

/** Parses the bytes of spiece.model; throws TokenizerError when they are malformed or hold another model than unigram. */
export function parseSentencePiece(bytes: Uint8Array): SentencePieceFile {
  const pieces: SentencePiece[] = [];
  let charsmap: Uint8Array = new Uint8Array(0);
  for (const { number, value } of fieldsOf(bytes)) {
    if (number === modelProto.pieces) pieces.push(parsePiece(message(value)));
    else if (number === modelProto.trainerSpec) checkModelType(message(value));
    else if (number === modelProto.normalizerSpec) {
      for (const field of fieldsOf(message(value))) if (field.number === normalizerSpec.charsmap) charsmap = message(field.value);
    }
  }
  const unknownId = pieces.findIndex((piece) => piece.type === "unknown");
  if (unknownId < 0)
    throw new TokenizerError("spiece.model", `no piece is marked unknown among ${pieces.length}; this is no SentencePiece model`);
  return { pieces, unknownId, charsmap };
}
