// Matrix multiplication on subgroup matrices (tensor cores): any fragment shape the adapter lists, f16 or f32 fragments, f32 sums always.
// Operands with more digits than f16 go into f16 fragments as two parts, v = high + low, so that products keep f32's accuracy.
// The extension is experimental; everything that spells its syntax is in this file and in attention-matrix.ts.

import type { ProgramSpec } from "../pipelines.ts";
import type { DeviceTraits } from "../traits.ts";
import type { Finish } from "./finish.ts";
import { type Gemm, type GemmSize, gemmSpec, storeRow, times, withBatch } from "./gemm-parts.ts";
import { fetch, itemFunctions, itemWords, put, registers, stagingFunctions } from "./gemm-staging.ts";
import { isSplit, type Side, sideOf, type Tile, tileOf } from "./gemm-tile.ts";
import type { MatrixVariant } from "./gemm-variants.ts";
import type { MatrixSource } from "./matrix-source.ts";

/** Whether a variant can run here: the adapter has matrices, and the tile fits workgroup memory. */
export const canMatrix = (traits: DeviceTraits, variant: MatrixVariant, a: MatrixSource, b: MatrixSource): boolean =>
  traits.tier === "matrix" && tileOf(traits, variant, a, b) !== undefined;

/** The kernel of a variant; the caller has asked `canMatrix`. */
export function matrixTile(
  traits: DeviceTraits,
  variant: MatrixVariant,
  size: GemmSize,
  a: MatrixSource,
  b: MatrixSource,
  finish: Finish,
): Gemm {
  const tile = tileOf(traits, variant, a, b)!;
  const whole = size.k % (tile.depth * Math.max(1, tile.slots)) === 0;
  return {
    key: `${tileKey(traits, tile)}${Number(whole)}`,
    grid: withBatch(Math.ceil(size.m / tile.rows) * Math.ceil(size.n / tile.columns), size.batch),
    measured: measuredSides(tile),
    spec: () => matrixSpec(traits, { ...tile, whole, short: traits.software }, a, b, finish),
  };
}

/** Tells apart kernels of different tiles. */
export function tileKey({ subgroupSize }: DeviceTraits, { config, down, across, depth, grid, slots, parts, scaled }: Tile): string {
  const { m, n, k, input } = config;
  const flags = [grid.down, grid.across, slots, parts.a, parts.b, Number(scaled.a), Number(scaled.b)].join("");
  return `m${m}x${n}x${k}${input}${subgroupSize}|${down}x${across}x${depth}|${flags}`;
}

/** A tile of a product. */
export type WholeTile = Tile & {
  /** No slice reaches beyond the inner dimension. */
  readonly whole: boolean;
  /** The text is for compilers that take long: loops stay loops, and finite operands have none of their own. */
  readonly short: boolean;
};

function matrixSpec(traits: DeviceTraits, tile: WholeTile, a: MatrixSource, b: MatrixSource, finish: Finish): ProgramSpec {
  const sides = { a: sideOf(tile, "a", a), b: sideOf(tile, "b", b) };
  return gemmSpec(
    matrixLabel("matmul", tile),
    tile.threads,
    asFetched(sides.a),
    asFetched(sides.b),
    finish,
    matrixDeclarations(tile, sides),
    matrixBody(tile, traits.subgroupSize, sides, finish),
    matrixOptions(traits, tile),
  );
}

/** What profiles and tests call a kernel on subgroup matrices. */
export const matrixLabel = (op: string, { name, config: { m, n, k } }: Tile): string => `${op} matrix ${name} of ${m}x${n}x${k}`;

/** What a kernel on subgroup matrices needs besides its text. */
export function matrixOptions({ subgroupSize, pinSubgroups }: DeviceTraits, tile: Tile): Parameters<typeof gemmSpec>[7] {
  const enable = ["subgroups", "chromium_experimental_subgroup_matrix", "diagnostic(off, chromium.subgroup_matrix_uniformity)"];
  return {
    enable: tile.config.input === "f16" ? ["f16", ...enable] : enable,
    builtins: ["@builtin(subgroup_id) sid: u32", "@builtin(subgroup_invocation_id) lane: u32"],
    ...(pinSubgroups ? { subgroupSize } : {}),
    last: measuredSides(tile).map((side) => ({ name: `largest_${side}`, type: "array<u32>" })),
  };
}

