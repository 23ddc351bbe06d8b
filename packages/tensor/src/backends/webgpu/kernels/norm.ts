// Layer and RMS norm along the last dimension: f32 statistics in two passes, weight, bias and epilogue fused.
import type { ExprNode } from "../../../ops/expr.ts";
import type { Kernel, OpTable } from "../../../ops/table.ts";
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

/** Layer and RMS norm over the last dimension, with what follows elementwise. */
export function normKernel(ctx: KernelContext): Kernel<"norm"> {
  return (out, inputs, attrs) => {
    if (isEmpty(out)) return;
    const { x, operands = [] } = inputs;
    const used = attrs.epilogue ? operands : [];
    forEachRowPiece(ctx, 1, [out, x, ...used], ([o, piece, ...rest]) => {
      withFinish(ctx, "norm", o!, widthOf(x.layout), 3, attrs, rest, (target, finish) => {
        normPiece(ctx, target, { ...inputs, x: piece! }, attrs, finish(target));
      });
    });
  };
}

type NormInputs = OpTable["norm"]["in"];
interface NormAttrs {
  readonly kind: "layer" | "rms";
  readonly eps: number;
  readonly epilogue?: ExprNode;
}

function normPiece(ctx: KernelContext, out: View, { x, weight, bias }: NormInputs, { kind, eps }: NormAttrs, finish: Finish): void {
  const width = widthOf(x.layout);
  const rows = sizeOf(x.layout.shape) / width;
  const share = shareRows(ctx.traits, rows, width);
  const sources = [rowSource(ctx, "norm", "x", x)];
  if (weight) sources.push(rowSource(ctx, "norm", "weight", weight));
  if (bias) sources.push(rowSource(ctx, "norm", "bias", bias));
  const names = ["x", ...(weight ? ["weight"] : []), ...(bias ? ["bias"] : [])];
  const hold = holdRow(ctx.traits, share, width, finish.quad);
  const key = `norm|${kind}|${shareKey(share)}|${holdKey(hold)}|${names.join()}|${sources.map((s) => s.key).join()}|${finish.key}`;
  const program = ctx.program(key, () => normSpec(share, hold, ctx.traits, kind, names, sources, finish));
  ctx.record({
    op: kind === "layer" ? "layerNorm" : "rmsNorm",
    program,
    bindings: [...sources.map((s) => s.bound.binding), ...finish.bindings],
    params: [rows, width, eps, ...sources.map((s) => s.bound.offset), ...sources[0]!.offsets.values, ...finish.values],
    grid: Math.ceil(rows / share.rows),
    bytes: bytesOfView(x) + bytesOfView(out),
    flops: 6 * rows * width,
  });
}

function normSpec(
  share: RowShare,
  hold: RowHold | undefined,
  traits: DeviceTraits,
  kind: "layer" | "rms",
  names: readonly string[],
  sources: readonly RowSource[],
  finish: Finish,
): ProgramSpec {
  const { quad } = finish;
  const load = (n: string, base: string): string => (quad ? `${n}4(${base}, j)` : `${n}1(${base}, j)`);
  const sum = (v: string): string => (quad ? `let t = ${v}; s += (t.x + t.y) + (t.z + t.w);` : `s += ${v};`);
  const { load: loadRow, pass } = rowPasses(share, hold, quad, load("x", "base"));
  const centred = (v: string): string => (kind === "layer" ? `(${v} - mean)` : v);
  const scaled = (v: string): string => `${centred(v)} * scale${names.includes("weight") ? ` * ${load("weight", "0u")}` : ""}`;
  const shifted = (v: string): string => `${scaled(v)}${names.includes("bias") ? ` + ${load("bias", "0u")}` : ""}`;
  // The mean is taken relative to the row's first value: exact for constant rows, and no digits are lost to a large mean.
  const mean = `var mean = ${quad ? "x4(base, 0u).x" : "x1(base, 0u)"};
  ${pass((v) => sum(centred(v)))}
  mean += all_add(lid, s) / f32(p.width);
  s = 0.0;`;
  const body = `${rowHead(share)}
  let base = x_row(row);
  ${loadRow}
  var s = 0.0;
  ${kind === "layer" ? mean : ""}
  ${pass((v) => `let d = ${centred(v)}; ${sum("d * d")}`)}
  let scale = 1.0 / sqrt(all_add(lid, s) / f32(p.width) + p.eps);
  ${pass((v) => storeInRow(share, `${quad ? "put4(row * p.width + j * 4u" : "put(row * p.width + j"}, ${shifted(v)});`))}`;
  const text = `${workgroupReductions(share.threads, share.lanes)}${sources.map((s) => s.text).join("")}${finish.text}`;
  const functions = mathFunctions(text + body);
  return {
    label: `${kind} norm`,
    bindings: [...names.map((name, i) => ({ name, type: sources[i]!.type })), ...finish.specs],
    params: ["rows", "width", "eps:f32", ...names.map((n) => `${n}_o`), ...sources[0]!.offsets.params, ...finish.params],
    ...shareSpec(share, traits),
    declarations: formatFunctions(functions + text) + functions + text,
    body,
  };
}
