// Flash attention on subgroup matrices: any fragment shape the adapter lists, f16 or f32 fragments, f32 scores, sums and output. Every subgroup
// keeps its rows of q and of the output in fragments for the whole loop over keys. A row's maximum is only advanced when it grows by more than
// `slack` (in powers of two), so the output is rarely rescaled. Heads wider than 128 are shared by two or four subgroups, which add their
// parts of the scores. Operands of more digits than f16 go into f16 fragments as two parts (attention-halves.ts), and then so do the weights.
import type { DeviceTraits } from "../limits.ts";
import type { ProgramSpec } from "../pipelines.ts";
import { pairFunctions } from "./attention-halves.ts";
import { type AttentionSize, type AttentionText, attentionSpec, type Flash, locate, times } from "./attention-parts.ts";
import {
  isMeasured,
  isSplitPlan,
  itemOf,
  type Plan,
  pitchOf,
  planOf,
  queryPitch,
  queryRows,
  scorePitch,
  stagedElements,
} from "./attention-plan.ts";
import { fetch, itemType, put, registers, stageKeys, stageRows } from "./attention-staging.ts";
import type { AttentionVariantName } from "./attention-variants.ts";
import { stagingFunctions } from "./gemm-staging.ts";

const slack = 8;
/** Weights are multiplied by 2^7: they are at most 2^15, which f16 holds, while the low parts of those that matter stay above its subnormals. */
const lift = 128;

/** The kernel of a variant for the adapter's fragments, or undefined where they do not serve. */
export function matrixAttention(traits: DeviceTraits, name: AttentionVariantName, size: AttentionSize): Flash | undefined {
  const plan = planOf(traits, name, size);
  if (!plan) return undefined;
  const { m, n, k, input, lanes, width, valueWidth, keys, both, loops, parts, scaled } = plan;
  const numbers = [m, n, k, input, lanes, width, valueWidth, keys, both, loops, parts.q, parts.k, parts.v];
  const ordered = <T>({ q, k: keyed, v }: Readonly<Record<"q" | "k" | "v", T>>): readonly T[] => [q, keyed, v];
  return {
    key: `${name}|${[...numbers, ...ordered(scaled)].join()}`,
    rows: plan.rows,
    chunk: valueWidth,
    ...(input === "f16" ? { halves: { parts: ordered(parts), scaled: ordered(scaled), measured: isMeasured(plan) } } : {}),
    spec: (text) => matrixSpec(plan, traits, text),
  };
}

const left = (p: Plan): string => `subgroup_matrix_left<${p.input}, ${p.k}, ${p.m}>`;
const right = (p: Plan): string => `subgroup_matrix_right<${p.input}, ${p.n}, ${p.k}>`;
const result = (p: Plan): string => `subgroup_matrix_result<f32, ${p.n}, ${p.m}>`;

/** Repeats statements `n` times with an index: as a loop, or written out; `between` stands between the turns. */
const repeat = (p: Plan, name: string, n: number, body: (i: string) => string, between = ""): string =>
  p.loops && n > 1
    ? `for (var ${name} = 0u; ${name} < ${n}u; ${name}++) { ${body(name)} ${between} }`
    : times(n, (i) => `{ ${body(`${i}u`)} }`).join(`\n    ${between}`);

function matrixSpec(p: Plan, traits: DeviceTraits, text: AttentionText): ProgramSpec {
  const { input } = p;
  const extra = `var<workgroup> staged: array<${itemType(p)}, ${stagedElements(p) / itemOf(p)}>;
var<workgroup> scores: array<${itemType(p)}, ${(p.rows * p.split * scorePitch(p)) / 4}>;
var<workgroup> factors: array<f32, ${p.rows}>;
var<workgroup> grown: atomic<u32>;
${input === "f16" ? `${stagingFunctions}${pairFunctions}` : text.sources.map((_, i) => floatItem("qkv"[i]!)).join("")}${scoreFunctions(p)}`;
  const enable = ["subgroups", "chromium_experimental_subgroup_matrix", "diagnostic(off, chromium.subgroup_matrix_uniformity)"];
  return attentionSpec(`attention ${p.width} ${p.name} of ${p.m}x${p.n}x${p.k}`, text, extra, matrixBody(p), {
    enable: input === "f16" ? ["f16", ...enable] : enable,
    builtins: ["@builtin(subgroup_id) sid: u32", "@builtin(subgroup_invocation_id) lane: u32"],
    workgroup: [p.subgroups * p.lanes],
    measured: isMeasured(p),
    ...(traits.pinSubgroups ? { subgroupSize: p.lanes } : {}),
  });
}