/** The operand with the text of its runs. */
export const asFetched = ({ source, runs }: Side): MatrixSource => ({ ...source, type: runs.type, text: runs.text });

/** Operands that are scaled; where one is split, both, because neither may be infinite. */
export const measuredSides = (tile: Tile): ("a" | "b")[] => (["a", "b"] as const).filter((side) => tile.scaled[side] || isSplit(tile));

export type Sides = Readonly<Record<"a" | "b", Side>>;

const subgroupsOf = ({ grid }: Tile): number => grid.down * grid.across;

/** Staging memory and functions; rows are staged in as many slots as there are, or as many rows as `staged` says. */
export function matrixDeclarations(tile: Tile, sides: Sides, staged: Readonly<Partial<Record<"a" | "b", number>>> = {}): string {
  const { m, n, input } = tile.config;
  const arrays = [sides.a, sides.b].flatMap((side) =>
    times(side.parts, (part) => {
      const count = (staged[side.name] ?? Math.max(1, tile.slots) * side.rows) * tile.pitch;
      return `var<workgroup> s${side.name}${part}: array<${itemWords(tile)}, ${count}>;`;
    }),
  );
  return `${arrays.join("\n")}
var<workgroup> ss: array<vec4<f32>, ${(subgroupsOf(tile) * m * n) / 4}>;
${stagingFunctions}${input === "f16" ? itemFunctions : ""}`;
}

/**
 * Finds the workgroup's `r0` and `column`, the number of its tile in a row of `tiles`, and its subgroup's place `down` and `across` in the tile.
 * Tiles go in bands of eight rows of tiles, column by column, so that those in flight share what they read through the cache.
 */
export const placeTile = ({ rows, down, across, grid, config }: Tile, tiles: string): string => `let tiles = ${tiles};
  let tile_rows = (p.m + ${rows - 1}u) / ${rows}u;
  if (wg >= tiles * tile_rows) { return; }
  let band = (wg / (8u * tiles)) * 8u;
  let band_rows = min(tile_rows - band, 8u);
  let r0 = (band + (wg % (8u * tiles)) % band_rows) * ${rows}u;
  let column = (wg % (8u * tiles)) / band_rows;
  let down = (sid / ${grid.across}u) * ${down * config.m}u;
  let across = (sid % ${grid.across}u) * ${across * config.n}u;`;

/** Factors of scaled operands, and how often slices are multiplied. */
export function prepareScales(tile: Tile): string {
  const scale = (side: "a" | "b"): string =>
    tile.scaled[side] ? `let e${side} = scale_exponent(largest_${side}[0]); let factor_${side} = power(-e${side});` : "";
  // Infinity times a low part of 0 would be NaN: where there are infinities or NaN, high parts are multiplied first, and low parts in a second
  // round in which the others are 0.
  return `${scale("a")} ${scale("b")} ${isSplit(tile) ? "let rounds = 1u + max(largest_a[1], largest_b[1]);" : ""}`;
}

/** The places [row, column] of a subgroup's fragments in its tile. */
export const fragmentsOf = (tile: Tile): Fragments => times(tile.down, (i) => times(tile.across, (j) => [i, j] as const)).flat();

/** Declares the sums. */
export const declareSums = ({ zero }: Tile, fragments: Fragments): string =>
  fragments.map(([i, j]) => `var s${i}_${j} = ${zero};`).join(" ");

function matrixBody(tile: WholeTile, lanes: number, sides: Sides, finish: Finish): string {
  const { columns, depth, short } = tile;
  const fragments = fragmentsOf(tile);
  const split = isSplit(tile);
  const finite = tile.slots === 2 ? inPairs : tile.slots === 1 ? ahead : inTurn;
  const walk = (f: Walk): string => f(tile, sides, fragments);
  return `let z = wid.z;
  ${placeTile(tile, `(p.n + ${columns - 1}u) / ${columns}u`)}
  let c0 = column * ${columns}u;
  ${prepareScales(tile)}
  ${declareSums(tile, fragments)}
  ${registers(tile, sides.a)}
  ${registers(tile, sides.b)}
  let slices = (p.k + ${depth - 1}u) / ${depth}u;
  ${split && !short ? `if (rounds == 1u) { ${walk(finite)} } else { ${walk(inRounds)} }` : walk(split ? inRounds : finite)}
  ${storeFragments(tile, lanes, fragments, finish, (at) => `c0 + ${at}`)}`;
}

