// The numbers of an adapter, in f32: factors, low-rank pairs, and the rows they add to a weight.
import { readTensorBytes, streamAs, type WeightEntry, type WeightSource, WeightsError } from "@wick/tensor";
import type { LoraPart } from "./lora-targets.ts";

/** A tensor of the file as f32. */
export async function readFloats(lora: WeightSource, entry: WeightEntry, signal?: AbortSignal): Promise<Float32Array> {
  const as32: WeightSource = { ...lora, stream: (name, options) => streamAs(lora, name, "f32", options) };
  const byteLength = 4 * entry.shape.reduce((a, b) => a * b, 1);
  const sized: WeightSource = { ...as32, entries: new Map([[entry.name, { ...entry, byteLength }]]) };
  return new Float32Array((await readTensorBytes(sized, entry.name, signal ? { signal } : undefined)).buffer);
}

/** Alpha / rank of a part: 1 without an alpha, unless the file's PEFT settings give one. */
async function partFactor(lora: WeightSource, part: LoraPart, signal?: AbortSignal): Promise<number> {
  if (part.kind !== "lowRank") return 1;
  const settings = peftSettings(lora);
  const rank = part.down?.shape[0] ?? settings.rank;
  if (part.alpha) {
    const alpha = (await readFloats(lora, part.alpha, signal))[0];
    if (alpha === undefined || !Number.isFinite(alpha))
      throw new WeightsError("lora", `alpha is not a number: ${part.alpha.name} is ${alpha}`);
    if (rank === undefined) throw new WeightsError("lora", `a bias with an alpha but no rank: ${part.up.name}`);
    return alpha / rank;
  }
  if (settings.alpha === undefined || rank === undefined) return 1;
  return settings.alpha / (settings.rankStabilized ? Math.sqrt(rank) : rank);
}

interface PeftSettings {
  readonly alpha: number | undefined;
  readonly rank: number | undefined;
  readonly rankStabilized: boolean;
}

/** What diffusers and PEFT write into a file's metadata beside the weights. */
function peftSettings({ metadata }: WeightSource): PeftSettings {
  const text = metadata.get("lora_adapter_metadata");
  const none = { alpha: undefined, rank: undefined, rankStabilized: false };
  if (typeof text !== "string") return none;
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(text) as Record<string, unknown>;
  } catch (cause) {
    throw new WeightsError("lora", "the file's lora_adapter_metadata is not JSON", { cause });
  }
  const of = (key: string): unknown => parsed[`transformer.${key}`] ?? parsed[key];
  const number = (v: unknown): number | undefined => (typeof v === "number" ? v : undefined);
  return { alpha: number(of("lora_alpha")), rank: number(of("r")), rankStabilized: of("use_rslora") === true };
}

/** Row of a part's `up` (or of a whole difference) that goes into row `row` of a weight of `rows` rows; undefined for none. */
export function sourceRow(part: LoraPart, row: number, rows: number): number | undefined {
  const { ourRows, theirRows, swapHalves } = part.trace;
  if (swapHalves) return (row + rows / 2) % rows;
  if (ourRows) {
    const unit = rows / ourRows.total;
    return row >= unit * ourRows.start && row < unit * ourRows.end ? row - unit * ourRows.start : undefined;
  }
  return theirRows ? row + (rows / (theirRows.end - theirRows.start)) * theirRows.start : row;
}

/** One part's numbers. */
export interface LoadedPart {
  readonly part: LoraPart;
  /** scale · alpha / rank. */
  readonly factor: number;
  readonly up: Float32Array;
  /** Absent for biases and whole differences. */
  readonly down: Float32Array | undefined;
  readonly rank: number;
}

/** Reads a part; `scale` is the user's. */
export async function loadPart(lora: WeightSource, part: LoraPart, scale: number, signal?: AbortSignal): Promise<LoadedPart> {
  const factor = scale * (await partFactor(lora, part, signal));
  const up = await readFloats(lora, part.up, signal);
  const down = part.down ? await readFloats(lora, part.down, signal) : undefined;
  return { part, factor, up, down, rank: part.down?.shape[0] ?? 1 };
}

/** Adds what `loaded` changes in row `row` of a weight of `rows` rows to `out`; a replacement overwrites it. */
export function addRow({ part, factor, up, down, rank }: LoadedPart, row: number, rows: number, out: Float32Array): void {
  const from = sourceRow(part, row, rows);
  if (from === undefined) return;
  const width = out.length;
  if (part.kind === "replace") out.set(up.subarray(from * width, (from + 1) * width));
  else if (part.kind === "diff") for (let c = 0; c < width; c++) out[c] = out[c]! + factor * up[from * width + c]!;
  else if (!down) out[0] = out[0]! + factor * up[from]!;
  else addProduct(up.subarray(from * rank, (from + 1) * rank), down, factor, out);
}

/** out += factor · up [rank] · down [rank, width]; four ranks at a time, so that sums are stored a quarter as often. */
function addProduct(up: Float32Array, down: Float32Array, factor: number, out: Float32Array): void {
  const width = down.length / up.length;
  const whole = up.length - (up.length % 4);
  const sum = new Float32Array(width);
  for (let k = 0; k < whole; k += 4) {
    const [u0, u1, u2, u3] = [up[k]! * factor, up[k + 1]! * factor, up[k + 2]! * factor, up[k + 3]! * factor];
    const [a, b, c, d] = [k * width, (k + 1) * width, (k + 2) * width, (k + 3) * width];
    for (let i = 0; i < width; i++) sum[i] = sum[i]! + u0 * down[a + i]! + u1 * down[b + i]! + u2 * down[c + i]! + u3 * down[d + i]!;
  }
  for (let k = whole; k < up.length; k++) {
    const u = up[k]! * factor;
    for (let i = 0; i < width; i++) sum[i] = sum[i]! + u * down[k * width + i]!;
  }
  for (let i = 0; i < width; i++) out[i] = out[i]! + sum[i]!;
}
