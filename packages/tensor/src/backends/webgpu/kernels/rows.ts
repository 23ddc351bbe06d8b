// What softmax and the norms share: kernels that walk the rows of the last dimension, one workgroup or one thread per row.
import type { Layout } from "../../../layout.ts";
import { narrowLayout } from "../../../layout.ts";
import type { View } from "../../backend.ts";
import type { DeviceTraits } from "../limits.ts";
import { loadElement, loadQuad, quadType, type StoredDType } from "../wgsl/formats.ts";
import { alignedRows, type OffsetFunction, offsetFunction } from "../wgsl/offsets.ts";
import { type Bound, bindView, fits, fitsAsFloat, type KernelContext } from "./context.ts";

/** Threads that share one row; 1 where barriers cost more than they bring (software drivers, short rows). */
export function threadsPerRow(traits: DeviceTraits, rows: number, width: number): number {
  if (width <= 64 || (traits.software && rows >= 8)) return 1;
  return width <= 1024 ? 64 : Math.min(256, traits.maxInvocations);
}

/** Rows handled by one workgroup. */
export const rowsPerGroup = (threads: number): number => (threads === 1 ? 64 : 1);

/** Cuts views (the output first) along their outermost dimension (the first `keep` from the end stay whole) until every one fits a binding. */
export function forEachRowPiece(ctx: KernelContext, keep: number, views: readonly View[], run: (pieces: readonly View[]) => void): void {
  const { shape } = views[0]!.layout;
  const dim = shape.findIndex((d, i) => d > 1 && i < shape.length - keep);
  if (dim < 0 || (fitsAsFloat(ctx.traits, views[0]!) && views.every((v) => fits(ctx.traits, v)))) {
    run(views);
    return;
  }
  const n = shape[dim]!;
  const half = n > 8 ? Math.ceil(n / 8) * 4 : Math.ceil(n / 2);
  for (const [start, length] of [
    [0, half],
    [half, n - half],
  ] as const) {
    forEachRowPiece(
      ctx,
      keep,
      views.map((v) => ({ ...v, layout: narrowLayout(v.layout, dim, start, length) })),
      run,
    );
  }
}

/** A rows operand as text: `fn NAME4(row, q)` gives four values of a row (NAME1 one value), `NAME_row` is its row offset function. */
export interface RowSource {
  readonly bound: Bound;
  readonly type: string;
  readonly text: string;
  readonly offsets: OffsetFunction;
  readonly key: string;
}

/** Plans the reading of `name`'s rows, by vectors where they are aligned (the width must then be a multiple of 4). */
export function rowSource(ctx: KernelContext, op: string, name: string, view: View): RowSource {
  const { layout } = view;
  const rank = layout.shape.length;
  const bound = bindView(ctx, op, view);
  const offsets = offsetFunction(`${name}_row`, layout, 0, rank - 1);
  const quad = layout.shape[rank - 1]! % 4 === 0 && alignedRows(layout, bound.offset);
  const d = view.dtype as StoredDType;
  return {
    bound,
    offsets,
    type: quad ? quadType(d) : "array<u32>",
    get text() {
      return rowText(name, d, quad) + offsets.text + "\n";
    },
    key: `${d}${quad ? "q" : "s"}${offsets.key}`,
  };
}

function rowText(name: string, d: StoredDType, quad: boolean): string {
  const at = `p.${name}_o + base`;
  const lanes = [0, 1, 2, 3].map((j) => `f32(${loadElement(d, name, `(i + ${j}u)`)})`).join(", ");
  const four = quad
    ? `return vec4<f32>(${loadQuad(d, name, `((${at}) >> 2u) + q`)});`
    : `let i = ${at} + q * 4u; return vec4<f32>(${lanes});`;
  const one = quad ? "" : `fn ${name}1(base: u32, j: u32) -> f32 { let i = ${at} + j; return f32(${loadElement(d, name, "i")}); }\n`;
  return `fn ${name}4(base: u32, q: u32) -> vec4<f32> { ${four} }\n${one}`;
}

/** Elements of the last dimension. */
export const widthOf = ({ shape }: Layout): number => shape[shape.length - 1]!;
