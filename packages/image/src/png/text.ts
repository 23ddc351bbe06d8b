// Text in PNG files: tEXt (Latin-1), zTXt (the same, compressed) and iTXt (UTF-8). Specification: W3C PNG, section 11.3.3.
import { ImageFormatError, ImageValueError } from "../errors.ts";
import { latin1Of, type PngChunk, readChunks } from "./chunks.ts";
import { inflateBounded } from "./inflate.ts";

const textLimitBytes = 16 * 2 ** 20;
const textTypes = new Set(["tEXt", "zTXt", "iTXt"]);

/** The texts of a PNG file by keyword (the last one of a repeated keyword), without decoding the picture. */
export function readPngText(bytes: Uint8Array): Record<string, string> {
  return collectText("readPngText", readChunks("readPngText", bytes));
}

/** The texts among `chunks` by keyword. */
export function collectText(op: string, chunks: Iterable<PngChunk>): Record<string, string> {
  const texts: [string, string][] = [];
  for (const chunk of chunks) if (textTypes.has(chunk.type)) texts.push(decodeText(op, chunk));
  return Object.fromEntries(texts);
}

/** The chunk for one text: tEXt where Latin-1 suffices, iTXt otherwise. Throws `ImageValueError` for a keyword PNG does not allow. */
export function textChunk(keyword: string, text: string): PngChunk {
  const printable = /^[\x21-\x7e\xa1-\xff](?:[\x20-\x7e\xa1-\xff]{0,77}[\x21-\x7e\xa1-\xff])?$/.test(keyword);
  if (!printable || keyword.includes("  ")) {
    const rule = "1 to 79 printable Latin-1 characters, no space at either end and no two in a row";
    throw new ImageValueError("encodePng", `${JSON.stringify(keyword)} cannot be a text keyword; use ${rule}`);
  }
  if (text.includes("\0")) throw new ImageValueError("encodePng", `the text of ${keyword} has a NUL character, which PNG cannot carry`);
  if (/^[\n\x20-\x7e\xa0-\xff]*$/.test(text)) return { type: "tEXt", data: latin1Bytes(`${keyword}\0${text}`) };
  return { type: "iTXt", data: joined(latin1Bytes(`${keyword}\0\0\0\0\0`), new TextEncoder().encode(text)) };
}

function decodeText(op: string, { type, data }: PngChunk): [string, string] {
  const [keyword, rest] = untilNul(op, type, data);
  if (type === "tEXt") return [keyword, latin1Of(rest)];
  if (type === "zTXt") return [keyword, latin1Of(inflateText(op, keyword, rest[0], rest.subarray(1)))];
  const [, translated] = untilNul(op, type, rest.subarray(2));
  const [, body] = untilNul(op, type, translated);
  const plain = rest[0] === 1 ? inflateText(op, keyword, rest[1], body) : body;
  return [keyword, new TextDecoder().decode(plain)];
}

function inflateText(op: string, keyword: string, method: number | undefined, data: Uint8Array): Uint8Array {
  if (method !== 0) throw new ImageFormatError(op, `the text ${keyword} has unknown compression method ${method}`);
  const text = inflateBounded(op, `the text ${keyword}`, data, textLimitBytes + 1);
  if (text.length <= textLimitBytes) return text;
  throw new ImageFormatError(op, `the text ${keyword} is longer than ${textLimitBytes} bytes`);
}

function untilNul(op: string, type: string, data: Uint8Array): [string, Uint8Array] {
  const end = data.indexOf(0);
  if (end < 0) throw new ImageFormatError(op, `a ${type} chunk of ${data.length} bytes has a string without an end`);
  return [latin1Of(data.subarray(0, end)), data.subarray(end + 1)];
}

function latin1Bytes(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
