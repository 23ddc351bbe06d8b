// What softmax and the norms share: kernels that walk the rows of the last dimension, one workgroup or one thread per row.
import type { Layout } from "../../../layout.ts";
import { narrowLayout } from "../../../layout.ts";
import type { View } from "../../../view.ts";
import type { ProgramSpec } from "../pipelines.ts";
import type { DeviceTraits } from "../traits.ts";
import { loadElement, loadQuad, quadType, type StoredDType } from "../wgsl/formats.ts";
import { alignedRows, type OffsetFunction, offsetFunction } from "../wgsl/offsets.ts";
import { type Bound, bindView, fits, fitsAsFloat, type KernelContext } from "./context.ts";

/** Threads that share one row; 1 where barriers cost more than they bring (software drivers, short rows). */
function threadsPerRow(traits: DeviceTraits, rows: number, width: number): number {
  if (width <= 64 || (traits.software && rows >= 8)) return 1;
  return width <= 1024 ? 64 : Math.min(256, traits.maxInvocations);
}

/** How threads share rows: `threads` per row, of which `lanes` agree by subgroup shuffles (0: by workgroup memory), `rows` per workgroup. */
export interface RowShare {
  readonly threads: number;
  readonly lanes: number;
  readonly rows: number;
}

/** With subgroups, rows of up to 1024 elements have a subgroup each, and no barriers. */
export function shareRows(traits: DeviceTraits, rows: number, width: number): RowShare {
  const threads = threadsPerRow(traits, rows, width);
  const { tier, subgroupSize: lanes } = traits;
  if (tier === "plain" || lanes < 4 || threads % lanes !== 0) return { threads, lanes: 0, rows: threads === 1 ? 64 : 1 };
  return width <= 1024 ? { threads: lanes, lanes, rows: 64 / lanes } : { threads, lanes, rows: 1 };
}

/** Tells kernels of different shares apart in the cache of programs. */
export const shareKey = ({ threads, lanes, rows }: RowShare): string => `${threads},${lanes},${rows}`;

/** What a row kernel's program needs besides its text. */
export function shareSpec(share: RowShare, traits: DeviceTraits): Pick<ProgramSpec, "workgroup" | "enable" | "builtins" | "subgroupSize"> {
  const workgroup = [share.threads * share.rows] as const;
  if (share.lanes === 0) return { workgroup };
  const builtins = ["@builtin(subgroup_id) sid: u32", "@builtin(subgroup_invocation_id) lane: u32"];
  return { workgroup, enable: ["subgroups"], builtins, ...(traits.pinSubgroups ? { subgroupSize: share.lanes } : {}) };
}

/** The head of a row kernel's body: `row`, and `me`, the thread's place in it. */
export function rowHead({ threads, lanes, rows }: RowShare): string {
  if (threads === 1) return "let row = wg * 64u + lid;\n  if (row >= p.rows) { return; }\n  let me = 0u;";
  if (lanes === 0) return "let row = wg;\n  if (row >= p.rows) { return; }\n  let me = lid;";
  if (threads > lanes)
    return `let row = wg;\n  if (row >= p.rows) { return; }\n  let me = sid * ${lanes}u + lane;\n  my_group = sid; my_lane = lane;`;
  // Subgroups without a row repeat the last one: shuffles need all of them.
  return `let mine = wg * ${rows}u + sid;\n  let inside = mine < p.rows;\n  let row = min(mine, p.rows - 1u);\n  let me = lane;`;
}

/** A statement that stores, where the row is not another's. */
export const storeInRow = ({ threads, lanes }: RowShare, store: string): string =>
  lanes > 0 && threads === lanes ? `if (inside) { ${store} }` : store;

/** Quads or elements of a row that a thread keeps in registers between passes: `turns` of them, all threads' if `full`. */
export interface RowHold {
  readonly turns: number;
  readonly full: boolean;
}

const mostHeld = 4;

/**
 * What threads hold of rows of `width`; undefined where rows are read again in every pass: one thread has the whole row, rows are long, or the driver is
 * software, which compiles what is written out for minutes.
 */
export function holdRow({ software }: DeviceTraits, { threads }: RowShare, width: number, quad: boolean): RowHold | undefined {
  const items = quad ? width / 4 : width;
  const turns = Math.ceil(items / threads);
  return !software && threads > 1 && turns <= mostHeld ? { turns, full: items % threads === 0 } : undefined;
}

/** Tells kernels that hold a row in registers apart in the cache of programs. */
export const holdKey = (hold: RowHold | undefined): string => (hold ? `${hold.turns}${hold.full ? "f" : ""}` : "again");

/** How a row kernel's text passes over its row, quads or elements at `j`: `load` stands before all passes, `pass` gives each value's variable. */
export interface RowPasses {
  readonly load: string;
  pass(body: (v: string) => string): string;
}

/** The passes over rows whose values are read by `value`. */
export function rowPasses({ threads }: RowShare, hold: RowHold | undefined, quad: boolean, value: string): RowPasses {
  const items = quad ? "p.width / 4u" : "p.width";
  if (!hold) {
    const pass: RowPasses["pass"] = (body) => `for (var j = me; j < ${items}; j += ${threads}u) { var v = ${value}; ${body("v")} }`;
    return { load: "", pass };
  }
  const { turns, full } = hold;
  const each = (body: (v: string) => string): string =>
    Array.from({ length: turns }, (_, t) => {
      const inside = `let j = me + ${t * threads}u; ${t < turns - 1 || full ? body(`v${t}`) : `if (j < ${items}) { ${body(`v${t}`)} }`}`;
      return `{ ${inside} }`;
    }).join("\n  ");
  const variables = Array.from({ length: turns }, (_, t) => `var v${t} = ${quad ? "vec4<f32>()" : "0.0"};`).join(" ");
  return { load: `${variables}\n  ${each((v) => `${v} = ${value};`)}`, pass: each };
}

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
