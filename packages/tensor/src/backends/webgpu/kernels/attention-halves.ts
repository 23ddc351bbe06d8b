// The operands of attention on f16 fragments: rows of f16 that only have to be moved, those of more digits as two parts side by side, high | low.
// Every block of queries reads all keys and values, so they are converted once, before.
import type { View } from "../../../view.ts";
import type { ProgramSpec } from "../pipelines.ts";
import type { GpuBuffer } from "../store.ts";
import { formatFunctions } from "../wgsl/formats.ts";
import { offsetFunction } from "../wgsl/offsets.ts";
import { type Halves, type HeadSource, headSource, pairFunctions, times } from "./attention-parts.ts";
import { turnedPitch } from "./attention-plan.ts";
import { recordTurned } from "./attention-turned.ts";
import { bindView, bytesOfView, type KernelContext, scratchView } from "./context.ts";
import { stagingFunctions } from "./gemm-staging.ts";

type Scratch = View & { readonly buffer: GpuBuffer };
const names = ["q", "k", "v"] as const;

/** q, k and v as the kernel reads them. */
export interface HalfOperands {
  readonly sources: readonly HeadSource[];
  /** The words of `largestHeads`. */
  readonly largest: Scratch | undefined;
  release(): void;
}

/** Measures and converts what is not f16 in groups of eight already, or is to be turned; the caller releases it once the kernel is recorded. */
export function halfOperands(ctx: KernelContext, views: readonly View[], halves: Halves): HalfOperands {
  const { parts, scaled, measured } = halves;
  const given = views.map((view, i) => {
    const turned = halves.turned && names[i] === "v";
    return { i, view, name: names[i]!, parts: parts[i]!, scaled: scaled[i]!, turned };
  });
  const largest = measured ? largestHeads(ctx, given) : undefined;
  const made = given.filter((x) => x.turned || !isRaw(x.view)).map((x) => ({ ...x, rows: rowsOfParts(ctx, x) }));
  const [turned, rest] = [made.filter((x) => x.turned), made.filter((x) => !x.turned)];
  if (rest.length > 0) recordHalves(ctx, rest, largest);
  for (const values of turned) recordTurned(ctx, values, largest);
  const sources = given.map(({ i, view, name }) => halfSource(ctx, name, made.find((x) => x.i === i)?.rows ?? view));
  return {
    sources,
    largest,
    release() {
      for (const { rows } of made) ctx.drop(rows.buffer);
      if (largest) ctx.drop(largest.buffer);
    },
  };
}

/** f16 whose rows are whole groups of eight in their place. */
const isRaw = ({ dtype, layout: { shape, strides, offset } }: View): boolean =>
  dtype === "f16" && offset % 8 === 0 && shape[3]! % 8 === 0 && strides.every((s, i) => i === 3 || shape[i] === 1 || s % 8 === 0);

interface Operand {
  readonly i: number;
  readonly view: View;
  readonly name: "q" | "k" | "v";
  readonly parts: number;
  readonly scaled: boolean;
  /** Rows become columns. */
  readonly turned: boolean;
}

/** Memory for the rows of an operand, its parts side by side in each row. */
function rowsOfParts(ctx: KernelContext, { view, name, parts, turned }: Operand): Scratch {
  const [batch, heads, rows, width] = view.layout.shape as [number, number, number, number];
  const shape = turned ? [batch, heads, parts * width, turnedPitch(rows)] : [batch, heads, rows, parts * width];
  return scratchView(ctx, "f16", shape, `${name} as f16`);
}

/** `NAME_item(base, i, c)`: eight values of row i of a head, as they lie in memory. */
function halfSource(ctx: KernelContext, name: string, view: View): HeadSource {
  const bound = bindView(ctx, "attention", view);
  const offsets = offsetFunction(`${name}_head`, view.layout, 0, 2);
  return {
    bound,
    dtype: "f16",
    quad: true,
    type: "array<vec4<u32>>",
    get text() {
      return `${offsets.text}
fn ${name}_item(base: u32, i: u32, c: u32) -> vec4<u32> { return ${name}[((p.${name}_o + base + i * p.${name}_step) >> 3u) + c]; }\n`;
    },
    key: `h${offsets.key}`,
    get params() {
      return [`${name}_o`, `${name}_step`, ...offsets.params];
    },
    values: [bound.offset, view.layout.strides[2]!, ...offsets.values],
  };
}

/** An operand with its source, and statements for each of its rows' groups of eight. */
interface Walk extends Operand {
  readonly source: HeadSource;
  readonly count: number;
  readonly rows: number;
  readonly items: number;
}

function walkOf(ctx: KernelContext, operand: Operand): Walk {
  const [batch, heads, rows, width] = operand.view.layout.shape as [number, number, number, number];
  const items = width / 8;
  return { ...operand, source: headSource(ctx, operand.name, operand.view), rows, items, count: batch * heads * rows * items };
}

/** Workgroups take turns over the items of their operand: `body` sees its first and second four values, a and b, and its index t, item c of row r. */
const walkText = (walks: readonly Walk[], body: (walk: Walk) => string): string =>
  walks
    .map(
      (walk, turn) => `if (wg / p.groups == ${turn}u) {
    for (var t = (wg % p.groups) * 256u + lid; t < p.${walk.name}_count; t += p.groups * 256u) {
      let c = t % ${walk.items}u; let r = t / ${walk.items}u; let i = r % p.${walk.name}_rows; let base = ${walk.name}_head(r / p.${walk.name}_rows);
      let a = ${walk.name}4(base, i, 2u * c); let b = ${walk.name}4(base, i, 2u * c + 1u);
      ${body(walk)}
    }
  }`,
    )
    .join("\n  ");

