// Running sums and products along rows: each thread scans a block, block totals are scanned serially, then added. Deterministic.
import type { Kernel } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import { formatFunctions, loadElement, type StoredDType, wordType } from "../wgsl/formats.ts";
import { mathFunctions } from "../wgsl/math.ts";
import { offsetFunction } from "../wgsl/offsets.ts";
import { bindView, bytesOfView, type KernelContext, scratchView } from "./context.ts";
import { runMap } from "./elementwise.ts";
import { isEmpty } from "./finish.ts";
import { forEachRowPiece, widthOf } from "./rows.ts";

const threads = 64;

/** Running sums and products along the last dimension. */
export function scanKernel(ctx: KernelContext): Kernel<"scan"> {
  return (out, { x }, { kind }) => {
    if (isEmpty(out)) return;
    const type = wordType(x.dtype as StoredDType);
    const direct = out.dtype === type;
    const target = direct ? out : scratchView(ctx, type, out.layout.shape, "scan result");
    forEachRowPiece(ctx, 1, [target, x], ([o, piece]) => scanPiece(ctx, o!, piece!, kind));
    if (direct) return;
    runMap(ctx, "scan", out, [target], { kind: "input", index: 0, type });
    ctx.drop(target.buffer as never);
  };
}

function scanPiece(ctx: KernelContext, out: View, x: View, kind: "sum" | "prod"): void {
  const width = widthOf(x.layout);
  const rows = sizeOf(x.layout.shape) / width;
  const [from, to] = [bindView(ctx, "scan", x), bindView(ctx, "scan", out)];
  const lead = offsetFunction("lead", x.layout, 0, x.layout.shape.length - 1);
  const program = ctx.program(`scan|${kind}|${x.dtype}|${lead.key}`, () => scanSpec(kind, x.dtype as StoredDType, lead));
  const params = [rows, width, from.offset, to.offset, ...lead.values];
  ctx.record({
    op: kind === "sum" ? "cumsum" : "cumprod",
    program,
    bindings: [from.binding, to.binding],
    params,
    grid: rows,
    bytes: bytesOfView(x) * 3,
  });
}

/** Sums of floats carry their rounding error along (Neumaier), as torch sums in double. */
function scanSpec(kind: "sum" | "prod", dtype: StoredDType, lead: ReturnType<typeof offsetFunction>) {
  const t = wordType(dtype);
  const precise = kind === "sum" && t === "f32";
  const op = kind === "sum" ? "+" : "*";
  const unit = kind === "sum" ? `${t}()` : `${t}(1)`;
  const add = precise ? "acc = two_sum(acc, v);" : `acc = acc ${op} v;`;
  const acc = precise ? "vec2<f32>" : t;
  const value = precise ? "(acc.x + acc.y)" : "acc";
  const merge = (v: string): string => (precise ? `two_sum(two_sum(acc, ${v}.x), ${v}.y)` : `acc ${op} ${v}`);
  const body = `let row = wg;
  if (row >= p.rows) { return; }
  let base = p.x_o + lead(row);
  let block = (p.width + ${threads - 1}u) / ${threads}u;
  let start = min(p.width, lid * block); let end = min(p.width, start + block);
  var acc = ${acc}(${precise ? "" : unit});
  for (var i = start; i < end; i++) { let v = ${loadElement(dtype, "x", "(base + i)")}; ${add} }
  totals[lid] = acc;
  workgroupBarrier();
  acc = ${acc}(${precise ? "" : unit});
  for (var k = 0u; k < lid; k++) { acc = ${merge("totals[k]")}; }
  for (var i = start; i < end; i++) {
    let v = ${loadElement(dtype, "x", "(base + i)")}; ${add}
    out[p.out_o + row * p.width + i] = ${t === "u32" ? value : `bitcast<u32>(${value})`};
  }`;
  // Infinities would leave NaN in the error term; it is dropped when the sum is not finite.
  const sum = `fn two_sum(a: vec2<f32>, v: f32) -> vec2<f32> {
  let s = a.x + v;
  let e = select((v - s) + a.x, (a.x - s) + v, abs(a.x) >= abs(v));
  return vec2<f32>(s, select(a.y + e, 0.0, (bitcast<u32>(s) & 0x7f800000u) == 0x7f800000u));
}
`;
  const text = `var<workgroup> totals: array<${acc}, ${threads}>;\n${precise ? sum : ""}${lead.text}\n`;
  const functions = mathFunctions(text + body);
  return {
    label: `scan ${kind}`,
    bindings: [
      { name: "x", type: "array<u32>" },
      { name: "out", type: "array<u32>", write: true },
    ],
    params: ["rows", "width", "x_o", "out_o", ...lead.params],
    workgroup: [threads] as const,
    declarations: formatFunctions(functions + text + body) + functions + text,
    body,
  };
}
