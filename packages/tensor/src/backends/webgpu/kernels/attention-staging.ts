// How attention on subgroup matrices brings rows of its operands into workgroup memory: at once, or in two steps with registers in between, so that
// the memory's latency passes while the keys or values before are multiplied.
import { times } from "./attention-parts.ts";
import { itemOf, type Plan, rowOf, stagedOf } from "./attention-plan.ts";

/** Items of workgroup memory are 16 bytes. */
export const itemType = (p: Plan): string => (p.input === "f16" ? "vec4<u32>" : "vec4<f32>");

const threadsOf = (p: Plan): number => p.subgroups * p.lanes;

/** Statements that stage `rows` rows of q from row `first` on; rows beyond the last repeat it. */
export function stageQueries(p: Plan, rows: number, first: string, pitch: number): string {
  const items = rowOf(p, "q") / itemOf(p);
  return `for (var t = lid; t < ${rows * items}u; t += ${threadsOf(p)}u) {
      let r = t / ${items}u; let c = t % ${items}u;
      staged[r * ${pitch / itemOf(p)}u + c] = q_item(qb, min(${first} + r, p.l - 1u), c);
    }`;
}

/** Items of a staged row of keys or values, and of a step. */
const itemsOf = (p: Plan, name: "k" | "v"): number => stagedOf(p, name).row / itemOf(p);
const itemsOfStep = (p: Plan, name: "k" | "v"): number => stagedOf(p, name).rows * itemsOf(p, name);

/** Item c of staged row r of the step at key `first`; keys beyond the last repeat it, turned values the last step. */
const item = (p: Plan, name: "k" | "v", first: string): string =>
  p.turned && name === "v"
    ? `v_item(vb, r, min(${first}, (p.s - 1u) / ${p.keys}u * ${p.keys}u) / ${itemOf(p)}u + c)`
    : `${name}_item(${name}b, min(${first} + r, p.s - 1u), c)`;

/** Its place in staging memory. */
function placeOf(p: Plan, name: "k" | "v"): string {
  const { pitch, at } = stagedOf(p, name);
  return `staged[${at / itemOf(p)}u + r * ${pitch / itemOf(p)}u + c]`;
}

const registersOf = (p: Plan, name: "k" | "v"): number => Math.ceil(itemsOfStep(p, name) / threadsOf(p));

/** Declarations of the registers that hold a thread's share of the next keys or values. */
export const registers = (p: Plan, name: "k" | "v"): string =>
  times(registersOf(p, name), (turn) => `var next_${name}${turn} = ${itemType(p)}();`).join(" ");

/** A block per item of this thread, item c of row r; the last may have none. */
function eachTurn(p: Plan, name: "k" | "v", body: (turn: number) => string): string {
  const [threads, items, all] = [threadsOf(p), itemsOf(p, name), itemsOfStep(p, name)];
  return times(registersOf(p, name), (turn) => {
    const inside = `let t = lid + ${turn * threads}u; let r = t / ${items}u; let c = t % ${items}u; ${body(turn)}`;
    return (turn + 1) * threads <= all ? `{ ${inside} }` : `if (lid + ${turn * threads}u < ${all}u) { ${inside} }`;
  }).join("\n    ");
}

/** Statements that fetch the step at key `first`. */
export const fetch = (p: Plan, name: "k" | "v", first: string): string =>
  eachTurn(p, name, (turn) => `next_${name}${turn} = ${item(p, name, first)};`);

/** Statements that put what was fetched into staging memory. */
export const put = (p: Plan, name: "k" | "v"): string => eachTurn(p, name, (turn) => `${placeOf(p, name)} = next_${name}${turn};`);

/** Statements that stage the keys or values of the step at `j0`. */
export const stageStep = (p: Plan, name: "k" | "v"): string =>
  p.loops
    ? `for (var t = lid; t < ${itemsOfStep(p, name)}u; t += ${threadsOf(p)}u) {
      let r = t / ${itemsOf(p, name)}u; let c = t % ${itemsOf(p, name)}u; ${placeOf(p, name)} = ${item(p, name, "j0")};
    }`
    : eachTurn(p, name, () => `${placeOf(p, name)} = ${item(p, name, "j0")};`);
