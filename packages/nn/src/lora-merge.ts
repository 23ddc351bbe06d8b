// Adapters merged into the weights while they stream to the device: W + scale · alpha / rank · up · down.
import {
  bytesOf,
  convertPieces,
  type NameRules,
  type Shape,
  type StreamOptions,
  streamAs,
  type WeightEntry,
  type WeightSource,
} from "@wick/tensor";
import { type LoraCoverage, type LoraPart, planLora } from "./lora-targets.ts";
import { addRow, type LoadedPart, loadPart } from "./lora-values.ts";

/** How an adapter's names are understood. */
export interface LoraOptions {
  /** Rules of the layouts that adapters for this model are written in, beside the model's own names. */
  readonly names?: readonly NameRules[];
}

/** A checkpoint with an adapter merged in. */
export interface LoraWeightSource extends WeightSource {
  /** What of the adapter file is in use, and what is not. */
  readonly coverage: LoraCoverage;
}

/** Values of merged rows handed on at a time. */
const BATCH_VALUES = 1 << 18;

/**
 * `base` (under the model's names) with the adapter `lora` added at `scale`; several are merged by wrapping again. Changed weights keep the
 * dtype of the base: block formats are quantized anew. Throws WeightsError when the adapter changes nothing or does not fit.
 */
export function withLora(base: WeightSource, lora: WeightSource, scale: number, { names = [] }: LoraOptions = {}): LoraWeightSource {
  const shapes = new Map([...base.entries].map(([name, e]) => [name, e.shape]));
  const { parts, coverage } = planLora(shapes, lora, names);
  const entries = new Map([...base.entries].map(([name, e]) => [name, widened(e, parts.get(name) ?? [])]));
  return {
    entries,
    metadata: base.metadata,
    coverage,
    stream: (name, options) => {
      const changes = parts.get(name);
      return changes ? mergedStream({ base, lora, scale, name, changes, to: entries.get(name)! }, options) : base.stream(name, options);
    },
    close: async () => {
      await base.close();
      await lora.close();
    },
  };
}

const columnsOf = (shape: Shape): number => shape.slice(1).reduce((a, b) => a * b, 1);

/** An entry with as many input columns as its adapters have: control adapters widen the image embedder, new columns start at 0. */
function widened(entry: WeightEntry, parts: readonly LoraPart[]): WeightEntry {
  const columns = Math.max(columnsOf(entry.shape), ...parts.map(({ down }) => (down ? columnsOf(down.shape) : 0)));
  if (columns === columnsOf(entry.shape)) return entry;
  const shape = [entry.shape[0]!, columns];
  return { ...entry, shape, byteLength: bytesOf(entry.dtype, shape[0]! * columns) };
}

interface Merge {
  readonly base: WeightSource;
  readonly lora: WeightSource;
  readonly scale: number;
  readonly name: string;
  readonly changes: readonly LoraPart[];
  readonly to: WeightEntry;
}

async function* mergedStream(merge: Merge, options?: StreamOptions): AsyncGenerator<Uint8Array, void, undefined> {
  const { base, lora, scale, name, changes, to } = merge;
  const loaded: LoadedPart[] = [];
  for (const part of changes) loaded.push(await loadPart(lora, part, scale, options?.signal));
  const from = columnsOf(base.entries.get(name)!.shape);
  const rows = mergedRows(streamAs(base, name, "f32", options), from, loaded, to);
  if (to.dtype === "f32") yield* rows;
  else yield* convertPieces(rows, "f32", to.dtype, name);
}

/** The rows of the merged weight as f32, several at a time. */
async function* mergedRows(
  pieces: AsyncIterable<Uint8Array>,
  from: number,
  loaded: readonly LoadedPart[],
  { shape }: WeightEntry,
): AsyncGenerator<Uint8Array, void, undefined> {
  const [rows, columns] = [shape[0] ?? 1, columnsOf(shape)];
  const held = Math.max(1, Math.floor(BATCH_VALUES / columns));
  const batch = new Float32Array(held * columns);
  let row = 0;
  let column = 0;
  for await (const piece of pieces) {
    const bytes = piece.byteOffset % 4 === 0 ? piece : piece.slice();
    const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
    for (let at = 0; at < values.length; ) {
      const slot = row % held;
      const n = Math.min(from - column, values.length - at);
      batch.set(values.subarray(at, at + n), slot * columns + column);
      at += n;
      column += n;
      if (column < from) continue;
      const out = batch.subarray(slot * columns, (slot + 1) * columns);
      out.fill(0, from);
      for (const part of loaded) addRow(part, row, rows, out);
      row++;
      column = 0;
      if (slot === held - 1 || row === rows) yield new Uint8Array(batch.buffer, 0, (slot + 1) * columns * 4);
    }
  }
}