const floatItem = (name: string): string => `fn ${name}_item(base: u32, i: u32, c: u32) -> vec4<f32> { return ${name}4(base, i, c); }\n`;

/** Scores lie in memory as f32; weights take their place, in f16 the high parts and then the low parts. */
function scoreFunctions(p: Plan): string {
  const half = p.input === "f16";
  const [from, to] = half ? ["bitcast<vec4<f32>>(scores[i])", "bitcast<vec4<u32>>(v)"] : ["scores[i]", "v"];
  const low = isSplitPlan(p) ? `scores[row + ${p.keys / 8}u + c] = bits(low_part(a), low_part(b));` : "";
  const weights = half
    ? `scores[row + c] = ${low ? "bits(high_part(a), high_part(b))" : "bits(a, b)"}; ${low}`
    : "scores[row + 2u * c] = a; scores[row + 2u * c + 1u] = b;";
  // Sums are of the weights that are multiplied.
  const rounded = (w: string): string => (half && !low ? `high_part(${w})` : w);
  return `fn score(i: u32) -> vec4<f32> { return ${from}; }
fn set_score(i: u32, v: vec4<f32>) { scores[i] = ${to}; }
fn set_weights(row: u32, c: u32, a: vec4<f32>, b: vec4<f32>) { ${weights} }
fn logit(head: u32, i: u32, j: u32, limit: u32, s: f32) -> f32 {
  let v = masked(head, i, min(j, p.s - 1u), s);
  return select(v * 1.44269504, -3.4e38, j >= limit || v <= -2.0e38);
}
fn logits(head: u32, i: u32, j: u32, limit: u32, s: vec4<f32>) -> vec4<f32> {
  return vec4<f32>(${["x", "y", "z", "w"].map((l, n) => `logit(head, i, j + ${n}u, limit, s.${l})`).join(", ")});
}
fn weights_of(x: vec4<f32>, best: f32) -> vec4<f32> { return ${rounded(`select(exp2(x - best) * ${lift}.0, vec4<f32>(), x <= vec4<f32>(-3.0e38))`)}; }
`;
}

/** The power of two that an operand was divided by. */
const power = (p: Plan, name: "q" | "k" | "v"): string =>
  p.scaled[name] ? `power(scale_exponent(largest[${"qkv".indexOf(name)}]))` : "1.0";

/** Rows of a subgroup in the softmax, and lanes that share a row. */
const shareOf = (p: Plan): { readonly own: number; readonly turns: number } => {
  const own = (p.down * p.m) / p.split;
  return { own, turns: p.lanes / own };
};

const fragmentsOf = (p: Plan): { readonly depths: number; readonly columns: number } => ({
  depths: p.width / p.split / p.k,
  columns: p.valueWidth / p.split / p.n,
});

function matrixBody(p: Plan): string {
  const { own, turns } = shareOf(p);
  const outputs = p.down * fragmentsOf(p).columns;
  return `${locate(p.rows, p.valueWidth)}
  let i0 = (rest / chunks) * ${p.rows}u;
  if (head >= p.total || i0 >= p.l) { return; }
  let group = (sid / ${p.split}u) * ${p.down * p.m}u;
  let part = sid % ${p.split}u;
  let row = group + part * ${own}u + lane / ${turns}u;
  let turn = lane % ${turns}u;
  let i = min(i0 + row, p.l - 1u);
  let limit = key_limit(b, i);
  let scale = p.scale * ${power(p, "q")} * ${power(p, "k")};
  ${isSplitPlan(p) ? "let finite = largest[3] == 0u;" : ""}
  ${loadQueries(p)}
  var o: array<${result(p)}, ${outputs}>;
  ${repeat(p, "n", outputs, (n) => `o[${n}] = ${result(p)}(0.0);`)}
  var m = -1e30; var sum = 0.0;
  let last = key_limit(b, min(i0 + ${p.rows - 1}u, p.l - 1u));
  ${walkKeys(p)}
  ${times(Math.log2(turns), (s) => `sum += subgroupShuffleXor(sum, ${2 ** s}u);`).join(" ")}
  workgroupBarrier();
  if (turn == 0u) { factors[row] = select(${power(p, "v")} * ${1 / lift} / (sum * ${1 / lift}), 0.0, sum == 0.0); }
  ${eachOutput(p, (i, n) => storeColumns(p, i, n))}`;
}

