// How large the values of a run are, module by module, and where the first NaN or infinite one appears: a few numbers per output are computed on the
// device while the model runs, and read together at the end.
import { hold, scope, stack, type Tensor } from "@wick/tensor";
import type { Module } from "./module.ts";
import { namedTensors, tapOutputs } from "./taps.ts";

/** The values of one output of a module. */
export interface OutputStatistics {
  /** Path of the module, the keys of what it returned, and "@1" for its second call. */
  readonly path: string;
  /** The tensor's dtype and shape. */
  readonly type: string;
  /** Largest magnitude of the finite values; f16 ends at 65,504. */
  readonly maxAbs: number;
  /** Root of the mean square of the finite values. */
  readonly rms: number;
  /** Values that are not numbers. */
  readonly nans: number;
  /** Infinite values. */
  readonly infinities: number;
}

/** What an audited run computed. */
export interface Audit<R> {
  /** What the audited function returned. */
  readonly result: R;
  /** In the order the modules returned. */
  readonly outputs: readonly OutputStatistics[];
  /** The first output with NaN or infinite values; look at what goes into its module. */
  readonly firstBad: OutputStatistics | undefined;
  /** All of it as a table. */
  toString(): string;
}

/**
 * Runs `fn` and tells the size of the values that every module named by `globs` ("**" for all) returns. Inner modules return before the modules around them,
 * so the first bad output is where the trouble began. Tapped modules run step by step where they would run in one kernel.
 */
export async function audit<R>(model: Module, globs: readonly string[], fn: () => R | Promise<R>): Promise<Audit<Awaited<R>>> {
  const seen: { path: string; type: string; size: number }[] = [];
  const calls = new Map<string, number>();
  using figures = hold<Tensor[]>([]);
  const untap = tapOutputs("audit", model, globs, (output, path) => {
    const call = calls.get(path) ?? 0;
    calls.set(path, call + 1);
    for (const [name, tensor] of namedTensors(output, call === 0 ? path : `${path}@${call}`)) {
      seen.push({ path: name, type: `${tensor.dtype} [${tensor.shape.join(", ")}]`, size: tensor.size });
      const figure = hold(scope(() => figuresOf(tensor).compute())).release();
      figures.update((all) => [...all, figure]);
    }
  });
  let result: Awaited<R>;
  try {
    result = await fn();
  } finally {
    untap();
  }
  const outputs: OutputStatistics[] = [];
  for (const [i, { path, type, size }] of seen.entries()) {
    const [maxAbs, squares, nans, infinities] = (await figures.value[i]!.toArray()) as Float32Array;
    outputs.push({
      path,
      type,
      maxAbs: maxAbs!,
      rms: Math.sqrt(squares! / Math.max(1, size - nans! - infinities!)),
      nans: nans!,
      infinities: infinities!,
    });
  }
  const firstBad = outputs.find((o) => o.nans + o.infinities > 0);
  return { result, outputs, firstBad, toString: () => auditText(outputs, firstBad) };
}

/** [largest magnitude, sum of squares, NaN, infinite] of a tensor, the first two over its finite values. */
function figuresOf(tensor: Tensor): Tensor {
  const x = tensor.to("f32");
  const finite = x.isFinite().where(x, 0);
  return stack([finite.abs().max(), finite.square().sum(), x.isNan().to("f32").sum(), x.isInf().to("f32").sum()]);
}

function auditText(outputs: readonly OutputStatistics[], bad: OutputStatistics | undefined): string {
  const width = Math.max(...outputs.map((o) => o.path.length));
  const line = ({ path, type, maxAbs, rms, nans, infinities }: OutputStatistics) => {
    const trouble = nans + infinities > 0 ? `  ${nans} NaN, ${infinities} infinite` : "";
    return `${path.padEnd(width)}  max ${maxAbs.toPrecision(4).padStart(10)}  rms ${rms.toPrecision(4).padStart(10)}  ${type}${trouble}`;
  };
  const end = bad ? `first NaN or infinite values: ${bad.path}` : "all values are finite";
  return [...outputs.map(line), end].join("\n");
}
