// Convolution without im2col in memory: as a product where that is faster (conv-gemm.ts), else four output channels and four neighbouring
// pixels per thread. Images larger than a binding are cut into channels and bands of rows.
import { narrowLayout } from "../../../layout.ts";
import type { ConvAttrs, Kernel } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import type { ProgramSpec } from "../pipelines.ts";
import { formatFunctions, loadElement, type StoredDType } from "../wgsl/formats.ts";
import { mathFunctions } from "../wgsl/math.ts";
import { bindView, bytesOfView, fits, type KernelContext, scratchView } from "./context.ts";
import { recordConvGemm } from "./conv-gemm.ts";
import { runMap } from "./elementwise.ts";
import { type Finish, isEmpty, withFinish } from "./finish.ts";
import { gemmBindings } from "./gemm-parts.ts";

type Four = readonly [number, number, number, number];

/** A part of a convolution: rows of the output that start at `row`, from an input whose first row is `inputRow`. */
interface ConvPiece {
  readonly channel: number;
  readonly channels: number;
  readonly row: number;
  readonly rows: number;
  readonly inputRow: number;
}

/** Convolution, as torch.nn.functional.conv2d: by matrices, as a product of patches, or directly for groups. */
export function convKernel(ctx: KernelContext): Kernel<"conv"> {
  return (out, { x, weight, operands = [] }, attrs) => {
    if (isEmpty(out)) return;
    const used = attrs.epilogue ? operands : [];
    for (let b = 0; b < out.layout.shape[0]!; b++) {
      const [o, xb, ...rest] = [out, x, ...used].map((v) => ({ ...v, layout: narrowLayout(v.layout, 0, b, 1) })) as [View, View, ...View[]];
      convImage(ctx, o, xb, weight, attrs, rest);
    }
  };
}

/** One image: as a whole, or by channels and bands of rows when bindings or the work of one dispatch are too small for it. */
function convImage(ctx: KernelContext, out: View, x: View, weight: View, attrs: ConvAttrs, operands: readonly View[]): void {
  const [, outChannels, rows] = out.layout.shape as Four;
  const flops = 2 * sizeOf(out.layout.shape) * sizeOf(weight.layout.shape.slice(1));
  const whole = [out, x, weight, ...operands].every((v) => fits(ctx.traits, v));
  if (whole && flops <= ctx.traits.dispatchFlops) {
    const piece = { channel: 0, channels: outChannels, row: 0, rows, inputRow: 0 };
    const width = out.layout.shape[3]!;
    withFinish(ctx, "conv", out, width, gemmBindings(ctx.traits), attrs, operands, (o, finish) =>
      record(ctx, o, x, weight, attrs, piece, finish(o)),
    );
    return;
  }
  banded(ctx, out, x, weight, attrs, operands, flops);
}

function banded(ctx: KernelContext, out: View, x: View, weight: View, attrs: ConvAttrs, operands: readonly View[], flops: number): void {
  const [, outChannels, rows] = out.layout.shape as Four;
  const { maxBindingBytes, dispatchFlops } = ctx.traits;
  const perChannel = Math.max(bytesOfView(out), sizeOf(out.layout.shape) * 4) / outChannels;
  const group = outChannels / attrs.groups;
  const most = Math.max(1, Math.floor((maxBindingBytes * 0.8) / Math.max(perChannel, bytesOfView(weight) / outChannels)));
  const channels = attrs.groups > 1 ? Math.max(1, Math.min(group, most)) : Math.min(outChannels, most);
  const inputRowBytes = bytesOfView(x) / x.layout.shape[2]!;
  const bandRows = Math.floor((maxBindingBytes * 0.7) / inputRowBytes / attrs.stride[0]) - weight.layout.shape[2]! * attrs.dilation[0];
  const byWork = Math.ceil((rows * dispatchFlops) / flops) * Math.ceil(outChannels / channels);
  const band = Math.max(1, Math.min(rows, fits(ctx.traits, x) ? rows : bandRows, byWork));
  for (let row = 0; row < rows; row += band) {
    const n = Math.min(band, rows - row);
    const input = inputBand(ctx, x, weight, attrs, row, n);
    for (let c = 0; c < outChannels; c += channels)
      channelBlock(ctx, out, input.view, weight, attrs, operands, {
        channel: c,
        channels: Math.min(channels, outChannels - c),
        row,
        rows: n,
        inputRow: input.row,
      });
    input.drop();
  }
}

