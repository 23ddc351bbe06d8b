// Convolutions, pooling and resampling over images [b, c, h, w]; one-dimensional forms are images with one row.

import { isFloat } from "../dtype.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import type { View } from "../view.ts";
import { checkComputable, checkDevices } from "./elementwise.ts";
import { chainEpilogues, type Epilogue, epilogue, epilogueViews } from "./epilogue.ts";
import type { ConvAttrs } from "./table.ts";

/** One number for both directions, or [rows, columns]. */
export type Pair = number | readonly [number, number];
const pair = (p: Pair): readonly [number, number] => (typeof p === "number" ? [p, p] : p);

/** How a convolution moves over its input; PyTorch's names and defaults. */
export interface ConvOptions {
  /** Step of the window; 1 by default. */
  readonly stride?: Pair;
  /** Zeros at both ends; 0 by default. */
  readonly padding?: Pair;
  /** Distance between the window's taps; 1 by default. */
  readonly dilation?: Pair;
  /** Groups of channels that do not mix; 1 by default. */
  readonly groups?: number;
  /** [out channels]. */
  readonly bias?: Tensor | undefined;
  /** Fused into the product; sees the biased result. */
  readonly then?: Epilogue | undefined;
}
/** How a transposed convolution moves; PyTorch's names and defaults. */
export interface ConvTransposeOptions extends ConvOptions {
  /** Rows and columns added at one end of the result; 0 by default. */
  readonly outputPadding?: Pair;
}

function attrsOf({ stride = 1, padding = 0, dilation = 1, groups = 1 }: ConvOptions): ConvAttrs {
  return { stride: pair(stride), padding: pair(padding), dilation: pair(dilation), groups };
}

function checkOperands(op: string, x: Tensor, w: Tensor): void {
  checkDevices(op, [x, w]);
  for (const t of [x, w]) {
    if (!isFloat(t.dtype) || t.dtype.startsWith("f8")) throw new DTypeError(op, `takes f32, f16 or bf16: x ${x}, weight ${w}`);
  }
  if (x.rank !== 4 || w.rank !== 4) throw new ShapeError(op, `x is [b, c, h, w], weight has 4 dimensions: x ${x}, weight ${w}`);
}

const biased = (bias: Tensor | undefined, then: Epilogue | undefined) =>
  chainEpilogues(bias && epilogue((y, b) => y.add(b), bias.reshape(-1, 1, 1)), then);

function windows(
  op: string,
  x: Tensor,
  sizes: readonly number[],
  kernel: readonly number[],
  a: Pick<ConvAttrs, "stride" | "padding" | "dilation">,
): number[] {
  return sizes.map((n, i) => {
    const out = Math.floor((n + 2 * a.padding[i]! - a.dilation[i]! * (kernel[i]! - 1) - 1) / a.stride[i]!) + 1;
    if (out < 1) throw new ShapeError(op, `the kernel [${kernel.join(", ")}] is larger than the padded input: ${x}`);
    return out;
  });
}

/**
 * x [b, c, h, w] * weight [o, c/groups, kh, kw] → [b, o, h', w'], as torch.conv2d (zero padding).
 * Throws ShapeError for operands that do not fit.
 */
export function conv2d(x: Tensor, weight: Tensor, options: ConvOptions = {}): Tensor {
  checkOperands("conv2d", x, weight);
  const attrs = attrsOf(options);
  const [b, c, h, w] = x.dims(4);
  const [o, ci, kh, kw] = weight.dims(4);
  if (ci * attrs.groups !== c || o % attrs.groups !== 0)
    throw new ShapeError("conv2d", `channels do not fit ${attrs.groups} groups: x ${x}, weight ${weight}`);
  const [oh, ow] = windows("conv2d", x, [h, w], [kh, kw], attrs);
  return launch("conv", x, weight, [b, o, oh!, ow!], attrs, options);
}

/**
 * x [b, c, h, w], weight [c, o/groups, kh, kw] → [b, o, h', w'], as torch.conv_transpose2d.
 * Throws ShapeError for operands that do not fit.
 */
