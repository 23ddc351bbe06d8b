// The container of a PNG file: signature, then chunks of length, type, data and CRC. Specification: W3C PNG, section 5.
import { ImageFormatError } from "../errors.ts";

/** The eight bytes every PNG starts with. */
const pngSignature = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);

/** One chunk; `data` is a view of the file. */
export interface PngChunk {
  readonly type: string;
  readonly data: Uint8Array;
}

/** Whether bytes start like a PNG. */
export function isPng(bytes: Uint8Array): boolean {
  return pngSignature.every((value, i) => bytes[i] === value);
}

/** The chunks of a PNG up to IEND, each with its CRC checked. Throws `ImageFormatError` for anything cut or damaged. */
export function* readChunks(op: string, bytes: Uint8Array): Generator<PngChunk> {
  if (!isPng(bytes)) throw new ImageFormatError(op, `not a PNG file: it starts with ${hexOf(bytes.subarray(0, 8)) || "nothing"}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = pngSignature.length; ; ) {
    if (at + 12 > bytes.length) throw new ImageFormatError(op, `the file is cut: it ends at byte ${bytes.length} without an IEND chunk`);
    const length = view.getUint32(at);
    const type = latin1Of(bytes.subarray(at + 4, at + 8));
    if (!/^[A-Za-z]{4}$/.test(type)) throw new ImageFormatError(op, `no chunk starts at byte ${at}: the file is damaged`);
    const end = at + 8 + length;
    if (end + 4 > bytes.length) {
      throw new ImageFormatError(
        op,
        `the file is cut: chunk ${type} at byte ${at} states ${length} bytes, ${bytes.length - at - 8} are left`,
      );
    }
    if (view.getUint32(end) !== crc32(bytes.subarray(at + 4, end))) {
      throw new ImageFormatError(op, `chunk ${type} at byte ${at} is damaged: its CRC is wrong`);
    }
    yield { type, data: bytes.subarray(at + 8, end) };
    if (type === "IEND") return;
    at = end + 4;
  }
}

/** A PNG file of the given chunks; IEND is added. */
export function writeChunks(chunks: readonly PngChunk[]): Uint8Array {
  const all = [...chunks, { type: "IEND", data: new Uint8Array(0) }];
  const file = new Uint8Array(all.reduce((sum, chunk) => sum + 12 + chunk.data.length, pngSignature.length));
  const view = new DataView(file.buffer);
  file.set(pngSignature);
  let at = pngSignature.length;
  for (const { type, data } of all) {
    view.setUint32(at, data.length);
    for (let i = 0; i < 4; i++) file[at + 4 + i] = type.charCodeAt(i);
    file.set(data, at + 8);
    view.setUint32(at + 8 + data.length, crc32(file.subarray(at + 4, at + 8 + data.length)));
    at += 12 + data.length;
  }
  return file;
}

/** Bytes as characters of ISO 8859-1 (TextDecoder's "latin1" is another encoding). */
export function latin1Of(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  return text;
}

const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** CRC-32 as PNG and zip use it. */
export function crc32(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) c = crcTable[(c ^ bytes[i]!) & 0xff]! ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

function hexOf(bytes: Uint8Array): string {
  return [...bytes].map((value) => value.toString(16).padStart(2, "0")).join(" ");
}
