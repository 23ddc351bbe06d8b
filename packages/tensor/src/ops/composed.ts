// The fused ops written with basic ones: what runs on a backend without the fused kernel, and a second oracle for those that have it.
// Everything is computed in f32 and rounded once at the end, as the fused kernels do. Shapes and dtypes were checked by the ops' rules.
// (gelu, silu, swiglu, modulate and gatedAdd need nothing here: they are elementwise expressions, which every backend's `map` takes.)
import type { Tensor } from "../tensor.ts";
import { exprType, mapTensors } from "./elementwise.ts";
import type { Epilogue } from "./epilogue.ts";
import { castNode, mapInputs } from "./expr.ts";
import type { AttentionOptions, NormOptions, QkNormRopeOptions, QkStream } from "./fused-options.ts";
import { cat, stack } from "./join.ts";

/** `y` in f32 → x's dtype, after the epilogue. */
function finish(op: string, y: Tensor, x: Tensor, then: Epilogue | undefined): Tensor {
  if (!then) return y.to(x.dtype);
  const inputs = [y, ...then.operands];
  return mapTensors(op, inputs, y.shape, x.dtype, (nodes) =>
    castNode(
      mapInputs(then.expr, (i) => nodes[i]!),
      exprType(x.dtype),
    ),
  );
}

/** softmax, or its logarithm, along `dim`. */
export function composedSoftmax(x: Tensor, dim: number, log: boolean): Tensor {
  const shifted = x.to("f32").sub(x.to("f32").max(dim, { keepdim: true }));
  const powers = shifted.exp();
  const sum = powers.sum(dim, { keepdim: true });
  return (log ? shifted.sub(sum.log()) : powers.div(sum)).to(x.dtype);
}

/** (x - mean) / √(var + eps) over the last dimension; rms does not subtract the mean. x f32 [..., d]. */
function normalised(kind: "layer" | "rms", x: Tensor, eps: number): Tensor {
  const centered = kind === "layer" ? x.sub(x.mean(-1, { keepdim: true })) : x;
  return centered.div(centered.square().mean(-1, { keepdim: true }).add(eps).sqrt());
}

/** Layer or RMS norm over the last dimension. x [..., d], weight and bias [d]. */
export function composedRowNorm(kind: "layer" | "rms", x: Tensor, { weight, bias, eps, then }: NormOptions): Tensor {
  const y = affine(normalised(kind, x.to("f32"), eps), weight, bias);
  return finish(`${kind}Norm`, y, x, then);
}

/** x [b, c, ...] in groups of channels, weight and bias [c]. */
export function composedGroupNorm(x: Tensor, groups: number, { weight, bias, eps, then }: NormOptions): Tensor {
  const rows = normalised("layer", x.to("f32").reshape(x.dim(0), groups, -1), eps).reshape(x.shape);
  const overChannels = (t: Tensor | undefined) => t?.reshape([x.dim(1), ...new Array<number>(x.rank - 2).fill(1)]);
  return finish("groupNorm", affine(rows, overChannels(weight), overChannels(bias)), x, then);
}

function affine(x: Tensor, weight: Tensor | undefined, bias: Tensor | undefined): Tensor {
  const scaled = weight ? x.mul(weight.to("f32")) : x;
  return bias ? scaled.add(bias.to("f32")) : scaled;
}

/** softmax(scale · q kᵀ + mask) v, scores and all; a query that sees no key gives 0. Lies in memory as [b, l, n, e], like the fused result. */
export function composedAttention(q: Tensor, k: Tensor, v: Tensor, scale: number, options: AttentionOptions): Tensor {
  const [b, n, l, width] = q.dims(4);
  const [, m, s, valueWidth] = v.dims(4);
  const perGroup = q.to("f32").reshape(b, m, n / m, l, width);
  const products = perGroup.matmul(k.to("f32").unsqueeze(2).t()).mul(scale);
  const scores = masked(products.reshape(b, n, l, s), options);
  const highest = scores.max(-1, { keepdim: true });
  const powers = scores.sub(highest.eq(Number.NEGATIVE_INFINITY).where(0, highest)).exp();
  const sum = powers.sum(-1, { keepdim: true });
  const shares = powers.div(sum.eq(0).where(1, sum)).reshape(b, m, n / m, l, s);
  const out = shares.matmul(v.to("f32").unsqueeze(2)).reshape(b, n, l, valueWidth);
  return out.to(q.dtype).transpose(1, 2).contiguous().transpose(1, 2);
}

/** scores [b, n, l, s] with what a query may not see at minus infinity. */
function masked(scores: Tensor, { mask, lengths, causal = false }: AttentionOptions): Tensor {
  const { device } = scores;
  const hidden = Number.NEGATIVE_INFINITY;
  const keys = device.arange(0, scores.dim(3), 1, "i32");
  let seen = scores;
  if (mask) seen = mask.dtype === "u8" ? mask.ne(0).where(seen, hidden) : seen.add(mask.to("f32"));
  if (causal) seen = keys.le(device.arange(0, scores.dim(2), 1, "i32").unsqueeze(1)).where(seen, hidden);
  if (lengths) seen = keys.lt(lengths.to("i32").reshape(-1, 1, 1, 1)).where(seen, hidden);
  return seen;
}

/** Rotates pairs of the last dimension: (2i, 2i+1) if interleaved, else (i, i + k/2). x [..., l, k]; cos, sin broadcast to [..., l, k/2]. */
export function composedRope(x: Tensor, cos: Tensor, sin: Tensor, interleaved: boolean): Tensor {
  const half = x.dim(-1) / 2;
  const pairs = x.to("f32").unflatten(-1, interleaved ? [half, 2] : [2, half]);
  const [a, b] = pairs.unbind(2, interleaved ? -1 : -2);
  const turned = [a.mul(cos).sub(b.mul(sin)), b.mul(cos).add(a.mul(sin))];
  return stack(turned, interleaved ? -1 : -2)
    .reshape(x.shape)
    .to(x.dtype);
}

/** RMS norm of every head, the streams joined, then rope. Streams [b, lᵢ, n·k] → [b, n, Σ lᵢ, k]. */
export function composedQkNormRope(streams: readonly QkStream[], { heads, cos, sin, interleaved }: QkNormRopeOptions): Tensor {
  const normed = streams.map(({ x, weight, eps }) => {
    const rows = x.unflatten(-1, [heads, x.dim(-1) / heads]).transpose(1, 2);
    return composedRowNorm("rms", rows, { weight, eps });
  });
  return composedRope(cat(normed, 2), cos, sin, interleaved).contiguous();
}
