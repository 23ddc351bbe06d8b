// Transposed convolution: each output element gathers the inputs that reach it. What exceeds a binding, or the work of one dispatch, is cut into
// images, groups, channels and bands of rows.
import { isContiguous, narrowLayout } from "../../../layout.ts";
import type { ConvAttrs, Kernel } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import { bytesOfView, fits, fitsAsFloat, type KernelContext, scratchView, withContiguous } from "./context.ts";
import { runMap } from "./elementwise.ts";
import { isEmpty } from "./finish.ts";
import { computePoints } from "./pointwise.ts";

type Four = readonly [number, number, number, number];

/** Transposed convolution, as torch.nn.functional.conv_transpose2d. */
export function convTransposeKernel(ctx: KernelContext): Kernel<"convTranspose"> {
  return (out, { x, weight, operands = [] }, attrs) => {
    if (isEmpty(out)) return;
    const used = attrs.epilogue ? operands : [];
    const [, , kh, kw] = weight.layout.shape as Four;
    const flops = (2 * sizeOf(out.layout.shape) * (x.layout.shape[1]! / attrs.groups) * kh * kw) / (attrs.stride[0] * attrs.stride[1]);
    const whole = fitsAsFloat(ctx.traits, out) && [x, weight, ...used].every((v) => fits(ctx.traits, v));
    if (whole && flops <= ctx.traits.dispatchFlops) {
      computePoints(ctx, out, transposeKernel(x, weight, out, attrs, 0, 0), attrs, used);
      return;
    }
    cutImages(ctx, out, x, weight, attrs, used);
  };
}

const cut = (v: View, dim: number, start: number, count: number): View => ({ ...v, layout: narrowLayout(v.layout, dim, start, count) });

function cutImages(ctx: KernelContext, out: View, x: View, weight: View, attrs: ConvAttrs, operands: readonly View[]): void {
  const [batch, channels] = x.layout.shape as Four;
  const outGroup = weight.layout.shape[1]!;
  const inGroup = channels / attrs.groups;
  for (let b = 0; b < batch; b++) {
    for (let g = 0; g < attrs.groups; g++) {
      const part = (v: View): View => cut(cut(v, 0, b, 1), 1, g * outGroup, outGroup);
      const source = cut(cut(x, 0, b, 1), 1, g * inGroup, inGroup);
      cutChannels(ctx, part(out), source, cut(weight, 0, g * inGroup, inGroup), { ...attrs, groups: 1 }, operands.map(part));
    }
  }
}

/** One group of one image: blocks of output channels, each with its contiguous part of the weight. */
function cutChannels(ctx: KernelContext, out: View, x: View, weight: View, attrs: ConvAttrs, operands: readonly View[]): void {
  const [, channels, , columns] = out.layout.shape as Four;
  const room = ctx.traits.maxBindingBytes * 0.7;
  const most = Math.floor(Math.min(room / (bytesOfView(weight) / channels), room / (columns * 4)));
  const block = Math.max(1, Math.min(channels, most));
  for (let c = 0; c < channels; c += block) {
    const n = Math.min(block, channels - c);
    const part = cut(weight, 1, c, n);
    const use = (w: View): void =>
      cutRows(
        ctx,
        cut(out, 1, c, n),
        x,
        w,
        attrs,
        operands.map((v) => cut(v, 1, c, n)),
      );
    if (isContiguous(part.layout)) use(part);
    else withContiguous(ctx, part, use);
  }
}

