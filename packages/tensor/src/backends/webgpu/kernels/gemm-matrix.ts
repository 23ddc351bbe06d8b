// Matrix multiplication on subgroup matrices (tensor cores): any fragment shape the adapter lists, f16 or f32 fragments, f32 sums always.
// Operands with more digits than f16 go into f16 fragments as two parts, v = high + low, so that products keep f32's accuracy.
// The extension is experimental; everything that spells its syntax is in this file and in attention-matrix.ts.
import type { DeviceTraits } from "../limits.ts";
import type { ProgramSpec } from "../pipelines.ts";
import type { Finish } from "./finish.ts";
import { type Gemm, type GemmSize, gemmSpec, storeRow, times, withBatch } from "./gemm-parts.ts";
import { fetchAhead, itemWords, putAhead, registers, stage, stagingFunctions } from "./gemm-staging.ts";
import { isSplit, type Side, sideOf, type Tile, tileOf } from "./gemm-tile.ts";
import type { MatrixVariant } from "./gemm-variants.ts";
import type { MatrixSource } from "./matmul.ts";

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
  const flags = [tile.grid.down, tile.grid.across, slots, parts.a, parts.b, Number(scaled.a), Number(scaled.b)].join("");
  return {
    key: `m${m}x${n}x${k}${input}${traits.subgroupSize}|${down}x${across}x${depth}|${flags}`,
    grid: withBatch(Math.ceil(size.m / tile.rows) * Math.ceil(size.n / tile.columns), size.batch),
    measured: measuredSides(tile),
    spec: () => matrixSpec(traits, tile, a, b, finish),
  };
}

function matrixSpec(traits: DeviceTraits, tile: Tile, a: MatrixSource, b: MatrixSource, finish: Finish): ProgramSpec {
  const { m, n, k, input } = tile.config;
  const lanes = traits.subgroupSize;
  const enable = ["subgroups", "chromium_experimental_subgroup_matrix", "diagnostic(off, chromium.subgroup_matrix_uniformity)"];
  const sides = { a: sideOf(tile, "a", a), b: sideOf(tile, "b", b) };
  return gemmSpec(
    `matmul matrix ${tile.name} of ${m}x${n}x${k}`,
    tile.threads,
    sides.a.source,
    sides.b.source,
    finish,
    matrixDeclarations(tile, sides),
    matrixBody(tile, lanes, sides, finish, traits.software),
    {
      enable: input === "f16" ? ["f16", ...enable] : enable,
      builtins: ["@builtin(subgroup_id) sid: u32", "@builtin(subgroup_invocation_id) lane: u32"],
      ...(traits.pinSubgroups ? { subgroupSize: lanes } : {}),
      last: measuredSides(tile).map((side) => ({ name: `largest_${side}`, type: "array<u32>" })),
    },
  );
}

/** Operands that are scaled; where one is split, both, because neither may be infinite. */
const measuredSides = (tile: Tile): ("a" | "b")[] => (["a", "b"] as const).filter((side) => tile.scaled[side] || isSplit(tile));

type Sides = Readonly<Record<"a" | "b", Side>>;

const subgroupsOf = ({ grid }: Tile): number => grid.down * grid.across;

function matrixDeclarations(tile: Tile, sides: Sides): string {
  const { m, n } = tile.config;
  const arrays = [sides.a, sides.b].flatMap((side) =>
    times(side.parts, (part) => {
      const count = (Math.max(1, tile.slots) * side.rows * tile.pitch) / (side.oct ? 2 : 1);
      return `var<workgroup> s${side.name}${part}: array<${itemWords(tile, side)}, ${count}>;`;
    }),
  );
  return `${arrays.join("\n")}
var<workgroup> ss: array<vec4<f32>, ${(subgroupsOf(tile) * m * n) / 4}>;
${stagingFunctions}`;
}

