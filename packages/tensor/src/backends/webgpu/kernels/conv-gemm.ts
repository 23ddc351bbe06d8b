// Convolution as a matrix product whose right operand is read from the image where it is needed (implicit GEMM): weight [o, c·kh·kw] times
// patches [c·kh·kw, pixels]. The patches never exist in memory, and every tier of the product serves.
import type { ConvAttrs } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import { loadElement, type StoredDType } from "../wgsl/formats.ts";
import { bindView, type KernelContext } from "./context.ts";
import { convPlan, recordConvMatrix } from "./conv-matrix.ts";
import type { Finish } from "./finish.ts";
import { chooseVariant, variantsFor } from "./gemm.ts";
import type { Runs } from "./gemm-runs.ts";
import { matrixSource, recordGemm } from "./matmul.ts";
import type { MatrixSource } from "./matrix-source.ts";

type Four = readonly [number, number, number, number];

/**
 * Records the product for `out` [1, o, rows, w'] (contiguous) of an image, and says whether it did: grouped and narrow convolutions, and those
 * of software drivers without subgroups, are faster without tiles. `padTop` counts rows above the image's first.
 */
export function recordConvGemm(
  ctx: KernelContext,
  out: View,
  x: View,
  weight: View,
  attrs: ConvAttrs,
  padTop: number,
  finish: Finish,
): boolean {
  const [o, perGroup, kh, kw] = weight.layout.shape as Four;
  if (attrs.groups > 1 || o < 16 || kh * kw > 64) return false;
  const k = perGroup * kh * kw;
  const n = out.layout.shape[2]! * out.layout.shape[3]!;
  const rows = { ...weight, layout: { shape: [o, k], strides: [k, 1], offset: weight.layout.offset } };
  const a = { view: rows, source: matrixSource(ctx, "a", rows, o) };
  const plane = planeSource(ctx, x);
  const [, channels, height, width] = x.layout.shape as Four;
  const b = pointwise(attrs, kh, kw, padTop)
    ? { view: x, source: plane }
    : { view: x, source: patchSource(ctx, x, out, attrs, kh, kw, padTop), once: { source: plane, n: height * width, k: channels } };
  const size = { m: o, n, k, batch: 1 };
  const { traits } = ctx;
  if (traits.software && chooseVariant(traits, size, a.source, b.source, finish).kind === "registers") return false;
  for (const variant of variantsFor(traits, size, a.source, b.source, finish)) {
    if (variant.kind !== "matrix") break;
    const operands = { weight: a, image: b };
    const plan = convPlan(traits, variant, out, weight, operands, attrs);
    if (!plan) continue;
    recordConvMatrix(ctx, plan, out, weight, operands, padTop, finish);
    return true;
  }
  recordGemm(ctx, "conv", a, b, size, finish, 0, n);
  return true;
}

const pointwise = ({ stride, padding }: ConvAttrs, kh: number, kw: number, padTop: number): boolean =>
  kh * kw === 1 && stride[0] * stride[1] === 1 && padTop === 0 && padding[1] === 0;

/** A 1x1 convolution's patches are the image itself. */
function planeSource(ctx: KernelContext, x: View): MatrixSource {
  const [, channels, h, w] = x.layout.shape as Four;
  const plane = { ...x, layout: { shape: [h * w, channels], strides: [1, h * w], offset: x.layout.offset } };
  return matrixSource(ctx, "b", plane, h * w);
}

/** `b_r4(z, r, k)`: patch element k of pixels r…r+3. */
function patchSource(ctx: KernelContext, x: View, out: View, attrs: ConvAttrs, kh: number, kw: number, padTop: number): MatrixSource {
  const bound = bindView(ctx, "conv", x);
  const [, , h, w] = x.layout.shape as Four;
  const columns = out.layout.shape[3]!;
  const quad = columns % 4 === 0;
  const { stride, dilation, padding } = attrs;
  return {
    bound,
    dtype: x.dtype,
    along: "r",
    quad,
    type: "array<u32>",
    batch: { text: "", params: [], values: [], key: "" },
    params: ["b_o", "b_h", "b_w", "b_columns", "b_top:i32"],
    values: [bound.offset, h, w, columns, padTop],
    key: `conv${x.dtype}${quad ? "q" : "s"}${[kh, kw, ...stride, ...dilation, padding[1]].join()}`,
    runs: () => (kh * kw <= 32 ? patchRuns(x.dtype as StoredDType, attrs, kh, kw) : patchRows(x.dtype as StoredDType, quad, attrs, kh, kw)),
    get text() {
      return patchText(x.dtype as StoredDType, quad, attrs, kh, kw);
    },
  };
}

