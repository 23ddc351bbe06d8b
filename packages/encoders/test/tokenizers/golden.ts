// Loads the tokenizer fixtures and goldens that tools/reference/tokenizers.py wrote, and compares a tokenizer with them.

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import type { Tokenizer } from "../../src/tokenizers/index.ts";

const root = new URL("../goldens/tokenizers/", import.meta.url);

/** What golden.json.gz holds: CRC-32 of the little-endian int32 ids of every string, and whole ids of some. */
export interface TokenizerGolden {
  readonly crc: number[];
  readonly lengths: number[];
  readonly ids: Record<string, number[]>;
  readonly shaped: { maxLength: number; crc: number[]; maskSum: number[] }[];
  readonly decodedCrc: number[];
  readonly chats?: { prompt: string; enableThinking: boolean; text: string; ids: number[] }[];
}

const crcTable = Int32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** CRC-32 (zlib's) of bytes. */
export function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) crc = crcTable[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ -1) >>> 0;
}

export function readGolden(name: string): Uint8Array {
  const bytes = readFileSync(new URL(name, root));
  return name.endsWith(".gz") ? gunzipSync(bytes) : bytes;
}

export function readGoldenJson<T>(name: string): T {
  return JSON.parse(Buffer.from(readGolden(name)).toString("utf8")) as T;
}

export const strings: readonly string[] = readGoldenJson<string[]>("strings.json.gz");

function idsCrc(ids: Int32Array): number {
  return crc32(new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength));
}

/** The strings whose ids differ from the golden's: empty when all are the same. */
export function differingStrings(tokenizer: Tokenizer, golden: TokenizerGolden): string[] {
  return strings.filter((text, i) => {
    const { ids } = tokenizer.encode(text);
    return ids.length !== golden.lengths[i] || idsCrc(ids) !== golden.crc[i];
  });
}

/** The strings that come out differently cut and padded to `maxLength`. */
export function differingShapes(tokenizer: Tokenizer, shape: TokenizerGolden["shaped"][number]): string[] {
  return strings.filter((text, i) => {
    const { ids, mask, length } = tokenizer.encode(text, { maxLength: shape.maxLength, pad: true });
    const maskSum = mask.reduce((sum, bit) => sum + bit, 0);
    return idsCrc(ids) !== shape.crc[i] || maskSum !== shape.maskSum[i] || length !== maskSum;
  });
}

/** The strings whose ids decode to another text than the reference's. */
export function differingDecodes(tokenizer: Tokenizer, golden: TokenizerGolden): string[] {
  return strings.slice(0, golden.decodedCrc.length).filter((text, i) => {
    const decoded = tokenizer.decode(tokenizer.encode(text).ids);
    return crc32(new TextEncoder().encode(decoded)) !== golden.decodedCrc[i];
  });
}

/** Whole id lists of the short fixed cases, as [text, expected ids]. */
export function shownCases(golden: TokenizerGolden): [string, number[]][] {
  return Object.entries(golden.ids).map(([i, ids]) => [strings[Number(i)]!, ids]);
}

/** tokenizer files of CLIP; vocab.json follows from the merges by OpenAI's rule. */
export function clipFiles(): { "vocab.json": string; "merges.txt": string; "tokenizer_config.json": string } {
  const merges = Buffer.from(readGolden("clip/merges.txt.gz")).toString("utf8");
  const printable = [range(33, 127), range(161, 173), range(174, 256)].flat();
  const others = range(256, 256 + 256 - printable.length);
  const bytes = [...printable, ...others].map((code) => String.fromCharCode(code));
  const lines = merges.trimEnd().split("\n").slice(1);
  const tokens = [...bytes, ...bytes.map((b) => `${b}</w>`), ...lines.map((l) => l.replace(" ", "")), "<|startoftext|>", "<|endoftext|>"];
  return {
    "vocab.json": JSON.stringify(Object.fromEntries(tokens.map((token, id) => [token, id]))),
    "merges.txt": merges,
    "tokenizer_config.json": Buffer.from(readGolden("clip/tokenizer_config.json")).toString("utf8"),
  };
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}