/** The loop over the keys. */
function walkKeys(p: Plan): string {
  const at = p.both ? p.keys : 0;
  const weigh = `workgroupBarrier();
    ${valueStep(p)}`;
  const score = `if (lid == 0u) { atomicStore(&grown, 0u); }
    ${scoreStep(p)}
    workgroupBarrier();`;
  const loop = (body: string): string => `for (var j0 = 0u; j0 < last; j0 += ${p.keys}u) {
    workgroupBarrier();
    ${body}
    ${weigh}
  }`;
  if (!p.ahead) {
    return loop(`${stageKeys(p, "k", 0)}
    ${p.both ? stageKeys(p, "v", at) : ""}
    workgroupBarrier();
    ${score}
    ${p.both ? "" : stageKeys(p, "v", at)}
    ${softmaxStep(p)}`);
  }
  const start = `${registers(p, "k")} ${registers(p, "v")}
  ${fetch(p, "k", "0u")}`;
  // Where k and v share memory, each is put there when the other has been used.
  if (!p.both) {
    return `${start}
  ${loop(`${put(p, "k", 0)}
    workgroupBarrier();
    ${fetch(p, "v", "j0")}
    ${score}
    ${put(p, "v", 0)}
    ${fetch(p, "k", `j0 + ${p.keys}u`)}
    ${softmaxStep(p)}`)}`;
  }
  return `${start}
  ${fetch(p, "v", "0u")}
  workgroupBarrier();
  ${put(p, "k", 0)}
  ${loop(`${put(p, "v", at)}
    ${fetch(p, "k", `j0 + ${p.keys}u`)}
    ${score}
    ${put(p, "k", 0)}
    ${fetch(p, "v", `j0 + ${p.keys}u`)}
    ${softmaxStep(p)}`)}`;
}

/** A fragment of staged memory at an element of a row. */
const fragment = (p: Plan, type: string, order: string, row: string, column: string, pitch: number): string =>
  `subgroupMatrixLoad<${type}, ${order}>(&staged, (${row}) * ${pitch / itemOf(p)}u + (${column}) / ${itemOf(p)}u, ${pitch / itemOf(p)}u)`;

/** q goes through staging memory, as many rows at a time as it holds. */
function loadQueries(p: Plan): string {
  const rows = queryRows(p);
  const { depths } = fragmentsOf(p);
  const load = (i: number, pass: number): string =>
    times(p.parts.q, (half) =>
      repeat(p, "t", depths, (t) => {
        const column = `${half * p.width}u + part * ${p.width / p.split}u + ${t} * ${p.k}u`;
        const row = `group + ${i * p.m}u - ${pass * rows}u`;
        return `q_part[${(half * p.down + i) * depths}u + ${t}] = ${fragment(p, left(p), "row_major", row, column, queryPitch(p))};`;
      }),
    ).join("\n    ");
  const passes = Math.ceil(p.rows / rows);
  return `var q_part: array<${left(p)}, ${p.parts.q * p.down * depths}>;
  ${times(passes, (pass) => {
    const loads = times(p.down, (i) =>
      passes > 1 ? `if ((group + ${i * p.m}u) / ${rows}u == ${pass}u) { ${load(i, pass)} }` : load(i, pass),
    );
    return `${pass > 0 ? "workgroupBarrier();" : ""}
  ${stageRows(p, "q", rows, `i0 + ${pass * rows}u`, "p.l", queryPitch(p), 0)}
  workgroupBarrier();
  ${loads.join("\n    ")}`;
  }).join("\n  ")}`;
}

/** Pairs of parts that are multiplied, of a left operand of `a` parts and a right one of `b`: all but the two low ones. */
const pairsOf = (a: number, b: number): readonly (readonly [number, number])[] =>
  times(b, (j) => times(a, (i) => [i, j] as const))
    .flat()
    .filter(([i, j]) => i + j < 2);

/**
 * Statements over `text` for all parts, or where there are infinities or NaN for the high parts alone: infinity times a low part of 0 would be NaN.
 */
const whereFinite = (p: Plan, text: (highOnly: boolean) => string): string =>
  isSplitPlan(p) && !p.loops ? `if (finite) { ${text(false)} } else { ${text(true)} }` : text(false);

/**
 * Statements over the products of parts: `load` gives a part of the right operand, which is loaded once for all parts of the left one that `add`
 * multiplies it with. Loops count the pairs.
 */
