// The largest finite magnitudes of a product's operands, from which the matrix kernels scale them into f16's range, and whether all values are
// finite. Magnitudes order as their bits do, so the order of the atomic maxima is no matter.
import { contiguousLayout } from "../../../layout.ts";
import type { View } from "../../../view.ts";
import type { Binding } from "../encoder.ts";
import type { ProgramSpec } from "../pipelines.ts";
import { type GpuBuffer, storeOf } from "../store.ts";
import { formatFunctions } from "../wgsl/formats.ts";
import { bindView, bytesOfView, type KernelContext } from "./context.ts";
import type { GemmSize } from "./gemm-parts.ts";
import type { GemmOperand, MatrixSource } from "./matrix-source.ts";

/**
 * A binding of two words: the bits of the operand's largest finite magnitude, and 1 if any of its values is infinite or NaN (else 0). Operands that are not
 * written between two products, such as weights, are measured once.
 */
export function largestMagnitude(ctx: KernelContext, op: string, name: "a" | "b", operand: GemmOperand, product: GemmSize): Binding {
  const { view, once } = operand;
  const source = once?.source ?? operand.source;
  const size = once ? { ...product, m: once.n, n: once.n, k: once.k } : product;
  const { m, n, k, batch } = size;
  const own = name === "a" ? m : n;
  const part = [own, k, batch, source.bound.binding.byteOffset, ...source.values].join();
  const memory = ctx.derived(view, `largest|${name}${source.key}|${part}`, (buffer) => {
    const words: View = { buffer, dtype: "u32", layout: contiguousLayout([2]) };
    ctx.kernels.fill(words, {}, { value: 0 });
    record(ctx, op, words, name, { view, source }, size);
  });
  return wholeBinding(memory);
}

const wholeBinding = (buffer: GpuBuffer): Binding => {
  const store = storeOf(buffer);
  return { store, byteOffset: 0, byteLength: store.sizeBytes };
};

function record(ctx: KernelContext, op: string, words: View, name: "a" | "b", { view, source }: GemmOperand, size: GemmSize): void {
  const { m, n, k, batch } = size;
  const [rows, inner] = source.along === "k" ? [name === "a" ? m : n, Math.ceil(k / 4)] : [Math.ceil((name === "a" ? m : n) / 4), k];
  const groups = Math.min(1024, Math.ceil((rows * inner * batch) / 1024));
  ctx.record({
    op,
    program: ctx.program(`largest|${name}${source.key}`, () => largestSpec(name, source)),
    bindings: [bindView(ctx, op, words).binding, source.bound.binding],
    params: [m, n, k, rows, inner, rows * inner * batch, groups * 256, ...source.values],
    grid: [groups, 1, 1],
    bytes: bytesOfView(view),
  });
}

function largestSpec(name: "a" | "b", source: MatrixSource): ProgramSpec {
  const load = source.along === "k" ? `${name}_k4(z, j / p.inner, (j % p.inner) * 4u)` : `${name}_r4(z, (j % p.rows) * 4u, j / p.rows)`;
  return {
    label: `largest magnitude ${name} ${source.key}`,
    bindings: [
      { name: "largest", type: "array<atomic<u32>>", write: true },
      { name, type: source.type },
    ],
    params: ["m", "n", "k", "rows", "inner", "count", "threads", ...source.params],
    workgroup: [256],
    declarations: `${formatFunctions(source.text)}${source.text}var<workgroup> most: atomic<u32>;\nvar<workgroup> odd: atomic<u32>;\n`,
    body: `if (lid == 0u) { atomicStore(&most, 0u); atomicStore(&odd, 0u); }
  workgroupBarrier();
  var best = vec4<u32>();
  var any_odd = vec4<bool>();
  for (var i = wg * 256u + lid; i < p.count; i += p.threads) {
    let z = i / (p.rows * p.inner);
    let j = i % (p.rows * p.inner);
    let v = bitcast<vec4<u32>>(${load}) & vec4<u32>(0x7fffffffu);
    let is_odd = v >= vec4<u32>(0x7f800000u);
    best = max(best, select(v, vec4<u32>(), is_odd));
    any_odd = any_odd | is_odd;
  }
  atomicMax(&most, max(max(best.x, best.y), max(best.z, best.w)));
  if (any(any_odd)) { atomicStore(&odd, 1u); }
  workgroupBarrier();
  if (lid == 0u) { atomicMax(&largest[0], atomicLoad(&most)); atomicMax(&largest[1], atomicLoad(&odd)); }`,
  };
}
