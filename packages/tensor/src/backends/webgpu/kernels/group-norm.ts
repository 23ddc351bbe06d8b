// Group norm: moments of every group (in chunks, merged without cancellation), then one pass that normalises and applies the epilogue.

import { contiguousLayout, narrowLayout } from "../../../layout.ts";
import type { Kernel, OpTable } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import { moments } from "../wgsl/states.ts";
import { fits, fitsAsFloat, type KernelContext, scratchView } from "./context.ts";
import { isEmpty } from "./finish.ts";
import { computePoints } from "./pointwise.ts";
import { reduceRows } from "./reduce.ts";

const groupMoments = { ...moments, result: "", resultType: "f32" } as const;

/** Group norm with weight and bias, and what follows it elementwise: statistics in one pass, values in a second. */
export function groupNormKernel(ctx: KernelContext): Kernel<"groupNorm"> {
  return (out, inputs, attrs) => {
    if (isEmpty(out)) return;
    const { x } = inputs;
    const [batch, channels] = x.layout.shape as [number, number];
    const rows = batch * attrs.groups;
    const length = sizeOf(x.layout.shape) / rows;
    const stats = scratchView(ctx, "f32", [rows, 2], "group norm moments");
    const grouped = { ...x, layout: { ...contiguousLayout([rows, length]), offset: x.layout.offset } };
    const results = ["s.mean", "1.0 / sqrt(s.m2 / f32(p.length) + p.eps)"];
    reduceRows(ctx, "groupNorm", stats, grouped, 1, { key: "moments", state: groupMoments, results, extra: { eps: attrs.eps } });
    const shape = { channels, length, spatial: sizeOf(x.layout.shape.slice(2)) };
    normalise(ctx, out, inputs, stats, attrs, shape, 0);
    ctx.drop(stats.buffer);
  };
}

interface Sizes {
  readonly channels: number;
  readonly length: number;
  readonly spatial: number;
}

/** Normalises a contiguous range that starts at element `first`; ranges are halved until their bindings fit. */
function normalise(
  ctx: KernelContext,
  out: View,
  inputs: OpTable["groupNorm"]["in"],
  stats: View,
  attrs: OpTable["groupNorm"]["attrs"],
  sizes: Sizes,
  first: number,
): void {
  const { x, weight, bias, operands = [] } = inputs;
  const used = attrs.epilogue ? operands : [];
  const dim = out.layout.shape.findIndex((d) => d > 1);
  if (dim >= 0 && dim < out.layout.shape.length - 1 && !(fitsAsFloat(ctx.traits, out) && [x, ...used].every((v) => fits(ctx.traits, v)))) {
    const n = out.layout.shape[dim]!;
    const half = Math.ceil(n / 2);
    const perIndex = sizeOf(out.layout.shape) / n;
    for (const [start, count] of [
      [0, half],
      [half, n - half],
    ] as const) {
      const cut = (v: View): View => ({ ...v, layout: narrowLayout(v.layout, dim, start, count) });
      normalise(ctx, cut(out), { ...inputs, x: cut(x), operands: used.map(cut) }, stats, attrs, sizes, first + start * perIndex);
    }
    return;
  }
  const scale = weight ? " * weight_at(c)" : "";
  const shift = bias ? " + bias_at(c)" : "";
  const result = (x: string): string => `(${x} - stats_at(2u * g)) * stats_at(2u * g + 1u)${scale}${shift}`;
  const place = "let j = p.first + i; let g = j / p.length; let c = (j / p.spatial) % p.channels;";
  const text = `fn value(i: u32) -> f32 { ${place} return ${result("x_at(i)")}; }`;
  // Four neighbours lie in one channel.
  const inside = sizes.spatial % 4 === 0 && first % 4 === 0;
  const fours = inside ? { fours: `fn value4(i: u32) -> vec4<f32> { ${place} return ${result("x_at4(i)")}; }` } : {};
  const sources = { x, stats, ...(weight ? { weight } : {}), ...(bias ? { bias } : {}) };
  computePoints(ctx, out, { op: "groupNorm", key: "", inputs: sources, params: { ...sizes, first }, text, ...fours }, attrs, used);
}
