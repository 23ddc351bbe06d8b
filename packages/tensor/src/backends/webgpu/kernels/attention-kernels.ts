// Which attention kernel a piece gets, and its dispatch.
import type { View } from "../../backend.ts";
import type { GpuBuffer } from "../buffers.ts";
import type { DeviceTraits } from "../limits.ts";
import { broadcastAttention } from "./attention-broadcast.ts";
import { matrixAttention } from "./attention-matrix.ts";
import { type AttentionPiece, type AttentionSize, type Flash, headSource, maskSource, outSource } from "./attention-parts.ts";
import { streamAttention } from "./attention-stream.ts";
import { tiledAttention } from "./attention-tiled.ts";
import { bindView, bytesOfView, type KernelContext, scratchView } from "./context.ts";

/** The fastest kernel that this device's tier allows. */
function chooseAttention(traits: DeviceTraits, size: AttentionSize): Flash {
  const special = matrixAttention(traits, size) ?? broadcastAttention(traits, size);
  return special ?? (traits.software ? streamAttention(size) : tiledAttention(traits, size));
}

/** Records one dispatch for a piece that fits. */
export function recordAttention(ctx: KernelContext, piece: AttentionPiece): void {
  const { out, q, k, v } = piece;
  const [batch, heads, queries, width] = q.layout.shape as [number, number, number, number];
  const [, groups, keys] = k.layout.shape as [number, number, number];
  const valueWidth = v.layout.shape[3]!;
  const sources = [headSource(ctx, "q", q), headSource(ctx, "k", k), headSource(ctx, "v", v)];
  const target = outSource(ctx, out);
  const mask = maskSource(ctx, piece);
  const work = 2 * batch * heads * queries * keys * (width + valueWidth);
  const flash = chooseAttention(ctx.traits, { width, valueWidth, queries, keys, work, dtypes: [q.dtype, k.dtype, v.dtype] });
  const key = `attention|${flash.key}|${sources.map((s) => s.key).join()}|${target.key}|${mask.key}`;
  const program = ctx.program(key, () => flash.spec({ sources, target, mask }));
  const largest = flash.scaled ? magnitudes(ctx, [q, k, v]) : undefined;
  const extra = largest ? [bindView(ctx, "attention", largest).binding] : [];
  const sizes = [batch * heads, heads, groups, queries, keys, valueWidth, width / 4, piece.firstQuery, piece.scale];
  ctx.record({
    op: "attention",
    program,
    bindings: [...sources.map((s) => s.bound.binding), ...mask.bounds.map((b) => b.binding), target.bound.binding, ...extra],
    params: [...sizes, ...[...sources, target].flatMap((s) => s.values), ...mask.values],
    grid: batch * heads * Math.ceil(queries / flash.rows) * Math.ceil(valueWidth / flash.chunk),
    flops: work,
    bytes: [q, k, v, out].reduce((s, x) => s + bytesOfView(x), 0),
  });
  if (largest) ctx.drop(largest.buffer);
}

/** The largest magnitudes of the views, one f32 each. */
function magnitudes(ctx: KernelContext, views: readonly View[]): View & { readonly buffer: GpuBuffer } {
  const out = scratchView(ctx, "f32", [views.length], "largest magnitudes");
  views.forEach((x, i) => {
    const slot = { ...out, layout: { shape: [], strides: [], offset: i } };
    ctx.kernels.reduce(slot, { x }, { kind: "norm", reduceRank: x.layout.shape.length, correction: 0, p: Number.POSITIVE_INFINITY });
  });
  return out;
}