/** The input rows that a band of output rows needs, copied when the whole input does not fit a binding. */
function inputBand(
  ctx: KernelContext,
  x: View,
  weight: View,
  attrs: ConvAttrs,
  row: number,
  rows: number,
): { view: View; row: number; drop: () => void } {
  if (fits(ctx.traits, x)) return { view: x, row: 0, drop: () => undefined };
  const height = x.layout.shape[2]!;
  const reach = (weight.layout.shape[2]! - 1) * attrs.dilation[0];
  const first = Math.min(height - 1, Math.max(0, row * attrs.stride[0] - attrs.padding[0]));
  const last = Math.max(first + 1, Math.min(height, (row + rows - 1) * attrs.stride[0] - attrs.padding[0] + reach + 1));
  const part = { ...x, layout: narrowLayout(x.layout, 2, first, last - first) };
  const copy = scratchView(ctx, x.dtype, part.layout.shape, "conv input rows");
  ctx.kernels.copy(copy, { x: part }, {});
  return { view: copy, row: first, drop: () => ctx.drop(copy.buffer) };
}

/** Some channels and rows of the output: through f32 memory, then epilogue and conversion in place. */
function channelBlock(
  ctx: KernelContext,
  out: View,
  x: View,
  weight: View,
  attrs: ConvAttrs,
  operands: readonly View[],
  piece: ConvPiece,
): void {
  const cut = (v: View): View => ({
    ...v,
    layout: narrowLayout(narrowLayout(v.layout, 1, piece.channel, piece.channels), 2, piece.row, piece.rows),
  });
  const target = cut(out);
  const result = scratchView(ctx, "f32", target.layout.shape, "conv result");
  const part = { ...weight, layout: narrowLayout(weight.layout, 0, piece.channel, piece.channels) };
  withFinish(ctx, "conv", result, result.layout.shape[3]!, gemmBindings(ctx.traits), {}, undefined, (o, finish) =>
    record(ctx, o, x, part, attrs, piece, finish(o), out),
  );
  runMap(ctx, "conv", target, [result, ...operands.map(cut)], attrs.epilogue ?? { kind: "input", index: 0, type: "f32" });
  ctx.drop(result.buffer);
}

function record(
  ctx: KernelContext,
  out: View,
  x: View,
  weight: View,
  attrs: ConvAttrs,
  piece: ConvPiece,
  finish: Finish,
  whole: View = out,
): void {
  const padTop = attrs.padding[0] + piece.inputRow - piece.row * attrs.stride[0];
  if (recordConvGemm(ctx, out, x, weight, attrs, padTop, finish)) return;
  const [, channels, h, w] = x.layout.shape as Four;
  const [o, perGroup, kh, kw] = weight.layout.shape as Four;
  const outRows = out.layout.shape[2]!;
  const outWidth = out.layout.shape[3]!;
  const groupSize = whole.layout.shape[1]! / attrs.groups;
  const [bx, bw] = [bindView(ctx, "conv", x), bindView(ctx, "conv", weight)];
  const block = groupSize % 4 === 0 ? 4 : 1;
  const key = `conv|${block}|${x.dtype}|${weight.dtype}|${finish.key}`;
  const program = ctx.program(key, () => convSpec(block, x.dtype as StoredDType, weight.dtype as StoredDType, finish));
  const sizes = [channels, h, w, o, outRows, outWidth, perGroup, kh, kw];
  const attributes = [...attrs.stride, ...attrs.dilation, padTop, attrs.padding[1], groupSize, piece.channel];
  const tiles = Math.ceil(o / block) * outRows * Math.ceil(outWidth / 4);
  ctx.record({
    op: "conv",
    program,
    bindings: [bx.binding, bw.binding, ...finish.bindings],
    params: [...sizes, ...attributes, bx.offset, bw.offset, ...finish.values],
    grid: Math.ceil(tiles / 64),
    flops: 2 * o * outRows * outWidth * perGroup * kh * kw,
    bytes: bytesOfView(x) + bytesOfView(weight) + bytesOfView(out),
  });
}

