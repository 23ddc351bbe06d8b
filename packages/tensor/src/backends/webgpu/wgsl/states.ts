// Reductions as states that start empty, take values, merge, and give a result: one description serves every kind and any split of the work.
import type { ReduceKind } from "../../../ops/table.ts";
import type { WordType } from "./formats.ts";

/** WGSL of a reduction over values of type T; every field is one 32-bit word. */
export interface StateText {
  readonly fields: readonly (readonly [name: string, type: WordType])[];
  readonly init: string;
  /** Statements changing `s` given value `v` at flattened index `i`. */
  readonly step: string;
  /** Statements changing `a` given another state `b` whose indices may be anywhere. */
  readonly merge: string;
  /** The result of state `s` over `p.length` values, and its type. */
  readonly result: string;
  readonly resultType: WordType;
}

const infinity = "f_bits(0x7f800000u)";
const minusInfinity = "f_bits(0xff800000u)";

/** The moments of a sample by Welford's step and Chan's merge. */
export const moments: Omit<StateText, "result" | "resultType"> = {
  fields: [
    ["n", "f32"],
    ["mean", "f32"],
    ["m2", "f32"],
  ],
  init: "S(0.0, 0.0, 0.0)",
  step: "s.n += 1.0; let d = v - s.mean; s.mean += d / s.n; s.m2 += d * (v - s.mean);",
  merge: `if (b.n > 0.0) { let n = a.n + b.n; let d = b.mean - a.mean; a.mean += d * (b.n / n); a.m2 += b.m2 + d * d * (a.n * (b.n / n)); a.n = n; }`,
};

const single = (t: WordType, init: string, step: string, merge: string, result = "s.v"): StateText => ({
  fields: [["v", t]],
  init: `S(${init})`,
  step,
  merge,
  result,
  resultType: t,
});

/** Largest or smallest with its place: NaN wins, the first of equals is kept. */
function arg(t: WordType, greater: boolean): StateText {
  const nan = (x: string): string => (t === "f32" ? `f_nan(${x})` : "false");
  const better = `(!${nan("a.v")} && (${nan("b.v")} || b.v ${greater ? ">" : "<"} a.v)) || ((b.v == a.v || (${nan("a.v")} && ${nan("b.v")})) && b.i < a.i)`;
  const take = `if (b.i != 0xffffffffu && (a.i == 0xffffffffu || ${better})) { a = b; }`;
  const fields = [
    ["v", t],
    ["i", "u32"],
  ] as const;
  return {
    fields,
    init: `S(${t}(), 0xffffffffu)`,
    step: `s = merged(s, S(v, i));`,
    merge: take,
    result: "bitcast<i32>(select(s.i, 0u, s.i == 0xffffffffu))",
    resultType: "i32",
  };
}

function norm(power: number): StateText {
  const a = "bitcast<f32>(bitcast<u32>(v) & 0x7fffffffu)";
  if (power === Number.POSITIVE_INFINITY) return single("f32", "0.0", `s.v = f_max(s.v, ${a});`, "a.v = f_max(a.v, b.v);");
  if (power === Number.NEGATIVE_INFINITY) return single("f32", infinity, `s.v = f_min(s.v, ${a});`, "a.v = f_min(a.v, b.v);");
  if (power === 0) return single("f32", "0.0", "s.v += select(1.0, 0.0, v == 0.0);", "a.v += b.v;");
  if (power === 1) return single("f32", "0.0", `s.v += ${a};`, "a.v += b.v;");
  if (power === 2) return single("f32", "0.0", "s.v += v * v;", "a.v += b.v;", "f_sqrt(s.v)");
  return single("f32", "0.0", `s.v += f_pow(${a}, p.power);`, "a.v += b.v;", "f_pow(s.v, 1.0 / p.power)");
}

const extreme = (t: WordType, greater: boolean): StateText => {
  const f = t === "f32" ? (greater ? "f_max" : "f_min") : greater ? "max" : "min";
  const start = {
    f32: greater ? minusInfinity : infinity,
    i32: greater ? "(-2147483647i - 1i)" : "2147483647i",
    u32: greater ? "0u" : "0xffffffffu",
  }[t];
  return single(t, start, `s.v = ${f}(s.v, v);`, `a.v = ${f}(a.v, b.v);`);
};

/** The state of a kind over values of type `t`. */
export function stateOf(kind: ReduceKind, t: WordType, power: number): StateText {
  switch (kind) {
    case "sum":
      return single(t, `${t}()`, "s.v += v;", "a.v += b.v;");
    case "mean":
      return { ...single("f32", "0.0", "s.v += f32(v);", "a.v += b.v;", "s.v / f32(p.length)"), resultType: "f32" };
    case "prod":
      return single(t, `${t}(1)`, "s.v *= v;", "a.v *= b.v;");
    case "max":
    case "min":
      return extreme(t, kind === "max");
    case "argmax":
    case "argmin":
      return arg(t, kind === "argmax");
    case "var":
      return { ...moments, result: "f_variance(s.m2, f32(p.length) - p.correction)", resultType: "f32" };
    case "logSumExp":
      return {
        fields: [
          ["m", "f32"],
          ["v", "f32"],
        ],
        init: `S(${minusInfinity}, 0.0)`,
        step: "s = merged(s, S(v, 1.0));",
        merge: `let m = f_max(a.m, b.m); let base = select(m, 0.0, f_inf(m)); a.v = a.v * f_exp(a.m - base) + b.v * f_exp(b.m - base); a.m = m;
    if (f_inf(m)) { a.v = select(0.0, 1.0, m > 0.0); }`,
        result: `select(select(s.m + f_log(s.v), s.m, f_inf(s.m)), s.m, f_nan(s.m))`,
        resultType: "f32",
      };
    case "norm":
      return norm(power);
    case "any":
      return single("u32", "0u", `s.v |= select(1u, 0u, v == ${t}());`, "a.v |= b.v;");
    case "all":
      return single("u32", "1u", `s.v &= select(1u, 0u, v == ${t}());`, "a.v &= b.v;");
  }
}