/** Bands of output rows with the input rows that reach them: through f32 memory, then epilogue and conversion in place. */
function cutRows(ctx: KernelContext, out: View, x: View, weight: View, attrs: ConvAttrs, operands: readonly View[]): void {
  const [, channels, rows, columns] = out.layout.shape as Four;
  const { maxBindingBytes, dispatchFlops } = ctx.traits;
  const [, inputs, height] = x.layout.shape as Four;
  const [, , kh, kw] = weight.layout.shape as Four;
  const [sy, sx] = attrs.stride;
  const reach = (kh - 1) * attrs.dilation[0];
  const byOutput = Math.floor((maxBindingBytes * 0.7) / (channels * columns * 4));
  const byInput = Math.floor((maxBindingBytes * 0.7) / (bytesOfView(x) / height) - 1) * sy - reach;
  const byWork = Math.floor((dispatchFlops * sy * sx) / (2 * channels * columns * inputs * kh * kw));
  const band = Math.max(1, Math.min(rows, byOutput, fits(ctx.traits, x) && isContiguous(x.layout) ? rows : byInput, byWork));
  for (let row = 0; row < rows; row += band) {
    const n = Math.min(band, rows - row);
    const first = Math.min(height - 1, Math.max(0, Math.floor((row + attrs.padding[0] - reach) / sy)));
    const end = Math.max(first + 1, Math.min(height, Math.floor((row + n - 1 + attrs.padding[0]) / sy) + 1));
    const input = cut(x, 2, first, end - first);
    const target = cut(out, 2, row, n);
    const rest = operands.map((v) => cut(v, 2, row, n));
    if (isContiguous(input.layout) && fits(ctx.traits, input)) bandInto(ctx, target, input, weight, attrs, rest, row, first);
    else withContiguous(ctx, input, (copy) => bandInto(ctx, target, copy, weight, attrs, rest, row, first));
  }
}

function bandInto(
  ctx: KernelContext,
  out: View,
  x: View,
  weight: View,
  attrs: ConvAttrs,
  operands: readonly View[],
  row: number,
  inputRow: number,
): void {
  const result = scratchView(ctx, "f32", out.layout.shape, "convTranspose result");
  computePoints(ctx, result, transposeKernel(x, weight, result, attrs, row, inputRow), {});
  runMap(ctx, "convTranspose", out, [result, ...operands], attrs.epilogue ?? { kind: "input", index: 0, type: "f32" });
  ctx.drop(result.buffer);
}

/** The kernel for output rows from `row` of an image whose first row here is `inputRow`. */
function transposeKernel(x: View, weight: View, out: View, attrs: ConvAttrs, row: number, inputRow: number) {
  const [, c, h, w] = x.layout.shape as Four;
  const [, o, oh, ow] = out.layout.shape as Four;
  const [, og, kh, kw] = weight.layout.shape as Four;
  const [sy, sx] = attrs.stride;
  const [dy, dx] = attrs.dilation;
  const params = { c, h, w, o, oh, ow, og, kh, kw, cg: c / attrs.groups, sy, sx, dy, dx, py: attrs.padding[0] + row, px: attrs.padding[1] };
  return {
    op: "convTranspose",
    key: "",
    inputs: { x, weight },
    params: { ...params, top: inputRow },
    text: transposeText,
    flops: (2 * sizeOf(out.layout.shape) * params.cg * kh * kw) / (sy * sx),
  };
}

const transposeText = `fn value(i: u32) -> f32 {
  let ox = i % p.ow; let oy = (i / p.ow) % p.oh; let o = (i / (p.ow * p.oh)) % p.o; let b = i / (p.ow * p.oh * p.o);
  let g = o / p.og;
  var s = 0.0;
  for (var ky = 0u; ky < p.kh; ky++) {
    let ty = i32(oy + p.py) - i32(ky * p.dy);
    if (ty < 0 || ty % i32(p.sy) != 0) { continue; }
    let iy = u32(ty / i32(p.sy)) - p.top;
    if (iy >= p.h) { continue; }
    for (var kx = 0u; kx < p.kw; kx++) {
      let tx = i32(ox + p.px) - i32(kx * p.dx);
      if (tx < 0 || tx % i32(p.sx) != 0 || tx / i32(p.sx) >= i32(p.w)) { continue; }
      let at = iy * p.w + u32(tx / i32(p.sx));
      for (var c = 0u; c < p.cg; c++) {
        let ic = g * p.cg + c;
        s += x_at((b * p.c + ic) * p.h * p.w + at) * weight_at(((ic * p.og + o % p.og) * p.kh + ky) * p.kw + kx);
      }
    }
  }
  return s;
}`;
