// How matrix kernels bring slices of their operands into workgroup memory as [row][k], zero beyond the operand: at once, or in two steps with
// registers in between, so that the memory's latency passes while the slice before is multiplied.
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

/** The type of an item of staging memory: four values, or eight of f16. */
export const itemWords = (tile: Tile, { oct }: Side): string =>
  oct ? "vec4<u32>" : tile.config.input === "f16" ? "vec2<u32>" : "vec4<f32>";

/** Values of one item along k, and how many rows a thread takes at once. */
const itemShape = ({ oct, source }: Side): { readonly depth: number; readonly rows: number } =>
  oct ? { depth: 8, rows: 1 } : source.along === "k" ? { depth: 4, rows: 1 } : { depth: 4, rows: 4 };

const itemsOf = (tile: Tile, side: Side): number => (side.rows * tile.depth) / itemShape(side).depth / itemShape(side).rows;

/** Statements that give `row` and `c`, the place of item t: its first row, its item along k. */
function place(tile: Tile, side: Side): string {
  const { depth, rows } = itemShape(side);
  const across = tile.depth / depth;
  return rows === 1
    ? `let row = t / ${across}u; let c = t % ${across}u;`
    : `let row = (t % ${side.rows / rows}u) * ${rows}u; let c = t / ${side.rows / rows}u;`;
}

/** Statements that read item t and hand each row's values to `use`: the row's number in the item, and the text of the values. */
function read(side: Side, use: (i: number, v: string) => string): string {
  const { name, source, limit, start, oct } = side;
  const factor = side.scaled ? ` * power(-e${name})` : "";
  if (oct) {
    return `var v = vec4<u32>();
      if (k0 + c * 8u < p.k) { v = ${name}_k8(z, min(${start} + row, ${limit} - 1u), k0 + c * 8u); }
      ${use(0, "v")}`;
  }
  if (source.along === "k") {
    return `var v = vec4<f32>();
      if (k0 + c * 4u < p.k) { v = ${name}_k4(z, min(${start} + row, ${limit} - 1u), k0 + c * 4u)${factor}; }
      ${use(0, "v")}`;
  }
  const row = source.quad ? `min(${start} + row, ${limit} - 4u)` : `${start} + row`;
  return `${times(4, (j) => `let q${j} = ${name}_r4(z, ${row}, k0 + c * 4u + ${j}u)${factor};`).join(" ")}
      ${times(4, (i) => `{ let v = vec4<f32>(q0[${i}], q1[${i}], q2[${i}], q3[${i}]); ${use(i, "v")} }`).join("\n      ")}`;
}

/** Statements that give the parts of values as items: `to(part, text)` keeps one; `careful` where some may be infinite or NaN. */
function divide(tile: Tile, side: Side, v: string, careful: boolean, to: (part: number, text: string) => string): string {
  if (side.oct || tile.config.input === "f32") return to(0, v);
  const bits = (h: string): string => `bitcast<vec2<u32>>(vec4<f16>(${h}))`;
  const finite = careful ? `select(${v}, vec4<f32>(), odd(${v}) & vec4<bool>(round == 1u))` : v;
  if (side.parts === 1) return to(0, bits(finite));
  return `let u = ${finite}; let high = ${careful ? "high_part" : "high_digits"}(u); ${to(0, bits("high"))} ${to(1, bits("u - high"))}`;
}

/** The place of an item in staging memory, in items; `slot` is the first item of the slot. */
const at = (tile: Tile, side: Side, i: number, slot: string): string =>
  `${slot}(row + ${i}u) * ${side.oct ? tile.pitch / 2 : tile.pitch}u + c`;

/** Statements that stage a slice at once. */
export function stage(tile: Tile, side: Side, careful: boolean): string {
  return `for (var t = lid; t < ${itemsOf(tile, side)}u; t += ${tile.threads}u) {
      ${place(tile, side)}
      ${read(side, (i, v) => divide(tile, side, v, careful, (part, text) => `s${side.name}${part}[${at(tile, side, i, "")}] = ${text};`))}
    }`;
}

/** Names of the registers of a thread's item: rows of the item, parts of the values. */
const register = (side: Side, turn: number, i: number, part: number): string => `f${side.name}${turn}_${i}_${part}`;

const turnsOf = (tile: Tile, side: Side): number => Math.ceil(itemsOf(tile, side) / tile.threads);

/** Declarations of the registers that hold a thread's share of a slice. */
export const registers = (tile: Tile, side: Side): string =>
  times(turnsOf(tile, side), (turn) =>
    times(itemShape(side).rows, (i) =>
      times(side.parts, (part) => `var ${register(side, turn, i, part)} = ${itemWords(tile, side)}();`).join(" "),
    ).join(" "),
  ).join("\n  ");

/** A block per item of this thread; the last may have none. */
const eachTurn = (tile: Tile, side: Side, body: (turn: number) => string): string =>
  times(turnsOf(tile, side), (turn) => {
    const inside = `let t = lid + ${turn * tile.threads}u; ${place(tile, side)}
      ${body(turn)}`;
    const whole = (turn + 1) * tile.threads <= itemsOf(tile, side);
    return whole ? `{ ${inside} }` : `if (lid + ${turn * tile.threads}u < ${itemsOf(tile, side)}u) { ${inside} }`;
  }).join("\n    ");

/** Statements that fetch a slice into registers. */
export const fetchAhead = (tile: Tile, side: Side, careful: boolean): string =>
  eachTurn(tile, side, (turn) =>
    read(side, (i, v) => divide(tile, side, v, careful, (part, text) => `${register(side, turn, i, part)} = ${text};`)),
  );

/** Statements that put the fetched slice into staging memory, from row `first` of it on. */
export const putAhead = (tile: Tile, side: Side, slot: string): string =>
  eachTurn(tile, side, (turn) =>
    times(itemShape(side).rows, (i) =>
      times(side.parts, (part) => `s${side.name}${part}[${at(tile, side, i, slot)}] = ${register(side, turn, i, part)};`).join(" "),
    ).join(" "),
  );
