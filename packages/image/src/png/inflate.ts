// Decompression with a ceiling: however large the compressed data claims to be, no more than the stated size is written.
import { unzlibSync } from "fflate";
import { ImageFormatError } from "../errors.ts";

/**
 * Inflates zlib data into at most `limitBytes` bytes; what would come after them is dropped.
 * Throws ImageFormatError for damaged data.
 */
export function inflateBounded(op: string, what: string, data: Uint8Array, limitBytes: number): Uint8Array {
  // Deflate cannot expand by more than 1032 times, so a small input never needs the whole limit.
  const room = Math.min(limitBytes, data.length * 1032 + 64);
  try {
    return unzlibSync(data, { out: new Uint8Array(room) });
  } catch (cause) {
    throw new ImageFormatError(op, `${what} does not decompress: ${(cause as Error).message}`, { cause });
  }
}
