// Writers for safetensors, GGUF and .npz. Tensors stream through: a checkpoint larger than memory can be converted or quantized.
// Formats: huggingface/safetensors README.md, ggml docs/gguf.md, NEP 1 and PKWARE APPNOTE 6.3.
import { bytesOf, type DType, dtypeInfo, isQuantized } from "../dtype.ts";
import { FormatError } from "../errors.ts";
import { formatShape, type Shape, sizeOf } from "../shape.ts";
import { type ConvertOptions, streamAs } from "./convert.ts";
import { encodeGgufHeader, type GgufMetadata } from "./gguf-header.ts";
import { ggmlTypeOf } from "./gguf-types.ts";
import type { ByteSink } from "./sink.ts";
import type { WeightSource } from "./weight-source.ts";
import { ZipWriter } from "./zip-writer.ts";

/** A tensor to write: its bytes, little-endian row-major in `dtype`, are asked for when its turn comes. */
export interface WritableTensor {
  /** As it shall be spelled in the file. */
  readonly name: string;
  /** Format in the file. */
  readonly dtype: DType;
  /** Sizes of the dimensions. */
  readonly shape: Shape;
  /** Called once, when the tensor's turn comes: row-major bytes in `dtype`. */
  readonly bytes: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** The tensors of an opened checkpoint for a writer, each in its own dtype or in the one `dtypeOf` gives; `options` are those of their streams. */
export function* writableTensors(
  source: WeightSource,
  dtypeOf: (entry: { readonly name: string; readonly dtype: DType; readonly shape: Shape }) => DType = (entry) => entry.dtype,
  options: ConvertOptions = {},
): Generator<WritableTensor, void, undefined> {
  for (const entry of source.entries.values()) {
    const dtype = dtypeOf(entry);
    yield { name: entry.name, dtype, shape: entry.shape, bytes: () => streamAs(source, entry.name, dtype, options) };
  }
}

const safetensorsNames: Partial<Record<DType, string>> = {
  f32: "F32",
  f16: "F16",
  bf16: "BF16",
  f8e4m3: "F8_E4M3",
  f8e5m2: "F8_E5M2",
  i64: "I64",
  i32: "I32",
  u32: "U32",
  u8: "U8",
};

/** Writes a safetensors file. Throws FormatError for block formats, which it cannot hold, and for wrong byte counts. */
export async function writeSafetensors(
  sink: ByteSink,
  tensors: Iterable<WritableTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  // Wide elements first: every tensor then starts at a multiple of its element size.
  const list = checkNames("writeSafetensors", tensors).sort((a, b) => dtypeInfo[b.dtype].blockBytes - dtypeInfo[a.dtype].blockBytes);
  const header: [string, unknown][] = Object.keys(metadata).length > 0 ? [["__metadata__", metadata]] : [];
  let at = 0;
  for (const t of list) {
    const dtype = safetensorsNames[t.dtype];
    if (!dtype) throw new FormatError("writeSafetensors", `safetensors has no ${t.dtype}: ${t.name}; write GGUF instead`);
    const end = at + bytesOf(t.dtype, sizeOf(t.shape));
    header.push([t.name, { dtype, shape: t.shape, data_offsets: [at, end] }]);
    at = end;
  }
  await sink.write(safetensorsHeader(header));
  for (const t of list) await writeTensor("writeSafetensors", sink, t);
}

function safetensorsHeader(entries: readonly [string, unknown][]): Uint8Array {
  const text = `{${entries.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(",")}}`;
  const bytes = new TextEncoder().encode(text);
  const out = new Uint8Array(8 + Math.ceil(bytes.length / 8) * 8).fill(0x20);
  new DataView(out.buffer).setBigUint64(0, BigInt(out.length - 8), true);
  out.set(bytes, 8);
  return out;
}

function checkNames(op: string, tensors: Iterable<WritableTensor>): WritableTensor[] {
  const list = [...tensors];
  const seen = new Set<string>(op === "writeSafetensors" ? ["__metadata__"] : []);
  for (const t of list) {
    if (seen.has(t.name)) throw new FormatError(op, `two tensors of one name, or a reserved one: ${t.name}`);
    seen.add(t.name);
    const { blockSize } = dtypeInfo[t.dtype];
    if ((t.shape.at(-1) ?? 1) % blockSize !== 0) {
      throw new FormatError(op, `rows are not whole ${t.dtype} blocks of ${blockSize}: ${t.name} ${formatShape(t.shape)}`);
    }
  }
  return list;
}

async function writeTensor(op: string, sink: ByteSink, tensor: WritableTensor): Promise<void> {
  const want = bytesOf(tensor.dtype, sizeOf(tensor.shape));
  let written = 0;
  for await (const piece of tensor.bytes()) {
    written += piece.length;
    if (written > want) break;
    await sink.write(piece);
  }
  if (written === want) return;
  const got = written > want ? `more than ${want}` : `${written} of ${want}`;
  throw new FormatError(op, `${got} bytes came for ${tensor.name} ${tensor.dtype} ${formatShape(tensor.shape)}`);
}

const ALIGNMENT = 32;

/** Writes a GGUF version 3 file. Throws FormatError for dtypes GGUF lacks (f8, u8, u32) and for wrong byte counts. */
export async function writeGguf(sink: ByteSink, tensors: Iterable<WritableTensor>, metadata: GgufMetadata = {}): Promise<void> {
  const list = checkNames("writeGguf", tensors);
  let offset = 0;
  const described = list.map((t) => {
    const type = ggmlTypeOf(t.dtype);
    if (!type) throw new FormatError("writeGguf", `GGUF has no ${t.dtype}: ${t.name}; convert it to f32, f16, bf16 or a block format`);
    const from = offset;
    offset = roundUp(from + bytesOf(t.dtype, sizeOf(t.shape)));
    return { name: t.name, shape: t.shape, type: type.id, offset: from };
  });
  const header = encodeGgufHeader("writeGguf", described, metadata);
  await sink.write(header);
  await pad(sink, header.length);
  for (const t of list) {
    await writeTensor("writeGguf", sink, t);
    await pad(sink, bytesOf(t.dtype, sizeOf(t.shape)));
  }
}

const roundUp = (n: number): number => Math.ceil(n / ALIGNMENT) * ALIGNMENT;

async function pad(sink: ByteSink, length: number): Promise<void> {
  if (roundUp(length) > length) await sink.write(new Uint8Array(roundUp(length) - length));
}

const npyNames: Partial<Record<DType, string>> = { f32: "<f4", f16: "<f2", i64: "<i8", i32: "<i4", u32: "<u4", u8: "|u1" };

/** Writes an uncompressed .npz file. Throws FormatError for dtypes NumPy lacks (bf16, f8, block formats) and for wrong byte counts. */
export async function writeNpz(sink: ByteSink, tensors: Iterable<WritableTensor>): Promise<void> {
  const zip = new ZipWriter(sink);
  for (const t of checkNames("writeNpz", tensors)) {
    const descr = npyNames[t.dtype];
    if (!descr) {
      const remedy = isQuantized(t.dtype) ? "dequantize it" : "convert it to f32";
      throw new FormatError("writeNpz", `NumPy has no ${t.dtype}: ${t.name}; ${remedy}`);
    }
    const header = npyHeader(descr, t.shape);
    await zip.entry(`${t.name}.npy`, header.length + bytesOf(t.dtype, sizeOf(t.shape)), async (entry) => {
      await entry.write(header);
      await writeTensor("writeNpz", entry, t);
    });
  }
  await zip.finish();
}

function npyHeader(descr: string, shape: Shape): Uint8Array {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${tuple}, }`;
  // Magic, version and length take 10 bytes; the whole header ends in a newline at a multiple of 64.
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10;
  const out = new Uint8Array(10 + length).fill(0x20);
  out.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, length & 255, length >> 8]);
  out.set(new TextEncoder().encode(text), 10);
  out[out.length - 1] = 10;
  return out;
}
