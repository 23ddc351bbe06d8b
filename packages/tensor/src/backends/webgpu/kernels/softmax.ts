// Softmax and log-softmax along the last dimension.
import type { Kernel } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import type { ProgramSpec } from "../pipelines.ts";
import type { DeviceTraits } from "../traits.ts";
import { formatFunctions } from "../wgsl/formats.ts";
import { mathFunctions } from "../wgsl/math.ts";
import { workgroupReductions } from "../wgsl/workgroup.ts";
import { bytesOfView, type KernelContext } from "./context.ts";
import { type Finish, isEmpty, withFinish } from "./finish.ts";
import {
  forEachRowPiece,
  holdKey,
  holdRow,
  type RowHold,
  type RowShare,
  type RowSource,
  rowHead,
  rowPasses,
  rowSource,
  shareKey,
  shareRows,
  shareSpec,
  storeInRow,
  widthOf,
} from "./rows.ts";

/** Softmax and its logarithm over the last dimension. */
export function softmaxKernel(ctx: KernelContext): Kernel<"softmax"> {
  return (out, { x }, { log }) => {
    if (isEmpty(out)) return;
    forEachRowPiece(ctx, 1, [out, x], ([o, piece]) => {
      withFinish(ctx, "softmax", o!, widthOf(x.layout), 1, {}, undefined, (target, finish) =>
        softmaxPiece(ctx, target, piece!, log, finish(target)),
      );
    });
  };
}

function softmaxPiece(ctx: KernelContext, out: View, x: View, log: boolean, finish: Finish): void {
  const width = widthOf(x.layout);
  const rows = sizeOf(x.layout.shape) / width;
  const share = shareRows(ctx.traits, rows, width);
  const source = rowSource(ctx, "softmax", "x", x);
  const hold = holdRow(ctx.traits, share, width, finish.quad);
  const program = ctx.program(`softmax|${log}|${shareKey(share)}|${holdKey(hold)}|${source.key}|${finish.key}`, () =>
    softmaxSpec(share, hold, ctx.traits, log, source, finish),
  );
  ctx.record({
    op: "softmax",
    program,
    bindings: [source.bound.binding, ...finish.bindings],
    params: [rows, width, source.bound.offset, ...source.offsets.values, ...finish.values],
    grid: Math.ceil(rows / share.rows),
    bytes: bytesOfView(x) + bytesOfView(out),
    flops: 5 * rows * width,
  });
}

function softmaxSpec(
  share: RowShare,
  hold: RowHold | undefined,
  traits: DeviceTraits,
  log: boolean,
  source: RowSource,
  finish: Finish,
): ProgramSpec {
  const { quad } = finish;
  const { load, pass } = rowPasses(share, hold, quad, quad ? "x4(base, j)" : "x1(base, j)");
  const exp = (v: string): string =>
    quad ? `vec4<f32>(f_exp(${v}.x - m), f_exp(${v}.y - m), f_exp(${v}.z - m), f_exp(${v}.w - m))` : `f_exp(${v} - m)`;
  // NaN need not win: it comes back with the sum.
  const max = (v: string): string => (quad ? `m = max(m, max(max(${v}.x, ${v}.y), max(${v}.z, ${v}.w)));` : `m = max(m, ${v});`);
  // What threads hold becomes its exponential.
  const keep = hold !== undefined && !log;
  const add = (v: string): string => `let e = ${exp(v)}; s += ${quad ? "(e.x + e.y) + (e.z + e.w)" : "e"}; ${keep ? `${v} = e;` : ""}`;
  const result = (v: string): string => (log ? `(${v} - m) - shift` : `${keep ? v : exp(v)} * scale`);
  const body = `${rowHead(share)}
  let base = x_row(row);
  ${load}
  var m = f_bits(0xff800000u);
  ${pass(max)}
  m = all_max(lid, m);
  var s = 0.0;
  ${pass(add)}
  s = all_add(lid, s);
  ${log ? "let shift = f_log(s);" : "let scale = 1.0 / s;"}
  ${pass((v) => storeInRow(share, `${quad ? "put4(row * p.width + j * 4u" : "put(row * p.width + j"}, ${result(v)});`))}`;
  const text = `${workgroupReductions(share.threads, share.lanes)}${source.text}${finish.text}`;
  const functions = mathFunctions(text + body);
  return {
    label: log ? "log-softmax" : "softmax",
    bindings: [{ name: "x", type: source.type }, ...finish.specs],
    params: ["rows", "width", "x_o", ...source.offsets.params, ...finish.params],
    ...shareSpec(share, traits),
    declarations: formatFunctions(functions + text) + functions + text,
    body,
  };
}
