// Rotary position embedding of the last dimension, interleaved or half-split.
import type { Kernel } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import type { ProgramSpec } from "../pipelines.ts";
import { formatFunctions, loadElement, type StoredDType } from "../wgsl/formats.ts";
import { mathFunctions } from "../wgsl/math.ts";
import { type OffsetFunction, offsetFunction } from "../wgsl/offsets.ts";
import { bindView, bytesOfView, type KernelContext } from "./context.ts";
import { type Finish, isEmpty, withFinish } from "./finish.ts";
import { forEachRowPiece, widthOf } from "./rows.ts";

/** Rotary positions from tables of cosines and sines. */
export function ropeKernel(ctx: KernelContext): Kernel<"rope"> {
  return (out, { x, cos, sin }, { interleaved }) => {
    if (isEmpty(out)) return;
    forEachRowPiece(ctx, 1, [out, x, cos, sin], ([o, ...views]) => {
      withFinish(ctx, "rope", o!, widthOf(x.layout), 3, {}, undefined, (target, finish) => {
        ropePiece(ctx, target, views as [View, View, View], interleaved, finish(target));
      });
    });
  };
}

function ropePiece(ctx: KernelContext, out: View, views: readonly [View, View, View], interleaved: boolean, finish: Finish): void {
  const [x, cos, sin] = views;
  const n = sizeOf(out.layout.shape);
  const rank = x.layout.shape.length;
  const bounds = views.map((v) => bindView(ctx, "rope", v));
  const offsets = [
    offsetFunction("x_row", x.layout, 0, rank - 1),
    offsetFunction("cos_at", cos.layout, 0, rank),
    offsetFunction("sin_at", sin.layout, 0, rank),
  ];
  const key = `rope|${interleaved}|${x.dtype}|${offsets.map((o) => o.key).join()}|${finish.key}`;
  const program = ctx.program(key, () => ropeSpec(x.dtype as StoredDType, interleaved, offsets, finish));
  ctx.record({
    op: "rope",
    program,
    bindings: [...bounds.map((b) => b.binding), ...finish.bindings],
    params: [n, widthOf(x.layout), ...bounds.map((b) => b.offset), ...offsets.flatMap((o) => o.values), ...finish.values],
    grid: Math.ceil(n / (finish.quad ? 256 : 64)),
    bytes: bytesOfView(x) * 2,
  });
}

function ropeSpec(dtype: StoredDType, interleaved: boolean, offsets: readonly OffsetFunction[], finish: Finish): ProgramSpec {
  const partner = interleaved ? "j ^ 1u" : "select(j + half, j - half, j >= half)";
  const pair = interleaved ? "j >> 1u" : "select(j, j - half, j >= half)";
  const negative = interleaved ? "(j & 1u) == 0u" : "j < half";
  const rotate = `fn rotated(row: u32, j: u32) -> f32 {
  let half = p.width / 2u;
  let base = p.x_o + x_row(row);
  let at = row * half + (${pair});
  let c = bitcast<f32>(cos[p.cos_o + cos_at(at)]);
  let s = bitcast<f32>(sin[p.sin_o + sin_at(at)]);
  let a = ${loadElement(dtype, "x", "(base + j)")};
  let b = ${loadElement(dtype, "x", `(base + (${partner}))`)};
  return a * c + select(b * s, -(b * s), ${negative});
}`;
  const body = finish.quad
    ? `let i = (wg * 64u + lid) * 4u; if (i >= p.n) { return; }
  let row = i / p.width; let j = i % p.width;
  put4(i, vec4<f32>(rotated(row, j), rotated(row, j + 1u), rotated(row, j + 2u), rotated(row, j + 3u)));`
    : "let i = wg * 64u + lid; if (i >= p.n) { return; } put(i, rotated(i / p.width, i % p.width));";
  const text = `${offsets.map((o) => o.text).join("\n")}\n${rotate}\n${finish.text}`;
  const functions = mathFunctions(text);
  return {
    label: "rope",
    bindings: [...["x", "cos", "sin"].map((name) => ({ name, type: "array<u32>" })), ...finish.specs],
    params: ["n", "width", "x_o", "cos_o", "sin_o", ...offsets.flatMap((o) => o.params), ...finish.params],
    workgroup: [64],
    declarations: formatFunctions(functions + text) + functions + text,
    body,
  };
}
