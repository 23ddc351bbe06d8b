// The softmax of attention on subgroup matrices, between the scores and the weights of a step over the keys. Every row has a base, a power of two that
// its weights are taken relative to: 2^lift below its largest score when it was set. It is only moved when a score exceeds it by 2^(lift + slack),
// so the output is rarely rescaled. Where no key of a step is hidden from any row, nothing is compared.
import { type AttentionText, times } from "./attention-parts.ts";
import { isSplitPlan, type Plan, scorePitch, weightColumn } from "./attention-plan.ts";

/** Weights reach 2^15, which f16 holds, while the low parts of those that matter stay above its subnormals. */
const lift = 7;
const slack = 8;

/** Rows of a subgroup in the softmax, and lanes that share a row. */
export const shareOf = (p: Plan): { readonly own: number; readonly turns: number } => {
  const own = (p.down * p.m) / p.split;
  return { own, turns: p.lanes / own };
};

/** Of weights, which are finite unless their sum is NaN and so the whole row. */
const lowDigits = "fn low_digits(v: vec4<f32>) -> vec4<f32> { return v - high_digits(v); }\n";

/** Scores lie in memory as f32, weights beside them or in their place, in f16 the high parts and then the low parts. */
export function scoreFunctions(p: Plan): string {
  const half = p.input === "f16";
  return `fn score(i: u32) -> vec4<f32> { return ${half ? "bitcast<vec4<f32>>(scores[i])" : "scores[i]"}; }
fn set_score(i: u32, v: vec4<f32>) { scores[i] = ${half ? "bitcast<vec4<u32>>(v)" : "v"}; }
${isSplitPlan(p) ? lowDigits : ""}fn total(v: vec4<f32>) -> f32 { return (v.x + v.y) + (v.z + v.w); }
// Keeps eight weights of a row as they are multiplied and gives their sum; compilers may leave out the rounding in the sum.
fn keep_weights(row: u32, c: u32, a: vec4<f32>, b: vec4<f32>) -> f32 {
  ${keepText(p)}
}
fn logit(head: u32, i: u32, j: u32, limit: u32, s: f32) -> f32 {
  let v = masked(head, i, min(j, p.s - 1u), s);
  return select(v * 1.44269504, -3.4e38, (j >= limit) | (v <= -2.0e38));
}
fn logits(head: u32, i: u32, j: u32, limit: u32, s: vec4<f32>) -> vec4<f32> {
  return vec4<f32>(${["x", "y", "z", "w"].map((l, n) => `logit(head, i, j + ${n}u, limit, s.${l})`).join(", ")});
}
`;
}

function keepText(p: Plan): string {
  if (p.input === "f32") return "scores[row + 2u * c] = a; scores[row + 2u * c + 1u] = b; return total(a + b);";
  if (isSplitPlan(p))
    return `scores[row + c] = bits(high_digits(a), high_digits(b)); scores[row + ${p.keys / 8}u + c] = bits(low_digits(a), low_digits(b));
  return total(a + b);`;
  return `let x = vec4<f16>(a); let y = vec4<f16>(b);
  scores[row + c] = vec4<u32>(bitcast<vec2<u32>>(x), bitcast<vec2<u32>>(y));
  return total(vec4<f32>(x) + vec4<f32>(y));`;
}

/** Declarations before the loop over the keys: `scale` and the row's `limit` are known. */
export const softmaxStart = ({ mask }: AttentionText): string => `let scale2 = scale * 1.44269504;
  ${mask.hides ? "" : "let seen = key_limit(b, i0);"}
  var m = -1e30; var sum = 0.0; var shrink = 1.0;`;

/**
 * Statements that turn the row's scores of the step at `j0` into weights, and end with a barrier; `rescale` multiplies the output where bases moved, in
 * memory of scores. The flag is read between two barriers: weights with memory of their own are written before.
 */
export function softmaxStep(p: Plan, { mask }: AttentionText, rescale: string): string {
  const { turns } = shareOf(p);
  const items = p.keys / 8;
  const count = Math.ceil(items / turns);
  const pitch = scorePitch(p) / 4;
  const sumOf = (c: string): string => times(p.split, (s) => `score((${s * p.rows}u + row) * ${pitch}u + ${c})`).join(" + ");
  const inside = (body: string, x: number): string =>
    `{ let c = turn * ${count}u + ${x}u; ${items === turns * count ? body : `if (c < ${items}u) { ${body} }`} }`;
  const each = (body: (x: number) => string): string => times(count, (x) => inside(body(x), x)).join("\n    ");
  const read = (of: (half: number, s: string) => string): string =>
    each((x) =>
      ["a", "b"].map((name, half) => `${name}${x} = ${of(half, sumOf(`2u * c + ${half}u`))}; most = max(most, ${name}${x});`).join(" "),
    );
  const whole = read((_, s) => `(${s}) * scale2`);
  const careful = read((half, s) => `logits(head, i, j0 + 8u * c + ${4 * half}u, limit, (${s}) * scale)`);
  const weigh = each((x) => `sum += keep_weights(row * ${pitch}u + ${weightColumn(p)}u, c, exp2(a${x} - m), exp2(b${x} - m));`);
  return `var most = vec4<f32>(-3.4e38);
    ${times(count, (x) => `var a${x} = vec4<f32>(-3.4e38); var b${x} = vec4<f32>(-3.4e38);`).join(" ")}
    ${mask.hides ? careful : `if (j0 + ${p.keys}u <= seen) { ${whole} } else { ${careful} }`}
    var best = max(max(most.x, most.y), max(most.z, most.w));
    ${times(Math.log2(turns), (s) => `best = max(best, subgroupShuffleXor(best, ${2 ** s}u));`).join(" ")}
    shrink = 1.0;
    if (best > m + ${lift + slack}.0) { shrink = exp2(m - (best - ${lift}.0)); m = best - ${lift}.0; sum *= shrink; atomicStore(&grown, 1u); }
    ${
      p.beside
        ? `${weigh}
    let need = workgroupUniformLoad(&grown);
    if (need != 0u) { ${rescale} }`
        : `let need = workgroupUniformLoad(&grown);
    if (need != 0u) { ${rescale} workgroupBarrier(); }
    ${weigh}
    workgroupBarrier();`
    }`;
}