export type Fragments = readonly (readonly [number, number])[];
/** The loop over slices. */
type Walk = (tile: WholeTile, sides: Sides, fragments: Fragments) => string;

const fetchBoth = (tile: WholeTile, { a, b }: Sides, k0: string): string =>
  `{ let k0 = ${k0}; ${fetch(tile, a, tile.whole)}\n    ${fetch(tile, b, tile.whole)} }`;
const slotStart = ({ pitch }: Tile, { rows }: Side, slot: number): string => `${slot * rows * pitch}u`;
const putBoth = (tile: Tile, { a, b }: Sides, slot = 0, careful = false): string =>
  `${put(tile, a, slotStart(tile, a, slot), careful)}\n    ${put(tile, b, slotStart(tile, b, slot), careful)}`;

/** Fetches a slice, stages it, multiplies it, fetches the next. */
const inTurn: Walk = (tile, sides, fragments) => `for (var slice = 0u; slice < slices; slice++) {
    ${fetchBoth(tile, sides, `slice * ${tile.depth}u`)}
    workgroupBarrier();
    ${putBoth(tile, sides)}
    workgroupBarrier();
    ${multiply(tile, sides, fragments, 0)}
  }`;

/** Every slice in as many rounds as infinities and NaN ask for. */
const inRounds: Walk = (tile, sides, fragments) => `for (var turn = 0u; turn < slices * rounds; turn++) {
    let round = turn % rounds;
    ${fetchBoth(tile, sides, `(turn / rounds) * ${tile.depth}u`)}
    workgroupBarrier();
    ${putBoth(tile, sides, 0, true)}
    workgroupBarrier();
    ${multiply(tile, sides, fragments, 0, true)}
  }`;

/** Where the slice after the last would be fetched, the last is once more: a branch would keep compilers from moving loads away from it. */
const following = ({ depth, whole }: WholeTile, slice: string): string =>
  whole ? `min(${slice}, slices - 1u) * ${depth}u` : `${slice} * ${depth}u`;

/** Fetches the next slice while it multiplies this one. */
const ahead: Walk = (tile, sides, fragments) => `${fetchBoth(tile, sides, "0u")}
  for (var slice = 0u; slice < slices; slice++) {
    workgroupBarrier();
    ${putBoth(tile, sides)}
    workgroupBarrier();
    ${fetchBoth(tile, sides, following(tile, "(slice + 1u)"))}
    ${multiply(tile, sides, fragments, 0)}
  }`;

/** As `ahead`, with one barrier a slice: one slot of staging memory is multiplied while the other is filled. A slice beyond the last is zeros. */
const inPairs: Walk = (tile, sides, fragments) => {
  const step = (
    slot: 0 | 1,
  ): string => `${fetchBoth(tile, sides, slot === 0 ? `(slice + 1u) * ${tile.depth}u` : following(tile, "(slice + 2u)"))}
    ${multiply(tile, sides, fragments, slot)}
    ${putBoth(tile, sides, 1 - slot)}
    workgroupBarrier();`;
  return `${fetchBoth(tile, sides, "0u")}
  ${putBoth(tile, sides)}
  workgroupBarrier();
  for (var slice = 0u; slice < slices; slice += 2u) {
    ${step(0)}
    ${step(1)}
  }`;
};

/** Statements that multiply a slice staged in a slot; `careful` in rounds. */
function multiply(tile: WholeTile, sides: Sides, fragments: Fragments, slot: number, careful = false): string {
  const { pitch, config } = tile;
  const place =
    (side: Side, start: string, size: number): FragmentPlaces["a"] =>
    (i) => ({ first: `(${start} + ${i * size}u) * ${pitch}u + ${slotStart(tile, side, slot)}`, pitch });
  return multiplySlice(tile, { a: place(sides.a, "down", config.m), b: place(sides.b, "across", config.n) }, fragments, careful);
}

