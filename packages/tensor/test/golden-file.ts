// Reads a committed golden (safetensors written by Python) with as little code as possible, independent of the loaders under test.
import { readFileSync } from "node:fs";

/** Tensors of `goldens/<name>` as raw little-endian bytes. */
export function readGolden(name: string): (tensor: string) => Uint8Array<ArrayBuffer> {
  const file = readFileSync(new URL(`./goldens/${name}`, import.meta.url));
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, 8 + headerBytes)) as Record<string, { data_offsets: [number, number] }>;
  return (tensor) => {
    const entry = header[tensor];
    if (!entry) throw new Error(`golden ${name} has no tensor ${tensor}`);
    return Uint8Array.from(file.subarray(8 + headerBytes + entry.data_offsets[0], 8 + headerBytes + entry.data_offsets[1]));
  };
}

export const asFloats = (bytes: Uint8Array<ArrayBuffer>): Float32Array => new Float32Array(bytes.buffer);
