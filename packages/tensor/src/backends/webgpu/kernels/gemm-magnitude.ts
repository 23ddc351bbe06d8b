// The largest magnitudes of a product's operands, from which the matrix kernels scale them into f16's range.
import { isQuantized } from "../../../dtype.ts";
import type { View } from "../../backend.ts";
import type { GpuBuffer } from "../buffers.ts";
import { formatFunctions } from "../wgsl/formats.ts";
import { bindView, bytesOfView, type KernelContext, scratchView } from "./context.ts";
import type { GemmOperand, MatrixSource } from "./matmul.ts";

/** Two f32: the largest |a| and |b|; the caller drops the buffer. `rows` is how many rows b has as a source. */
export function largestMagnitudes(ctx: KernelContext, a: GemmOperand, b: GemmOperand, rows: number): View & { readonly buffer: GpuBuffer } {
  const both = scratchView(ctx, "f32", [2], "largest magnitudes");
  const at = (offset: number): View => ({ ...both, layout: { shape: [], strides: [], offset } });
  if (isQuantized(b.view.dtype)) {
    ctx.kernels.fill(both, {}, { value: 0 });
    largestOfBlocks(ctx, both, b, rows);
  } else largestOf(ctx, at(1), b.view);
  largestOf(ctx, at(0), a.view);
  return both;
}

function largestOf(ctx: KernelContext, out: View, x: View): void {
  ctx.kernels.reduce(out, { x }, { kind: "norm", reduceRank: x.layout.shape.length, correction: 0, p: Number.POSITIVE_INFINITY });
}

/** The same for quantized weights, whose rows are decoded and thrown away. Magnitudes order as their bits do: the order of atomics is no matter. */
function largestOfBlocks(ctx: KernelContext, out: View, { view, source }: GemmOperand, rows: number): void {
  const k = view.layout.shape.at(-2)!;
  const quads = (rows * k) / 4;
  const groups = Math.min(1024, Math.ceil(quads / 256));
  ctx.record({
    op: "matmul",
    program: ctx.program(`largest|${source.key}`, () => largestSpec(source)),
    bindings: [bindView(ctx, "matmul", out).binding, source.bound.binding],
    params: [rows, k, groups * 256, ...source.values],
    grid: [groups, 1, 1],
    bytes: bytesOfView(view),
  });
}

const largestSpec = (source: MatrixSource) => ({
  label: `largest magnitude ${source.key}`,
  bindings: [
    { name: "largest", type: "array<atomic<u32>>", write: true },
    { name: "b", type: source.type },
  ],
  params: ["n", "k", "threads", ...source.params],
  workgroup: [256] as const,
  declarations: `${formatFunctions(source.text)}${source.text}var<workgroup> best: atomic<u32>;\n`,
  body: `if (lid == 0u) { atomicStore(&best, 0u); }
  workgroupBarrier();
  var most = 0.0;
  let across = p.k / 4u;
  for (var i = wg * 256u + lid; i < p.n * across; i += p.threads) {
    let v = abs(b_k4(0u, i / across, (i % across) * 4u));
    most = max(most, max(max(v.x, v.y), max(v.z, v.w)));
  }
  atomicMax(&best, bitcast<u32>(most));
  workgroupBarrier();
  if (lid == 0u) { atomicMax(&largest[1], atomicLoad(&best)); }`,
});
