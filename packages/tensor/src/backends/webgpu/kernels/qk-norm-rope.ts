// RMS norm of every head of projected queries or keys, rotary positions and the layout that attention reads: one pass from the projection.
// A row is one head of one token, cut into units of eight values so that four pairs of either kind lie in two vectors; as many threads as
// there are units (at most a subgroup) share a row and keep it in registers.
import type { Kernel, OpTable } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import type { ProgramSpec } from "../pipelines.ts";
import type { DeviceTraits } from "../traits.ts";
import { formatFunctions, loadElement, loadQuad, packQuad, quadType, type StoredDType } from "../wgsl/formats.ts";
import { mathFunctions } from "../wgsl/math.ts";
import { alignedRows } from "../wgsl/offsets.ts";
import { coordinates, elementIndex, walkOf, walkParams, walkValues } from "../wgsl/strided.ts";
import { type Bound, bindView, bytesOfView, type KernelContext, scratchView } from "./context.ts";
import { isEmpty } from "./finish.ts";
import { forEachRowPiece, widthOf } from "./rows.ts";

type Inputs = OpTable["qkNormRope"]["in"];
type Attrs = OpTable["qkNormRope"]["attrs"];

/** Norm of query or key heads, joining of streams and rotary positions in one pass. */
export function qkNormRopeKernel(ctx: KernelContext): Kernel<"qkNormRope"> {
  return (out, inputs, attrs) => {
    if (isEmpty(out)) return;
    const { x, weight, cos, sin } = inputs;
    if (widthOf(x.layout) % 8 !== 0) {
      inSteps(ctx, out, inputs, attrs);
      return;
    }
    forEachRowPiece(ctx, 1, [out, x, cos, sin], ([o, ...views]) => {
      const [px, pc, ps] = views as [View, View, View];
      const piece = { x: px, cos: pc, sin: ps, ...(weight ? { weight } : {}) };
      if (alignedRows(o!.layout, bindView(ctx, "qkNormRope", o!).offset)) normRopePiece(ctx, o!, piece, attrs);
      else inSteps(ctx, o!, piece, attrs);
    });
  };
}

/** The same with the kernels it is made of, for widths and places that vectors do not reach. */
function inSteps(ctx: KernelContext, out: View, { x, weight, cos, sin }: Inputs, { eps, interleaved }: Attrs): void {
  const { shape } = out.layout;
  const normed = scratchView(ctx, out.dtype, shape, "normed heads");
  const turned = scratchView(ctx, out.dtype, shape, "rotated heads");
  ctx.kernels.norm(normed, { x, ...(weight ? { weight } : {}) }, { kind: "rms", eps });
  ctx.kernels.rope(turned, { x: normed, cos, sin }, { interleaved });
  ctx.kernels.copy(out, { x: turned }, {});
  ctx.drop(normed.buffer);
  ctx.drop(turned.buffer);
}

/** How threads share rows: `threads` to a row, `lanes` of them a subgroup's (0: they agree through workgroup memory). */
interface Share {
  readonly threads: number;
  readonly lanes: number;
  readonly units: number;
}

const workgroupThreads = 64;
/** Units a thread keeps in registers; longer rows are read twice. */
const maxHeldUnits = 2;

function shareOf({ tier, subgroupSize, software }: DeviceTraits, width: number): Share {
  const units = width / 8;
  const whole = 2 ** Math.floor(Math.log2(units));
  const lanes = tier === "plain" || subgroupSize < 4 || subgroupSize > workgroupThreads ? 0 : subgroupSize;
  if (lanes > 0) return { threads: Math.min(whole, lanes), lanes, units };
  return { threads: software ? 1 : Math.min(whole, workgroupThreads), lanes, units };
}

/** One operand: `fn NAME4(at, q)` reads four values of the row at element `at`. */
interface Operand {
  readonly name: string;
  readonly dtype: StoredDType;
  readonly bound: Bound;
  /** Read as vectors. */
  readonly quad: boolean;
}

function operandOf(ctx: KernelContext, name: string, view: View): Operand {
  const bound = bindView(ctx, "qkNormRope", view);
  return { name, dtype: view.dtype as StoredDType, bound, quad: alignedRows(view.layout, bound.offset) };
}

const rowNames = ["out", "x", "cos", "sin"] as const;
/** Rows lie anywhere. */
const rowModes = rowNames.map(() => "elem" as const);

