// Wraps kernels with a liveness check and, while a profile runs, a stopwatch.
import { bytesOf } from "../../dtype.ts";
import { DeviceError } from "../../errors.ts";
import type { Kernel, KernelTable, OpName, OpTable } from "../../ops/table.ts";
import { sizeOf } from "../../shape.ts";
import type { View } from "../../view.ts";
import type { OpTiming } from "../backend.ts";
import type { CpuBuffer } from "./memory.ts";

type Operands = Readonly<Record<string, View | readonly View[] | undefined>>;

/** Collects timings of kernels while a profile is running. */
export class Profiler {
  #timings: OpTiming[] | undefined;
  #startMs = 0;
  #region: (() => string | undefined) | undefined;

  /** Runs `fn` and resolves with the timings of every kernel it ran; throws DeviceError when one is already running. */
  async run(fn: () => void | Promise<void>, region?: () => string | undefined): Promise<readonly OpTiming[]> {
    if (this.#timings) throw new DeviceError("profile", "busy", "a profile is already running on this device; profiles do not nest");
    const timings: OpTiming[] = [];
    this.#timings = timings;
    this.#region = region;
    this.#startMs = performance.now();
    try {
      await fn();
    } finally {
      this.#timings = undefined;
      this.#region = undefined;
    }
    const first = timings[0]?.startMicros ?? 0;
    return timings.map((t) => ({ ...t, startMicros: t.startMicros - first }));
  }

  /** The kernels with `check` called before each, and timed while a profile runs; `settle` waits until a kernel has run. */
  wrap(kernels: KernelTable, check: (op: string) => void, settle: () => void): KernelTable {
    const wrapped: Record<string, unknown> = {};
    for (const op of Object.keys(kernels) as OpName[]) wrapped[op] = this.#wrapOne(op, kernels[op] as Kernel<OpName>, check, settle);
    return wrapped as unknown as KernelTable;
  }

  #wrapOne(op: OpName, kernel: Kernel<OpName>, check: (op: string) => void, settle: () => void): Kernel<OpName> {
    return (out, inputs, attrs) => {
      check(op);
      const timings = this.#timings;
      if (!timings) {
        kernel(out, inputs, attrs);
        return;
      }
      settle();
      const before = performance.now();
      kernel(out, inputs, attrs);
      settle();
      const elapsedMicros = (performance.now() - before) * 1000;
      const startMicros = (before - this.#startMs) * 1000;
      const { label } = out.buffer as CpuBuffer;
      const work = { flops: flopsOf(op, out, inputs), bytes: bytesMoved(out, inputs as Operands) };
      timings.push({ op, label, startMicros, elapsedMicros, ...work, region: this.#region?.() });
    };
  }
}

/** Bytes of out and of every operand, each counted once. */
function bytesMoved(out: View, inputs: Operands): number {
  let bytes = viewBytes(out);
  for (const operand of Object.values(inputs)) {
    if (!operand) continue;
    for (const view of "dtype" in operand ? [operand as View] : (operand as readonly View[])) bytes += viewBytes(view);
  }
  return bytes;
}

/** Distinct elements only: broadcast dimensions are read once. */
function viewBytes({ dtype, layout }: View): number {
  return bytesOf(dtype, sizeOf(layout.shape.map((d, i) => (layout.strides[i] === 0 && d > 0 ? 1 : d))));
}

/** Multiplications and additions of the ops that are made of them; 0 for the rest. */
function flopsOf(op: OpName, out: View, inputs: OpTable[OpName]["in"]): number {
  const size = sizeOf(out.layout.shape);
  if (op === "matmul") return 2 * size * (inputs as OpTable["matmul"]["in"]).a.layout.shape.at(-1)!;
  if (op === "conv") return 2 * size * sizeOf((inputs as OpTable["conv"]["in"]).weight.layout.shape.slice(1));
  if (op === "attention") {
    const { q, k, v } = inputs as OpTable["attention"]["in"];
    return 2 * sizeOf(q.layout.shape.slice(0, 3)) * k.layout.shape[2]! * (q.layout.shape[3]! + v.layout.shape[3]!);
  }
  if (op === "convTranspose") {
    const { x, weight } = inputs as OpTable["convTranspose"]["in"];
    return 2 * sizeOf(x.layout.shape) * sizeOf(weight.layout.shape.slice(1));
  }
  return 0;
}