export function convTranspose2d(x: Tensor, weight: Tensor, options: ConvTransposeOptions = {}): Tensor {
  checkOperands("convTranspose2d", x, weight);
  const attrs = attrsOf(options);
  const extra = pair(options.outputPadding ?? 0);
  const [b, c, h, w] = x.dims(4);
  const [ci, og, kh, kw] = weight.dims(4);
  if (ci !== c || c % attrs.groups !== 0)
    throw new ShapeError("convTranspose2d", `channels do not fit ${attrs.groups} groups: x ${x}, weight ${weight}`);
  const grown = (n: number, k: number, i: 0 | 1) =>
    (n - 1) * attrs.stride[i] - 2 * attrs.padding[i] + attrs.dilation[i] * (k - 1) + extra[i] + 1;
  const [oh, ow] = [grown(h, kh, 0), grown(w, kw, 1)];
  if (oh < 1 || ow < 1) throw new ShapeError("convTranspose2d", `the output would be empty: x ${x}, weight ${weight}`);
  return launch("convTranspose", x, weight, [b, og * attrs.groups, oh, ow], attrs, options);
}

function launch(
  kernel: "conv" | "convTranspose",
  x: Tensor,
  weight: Tensor,
  shape: number[],
  attrs: ConvAttrs,
  { bias, then }: ConvOptions,
): Tensor {
  if (bias && (bias.rank !== 1 || bias.dim(0) !== shape[1])) throw new ShapeError("conv2d", `bias is [${shape[1]}]: ${bias}`);
  const { operands, attrs: fused } = epilogueViews(kernel, x, shape, biased(bias, then));
  const out = x.device.empty(shape, x.dtype, kernel);
  const inputs: { x: View; weight: View; operands?: readonly View[] } = {
    x: x.contiguous().view,
    weight: weight.contiguous().view,
    ...(operands ? { operands } : {}),
  };
  if (out.size > 0) x.device.backend.kernels[kernel](out.view, inputs, { ...attrs, ...fused });
  return out;
}

/** A one-row image operation on x [b, c, l]. */
export function asOneRow<O extends ConvOptions>(
  op: (x: Tensor, w: Tensor, o: O) => Tensor,
  x: Tensor,
  weight: Tensor,
  options: O,
  fixed: Partial<ConvTransposeOptions>,
): Tensor {
  return op(x.unsqueeze(2), weight.unsqueeze(2), { ...options, ...fixed }).squeeze(2);
}

/** How a pooling window moves; PyTorch's names and defaults. */
export interface PoolOptions {
  /** Step of the window; its size by default. */
  readonly stride?: Pair;
  /** Cells at both ends that count as nothing (max) or zero (average); 0 by default. */
  readonly padding?: Pair;
  /** avg only: whether zeros of the padding count in the divisor (torch's count_include_pad). */
  readonly countPad?: boolean;
}

/** Max or mean over windows. x [b, c, h, w] → [b, c, h', w']. Throws ShapeError for windows that do not fit. */
export function pool2d(
  kind: "max" | "avg",
  x: Tensor,
  kernel: Pair,
  { stride = kernel, padding = 0, countPad = true }: PoolOptions = {},
): Tensor {
  const op = `${kind}Pool2d`;
  checkComputable(op, x);
  const [b, c, h, w] = x.dims(4);
  const attrs = { kind, kernel: pair(kernel), stride: pair(stride), padding: pair(padding), countPad };
  if (attrs.padding.some((p, i) => p * 2 > attrs.kernel[i]!))
    throw new ShapeError(op, `padding is at most half of the kernel: [${attrs.padding}] and [${attrs.kernel}]`);
  const [oh, ow] = windows(op, x, [h, w], attrs.kernel, { ...attrs, dilation: [1, 1] });
  const out = x.device.empty([b, c, oh!, ow!], x.dtype, op);
  if (out.size > 0) x.device.backend.kernels.pool(out.view, { x: x.contiguous().view }, attrs);
  return out;
}