const convParams = [
  "c",
  "h",
  "w",
  "o",
  "oh",
  "ow",
  "cg",
  "kh",
  "kw",
  "sy",
  "sx",
  "dy",
  "dx",
  "py:i32",
  "px:i32",
  "group",
  "first",
  "x_o",
  "w_o",
];

function convSpec(block: number, xd: StoredDType, wd: StoredDType, finish: Finish): ProgramSpec {
  const outs = Array.from({ length: block }, (_, i) => i);
  const store = outs.map((i) =>
    finish.quad
      ? `if (oc + ${i}u < p.o && ox < p.ow) { put4(((oc + ${i}u) * p.oh + oy) * p.ow + ox, s${i}); }`
      : ["x", "y", "z", "w"]
          .map((l, j) => `if (oc + ${i}u < p.o && ox + ${j}u < p.ow) { put(((oc + ${i}u) * p.oh + oy) * p.ow + ox + ${j}u, s${i}.${l}); }`)
          .join(" "),
  );
  const body = `let across = (p.ow + 3u) / 4u;
  let t = wg * 64u + lid;
  let ox = (t % across) * 4u;
  let oy = (t / across) % p.oh;
  let oc = (t / (across * p.oh)) * ${block}u;
  if (oc >= p.o) { return; }
  let c0 = ((oc + p.first) / p.group) * p.cg;
  ${outs.map((i) => `var s${i} = vec4<f32>(); let w${i} = p.w_o + min(oc + ${i}u, p.o - 1u) * p.cg * p.kh * p.kw;`).join(" ")}
  for (var c = 0u; c < p.cg; c++) {
    for (var ky = 0u; ky < p.kh; ky++) {
      let iy = i32(oy * p.sy + ky * p.dy) - p.py;
      if (iy < 0 || iy >= i32(p.h)) { continue; }
      let base = p.x_o + ((c0 + c) * p.h + u32(iy)) * p.w;
      for (var kx = 0u; kx < p.kw; kx++) {
        let ix = i32(ox * p.sx + kx * p.dx) - p.px;
        let x = vec4<f32>(${[0, 1, 2, 3].map((j) => `pixel(base, ix + i32(${j}u * p.sx))`).join(", ")});
        let k = (c * p.kh + ky) * p.kw + kx;
        ${outs.map((i) => `s${i} += ${loadElement(wd, "weight", `(w${i} + k)`)} * x;`).join(" ")}
      }
    }
  }
  ${store.join("\n  ")}`;
  const pixel = `fn pixel(base: u32, ix: i32) -> f32 { if (ix < 0 || ix >= i32(p.w)) { return 0.0; } let i = base + u32(ix); return ${loadElement(xd, "x", "i")}; }\n`;
  const text = `${finish.text}\n${pixel}`;
  const functions = mathFunctions(text + body);
  return {
    label: "conv",
    bindings: [{ name: "x", type: "array<u32>" }, { name: "weight", type: "array<u32>" }, ...finish.specs],
    params: [...convParams, ...finish.params],
    workgroup: [64],
    declarations: formatFunctions(functions + text + body) + functions + text,
    body,
  };
}
