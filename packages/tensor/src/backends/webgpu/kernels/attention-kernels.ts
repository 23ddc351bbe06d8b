// Which attention kernel a piece gets, and its dispatch.
import { sizeOf } from "../../../shape.ts";
import { attentionClass, attentionPreferences } from "../preferences.ts";
import type { DeviceTraits } from "../traits.ts";
import { broadcastAttention } from "./attention-broadcast.ts";
import { halfOperands } from "./attention-halves.ts";
import { matrixAttention } from "./attention-matrix.ts";
import { type AttentionPiece, type AttentionSize, type Flash, headSource, maskSource, outSource } from "./attention-parts.ts";
import { streamAttention } from "./attention-stream.ts";
import { tiledAttention } from "./attention-tiled.ts";
import { bindView, bytesOfView, type KernelContext } from "./context.ts";
import { splitsAny } from "./gemm-tile.ts";

/** The kernel that was measured to be the fastest on this adapter, else the one its tier prefers. */
function chooseAttention(traits: DeviceTraits, size: AttentionSize): Flash {
  const kind = attentionClass(size.dtypes, splitsAny(traits, size.dtypes));
  for (const name of attentionPreferences(traits, kind)) {
    const flash = name === "tiled" ? tiledAttention(traits, size) : matrixAttention(traits, name, size);
    if (flash) return flash;
  }
  const special = broadcastAttention(traits, size);
  return special ?? (traits.software ? streamAttention(size) : tiledAttention(traits, size));
}

/** Records one dispatch for a piece that fits. */
export function recordAttention(ctx: KernelContext, piece: AttentionPiece): void {
  const { out, q, k, v } = piece;
  const [batch, heads, queries, width] = q.layout.shape as [number, number, number, number];
  const [, groups, keys] = k.layout.shape as [number, number, number];
  const valueWidth = v.layout.shape[3]!;
  const target = outSource(ctx, out);
  const mask = maskSource(ctx, piece);
  const work = 2 * batch * heads * queries * keys * (width + valueWidth);
  const views = [q, k, v];
  const elements = views.map((x) => sizeOf(x.layout.shape));
  const flash = chooseAttention(ctx.traits, { width, valueWidth, queries, keys, work, dtypes: views.map((x) => x.dtype), elements });
  const halves = flash.halves ? halfOperands(ctx, views, flash.halves) : undefined;
  const sources = halves?.sources ?? views.map((x, i) => headSource(ctx, "qkv"[i]!, x));
  const key = `attention|${flash.key}|${sources.map((s) => s.key).join()}|${target.key}|${mask.key}`;
  const program = ctx.program(key, () => flash.spec({ sources, target, mask }));
  const extra = halves?.largest ? [bindView(ctx, "attention", halves.largest).binding] : [];
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
  halves?.release();
}