function normRopePiece(ctx: KernelContext, out: View, { x, weight, cos, sin }: Inputs, { eps, interleaved }: Attrs): void {
  const width = widthOf(x.layout);
  const rows = sizeOf(x.layout.shape) / width;
  const share = shareOf(ctx.traits, width);
  const views = [out, x, cos, sin];
  const [to, ...reads] = views.map((view, i) => operandOf(ctx, rowNames[i]!, view)) as [Operand, ...Operand[]];
  const scale = weight ? [operandOf(ctx, "weight", weight)] : [];
  const walk = walkOf(views.map(({ layout }) => ({ shape: layout.shape.slice(0, -1), strides: layout.strides.slice(0, -1), offset: 0 })));
  const from = [...reads, ...scale];
  const shape = { share, interleaved, dtype: to.dtype, rank: walk.shape.length, from };
  const formats = from.map(({ dtype, quad }) => dtype + (quad ? "q" : "s")).join();
  const key = `qkNormRope|${interleaved}|${share.threads},${share.lanes},${share.units}|${to.dtype}|${walk.shape.length}|${formats}`;
  const offsets = [to, ...reads].map(({ bound }) => bound.offset);
  ctx.record({
    op: "qkNormRope",
    program: ctx.program(key, () => normRopeSpec(ctx.traits, shape)),
    bindings: [...from, to].map(({ bound }) => bound.binding),
    params: [rows, eps, ...walkValues(walk, [0, 1, 2, 3], offsets, rowModes), ...scale.map(({ bound }) => bound.offset)],
    grid: Math.ceil((rows * share.threads) / workgroupThreads),
    bytes: bytesOfView(x) + bytesOfView(out),
    flops: 10 * rows * width,
  });
}

/** What a program's text depends on. */
interface Variant {
  readonly share: Share;
  readonly interleaved: boolean;
  readonly dtype: StoredDType;
  /** Dimensions of the rows, joined. */
  readonly rank: number;
  /** x, cos, sin and the weight, if there is one. */
  readonly from: readonly Operand[];
}

function normRopeSpec(traits: DeviceTraits, variant: Variant): ProgramSpec {
  const { share, interleaved, dtype, rank, from } = variant;
  const body = bodyText(variant);
  const text = `${from.map(readerText).join("")}${sumText(share)}${turnText(interleaved)}${roundText(dtype)}`;
  const functions = mathFunctions(text + body);
  const builtins = ["@builtin(subgroup_id) sid: u32", "@builtin(subgroup_invocation_id) lane: u32"];
  const bindings = from.map(({ name, dtype: d, quad }) => ({ name, type: quad ? quadType(d) : "array<u32>" }));
  return {
    label: "QK norm + rope",
    bindings: [...bindings, { name: "out", type: quadType(dtype), write: true }],
    params: ["rows", "eps:f32", ...walkParams(rank, rowNames, rowModes), ...(from.length > 3 ? ["weight_o"] : [])],
    workgroup: [workgroupThreads],
    ...(share.lanes > 0 ? { enable: ["subgroups"], builtins, ...(traits.pinSubgroups ? { subgroupSize: share.lanes } : {}) } : {}),
    declarations: formatFunctions(functions + text + body) + functions + text,
    body,
  };
}

function readerText({ name, dtype, quad }: Operand): string {
  const lanes = [0, 1, 2, 3].map((j) => loadElement(dtype, name, `(at + q * 4u + ${j}u)`)).join(", ");
  const value = quad ? loadQuad(dtype, name, "((at >> 2u) + q)") : `vec4<f32>(${lanes})`;
  return `fn ${name}4(at: u32, q: u32) -> vec4<f32> { return ${value}; }\n`;
}

/** `fn row_sum(lid, me, v)`: the sum over the threads of a row. */
function sumText({ threads, lanes }: Share): string {
  const open = "fn row_sum(lid: u32, me: u32, v: f32) -> f32 {";
  if (threads === 1) return `${open} return v; }\n`;
  if (lanes > 0)
    return `${open} var r = v; for (var d = 1u; d < ${threads}u; d = d << 1u) { r += subgroupShuffleXor(r, d); } return r; }\n`;
  return `var<workgroup> sums: array<f32, ${workgroupThreads}>;
${open}
  sums[lid] = v;
  workgroupBarrier();
  for (var s = ${threads / 2}u; s > 0u; s = s >> 1u) {
    if (me < s) { sums[lid] += sums[lid + s]; }
    workgroupBarrier();
  }
  return sums[lid - me];
}
`;
}

