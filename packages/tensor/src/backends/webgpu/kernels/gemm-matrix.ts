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
  const { m, n, k, input } = tile.config;
  const { down, across, depth, slots, scaled, parts } = tile;
  const whole = size.k % (tile.depth * Math.max(1, slots)) === 0;
  const flags = [tile.grid.down, tile.grid.across, slots, parts.a, parts.b, Number(scaled.a), Number(scaled.b), Number(whole)].join("");
  return {
    key: `m${m}x${n}x${k}${input}${traits.subgroupSize}|${down}x${across}x${depth}|${flags}`,
    grid: withBatch(Math.ceil(size.m / tile.rows) * Math.ceil(size.n / tile.columns), size.batch),
    measured: measuredSides(tile),
    spec: () => matrixSpec(traits, { ...tile, whole, short: traits.software }, a, b, finish),
  };
}

/** A tile of a product. */
type WholeTile = Tile & {
  /** No slice reaches beyond the inner dimension. */
  readonly whole: boolean;
  /** The text is for compilers that take long: loops stay loops, and finite operands have none of their own. */
  readonly short: boolean;
};

function matrixSpec(traits: DeviceTraits, tile: WholeTile, a: MatrixSource, b: MatrixSource, finish: Finish): ProgramSpec {
  const { m, n, k, input } = tile.config;
  const lanes = traits.subgroupSize;
  const enable = ["subgroups", "chromium_experimental_subgroup_matrix", "diagnostic(off, chromium.subgroup_matrix_uniformity)"];
  const sides = { a: sideOf(tile, "a", a), b: sideOf(tile, "b", b) };
  return gemmSpec(
    `matmul matrix ${tile.name} of ${m}x${n}x${k}`,
    tile.threads,
    asFetched(sides.a),
    asFetched(sides.b),
    finish,
    matrixDeclarations(tile, sides),
    matrixBody(tile, lanes, sides, finish),
    {
      enable: input === "f16" ? ["f16", ...enable] : enable,
      builtins: ["@builtin(subgroup_id) sid: u32", "@builtin(subgroup_invocation_id) lane: u32"],
      ...(traits.pinSubgroups ? { subgroupSize: lanes } : {}),
      last: measuredSides(tile).map((side) => ({ name: `largest_${side}`, type: "array<u32>" })),
    },
  );
}

/** The operand with the text of its runs. */
const asFetched = ({ source, runs }: Side): MatrixSource => ({ ...source, type: runs.type, text: runs.text });

/** Operands that are scaled; where one is split, both, because neither may be infinite. */
const measuredSides = (tile: Tile): ("a" | "b")[] => (["a", "b"] as const).filter((side) => tile.scaled[side] || isSplit(tile));

type Sides = Readonly<Record<"a" | "b", Side>>;

const subgroupsOf = ({ grid }: Tile): number => grid.down * grid.across;

function matrixDeclarations(tile: Tile, sides: Sides): string {
  const { m, n, input } = tile.config;
  const arrays = [sides.a, sides.b].flatMap((side) =>
    times(side.parts, (part) => {
      const count = Math.max(1, tile.slots) * side.rows * tile.pitch;
      return `var<workgroup> s${side.name}${part}: array<${itemWords(tile)}, ${count}>;`;
    }),
  );
  return `${arrays.join("\n")}
var<workgroup> ss: array<vec4<f32>, ${(subgroupsOf(tile) * m * n) / 4}>;
${stagingFunctions}${input === "f16" ? itemFunctions : ""}`;
}

/** Tiles go in bands of eight rows of tiles, column by column, so that those in flight share what they read through the cache. */
const placeTile = ({ rows, columns }: Tile): string => `let tiles = (p.n + ${columns - 1}u) / ${columns}u;
  let tile_rows = (p.m + ${rows - 1}u) / ${rows}u;
  if (wg >= tiles * tile_rows) { return; }
  let band = (wg / (8u * tiles)) * 8u;
  let band_rows = min(tile_rows - band, 8u);
  let r0 = (band + (wg % (8u * tiles)) % band_rows) * ${rows}u;
  let c0 = ((wg % (8u * tiles)) / band_rows) * ${columns}u;`;

