// Pooling and resampling of images.
import type { Kernel } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import type { KernelContext } from "./context.ts";
import { computePoints, moveElements } from "./pointwise.ts";
import { forEachRowPiece } from "./rows.ts";

const planes = (x: View, out: View): { h: number; w: number; oh: number; ow: number } => {
  const [h, w] = x.layout.shape.slice(-2) as [number, number];
  const [oh, ow] = out.layout.shape.slice(-2) as [number, number];
  return { h, w, oh, ow };
};

const place = "let ox = i % p.ow; let oy = (i / p.ow) % p.oh; let plane = (i / (p.ow * p.oh)) * p.h * p.w;";

/** Views with batch and channels joined, so that pieces can be cut between planes. */
const joined = (v: View): View => {
  const [b, c, h, w] = v.layout.shape as [number, number, number, number];
  return { ...v, layout: { shape: [b * c, h, w], strides: [h * w, w, 1], offset: v.layout.offset } };
};

/** Maximum and average pooling over windows of an image. */
export function poolKernel(ctx: KernelContext): Kernel<"pool"> {
  return (out, { x }, { kind, kernel, stride, padding, countPad }) => {
    const [ky, kx] = kernel;
    const params = { ...planes(x, out), ky, kx, sy: stride[0], sx: stride[1], py: padding[0], px: padding[1] };
    const step = kind === "max" ? "s = f_max(s, v);" : "s += v; count += 1u;";
    const end = kind === "max" ? "return s;" : `return s / f32(${countPad ? "p.ky * p.kx" : "max(count, 1u)"});`;
    const text = `fn value(i: u32) -> f32 {
  ${place}
  var s = ${kind === "max" ? "f_bits(0xff800000u)" : "0.0"}; var count = 0u;
  for (var a = 0u; a < p.ky; a++) {
    let y = oy * p.sy + a;
    if (y < p.py || y - p.py >= p.h) { continue; }
    for (var b = 0u; b < p.kx; b++) {
      let c = ox * p.sx + b;
      if (c < p.px || c - p.px >= p.w) { continue; }
      let v = f32(x_at(plane + (y - p.py) * p.w + (c - p.px)));
      ${step}
    }
  }
  ${end}
}`;
    forEachRowPiece(ctx, 2, [joined(out), joined(x)], ([o, piece]) => {
      computePoints(ctx, o!, { op: "pool", key: `${kind}${countPad}`, inputs: { x: piece! }, params, text }, {});
    });
  };
}

/** Nearest and bilinear resizing, as torch.nn.functional.interpolate. */
export function resampleKernel(ctx: KernelContext): Kernel<"resample"> {
  return (out, { x }, { mode, alignCorners }) => {
    const sizes = planes(x, out);
    forEachRowPiece(ctx, 2, [joined(out), joined(x)], ([o, piece]) => {
      if (mode === "nearest") moveElements(ctx, o!, { op: "nearest", key: "", inputs: { x: piece! }, params: sizes, text: nearestText });
      else bilinear(ctx, o!, piece!, sizes, alignCorners);
    });
  };
}

const nearestText = `fn value(i: u32) -> u32 {
  ${place}
  return x_at(plane + min(oy * p.h / p.oh, p.h - 1u) * p.w + min(ox * p.w / p.ow, p.w - 1u));
}`;

function bilinear(ctx: KernelContext, out: View, x: View, sizes: ReturnType<typeof planes>, align: boolean): void {
  const ratio = (n: number, on: number): number => (align ? (on > 1 ? (n - 1) / (on - 1) : 0) : n / on);
  const params = { ...sizes, "ry:f32": ratio(sizes.h, sizes.oh), "rx:f32": ratio(sizes.w, sizes.ow) };
  const source = align ? "r * f32(o)" : "max(r * (f32(o) + 0.5) - 0.5, 0.0)";
  const text = `fn source(o: u32, r: f32) -> f32 { return ${source}; }
fn value(i: u32) -> f32 {
  ${place}
  let sy = source(oy, p.ry); let sx = source(ox, p.rx);
  let y0 = min(u32(sy), p.h - 1u); let x0 = min(u32(sx), p.w - 1u);
  let y1 = min(y0 + 1u, p.h - 1u); let x1 = min(x0 + 1u, p.w - 1u);
  let fy = sy - f32(y0); let fx = sx - f32(x0);
  let top = x_at(plane + y0 * p.w + x0) * (1.0 - fx) + x_at(plane + y0 * p.w + x1) * fx;
  let low = x_at(plane + y1 * p.w + x0) * (1.0 - fx) + x_at(plane + y1 * p.w + x1) * fx;
  return top * (1.0 - fy) + low * fy;
}`;
  computePoints(ctx, out, { op: "bilinear", key: `${align}`, inputs: { x }, params, text }, {});
}

/** One direction of bicubic or antialiased resizing: weighted sums of neighbours from a table. */
export function filterKernel(ctx: KernelContext): Kernel<"filter"> {
  return (out, { x, index, weight }, { dim }) => {
    const [taps, count] = index.layout.shape as [number, number];
    const [tap, source] = dim === 3 ? ["ox", "oy * p.w + pick"] : ["oy", "pick * p.w + ox"];
    const text = `fn value(i: u32) -> f32 {
  ${place}
  var s = 0.0;
  for (var k = 0u; k < p.taps; k++) {
    let t = k * p.count + ${tap};
    let pick = u32(index_at(t));
    s += weight_at(t) * x_at(plane + ${source});
  }
  return s;
}`;
    forEachRowPiece(ctx, 2, [joined(out), joined(x)], ([o, piece]) => {
      const params = { ...planes(x, out), taps, count };
      computePoints(ctx, o!, { op: "filter", key: `${dim}`, inputs: { x: piece!, index, weight }, params, text }, {});
    });
  };
}
