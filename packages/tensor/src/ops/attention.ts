// Scaled dot-product attention, rotary position embedding, and what projections go through on the way from one to the other.

import { isFloat } from "../dtype.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import { expandLayout } from "../layout.ts";
import { scope } from "../scope.ts";
import type { Tensor } from "../tensor.ts";
import type { View } from "../view.ts";
import { composedAttention, composedQkNormRope, composedRope } from "./composed.ts";
import { checkDevices } from "./elementwise.ts";
import type { AttentionOptions, QkNormRopeOptions, QkStream } from "./fused-options.ts";
import { affineViews } from "./norm.ts";
import { asRows } from "./reduce.ts";

/**
 * softmax(scale · q kᵀ + mask) v without ever holding the scores. q [b, n, l, k], k [b, m, s, k], v [b, m, s, e], n a multiple of m → [b, n, l, e].
 * The result lies in memory as [b, l, n, e], so that merging the heads afterwards is free.
 */
export function scaledDotProductAttention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const op = "scaledDotProductAttention";
  const { mask, lengths, causal = false, scale } = options;
  checkDevices(op, [q, k, v, ...(mask ? [mask] : []), ...(lengths ? [lengths] : [])]);
  checkShapes(op, q, k, v);
  const [b, n, l, width] = q.dims(4);
  const { attention } = q.device.backend.kernels;
  const factor = scale ?? 1 / Math.sqrt(width);
  if (!attention && k.dim(2) > 0 && b * n * l * v.dim(3) > 0) return composedAttention(q, k, v, factor, options);
  const out = q.device.empty([b, l, n, v.dim(3)], q.dtype, op).permute(0, 2, 1, 3);
  if (out.size === 0) return out;
  if (k.dim(2) === 0) return q.device.zeros(out.shape, q.dtype as "f32");
  const inputs = { q: asRows(q).view, k: asRows(k).view, v: asRows(v).view, ...maskView(op, q, k, mask), ...lengthsView(op, b, lengths) };
  attention!(out.view, inputs, { scale: factor, causal });
  return out;
}

function checkShapes(op: string, q: Tensor, k: Tensor, v: Tensor): void {
  const all = `q ${q}, k ${k}, v ${v}`;
  for (const t of [q, k, v]) {
    if (t.rank !== 4) throw new ShapeError(op, `operands are [batch, heads, tokens, width]: ${all}`);
    if (!isFloat(t.dtype) || t.dtype.startsWith("f8")) throw new DTypeError(op, `takes f32, f16 or bf16: ${all}`);
  }
  const fits = q.dim(0) === k.dim(0) && k.dim(0) === v.dim(0) && k.dim(1) === v.dim(1) && k.dim(2) === v.dim(2) && q.dim(3) === k.dim(3);
  if (!fits || k.dim(1) === 0 || q.dim(1) % k.dim(1) !== 0) throw new ShapeError(op, `operands do not fit: ${all}`);
}

function maskView(op: string, q: Tensor, k: Tensor, mask: Tensor | undefined) {
  if (!mask) return {};
  if (mask.dtype !== "u8" && !isFloat(mask.dtype)) throw new DTypeError(op, `a mask is u8 (keep) or float (added): ${mask}`);
  const { buffer, dtype, layout } = mask.view;
  return { mask: { buffer, dtype, layout: expandLayout(op, layout, [q.dim(0), q.dim(1), q.dim(2), k.dim(2)], () => `mask ${mask}`) } };
}

function lengthsView(op: string, batch: number, lengths: Tensor | undefined) {
  if (!lengths) return {};
  if (lengths.rank !== 1 || lengths.dim(0) !== batch) throw new ShapeError(op, `lengths is [${batch}]: ${lengths}`);
  return { lengths: lengths.to("i32").contiguous().view };
}

/**
 * Rotates pairs of the last dimension by the angles whose cosines and sines are given. x [..., l, k]; cos, sin broadcast to [..., l, k/2], f32.
 * interleaved: pairs (2i, 2i+1) as FLUX and Z-Image; otherwise (i, i + k/2) as Qwen and LLaMA.
 * Throws ShapeError or DTypeError for operands that do not fit.
 */