function matrixBody(tile: WholeTile, lanes: number, sides: Sides, finish: Finish): string {
  const { scaled, depth, grid, short } = tile;
  const { m, n } = tile.config;
  const fragments = times(tile.down, (i) => times(tile.across, (j) => [i, j] as const)).flat();
  const scale = (side: "a" | "b"): string =>
    scaled[side] ? `let e${side} = scale_exponent(largest_${side}[0]); let factor_${side} = power(-e${side});` : "";
  const split = isSplit(tile);
  // Infinity times a low part of 0 would be NaN: where there are infinities or NaN, high parts are multiplied first, and low parts in a second
  // round in which the others are 0.
  const rounds = split ? "let rounds = 1u + max(largest_a[1], largest_b[1]);" : "";
  const finite = tile.slots === 2 ? inPairs : tile.slots === 1 ? ahead : inTurn;
  const walk = (f: Walk): string => f(tile, sides, fragments);
  return `let z = wid.z;
  ${placeTile(tile)}
  let down = (sid / ${grid.across}u) * ${tile.down * m}u;
  let across = (sid % ${grid.across}u) * ${tile.across * n}u;
  ${scale("a")} ${scale("b")} ${rounds}
  ${registers(tile, sides.a)}
  ${registers(tile, sides.b)}
  ${fragments.map(([i, j]) => `var s${i}_${j} = subgroup_matrix_result<f32, ${n}, ${m}>(0.0);`).join(" ")}
  let slices = (p.k + ${depth - 1}u) / ${depth}u;
  ${split && !short ? `if (rounds == 1u) { ${walk(finite)} } else { ${walk(inRounds)} }` : walk(split ? inRounds : finite)}
  ${storeFragments(tile, lanes, fragments, finish)}`;
}

type Fragments = readonly (readonly [number, number])[];
/** The loop over slices. */
type Walk = (tile: WholeTile, sides: Sides, fragments: Fragments) => string;

const fetchBoth = (tile: WholeTile, { a, b }: Sides, k0: string): string =>
  `{ let k0 = ${k0}; ${fetch(tile, a, tile.whole)}\n    ${fetch(tile, b, tile.whole)} }`;
const putBoth = (tile: Tile, { a, b }: Sides, slot = 0, careful = false): string =>
  `${put(tile, a, slot, careful)}\n    ${put(tile, b, slot, careful)}`;

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

/** Statements that multiply a staged slice; `careful` in rounds. */
function multiply(tile: WholeTile, sides: Sides, fragments: Fragments, slot: number, careful = false): string {
  const [all, step] = [tile.depth / tile.item, tile.config.k / tile.item];
  // More than two steps are left to compilers to unroll, which some do slowly.
  if (tile.short || all > 2 * step)
    return `for (var kk = 0u; kk < ${all}u; kk += ${step}u) ${multiplyStep(tile, sides, fragments, slot, "kk", careful)}`;
  return times(all / step, (i) => multiplyStep(tile, sides, fragments, slot, `${i * step}u`, careful)).join("\n    ");
}

/** A block that multiplies the fragments `kk` items into a staged slice. */
function multiplyStep(tile: Tile, sides: Sides, fragments: Fragments, slot: number, kk: string, careful: boolean): string {
  const { down, across, parts, pitch } = tile;
  const { m, n, k, input } = tile.config;
  const load = (of: "left" | "right", side: Side, part: number, row: string): string => {
    const [shape, order] = of === "left" ? [`${k}, ${m}`, "row_major"] : [`${n}, ${k}`, "col_major"];
    const first = `(${row}) * ${pitch}u + ${slot * side.rows * pitch}u + ${kk}`;
    return `subgroupMatrixLoad<subgroup_matrix_${of}<${input}, ${shape}>, ${order}>(&s${side.name}${part}, ${first}, ${pitch}u)`;
  };
  const loadA = (part: number): string =>
    times(down, (i) => `let a${part}_${i} = ${load("left", sides.a, part, `down + ${i * m}u`)};`).join("\n      ");
  const loadB = (part: number): string =>
    times(across, (j) => `let b${part}_${j} = ${load("right", sides.b, part, `across + ${j * n}u`)};`).join("\n      ");
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

/** Fragments go through workgroup memory, where their elements can be reached, one after another: code for one of them serves all. */
function storeFragments(tile: Tile, lanes: number, fragments: Fragments, finish: Finish): string {
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
    let row0 = r0 + down + (f / ${tile.across}u) * ${m}u; let column0 = c0 + across + (f % ${tile.across}u) * ${n}u;
    for (var t = lane; t < ${quads}u; t += ${lanes}u) {
      let row = row0 + t / ${n / 4}u; let column = column0 + (t % ${n / 4}u) * 4u;
      let value = ss[sid * ${quads}u + t]${unscale};
      ${storeRow(finish, "row", "column", "value")}
    }
    workgroupBarrier();
  }`;
}
