// How attention on subgroup matrices brings rows of its operands into workgroup memory: at once, or in two steps with registers in between, so that
// the memory's latency passes while the keys or values before are multiplied.
import { times } from "./attention-parts.ts";
import { itemOf, type Plan, pitchOf, rowOf } from "./attention-plan.ts";

/** Items of workgroup memory are 16 bytes. */
export const itemType = (p: Plan): string => (p.input === "f16" ? "vec4<u32>" : "vec4<f32>");

/** Items of a staged row of an operand. */
const itemsOf = (p: Plan, name: "q" | "k" | "v"): number => rowOf(p, name) / itemOf(p);

/** Statements that stage `rows` rows of an operand from row `first`, rows beyond `limit` repeating the last. */
export const stageRows = (p: Plan, name: "q" | "k" | "v", rows: number, first: string, limit: string, pitch: number, at: number): string =>
  `for (var t = lid; t < ${rows * itemsOf(p, name)}u; t += ${p.subgroups * p.lanes}u) {
      let r = t / ${itemsOf(p, name)}u; let c = t % ${itemsOf(p, name)}u;
      staged[(${at}u + r) * ${pitch / itemOf(p)}u + c] = ${name}_item(${name}b, min(${first} + r, ${limit} - 1u), c);
    }`;

/** Statements that stage the keys or values of the step at `j0`, from staged row `at` on. */
export const stageKeys = (p: Plan, name: "k" | "v", at: number): string => stageRows(p, name, p.keys, "j0", "p.s", pitchOf(p), at);

const registersOf = (p: Plan, name: "k" | "v"): number => Math.ceil((p.keys * itemsOf(p, name)) / (p.subgroups * p.lanes));

/** Declarations of the registers that hold a thread's share of the next keys or values. */
export const registers = (p: Plan, name: "k" | "v"): string =>
  times(registersOf(p, name), (turn) => `var next_${name}${turn} = ${itemType(p)}();`).join(" ");

/** A block per item of this thread, item c of row r; the last may have none. */
function eachTurn(p: Plan, name: "k" | "v", body: (turn: number) => string): string {
  const [threads, items] = [p.subgroups * p.lanes, itemsOf(p, name)];
  return times(registersOf(p, name), (turn) => {
    const inside = `let t = lid + ${turn * threads}u; let r = t / ${items}u; let c = t % ${items}u; ${body(turn)}`;
    return (turn + 1) * threads <= p.keys * items ? `{ ${inside} }` : `if (lid + ${turn * threads}u < ${p.keys * items}u) { ${inside} }`;
  }).join("\n    ");
}

/** Statements that fetch the rows from `first` on; beyond the last they repeat it. */
export const fetch = (p: Plan, name: "k" | "v", first: string): string =>
  eachTurn(p, name, (turn) => `next_${name}${turn} = ${name}_item(${name}b, min(${first} + r, p.s - 1u), c);`);

/** Statements that put what was fetched into staging memory, from staged row `at` on. */
export const put = (p: Plan, name: "k" | "v", at: number): string =>
  eachTurn(p, name, (turn) => `staged[(${at}u + r) * ${pitchOf(p) / itemOf(p)}u + c] = next_${name}${turn};`);