const walkParams = (walks: readonly Walk[]): string[] =>
  walks.flatMap(({ name, source }) => [`${name}_count`, `${name}_rows`, ...source.params]);
const walkValues = (walks: readonly Walk[]): number[] => walks.flatMap(({ count, rows, source }) => [count, rows, ...source.values]);
const walkKey = (walks: readonly Walk[]): string =>
  walks.map((w) => `${w.name}${w.source.key}${w.items}x${w.parts}${w.scaled ? "s" : ""}`).join();
const groupsOf = (walks: readonly Walk[], perGroup: number, most: number): number =>
  Math.min(most, Math.ceil(Math.max(...walks.map((w) => w.count)) / perGroup));

/** Four words: the bits of the largest finite |q|, |k| and |v|, and 1 if any value is infinite or NaN (else 0). */
function largestHeads(ctx: KernelContext, operands: readonly Operand[]): Scratch {
  const walks = operands.map((x) => walkOf(ctx, x));
  const words = scratchView(ctx, "u32", [4], "largest magnitudes");
  ctx.kernels.fill(words, {}, { value: 0 });
  const groups = groupsOf(walks, 1024, 1024);
  ctx.record({
    op: "attention",
    program: ctx.program(`largest heads|${walkKey(walks)}`, () => largestSpec(walks)),
    bindings: [bindView(ctx, "attention", words).binding, ...walks.map((w) => w.source.bound.binding)],
    params: [groups, ...walkValues(walks)],
    grid: walks.length * groups,
    bytes: operands.reduce((sum, { view }) => sum + bytesOfView(view), 0),
  });
  return words;
}

// Magnitudes order as their bits do, so the order of the atomic maxima is no matter.
function largestSpec(walks: readonly Walk[]): ProgramSpec {
  const text = walks.map((w) => w.source.text).join("");
  return {
    label: "largest magnitudes of attention",
    bindings: [
      { name: "largest", type: "array<atomic<u32>>", write: true },
      ...walks.map(({ name, source }) => ({ name, type: source.type })),
    ],
    params: ["groups", ...walkParams(walks)],
    workgroup: [256],
    declarations: `${formatFunctions(text)}${text}var<workgroup> most: atomic<u32>;\nvar<workgroup> odd: atomic<u32>;\n`,
    body: `if (lid == 0u) { atomicStore(&most, 0u); atomicStore(&odd, 0u); }
  workgroupBarrier();
  var best = vec4<u32>();
  var any_odd = vec4<bool>();
  ${walkText(
    walks,
    () => `let u = bitcast<vec4<u32>>(a) & vec4<u32>(0x7fffffffu); let w = bitcast<vec4<u32>>(b) & vec4<u32>(0x7fffffffu);
      let u_odd = u >= vec4<u32>(0x7f800000u); let w_odd = w >= vec4<u32>(0x7f800000u);
      best = max(best, max(select(u, vec4<u32>(), u_odd), select(w, vec4<u32>(), w_odd)));
      any_odd = any_odd | u_odd | w_odd;`,
  )}
  atomicMax(&most, max(max(best.x, best.y), max(best.z, best.w)));
  if (any(any_odd)) { atomicStore(&odd, 1u); }
  workgroupBarrier();
  if (lid == 0u && wg / p.groups < ${walks.length}u) { atomicMax(&largest[wg / p.groups], atomicLoad(&most)); atomicMax(&largest[3], atomicLoad(&odd)); }`,
  };
}

/** Records the conversion of operands into their rows of parts. */
function recordHalves(ctx: KernelContext, made: readonly (Operand & { readonly rows: Scratch })[], largest: Scratch | undefined): void {
  const walks = made.map((x) => walkOf(ctx, x));
  const groups = groupsOf(walks, 256, 16384);
  ctx.record({
    op: "attention",
    program: ctx.program(`halves|${walkKey(walks)}|${largest !== undefined}`, () => halvesSpec(walks, largest !== undefined)),
    bindings: [
      ...walks.map((w) => w.source.bound.binding),
      ...made.map((x) => bindView(ctx, "attention", x.rows).binding),
      ...(largest ? [bindView(ctx, "attention", largest).binding] : []),
    ],
    params: [groups, ...walkValues(walks)],
    grid: walks.length * groups,
    bytes: made.reduce((sum, { view, rows }) => sum + bytesOfView(view) + bytesOfView(rows), 0),
  });
}

function halvesSpec(walks: readonly Walk[], measured: boolean): ProgramSpec {
  const text = walks.map((w) => w.source.text).join("");
  return {
    label: "operands of attention as f16",
    bindings: [
      ...walks.map(({ name, source }) => ({ name, type: source.type })),
      ...walks.map(({ name }) => ({ name: `${name}_half`, type: "array<vec4<u32>>", write: true })),
      ...(measured ? [{ name: "largest", type: "array<u32>" }] : []),
    ],
    params: ["groups", ...walkParams(walks)],
    workgroup: [256],
    enable: ["f16"],
    declarations: `${formatFunctions(text, true)}${text}${stagingFunctions}${pairFunctions}`,
    body: walkText(walks, partsText),
  };
}

/** Statements that store an item's parts. */
function partsText({ i, name, parts, items, scaled }: Walk): string {
  const down = scaled ? ` * power(-scale_exponent(largest[${i}]))` : "";
  const to = (part: number, of: (v: string) => string): string =>
    `${name}_half[r * ${parts * items}u + ${part * items}u + c] = bits(${of("u")}, ${of("w")});`;
  const store =
    parts === 1 ? to(0, (v) => v) : times(2, (part) => to(part, (v) => (part === 0 ? `high_part(${v})` : `low_part(${v})`))).join(" ");
  return `let u = a${down}; let w = b${down}; ${store}`;
}
