// How matrix kernels bring slices of their operands into workgroup memory as [row][k], zero beyond the operand: every thread fetches its share into
// registers, as it lies in memory, and later converts and stores it, 16 bytes at a time.
import { times } from "./gemm-parts.ts";
import type { Side, Tile } from "./gemm-tile.ts";

/** Functions that staging uses. */
export const stagingFunctions = `fn scale_exponent(bits: u32) -> i32 {
  let e = i32(bits >> 23u);
  return select(max(e - 141, -120), 0, e == 0);
}
fn odd(v: vec4<f32>) -> vec4<bool> { return (bitcast<vec4<u32>>(v) & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u); }
// Rounded to f16's digits by integers: compilers may take a conversion to f16 and back for the value itself.
fn high_digits(v: vec4<f32>) -> vec4<f32> {
  return bitcast<vec4<f32>>((bitcast<vec4<u32>>(v) + vec4<u32>(0x1000u)) & vec4<u32>(0xffffe000u));
}
fn high_part(v: vec4<f32>) -> vec4<f32> { return select(high_digits(v), v, odd(v)); }
fn power(e: i32) -> f32 { return bitcast<f32>(u32(127 + e) << 23u); }
`;

/** Functions that make items of f16. */
export const itemFunctions = `fn pack8(low: vec4<f32>, high: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(bitcast<vec2<u32>>(vec4<f16>(low)), bitcast<vec2<u32>>(vec4<f16>(high)));
}
fn finite_in(v: vec4<f32>, round: u32) -> vec4<f32> { return select(v, vec4<f32>(), odd(v) & vec4<bool>(round == 1u)); }
`;

/** The type of an item of staging memory. */
export const itemWords = ({ config }: Tile): string => (config.input === "f16" ? "vec4<u32>" : "vec4<f32>");

/** Rows of an item, and its registers: those of a row, or one for every k of four rows. */
const itemRows = ({ runs }: Side): number => (runs.along === "k" ? 1 : 4);
const itemRegisters = (tile: Tile, { runs }: Side): number => (runs.along === "k" ? tile.item / runs.unit : tile.item);

const itemsOf = (tile: Tile, side: Side): number => (side.rows * tile.depth) / tile.item / itemRows(side);
const turnsOf = (tile: Tile, side: Side): number => Math.ceil(itemsOf(tile, side) / tile.threads);

/**
 * First row and column (in items) of item t. Eight lanes in turn store 16 bytes each without a conflict of banks if they take eight rows of one
 * column, whose pitch is an odd number of 16 bytes; of four rows a lane, two by four columns.
 */
function place(tile: Tile, side: Side, turn: number): { readonly row: string; readonly column: string } {
  const across = tile.depth / tile.item;
  const { along, scattered } = side.runs;
  const { threads } = tile;
  const t = turn === 0 ? "lid" : `(lid + ${turn * threads}u)`;
  // All threads of a turn in one column, where that can be: what is computed of k is then computed once for all.
  if (scattered && side.rows % threads === 0)
    return { row: `lid + ${(turn * threads) % side.rows}u`, column: `${Math.floor((turn * threads) / side.rows)}u` };
  if (scattered) return { row: `${t} % ${side.rows}u`, column: `${t} / ${side.rows}u` };
  if (along === "r") return { row: `(${t} % 2u + ${t} / ${2 * across}u * 2u) * 4u`, column: `(${t} / 2u) % ${across}u` };
  if (tile.item === 4) return { row: `${t} / ${across}u`, column: `${t} % ${across}u` };
  return { row: `${t} / ${8 * across}u * 8u + ${t} % 8u`, column: `(${t} / 8u) % ${across}u` };
}

/** Names of a thread's variables for its item of a turn. */
const named = ({ name }: Side, what: "row" | "k" | "put" | "at", turn: number): string => `${name}_${what}${turn}`;
const register = ({ name }: Side, turn: number, i: number): string => `${name}_raw${turn}_${i}`;