function multiplyParts(p: Plan, [a, b]: readonly [number, number], load: (half: string) => string, add: (half: string) => string): string {
  const pairs = pairsOf(a, b);
  if (p.loops && pairs.length > 1) {
    const [left, right] = a > 1 ? ["h & 1u", "h >> 1u"] : ["0u", "h"];
    return `for (var h = 0u; h < select(1u, ${pairs.length}u, finite); h++) { let l = ${left}; let x = ${load(`(${right})`)}; ${add("l")} }`;
  }
  return times(b, (half) => {
    const adds = pairs.filter(([, j]) => j === half).map(([i]) => add(`${i}u`));
    return `{ let x = ${load(`${half}u`)}; ${adds.join(" ")} }`;
  }).join(" ");
}

/** Scores of the keys of a step: written out all at once, in sums that do not wait for each other; in loops fragment by fragment. */
function scoreStep(p: Plan): string {
  const across = p.keys / p.n;
  return p.loops
    ? repeat(p, "j", across, (j) => scoresOf(p, [j]))
    : scoresOf(
        p,
        times(across, (j) => `${j}u`),
      );
}

function scoresOf(p: Plan, across: readonly string[]): string {
  const { depths } = fragmentsOf(p);
  const at = (i: number, x: number): string => `s[${i * across.length + x}u]`;
  const each = (body: (i: number, x: number, j: string) => string): string =>
    across.flatMap((j, x) => times(p.down, (i) => body(i, x, j))).join("\n    ");
  const key = (j: string, t: string, half: string): string =>
    fragment(
      p,
      right(p),
      "col_major",
      `${j} * ${p.n}u`,
      `${half} * ${p.width}u + part * ${p.width / p.split}u + ${t} * ${p.k}u`,
      pitchOf(p),
    );
  const add = (i: number, x: number, t: string, half: string): string =>
    `${at(i, x)} = subgroupMatrixMultiplyAccumulate(q_part[(${half} * ${p.down}u + ${i}u) * ${depths}u + ${t}], x, ${at(i, x)});`;
  const step = (highOnly: boolean): string =>
    repeat(p, "t", depths, (t) =>
      across
        .map((j, x) =>
          multiplyParts(
            p,
            highOnly ? [1, 1] : [p.parts.q, p.parts.k],
            (half) => key(j, t, half),
            (half) => times(p.down, (i) => add(i, x, t, half)).join(" "),
          ),
        )
        .join("\n    "),
    );
  const pitch = scorePitch(p) / 4;
  return `var s: array<${result(p)}, ${p.down * across.length}>;
    ${each((i, x) => `${at(i, x)} = ${result(p)}(0.0);`)}
    ${whereFinite(p, step)}
    ${each((i, x, j) => `subgroupMatrixStore<row_major>(&scores, (part * ${p.rows}u + group + ${i * p.m}u) * ${pitch}u + ${j} * ${p.n / 4}u, ${at(i, x)}, ${pitch}u);`)}`;
}

/** Logits in powers of two; the row's maximum over its lanes; where some row's maximum grew much, the output is rescaled; weights. */
function softmaxStep(p: Plan): string {
  const { turns } = shareOf(p);
  const items = p.keys / 8;
  const count = Math.ceil(items / turns);
  const pitch = scorePitch(p) / 4;
  const total = (c: string): string => times(p.split, (s) => `score((${s * p.rows}u + row) * ${pitch}u + ${c})`).join(" + ");
  const inside = (body: string, x: number): string =>
    `{ let c = turn * ${count}u + ${x}u; ${items === turns * count ? body : `if (c < ${items}u) { ${body} }`} }`;
  const logits = (name: string, x: number, half: number): string =>
    `${name}${x} = logits(head, i, j0 + 8u * c + ${4 * half}u, limit, (${total(`2u * c + ${half}u`)}) * scale); most = max(most, ${name}${x});`;
  return `var most = vec4<f32>(-3.4e38);
    ${times(count, (x) => `var a${x} = vec4<f32>(-3.4e38); var b${x} = vec4<f32>(-3.4e38);`).join(" ")}
    ${times(count, (x) => inside(`${logits("a", x, 0)} ${logits("b", x, 1)}`, x)).join("\n    ")}
    var best = max(max(most.x, most.y), max(most.z, most.w));
    ${times(Math.log2(turns), (s) => `best = max(best, subgroupShuffleXor(best, ${2 ** s}u));`).join(" ")}
    if (best > m + ${slack}.0) { atomicStore(&grown, 1u); }
    let need = workgroupUniformLoad(&grown);
    if (need != 0u) {
      let next = max(m, best); let shrink = exp2(m - next); m = next; sum *= shrink;
      if (turn == 0u) { factors[row] = shrink; }
      ${eachOutput(p, (i, n) => rescale(p, i, n))}
      workgroupBarrier();
    }
    ${times(count, (x) =>
      inside(
        `let a = weights_of(a${x}, m); let b = weights_of(b${x}, m); sum += dot(a + b, vec4<f32>(1.0)); set_weights(row * ${pitch}u, c, a, b);`,
        x,
      ),
    ).join("\n    ")}`;
}