export function rope(x: Tensor, cos: Tensor, sin: Tensor, interleaved: boolean): Tensor {
  checkDevices("rope", [x, cos, sin]);
  if (x.rank < 2 || x.dim(-1) % 2 !== 0) throw new ShapeError("rope", `the last dimension must be even: ${x}`);
  if (!isFloat(x.dtype) || cos.dtype !== "f32" || sin.dtype !== "f32")
    throw new DTypeError("rope", `x is a float, cos and sin are f32: x ${x}, cos ${cos}, sin ${sin}`);
  const half = [...x.shape.slice(0, -1), x.dim(-1) / 2];
  const table = (t: Tensor) => expandedView("rope", t, half, x);
  const kernel = x.device.backend.kernels.rope;
  if (!kernel && x.size > 0) return composedRope(x, cos, sin, interleaved);
  const out = x.device.empty(x.shape, x.dtype, "rope");
  if (out.size > 0) kernel!(out.view, { x: asRows(x).view, cos: table(cos), sin: table(sin) }, { interleaved });
  return out;
}

function expandedView(op: string, table: Tensor, shape: readonly number[], x: Tensor): View {
  const [pairs, wanted] = [table.dim(-1), shape.at(-1)!];
  if (pairs !== wanted && pairs !== 1)
    throw new ShapeError(
      op,
      `the table turns heads of ${2 * pairs} values, these have ${2 * wanted}: table ${table} for ${x}; the widths of its axes add up to the head width`,
    );
  const { buffer, dtype, layout } = table.view;
  return { buffer, dtype, layout: expandLayout(op, layout, shape, () => `table ${table} for ${x}`) };
}

/**
 * RMS norm of every head, rotary positions, and the layout that attention reads, in one pass: streams [b, lᵢ, n·k], one after another → [b, n, Σ lᵢ, k].
 * The same as rmsNorm, cat and rope, rounded at the same places.
 */
export const qkNormRope = (streams: readonly QkStream[], options: QkNormRopeOptions): Tensor => scope(() => normedHeads(streams, options));

function normedHeads(streams: readonly QkStream[], options: QkNormRopeOptions): Tensor {
  const { heads: n, cos, sin, interleaved } = options;
  const op = "qkNormRope";
  const first = checkStreams(op, streams, options);
  const [b, k] = [first.dim(0), first.dim(2) / n];
  let tokens = 0;
  for (const { x } of streams) tokens += x.dim(1);
  const half = [b, n, tokens, k / 2];
  const [c, s] = [expandedView(op, cos, half, first), expandedView(op, sin, half, first)];
  const kernel = first.device.backend.kernels.qkNormRope;
  if (!kernel && b * tokens * k > 0) return composedQkNormRope(streams, options);
  const out = first.device.empty([b, n, tokens, k], first.dtype, op);
  let at = 0;
  for (const { x, weight, eps } of streams) {
    const length = x.dim(1);
    const rows = asRows(x).view;
    const [batch, token] = rows.layout.strides as [number, number];
    const split = { shape: [b, length, n, k], strides: [batch, token, k, 1], offset: rows.layout.offset };
    const inputs = { x: { ...rows, layout: split }, cos: tokensFirst(c, at, length), sin: tokensFirst(s, at, length) };
    const affine = affineViews(op, x, k, weight, undefined);
    if (x.size > 0) kernel!(tokensFirst(out.view, at, length), { ...inputs, ...affine }, { eps, interleaved });
    at += length;
  }
  return out;
}

/** Tokens start…start+length of a view [b, n, l, k], as [b, l, n, k]. */
function tokensFirst({ buffer, dtype, layout: { shape, strides, offset } }: View, start: number, length: number): View {
  const [b, n, l, k] = strides as [number, number, number, number];
  const layout = { shape: [shape[0]!, length, shape[1]!, shape[3]!], strides: [b, l, n, k], offset: offset + start * l };
  return { buffer, dtype, layout };
}

/** The first stream, once all are known to fit. */
function checkStreams(op: string, streams: readonly QkStream[], { heads, cos, sin }: QkNormRopeOptions): Tensor {
  const first = streams[0]?.x;
  if (!first) throw new ShapeError(op, "needs at least one stream");
  checkDevices(op, [...streams.map(({ x }) => x), cos, sin]);
  if (!isFloat(first.dtype) || first.dtype.startsWith("f8") || cos.dtype !== "f32" || sin.dtype !== "f32")
    throw new DTypeError(op, `streams are f32, f16 or bf16, cos and sin f32: ${first}, cos ${cos}, sin ${sin}`);
  if (first.rank !== 3 || first.dim(2) % (2 * heads) !== 0)
    throw new ShapeError(op, `a stream is [batch, tokens, ${heads} heads of even width]: ${first}`);
  for (const { x } of streams) {
    if (x.rank !== 3 || x.dim(0) !== first.dim(0) || x.dim(2) !== first.dim(2) || x.dtype !== first.dtype)
      throw new ShapeError(op, `streams differ: ${first} and ${x}`);
  }
  return first;
}