/** `fn round4(v)`: what storing as `dtype` and reading again would give. */
const roundText = (dtype: StoredDType): string =>
  dtype === "f32"
    ? ""
    : `fn round4(v: vec4<f32>) -> vec4<f32> { return vec4<f32>(f_${dtype}(v.x), f_${dtype}(v.y), f_${dtype}(v.z), f_${dtype}(v.w)); }\n`;

/** `fn turn(a, b, c, s)`: the four pairs of a unit's two vectors, turned. */
function turnText(interleaved: boolean): string {
  const turned = "let u = first * c - second * s; let v = second * c + first * s;";
  const whole = `  let first = a; let second = b; ${turned}\n  return Unit(u, v);`;
  const apart = `  let first = vec4<f32>(a.xz, b.xz); let second = vec4<f32>(a.yw, b.yw); ${turned}
  return Unit(vec4<f32>(u.x, v.x, u.y, v.y), vec4<f32>(u.z, v.z, u.w, v.w));`;
  return `struct Unit { a: vec4<f32>, b: vec4<f32> }
fn turn(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, s: vec4<f32>) -> Unit {
${interleaved ? apart : whole}
}
`;
}

/** `u32`s of the rows' first elements, for row number `row`. */
const rowStarts = (rank: number): string =>
  `${coordinates(rank, "row")}\n  ${rowNames.map((n) => `let at_${n} = ${elementIndex(rank, n, "elem")};`).join(" ")}`;

function bodyText({ share: { threads, lanes, units }, interleaved, dtype, rank, from }: Variant): string {
  const thread = lanes > 0 ? `sid * ${lanes}u + lane` : "lid";
  const held = Math.ceil(units / threads);
  const kept = held <= maxHeldUnits;
  const scaled = (v: string, half: string): string => {
    const value = `${v} * scale${from.length > 3 ? ` * weight4(p.weight_o, ${half})` : ""}`;
    return dtype === "f32" ? value : `round4(${value})`;
  };
  const load = (a: string, b: string): string => `${a} = x4(at_x, j); ${b} = x4(at_x, k); sum += dot(${a}, ${a}) + dot(${b}, ${b});`;
  const store = (a: string, b: string): string => `let t = turn(${scaled(a, "j")}, ${scaled(b, "k")}, cos4(at_cos, i), sin4(at_sin, i));
    if (inside) { out[(at_out >> 2u) + j] = ${packQuad(dtype, "t.a")}; out[(at_out >> 2u) + k] = ${packQuad(dtype, "t.b")}; }`;
  // The unit's vectors are neighbours, or a half row apart.
  const vectors = interleaved ? "let j = 2u * i; let k = j + 1u;" : `let j = i; let k = i + ${units}u;`;
  const each = (text: (a: string, b: string) => string): string => {
    if (!kept) return `for (var i = me; i < ${units}u; i += ${threads}u) { ${vectors} ${text("a", "b")} }`;
    const one = (n: number): string => `${vectors} ${text(`a${n}`, `b${n}`)}`;
    const guarded = (n: number): string => ((n + 1) * threads > units ? `if (i < ${units}u) { ${one(n)} }` : one(n));
    return Array.from({ length: held }, (_, n) => `{ let i = me + ${n * threads}u; ${guarded(n)} }`).join("\n  ");
  };
  const registers = kept ? Array.from({ length: held }, (_, n) => `var a${n}: vec4<f32>; var b${n}: vec4<f32>;`).join(" ") : "";
  const local = kept ? "" : "var a: vec4<f32>; var b: vec4<f32>;";
  // Threads without a row repeat the last one: sums need all of them.
  return `  let mine = (wg * ${workgroupThreads}u + ${thread}) / ${threads}u;
  let me = (${thread}) % ${threads}u;
  let inside = mine < p.rows;
  let row = min(mine, p.rows - 1u);
  ${rowStarts(rank)}
  ${registers}${local}
  var sum = 0.0;
  ${each(load)}
  let scale = 1.0 / sqrt(row_sum(lid, me, sum) / ${units * 8}.0 + p.eps);
  ${each(kept ? store : (a, b) => `a = x4(at_x, j); b = x4(at_x, k); ${store(a, b)}`)}`;
}