/** Declarations of what does not change from slice to slice: where a thread's items lie in memory and in staging memory, and its registers. */
export const registers = (tile: Tile, side: Side): string =>
  times(turnsOf(tile, side), (turn) => {
    const { limit, start, source, name, runs } = side;
    const { row, column } = place(tile, side, turn);
    const r =
      runs.along === "k"
        ? `min(${start} + at_row, ${limit} - 1u)`
        : source.quad
          ? `min(${start} + at_row, ${limit} - 4u)`
          : `${start} + at_row`;
    const at = named(side, "at", turn);
    return `let ${at} = vec2<u32>(${row}, ${column});
  let ${named(side, "row", turn)} = ${name}_row(z, ${r.replace("at_row", `${at}.x`)});
  let ${named(side, "k", turn)} = ${at}.y * ${tile.item}u;
  let ${named(side, "put", turn)} = ${at}.x * ${tile.pitch}u + ${at}.y;
  ${times(itemRegisters(tile, side), (i) => `var ${register(side, turn, i)}: ${runs.raw};`).join(" ")}`;
  }).join("\n  ");

/** Statements that fetch the slice from `k0` on into registers; `whole` where no slice reaches beyond p.k. */
export function fetch(tile: Tile, side: Side, whole: boolean): string {
  const { name, runs } = side;
  const unit = runs.unit;
  const one = (turn: number, i: number): string => {
    const at = `k0 + ${named(side, "k", turn)}${i === 0 ? "" : ` + ${i * unit}u`}`;
    const load = (k: string): string => `${name}_raw(z, ${named(side, "row", turn)}, ${k})`;
    if (whole || runs.guards) return load(at);
    return `select(${runs.raw}(), ${load(`min(${at}, p.k - ${unit}u)`)}, ${at} < p.k)`;
  };
  return times(turnsOf(tile, side), (turn) =>
    times(itemRegisters(tile, side), (i) => `${register(side, turn, i)} = ${one(turn, i)};`).join(" "),
  ).join("\n    ");
}

/** Text of the values of a row of a thread's item, four at a time. */
function quads(tile: Tile, side: Side, turn: number, row: number): string[] {
  const { runs, name } = side;
  const factor = side.scaled ? ` * factor_${name}` : "";
  const halves = times(tile.item / 4, (h) => h as 0 | 1);
  if (runs.along === "k")
    return halves.map(
      (h) => `${runs.unit === 8 ? runs.value(register(side, turn, 0), h) : runs.value(register(side, turn, h), 0)}${factor}`,
    );
  return halves.map((h) => `vec4<f32>(${times(4, (j) => `${name}_v${4 * h + j}[${row}]`).join(", ")})${factor}`);
}

/** Statements that store one item from the text of its values; `careful` where some may be infinite or NaN. */
export function putItem(tile: Tile, side: Side, to: (part: number) => string, values: readonly string[], careful: boolean): string {
  if (tile.config.input === "f32") return `${to(0)} = ${values[0]};`;
  const finite = (v: string): string => (careful ? `finite_in(${v}, round)` : v);
  if (side.parts === 1) return `${to(0)} = pack8(${values.map(finite).join(", ")});`;
  const high = careful ? "high_part" : "high_digits";
  return `{ let v0 = ${finite(values[0]!)}; let v1 = ${finite(values[1]!)}; let h0 = ${high}(v0); let h1 = ${high}(v1);
      ${to(0)} = pack8(h0, h1); ${to(1)} = pack8(v0 - h0, v1 - h1); }`;
}

/** Statements that convert the fetched slice and put it into staging memory from item `from` on. */
export function put(tile: Tile, side: Side, from: string, careful: boolean): string {
  const { runs, name } = side;
  return times(turnsOf(tile, side), (turn) => {
    const to = (row: number) => (part: number) => `s${name}${part}[${named(side, "put", turn)} + ${row * tile.pitch}u + ${from}]`;
    const decoded =
      runs.along === "k" ? "" : times(tile.item, (j) => `let ${name}_v${j} = ${runs.value(register(side, turn, j), 0)};`).join(" ");
    const store =
      side.moved && !careful
        ? `${to(0)(0)} = ${register(side, turn, 0)};`
        : `${decoded} ${times(itemRows(side), (row) => putItem(tile, side, to(row), quads(tile, side, turn, row), careful)).join("\n      ")}`;
    const all = (turn + 1) * tile.threads <= itemsOf(tile, side);
    return all ? `{ ${store} }` : `if (lid + ${turn * tile.threads}u < ${itemsOf(tile, side)}u) { ${store} }`;
  }).join("\n    ");
}