/** Statements for each fragment of the output, which pass through memory of scores one after the other. */
function eachOutput(p: Plan, body: (i: number, n: string) => string): string {
  const { columns } = fragmentsOf(p);
  return times(p.down, (i) => repeat(p, "n", columns, (n) => body(i, n), "workgroupBarrier();")).join(
    "\n      workgroupBarrier();\n      ",
  );
}

function rescale(p: Plan, i: number, n: string): string {
  const items = (p.m * p.n) / 4;
  const fragmentName = `o[${i * fragmentsOf(p).columns}u + ${n}]`;
  return `subgroupMatrixStore<row_major>(&scores, sid * ${items}u, ${fragmentName}, ${p.n / 4}u);
      workgroupBarrier();
      for (var e = lane; e < ${items}u; e += ${p.lanes}u) {
        let at = sid * ${items}u + e; set_score(at, score(at) * factors[group + ${i * p.m}u + e / ${p.n / 4}u]);
      }
      workgroupBarrier();
      ${fragmentName} = subgroupMatrixLoad<${result(p)}, row_major>(&scores, sid * ${items}u, ${p.n / 4}u);`;
}

function valueStep(p: Plan): string {
  const { columns } = fragmentsOf(p);
  const first = p.both ? p.keys : 0;
  const pitch = scorePitch(p) / 4;
  const weight = (i: number, half: string, t: string): string =>
    `subgroupMatrixLoad<${left(p)}, row_major>(&scores, (group + ${i * p.m}u) * ${pitch}u + ${half} * ${p.keys / 8}u + (${t} * ${p.k}u) / ${itemOf(p)}u, ${pitch}u)`;
  const value = (n: string, t: string, half: string): string => {
    const column = `${half} * ${p.valueWidth}u + part * ${p.valueWidth / p.split}u + ${n} * ${p.n}u`;
    return fragment(p, right(p), "row_major", `${first}u + ${t} * ${p.k}u`, column, pitchOf(p));
  };
  const step = (highOnly: boolean): string => {
    const parts = highOnly ? ([1, 1] as const) : ([p.parts.weights, p.parts.v] as const);
    // Written out, parts of weights are loaded once for all columns.
    const loads = (t: string): string =>
      p.loops
        ? ""
        : times(parts[0], (half) => times(p.down, (i) => `let w${half}u_${i} = ${weight(i, `${half}u`, t)};`).join(" ")).join(" ");
    const add = (i: number, n: string, t: string, half: string): string => {
      const out = `o[${i * columns}u + ${n}]`;
      return `${out} = subgroupMatrixMultiplyAccumulate(${p.loops ? weight(i, half, t) : `w${half}_${i}`}, x, ${out});`;
    };
    return repeat(p, "t", p.keys / p.k, (t) => {
      const adds = repeat(p, "n", columns, (n) =>
        multiplyParts(
          p,
          parts,
          (half) => value(n, t, half),
          (half) => times(p.down, (i) => add(i, n, t, half)).join(" "),
        ),
      );
      return `${loads(t)} ${adds}`;
    });
  };
  return whereFinite(p, step);
}

function storeColumns(p: Plan, i: number, n: string): string {
  const items = (p.m * p.n) / 4;
  const quads = p.n / 4;
  return `subgroupMatrixStore<row_major>(&scores, sid * ${items}u, o[${i * fragmentsOf(p).columns}u + ${n}], ${quads}u);
    workgroupBarrier();
    for (var e = lane; e < ${items}u; e += ${p.lanes}u) {
      let r = group + ${i * p.m}u + e / ${quads}u;
      let v = score(sid * ${items}u + e) * factors[r];
      if (i0 + r < p.l) { put4(ob, i0 + r, part * ${p.valueWidth / p.split / 4}u + ${n} * ${quads}u + e % ${quads}u, v); }
    }`;
}
