// gridSample: a picture read at given places.
// After pytorch/pytorch aten/src/ATen/native/GridSampler.h.
import type { GridSampleAttrs, Kernel } from "../../../ops/table.ts";
import type { KernelContext } from "./context.ts";
import { computePoints } from "./pointwise.ts";
import { forEachRowPiece } from "./rows.ts";

/** An image at places, as torch.nn.functional.grid_sample. */
export function gridSampleKernel(ctx: KernelContext): Kernel<"gridSample"> {
  return (out, { x, grid }, attrs) => {
    const [h, w] = x.layout.shape.slice(2) as [number, number];
    const [b, oh, ow] = grid.layout.shape as [number, number, number];
    const places = oh * ow;
    // One grid for all channels, so that pieces can be cut between them too.
    const shared = {
      ...grid,
      layout: { shape: [b, x.layout.shape[1]!, places, 2], strides: [places * 2, 0, 2, 1], offset: grid.layout.offset },
    };
    const { mode, paddingMode, alignCorners } = attrs;
    const key = `${mode}${paddingMode}${alignCorners}`;
    forEachRowPiece(ctx, 2, [out, x, shared], ([o, piece, ownGrid]) => {
      const params = { h, w, c: o!.layout.shape[1]!, places };
      const inputs = {
        x: piece!,
        grid: { ...grid, layout: { ...grid.layout, shape: [o!.layout.shape[0]!, oh, ow, 2], offset: ownGrid!.layout.offset } },
      };
      computePoints(ctx, o!, { op: "gridSample", key, inputs, params, text: programText(attrs) }, {});
    });
  };
}

function programText({ mode, paddingMode, alignCorners }: GridSampleAttrs): string {
  const pixels = alignCorners ? "(g + 1.0) / 2.0 * (size - 1.0)" : "((g + 1.0) * size - 1.0) / 2.0";
  return `fn in_pixels(g: f32, size: f32) -> f32 { return ${pixels}; }
fn mirrored(at: f32, low: f32, span: f32) -> f32 {
  if (span == 0.0) { return 0.0; }
  let distance = abs(at - low);
  let flips = floor(distance / span);
  let rest = distance - flips * span;
  return low + select(span - rest, rest, floor(flips / 2.0) * 2.0 == flips);
}
fn padded(at: f32, size: f32) -> f32 { return ${padding(paddingMode, alignCorners)}; }
fn pixel(plane: u32, x: f32, y: f32) -> f32 {
  if (!(x >= 0.0 && y >= 0.0 && x < f32(p.w) && y < f32(p.h))) { return 0.0; }
  return x_at(plane + u32(y) * p.w + u32(x));
}
fn cubic(distance: f32) -> f32 {
  let d = abs(distance);
  if (d <= 1.0) { return (1.25 * d - 2.25) * d * d + 1.0; }
  return select(0.0, ((-0.75 * d + 3.75) * d - 6.0) * d + 3.0, d < 2.0);
}
fn value(i: u32) -> f32 {
  let channel = i / p.places;
  let at = ((channel / p.c) * p.places + i % p.places) * 2u;
  let plane = channel * p.h * p.w;
  let h = f32(p.h); let w = f32(p.w);
  let x = in_pixels(grid_at(at), w); let y = in_pixels(grid_at(at + 1u), h);
  ${samplers[mode]}
}`;
}

const padding = (mode: GridSampleAttrs["paddingMode"], alignCorners: boolean): string => {
  if (mode === "zeros") return "at";
  const inside = mode === "border" ? "at" : alignCorners ? "mirrored(at, 0.0, size - 1.0)" : "mirrored(at, -0.5, size)";
  return `clamp(${inside}, 0.0, size - 1.0)`;
};

const samplers: Readonly<Record<GridSampleAttrs["mode"], string>> = {
  nearest: "return pixel(plane, round(padded(x, w)), round(padded(y, h)));",
  bilinear: `let px = padded(x, w); let py = padded(y, h);
  let left = floor(px); let top = floor(py);
  let fx = px - left; let fy = py - top;
  let above = pixel(plane, left, top) * (1.0 - fx) + pixel(plane, left + 1.0, top) * fx;
  let below = pixel(plane, left, top + 1.0) * (1.0 - fx) + pixel(plane, left + 1.0, top + 1.0) * fx;
  return above * (1.0 - fy) + below * fy;`,
  bicubic: `let left = floor(x); let top = floor(y);
  var s = 0.0;
  for (var j = -1; j <= 2; j++) {
    let row = padded(top + f32(j), h);
    var line = 0.0;
    for (var k = -1; k <= 2; k++) { line += pixel(plane, padded(left + f32(k), w), row) * cubic(x - left - f32(k)); }
    s += line * cubic(y - top - f32(j));
  }
  return s;`,
};
