// Runs golden rows on a device and reports the ones that are off. The same code serves Node and browsers; only reading files differs.
import { type Device, type DType, hold, scope, sizeOf, type Tensor } from "@wick/tensor";
import { type Args, calls, creations } from "./calls.ts";

type View = { permute: number[] } | { expand: number[] } | { narrow: [number, number, number] };
interface Operand {
  readonly name: string;
  readonly key: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly base: readonly number[];
  readonly viewArgs?: View;
}
interface Output {
  readonly key: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}
export interface Row {
  readonly id: string;
  readonly op: string;
  readonly dtype: DType;
  readonly args: Args;
  readonly inputs: readonly Operand[];
  readonly outputs: readonly Output[];
  readonly tolerance: string;
}
/** Raw bytes of every stored tensor of a family. */
export type Stored = ReadonlyMap<string, Uint8Array>;

/** Largest relative L2 error by tolerance class and dtype; 0 means every value equal. */
const limits: Readonly<Record<string, Readonly<Partial<Record<DType, number>>>>> = {
  exact: {},
  pointwise: { f32: 1e-6, f16: 1e-3, bf16: 8e-3 },
  accumulate: { f32: 1e-6, f16: 1e-3, bf16: 8e-3 },
  special: { f32: 1e-6, f16: 1e-3, bf16: 8e-3 },
  attention: { f32: 2e-6, f16: 1e-3, bf16: 8e-3 },
  largeMean: { f32: 2e-5, f16: 1e-3, bf16: 8e-3 },
};

function operand(device: Device, o: Operand, stored: Stored): Tensor {
  const base = device.fromBytes(stored.get(o.key)!, o.base, o.dtype, o.name);
  const v = o.viewArgs;
  if (!v) return base;
  if ("permute" in v) return base.permute(...v.permute);
  return "expand" in v ? base.expand(v.expand) : base.narrow(...v.narrow);
}

function call(device: Device, row: Row, stored: Stored): readonly Tensor[] {
  const create = creations[row.op];
  if (create) return [create(device, row.args)];
  const fn = calls[row.op];
  if (!fn) throw new Error(`no call for op ${row.op}`);
  const tensors = row.inputs.map((o) => [o.name, operand(device, o, stored)] as const);
  const result = fn(tensors[0]![1], Object.fromEntries(tensors), row.args);
  return "isTensor" in result ? [result as Tensor] : (result as readonly Tensor[]);
}

/** What is wrong with one row, or undefined. */
export async function runRow(device: Device, row: Row, stored: Stored, factor = 1): Promise<string | undefined> {
  const before = device.liveBytes;
  const problem = await check(device, row, stored, factor);
  return problem ?? (device.liveBytes === before ? undefined : `${row.id}: ${device.liveBytes - before} bytes leaked`);
}

async function check(device: Device, row: Row, stored: Stored, factor: number): Promise<string | undefined> {
  let made: readonly Tensor[];
  try {
    made = scope(() => call(device, row, stored));
  } catch (error) {
    return `${row.id}: ${String(error)}`;
  }
  using results = hold(made);
  for (const [i, want] of row.outputs.entries()) {
    const got = results.value[i];
    if (!got) return `${row.id}: output ${i} is missing`;
    if (got.dtype !== want.dtype || `${got.shape}` !== `${want.shape}`)
      return `${row.id}: output ${i} is ${got}, not ${want.dtype} [${want.shape}]`;
    const limit = (limits[row.tolerance]?.[want.dtype] ?? 0) * factor;
    const off = compare(await valuesOf(device, got), await storedValues(want, stored), limit, row.tolerance);
    if (off) return `${row.id}: output ${i}: ${off}`;
  }
  return undefined;
}

const valuesOf = async (_: Device, t: Tensor): Promise<Float64Array> =>
  Float64Array.from((await t.toArray()) as Iterable<number | bigint>, Number);

async function storedValues(want: Output, stored: Stored): Promise<Float64Array> {
  const { decodeBytes } = await import("../../src/encode.ts");
  const values = Float64Array.from(decodeBytes(stored.get(want.key)!, want.dtype) as Iterable<number | bigint>, Number);
  if (values.length !== sizeOf(want.shape)) throw new Error(`golden ${want.key} has ${values.length} values`);
  return values;
}

function compare(got: Float64Array, want: Float64Array, limit: number, kind: string): string | undefined {
  let error = 0;
  let norm = 0;
  for (let i = 0; i < want.length; i++) {
    const [g, w] = [got[i]!, want[i]!];
    if (Object.is(g, w) || g === w) {
      norm += Number.isFinite(w) ? w * w : 0;
      continue;
    }
    if (limit === 0 || !Number.isFinite(g) || !Number.isFinite(w)) return `value ${i} is ${g}, not ${w} (${kind})`;
    error += (g - w) ** 2;
    norm += w * w;
  }
  const relative = Math.sqrt(error / Math.max(norm, 1e-300));
  return error > 0 && relative > limit ? `relative L2 ${relative.toExponential(2)} is over ${limit} (${kind})` : undefined;
}