/** Tiles go in bands of eight rows of tiles, column by column, so that those in flight share what they read through the cache. */
const placeTile = ({ rows, columns }: Tile): string => `let tiles = (p.n + ${columns - 1}u) / ${columns}u;
  let tile_rows = (p.m + ${rows - 1}u) / ${rows}u;
  if (wg >= tiles * tile_rows) { return; }
  let band = (wg / (8u * tiles)) * 8u;
  let band_rows = min(tile_rows - band, 8u);
  let r0 = (band + (wg % (8u * tiles)) % band_rows) * ${rows}u;
  let c0 = ((wg % (8u * tiles)) / band_rows) * ${columns}u;`;

/** `short`: no second text for finite operands, for compilers that take long. */
function matrixBody(tile: Tile, lanes: number, sides: Sides, finish: Finish, short: boolean): string {
  const { scaled, depth, grid } = tile;
  const { m, n } = tile.config;
  const fragments = times(tile.down, (i) => times(tile.across, (j) => [i, j] as const)).flat();
  const exponent = (side: "a" | "b"): string => (scaled[side] ? `let e${side} = scale_exponent(largest_${side}[0]);` : "");
  const split = isSplit(tile);
  // Infinity times a low part of 0 would be NaN: where there are infinities or NaN, high parts are multiplied first, and low parts in a second
  // round in which the others are 0.
  const walk = (careful: boolean): string => (tile.slots === 0 ? inTurn : ahead)(tile, sides, fragments, careful);
  const rounds = split ? "let rounds = 1u + max(largest_a[1], largest_b[1]);" : "";
  return `let z = wid.z;
  ${placeTile(tile)}
  let down = (sid / ${grid.across}u) * ${tile.down * m}u;
  let across = (sid % ${grid.across}u) * ${tile.across * n}u;
  ${exponent("a")} ${exponent("b")} ${rounds}
  ${fragments.map(([i, j]) => `var s${i}_${j} = subgroup_matrix_result<f32, ${n}, ${m}>(0.0);`).join(" ")}
  let slices = ((p.k + ${depth - 1}u) / ${depth}u)${split ? " * rounds" : ""};
  ${split && !short ? `if (rounds == 1u) { ${walk(false)} } else { ${walk(true)} }` : walk(split)}
  ${fragments.map(([i, j]) => storeFragment(tile, lanes, i, j, finish)).join("\n  workgroupBarrier();\n  ")}`;
}

type Fragments = readonly (readonly [number, number])[];

/** Where slice t begins, and its round; `careful` where operands may be infinite or NaN, and all is done in rounds. */
const sliceAt = (tile: Tile, t: string, careful: boolean): string =>
  careful ? `let k0 = (${t} / rounds) * ${tile.depth}u; let round = ${t} % rounds;` : `let k0 = ${t} * ${tile.depth}u;`;

/** Stages a slice, multiplies it, stages the next. */
function inTurn(tile: Tile, sides: Sides, fragments: Fragments, careful: boolean): string {
  return `for (var slice = 0u; slice < slices; slice++) {
    ${sliceAt(tile, "slice", careful)}
    workgroupBarrier();
    ${stage(tile, sides.a, careful)}
    ${stage(tile, sides.b, careful)}
    workgroupBarrier();
    ${multiply(tile, sides, fragments, "", careful)}
  }`;
}

