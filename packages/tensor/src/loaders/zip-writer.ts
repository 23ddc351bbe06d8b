// Writes a ZIP archive of stored entries front to back; sizes are known ahead, checksums follow the data. Zip64 where 32 bits are too few.
// Format: PKWARE APPNOTE 6.3, sections 4.3.7 to 4.3.16.
import { FormatError } from "../errors.ts";
import type { ByteSink } from "./sink.ts";

const FULL = 0xffffffff;
/** Checksum and sizes follow the data; names are UTF-8. */
const FLAGS = 0x0808;
/** 1 January 1980, the first date ZIP knows: output depends on input only. */
const DOS_DATE = 0x21;

let crcTable: Uint32Array | undefined;

function makeCrcTable(): Uint32Array {
  return Uint32Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
    return n;
  });
}

/** CRC-32 of ZIP, continued from `crc` (0 at the start). */
export function crc32(bytes: Uint8Array, crc = 0): number {
  crcTable ??= makeCrcTable();
  let c = ~crc;
  for (let i = 0; i < bytes.length; i++) c = crcTable[(c ^ bytes[i]!) & 255]! ^ (c >>> 8);
  return ~c >>> 0;
}

interface Written {
  readonly name: Uint8Array;
  readonly sizeBytes: number;
  readonly offset: number;
  readonly crc: number;
}

/** Little-endian fields of 2, 4 or 8 bytes. */
function fields(...values: readonly (readonly [2 | 4 | 8, number])[]): Uint8Array {
  const out = new Uint8Array(values.reduce((n, [width]) => n + width, 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const [width, value] of values) {
    if (width === 2) view.setUint16(at, value, true);
    else if (width === 4) view.setUint32(at, value, true);
    else view.setBigUint64(at, BigInt(value), true);
    at += width;
  }
  return out;
}

/** Writes an uncompressed zip archive piece by piece. */
export class ZipWriter {
  private readonly sink: ByteSink;
  private readonly written: Written[] = [];
  private at = 0;

  constructor(sink: ByteSink) {
    this.sink = sink;
  }

  /** Writes one stored entry of exactly `sizeBytes`; throws FormatError when `write` gives another number of bytes. */
  async entry(path: string, sizeBytes: number, write: (sink: ByteSink) => Promise<void>): Promise<void> {
    const name = new TextEncoder().encode(path);
    const offset = this.at;
    const wide = sizeBytes >= FULL;
    const extra = wide ? fields([2, 1], [2, 16], [8, sizeBytes], [8, sizeBytes]) : new Uint8Array(0);
    const size = wide ? FULL : sizeBytes;
    await this.put(
      fields(
        [4, 0x04034b50],
        [2, wide ? 45 : 20],
        [2, FLAGS],
        [2, 0],
        [2, 0],
        [2, DOS_DATE],
        [4, 0],
        [4, size],
        [4, size],
        [2, name.length],
        [2, extra.length],
      ),
    );
    await this.put(name);
    await this.put(extra);
    const start = this.at;
    let crc = 0;
    await write({
      write: async (bytes) => {
        crc = crc32(bytes, crc);
        await this.put(bytes);
      },
    });
    if (this.at - start !== sizeBytes) throw new FormatError("writeZip", `${this.at - start} of ${sizeBytes} bytes came for ${path}`);
    await this.put(fields([4, 0x08074b50], [4, crc], [wide ? 8 : 4, sizeBytes], [wide ? 8 : 4, sizeBytes]));
    this.written.push({ name, sizeBytes, offset, crc });
  }

  /** Writes the directory; the archive is complete then. */
  async finish(): Promise<void> {
    const start = this.at;
    for (const entry of this.written) await this.directoryEntry(entry);
    const bytes = this.at - start;
    const count = this.written.length;
    if (start >= FULL || count >= 0xffff) {
      const record = this.at;
      await this.put(fields([4, 0x06064b50], [8, 44], [2, 45], [2, 45], [4, 0], [4, 0], [8, count], [8, count], [8, bytes], [8, start]));
      await this.put(fields([4, 0x07064b50], [4, 0], [8, record], [4, 1]));
    }
    const few = Math.min(count, 0xffff);
    await this.put(
      fields([4, 0x06054b50], [2, 0], [2, 0], [2, few], [2, few], [4, Math.min(bytes, FULL)], [4, Math.min(start, FULL)], [2, 0]),
    );
  }

  private async directoryEntry({ name, sizeBytes, offset, crc }: Written): Promise<void> {
    const wide = sizeBytes >= FULL || offset >= FULL;
    const extra = wide ? fields([2, 1], [2, 24], [8, sizeBytes], [8, sizeBytes], [8, offset]) : new Uint8Array(0);
    const size = wide ? FULL : sizeBytes;
    const version = wide ? 45 : 20;
    const head = fields(
      [4, 0x02014b50],
      [2, version],
      [2, version],
      [2, FLAGS],
      [2, 0],
      [2, 0],
      [2, DOS_DATE],
      [4, crc],
      [4, size],
      [4, size],
    );
    await this.put(head);
    await this.put(fields([2, name.length], [2, extra.length], [2, 0], [2, 0], [2, 0], [4, 0], [4, wide ? FULL : offset]));
    await this.put(name);
    await this.put(extra);
  }

  private async put(bytes: Uint8Array): Promise<void> {
    this.at += bytes.length;
    if (bytes.length > 0) await this.sink.write(bytes);
  }
}
