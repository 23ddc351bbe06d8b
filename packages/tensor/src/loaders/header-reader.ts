// Reads a binary header front to back from a ByteSource in growing pieces, so that a small header costs one small read.
import { FormatError } from "../errors.ts";
import type { ByteSource } from "./source.ts";

const FIRST_PIECE_BYTES = 64 * 1024;
const LARGEST_PIECE_BYTES = 8 * 1024 * 1024;

/** Reads little-endian fields of a header that arrives in pieces; refuses what lies beyond its end. */
export class HeaderReader {
  private readonly op: string;
  private readonly source: ByteSource;
  private readonly signal: AbortSignal | undefined;
  private bytes: Uint8Array = new Uint8Array(0);
  private view: DataView = new DataView(new ArrayBuffer(0));
  /** File offset of `bytes[0]`. */
  private start = 0;
  private at = 0;
  private pieceBytes: number = FIRST_PIECE_BYTES;

  constructor(op: string, source: ByteSource, signal?: AbortSignal) {
    this.op = op;
    this.source = source;
    this.signal = signal;
  }

  /** Offset in the file of what comes next. */
  get offset(): number {
    return this.start + this.at;
  }

  /** Makes `length` bytes available to the synchronous readers; throws FormatError when the file ends before. */
  async need(length: number, what: string): Promise<void> {
    if (this.at + length <= this.bytes.length) return;
    const offset = this.offset;
    if (offset + length > this.source.sizeBytes) {
      const have = this.source.sizeBytes - offset;
      throw new FormatError(this.op, `truncated: ${what} needs ${length} bytes at ${offset}, ${have} are left: ${this.source.name}`);
    }
    const piece = Math.min(Math.max(length, this.pieceBytes), this.source.sizeBytes - offset);
    this.pieceBytes = Math.min(this.pieceBytes * 2, LARGEST_PIECE_BYTES);
    this.bytes = await this.source.read(offset, piece, this.signal);
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);
    this.start = offset;
    this.at = 0;
  }

  /** The next `length` bytes, a view; call `need` first. */
  take(length: number): Uint8Array {
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  /** Reads one number of a DataView kind; call `need` first. */
  number<T>(length: number, read: (view: DataView, at: number) => T): T {
    this.at += length;
    return read(this.view, this.at - length);
  }

  async u32(what: string): Promise<number> {
    await this.need(4, what);
    return this.number(4, (v, at) => v.getUint32(at, true));
  }

  /** A u64 that must be a safe integer. */
  async u64(what: string): Promise<number> {
    await this.need(8, what);
    const value = this.number(8, (v, at) => v.getBigUint64(at, true));
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new FormatError(this.op, `${what} is absurd: ${value} in ${this.source.name}`);
    return Number(value);
  }
}