/** Fetches the next slice into registers before it multiplies this one; with two slots, one barrier a slice is enough. */
function ahead(tile: Tile, sides: Sides, fragments: Fragments, careful: boolean): string {
  const both = (f: (side: Side) => string): string => `${f(sides.a)}\n    ${f(sides.b)}`;
  const fetch = (t: string): string => `{ ${sliceAt(tile, t, careful)} ${both((side) => fetchAhead(tile, side, careful))} }`;
  const items = (side: Side): number => (side.rows * tile.pitch) / (side.oct ? 2 : 1);
  const put = (slot: string): string => both((side) => putAhead(tile, side, slot && `${slot} * ${items(side)}u + `));
  const round = careful ? "let round = slice % rounds;" : "";
  const start = `${both((side) => registers(tile, side))}
  ${fetch("0u")}`;
  if (tile.slots === 1) {
    return `${start}
  for (var slice = 0u; slice < slices; slice++) {
    ${round}
    if (slice > 0u) { workgroupBarrier(); }
    ${put("")}
    workgroupBarrier();
    if (slice + 1u < slices) ${fetch("(slice + 1u)")}
    ${multiply(tile, sides, fragments, "", careful)}
  }`;
  }
  return `${start}
  ${put("")}
  workgroupBarrier();
  for (var slice = 0u; slice < slices; slice++) {
    ${round}
    let slot = slice & 1u;
    if (slice + 1u < slices) ${fetch("(slice + 1u)")}
    ${multiply(tile, sides, fragments, "slot", careful)}
    if (slice + 1u < slices) { ${put("(1u - slot)")} workgroupBarrier(); }
  }`;
}

/** The loop over a staged slice. */
function multiply(tile: Tile, sides: Sides, fragments: Fragments, slot: string, careful: boolean): string {
  const { down, across, parts } = tile;
  const { m, n, k, input } = tile.config;
  const load = (of: "left" | "right", side: Side, part: number, row: string): string => {
    const [shape, order] = of === "left" ? [`${k}, ${m}`, "row_major"] : [`${n}, ${k}`, "col_major"];
    const unit = side.oct ? 2 : 1;
    const pitch = tile.pitch / unit;
    const first = slot && `${slot} * ${side.rows * pitch}u + `;
    return `subgroupMatrixLoad<subgroup_matrix_${of}<${input}, ${shape}>, ${order}>(&s${side.name}${part}, ${first}(${row}) * ${pitch}u + kk / ${unit}u, ${pitch}u)`;
  };
  const loadA = (part: number): string =>
    times(down, (i) => `let a${part}_${i} = ${load("left", sides.a, part, `down + ${i * m}u`)};`).join("\n      ");
  const loadB = (part: number): string =>
    times(across, (j) => `let b${part}_${j} = ${load("right", sides.b, part, `across + ${j * n}u`)};`).join("\n      ");
  const add = (pa: number, pb: number): string =>
    fragments.map(([i, j]) => `s${i}_${j} = subgroupMatrixMultiplyAccumulate(a${pa}_${i}, b${pb}_${j}, s${i}_${j});`).join("\n      ");
  const low = [parts.a === 2 ? `${loadA(1)}\n      ${add(1, 0)}` : "", parts.b === 2 ? `${loadB(1)}\n      ${add(0, 1)}` : ""];
  return `for (var kk = 0u; kk < ${tile.depth / 4}u; kk += ${k / 4}u) {
      ${loadA(0)}
      ${loadB(0)}
      ${low.map((text) => (careful && text ? `if (round + 1u == rounds) {\n      ${text} }` : text)).join("\n      ")}
      ${careful ? `if (round == 0u) { ${add(0, 0)} }` : add(0, 0)}
    }`;
}

/** A fragment goes through workgroup memory, where its elements can be reached. */
function storeFragment(tile: Tile, lanes: number, i: number, j: number, finish: Finish): string {
  const { m, n } = tile.config;
  const quads = (m * n) / 4;
  const unscale = (["a", "b"] as const).map((side) => (tile.scaled[side] ? ` * power(e${side})` : "")).join("");
  return `subgroupMatrixStore<row_major>(&ss, sid * ${quads}u, s${i}_${j}, ${n / 4}u);
  workgroupBarrier();
  for (var t = lane; t < ${quads}u; t += ${lanes}u) {
    let row = r0 + down + ${i * m}u + t / ${n / 4}u; let column = c0 + across + ${j * n}u + (t % ${n / 4}u) * 4u;
    let value = ss[sid * ${quads}u + t]${unscale};
    ${storeRow(finish, "row", "column", "value")}
  }`;
}