/** Where fragments begin in staging memory at k 0, and how many items their rows (columns of b) are apart. */
export type FragmentPlaces = Readonly<Record<"a" | "b", (index: number) => { readonly first: string; readonly pitch: number }>>;

/** Statements that multiply a staged slice; `careful` in rounds. */
export function multiplySlice(tile: WholeTile, places: FragmentPlaces, fragments: Fragments, careful: boolean): string {
  const [all, step] = [tile.depth / tile.item, tile.config.k / tile.item];
  // More than two steps are left to compilers to unroll, which some do slowly.
  if (tile.short || all > 2 * step)
    return `for (var kk = 0u; kk < ${all}u; kk += ${step}u) ${multiplyStep(tile, places, fragments, "kk", careful)}`;
  return times(all / step, (i) => multiplyStep(tile, places, fragments, `${i * step}u`, careful)).join("\n    ");
}

/** A block that multiplies the fragments `kk` items into a staged slice. */
function multiplyStep(tile: Tile, places: FragmentPlaces, fragments: Fragments, kk: string, careful: boolean): string {
  const { down, across, parts } = tile;
  const { m, n, k, input } = tile.config;
  const load = (name: "a" | "b", part: number, index: number): string => {
    const type = name === "a" ? `left<${input}, ${k}, ${m}>, row_major` : `right<${input}, ${n}, ${k}>, col_major`;
    const { first, pitch } = places[name](index);
    return `let ${name}${part}_${index} = subgroupMatrixLoad<subgroup_matrix_${type}>(&s${name}${part}, ${first} + ${kk}, ${pitch}u);`;
  };
  const loadA = (part: number): string => times(down, (i) => load("a", part, i)).join("\n      ");
  const loadB = (part: number): string => times(across, (j) => load("b", part, j)).join("\n      ");
  const add = (pa: number, pb: number): string =>
    fragments.map(([i, j]) => `s${i}_${j} = subgroupMatrixMultiplyAccumulate(a${pa}_${i}, b${pb}_${j}, s${i}_${j});`).join("\n      ");
  const low = [parts.a === 2 ? `${loadA(1)}\n      ${add(1, 0)}` : "", parts.b === 2 ? `${loadB(1)}\n      ${add(0, 1)}` : ""];
  return `{
      ${loadA(0)}
      ${loadB(0)}
      ${low.map((text) => (careful && text ? `if (round + 1u == rounds) {\n      ${text} }` : text)).join("\n      ")}
      ${careful ? `if (round == 0u) { ${add(0, 0)} }` : add(0, 0)}
    }`;
}

/**
 * Fragments go through workgroup memory, where their elements can be reached, one after another: code for one of them serves all. `columnAt`: the
 * column of the result that is column `at` of the tile.
 */
export function storeFragments(tile: Tile, lanes: number, fragments: Fragments, finish: Finish, columnAt: (at: string) => string): string {
  const { m, n } = tile.config;
  const quads = (m * n) / 4;
  const unscale = (["a", "b"] as const).map((side) => (tile.scaled[side] ? ` * power(e${side})` : "")).join("");
  const move = ([i, j]: readonly [number, number]): string =>
    `subgroupMatrixStore<row_major>(&ss, sid * ${quads}u, s${i}_${j}, ${n / 4}u);`;
  const choice = fragments
    .map((f, index) => `${index === fragments.length - 1 ? "" : `if (f == ${index}u) `}{ ${move(f)} }`)
    .join(" else ");
  return `for (var f = 0u; f < ${fragments.length}u; f++) {
    ${choice}
    workgroupBarrier();
    let row0 = r0 + down + (f / ${tile.across}u) * ${m}u; let at0 = across + (f % ${tile.across}u) * ${n}u;
    for (var t = lane; t < ${quads}u; t += ${lanes}u) {
      let row = row0 + t / ${n / 4}u; let column = ${columnAt(`(at0 + (t % ${n / 4}u) * 4u)`)};
      let value = ss[sid * ${quads}u + t]${unscale};
      ${storeRow(finish, "row", "column", "value")}
    }
    workgroupBarrier();
  }`;
}
