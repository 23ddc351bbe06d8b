// Scaled dot-product attention and rotary position embedding.
import { isFloat } from "../dtype.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import { expandLayout } from "../layout.ts";
import type { Tensor } from "../tensor.ts";
import { composedAttention, composedRope } from "./composed.ts";
import { checkDevices } from "./elementwise.ts";
import { asRows } from "./reduce.ts";

/** Masks, lengths and scale of attention. */
export interface AttentionOptions {
  /** Broadcast to [b, n, l, s]: u8 keeps where nonzero (torch's bool mask), a float mask or bias is added to the scores. */
  readonly mask?: Tensor | undefined;
  /** [b] integers: keys at positions ≥ lengths[b] are ignored. */
  readonly lengths?: Tensor | undefined;
  /** Query i sees key j only if j ≤ i. */
  readonly causal?: boolean;
  /** Default 1/√k. */
  readonly scale?: number;
}

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
 */
export function rope(x: Tensor, cos: Tensor, sin: Tensor, interleaved: boolean): Tensor {
  checkDevices("rope", [x, cos, sin]);
  if (x.rank < 2 || x.dim(-1) % 2 !== 0) throw new ShapeError("rope", `the last dimension must be even: ${x}`);
  if (!isFloat(x.dtype) || cos.dtype !== "f32" || sin.dtype !== "f32")
    throw new DTypeError("rope", `x is a float, cos and sin are f32: x ${x}, cos ${cos}, sin ${sin}`);
  const half = [...x.shape.slice(0, -1), x.dim(-1) / 2];
  const table = (t: Tensor) => ({
    buffer: t.view.buffer,
    dtype: t.dtype,
    layout: expandLayout("rope", t.layout, half, () => `table ${t} for ${x}`),
  });
  const kernel = x.device.backend.kernels.rope;
  if (!kernel && x.size > 0) return composedRope(x, cos, sin, interleaved);
  const out = x.device.empty(x.shape, x.dtype, "rope");
  if (out.size > 0) kernel!(out.view, { x: asRows(x).view, cos: table(cos), sin: table(sin) }, { interleaved });
  return out;
}