/**
 * Patch elements k…k+3 of one pixel, for neighbouring lanes of neighbouring pixels. Where the patch begins, and which of its places (32 at most) lie
 * inside the image, a bit each, is found once.
 */
function patchRuns(d: StoredDType, { stride, dilation, padding }: ConvAttrs, kh: number, kw: number): Runs {
  const [sy, sx] = stride;
  const [dy, dx] = dilation;
  const taps = Array.from({ length: kh * kw }, (_, t) => [Math.floor(t / kw) * dy, (t % kw) * dx] as const);
  const bits = taps.map(([y, x], t) => `select(0u, ${2 ** t}u, u32(iy + ${y}) < p.b_h && u32(ix + ${x}) < p.b_w)`);
  return {
    ...{ type: "array<u32>", raw: "vec4<f32>", unit: 4, along: "k", guards: true, scattered: true },
    text: `fn b_row(z: u32, r: u32) -> vec2<u32> {
  let iy = i32(r / p.b_columns) * ${sy} - p.b_top;
  let ix = i32(r % p.b_columns) * ${sx} - ${padding[1]};
  return vec2<u32>(p.b_o + u32(iy * i32(p.b_w) + ix), ${bits.join(" | ")});
}
fn b_element(row: vec2<u32>, k: u32) -> f32 {
  let c = k / ${kh * kw}u;
  let t = k % ${kh * kw}u;
  let inside = ((row.y >> t) & 1u) == 1u && k < p.k;
  let i = select(0u, row.x + c * (p.b_h * p.b_w) + (t / ${kw}u) * (p.b_w * ${dy}u) + (t % ${kw}u) * ${dx}u, inside);
  return select(0.0, ${loadElement(d, "b", "i")}, inside);
}
fn b_raw(z: u32, row: vec2<u32>, k: u32) -> vec4<f32> { return vec4<f32>(${[0, 1, 2, 3].map((j) => `b_element(row, k + ${j}u)`).join(", ")}); }
`,
    value: (register) => register,
  };
}

/** One patch element of four pixels. */
const patchRows = (d: StoredDType, quad: boolean, attrs: ConvAttrs, kh: number, kw: number): Runs => ({
  ...{ type: "array<u32>", raw: "vec4<f32>", unit: 1, along: "r", guards: true },
  text: `${patchText(d, quad, attrs, kh, kw)}
fn b_row(z: u32, r: u32) -> u32 { return r; }
fn b_raw(z: u32, row: u32, k: u32) -> vec4<f32> { return b_r4(z, row, k); }
`,
  value: (register) => register,
});

function patchText(d: StoredDType, quad: boolean, { stride, dilation, padding }: ConvAttrs, kh: number, kw: number): string {
  const [sy, sx] = stride;
  const [dy, dx] = dilation;
  const row = (r: string): string => `i32(${r} / p.b_columns) * ${sy} + ky - p.b_top`;
  const column = (r: string): string => `i32(${r} % p.b_columns) * ${sx} + kx`;
  const lanes = [0, 1, 2, 3];
  const four = quad
    ? `let iy = ${row("r")}; let ix = ${column("r")}; let row = live & (u32(iy) < p.b_h);
  return vec4<f32>(${lanes.map((j) => `b_pixel(c, row, iy, ix + ${j * sx})`).join(", ")});`
    : `${lanes.map((j) => `let r${j} = min(r + ${j}u, p.n - 1u); let iy${j} = ${row(`r${j}`)};`).join(" ")}
  return vec4<f32>(${lanes.map((j) => `b_pixel(c, live & (u32(iy${j}) < p.b_h), iy${j}, ${column(`r${j}`)})`).join(", ")});`;
  // Nothing branches, so that compilers find what does not depend on k once, and keep loads in flight.
  return `fn b_pixel(c: u32, row: bool, iy: i32, ix: i32) -> f32 {
  let inside = row & (u32(ix) < p.b_w);
  let i = p.b_o + select(0u, (c * p.b_h + u32(iy)) * p.b_w + u32(ix), inside);
  return select(0.0, ${loadElement(d, "b", "i")}, inside);
}
fn b_r4(z: u32, r: u32, k: u32) -> vec4<f32> {
  let live = k < p.k;
  let c = k / ${kh * kw}u;
  let t = k % ${kh * kw}u;
  let ky = i32(t / ${kw}u) * ${dy};
  let kx = i32(t % ${kw}u) * ${dx} - ${padding[1]};
  ${four}
}
`;
}
