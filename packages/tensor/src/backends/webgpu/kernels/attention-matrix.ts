// Flash attention on subgroup matrices: any fragment shape the adapter lists, f16 or f32 fragments, f32 scores, sums and output. Every subgroup
// keeps its rows of q and of the output in fragments for the whole loop over keys; scores and weights pass through memory (attention-softmax.ts).
// Heads wider than 128 are shared by two or four subgroups, which add their parts of the scores. Operands of more digits than f16 go into f16
// fragments as two parts (attention-halves.ts), and then so do the weights.

import type { ProgramSpec } from "../pipelines.ts";
import type { DeviceTraits } from "../traits.ts";
import { type AttentionSize, type AttentionText, attentionSpec, type Flash, locate, pairFunctions, times } from "./attention-parts.ts";
import {
  isMeasured,
  isSplitPlan,
  itemOf,
  type Plan,
  planOf,
  queryPitch,
  queryRows,
  type Staged,
  scorePitch,
  stagedElements,
  stagedOf,
  weightColumn,
} from "./attention-plan.ts";
import { scoreFunctions, shareOf, softmaxStart, softmaxStep } from "./attention-softmax.ts";
import { fetch, itemType, put, registers, stageQueries, stageStep } from "./attention-staging.ts";
import type { AttentionVariantName } from "./attention-variants.ts";
import { stagingFunctions } from "./gemm-staging.ts";
import { zeroSum } from "./matrix-sums.ts";

/** The kernel of a variant for the adapter's fragments, or undefined where they do not serve. */
export function matrixAttention(traits: DeviceTraits, name: AttentionVariantName, size: AttentionSize): Flash | undefined {
  const plan = planOf(traits, name, size);
  if (!plan) return undefined;
  const { m, n, k, input, lanes, width, valueWidth, keys, both, loops, turned, parts, scaled } = plan;
  const numbers = [m, n, k, input, lanes, width, valueWidth, keys, both, loops, parts.q, parts.k, parts.v];
  const ordered = <T>({ q, k: keyed, v }: Readonly<Record<"q" | "k" | "v", T>>): readonly T[] => [q, keyed, v];
  return {
    key: `${name}|${[...numbers, ...ordered(scaled)].join()}`,
    rows: plan.rows,
    chunk: valueWidth,
    ...(input === "f16" ? { halves: { parts: ordered(parts), scaled: ordered(scaled), measured: isMeasured(plan), turned } } : {}),
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
  return attentionSpec(`attention ${p.width} ${p.name} of ${p.m}x${p.n}x${p.k}`, text, extra, matrixBody(p, traits, text), {
    enable: input === "f16" ? ["f16", ...enable] : enable,
    builtins: ["@builtin(subgroup_id) sid: u32", "@builtin(subgroup_invocation_id) lane: u32"],
    workgroup: [p.subgroups * p.lanes],
    measured: isMeasured(p),
    ...(traits.pinSubgroups ? { subgroupSize: p.lanes } : {}),
  });
}

const floatItem = (name: string): string => `fn ${name}_item(base: u32, i: u32, c: u32) -> vec4<f32> { return ${name}4(base, i, c); }\n`;

/** The power of two that an operand was divided by. */
const power = (p: Plan, name: "q" | "k" | "v"): string =>
  p.scaled[name] ? `power(scale_exponent(largest[${"qkv".indexOf(name)}]))` : "1.0";

const fragmentsOf = (p: Plan): { readonly depths: number; readonly columns: number } => ({
  depths: p.width / p.split / p.k,
  columns: p.valueWidth / p.split / p.n,
});

function matrixBody(p: Plan, traits: DeviceTraits, text: AttentionText): string {
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
  ${repeat(p, "n", outputs, (n) => `o[${n}] = ${zeroSum(traits, p)};`)}
  ${softmaxStart(text)}
  let last = key_limit(b, min(i0 + ${p.rows - 1}u, p.l - 1u));
  ${walkKeys(p, text)}
  ${times(Math.log2(turns), (s) => `sum += subgroupShuffleXor(sum, ${2 ** s}u);`).join(" ")}
  workgroupBarrier();
  if (turn == 0u) { factors[row] = select(${power(p, "v")} / sum, 0.0, sum == 0.0); }
  ${storeColumns(p)}`;
}

/** The loop over the keys. */
function walkKeys(p: Plan, text: AttentionText): string {
  const weigh = `${softmaxStep(p, text, rescale(p))}
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
    return loop(`${stageStep(p, "k")}
    ${p.both ? stageStep(p, "v") : ""}
    workgroupBarrier();
    ${score}
    ${p.both ? "" : stageStep(p, "v")}`);
  }
  const start = `${registers(p, "k")} ${registers(p, "v")}
  ${fetch(p, "k", "0u")}`;
  // Where k and v share memory, each is put there when the other has been used.
  if (!p.both) {
    return `${start}
  ${loop(`${put(p, "k")}
    workgroupBarrier();
    ${fetch(p, "v", "j0")}
    ${score}
    ${put(p, "v")}
    ${fetch(p, "k", `j0 + ${p.keys}u`)}`)}`;
  }
  return `${start}
  ${fetch(p, "v", "0u")}
  workgroupBarrier();
  ${put(p, "k")}
  ${loop(`${put(p, "v")}
    ${fetch(p, "k", `j0 + ${p.keys}u`)}
    ${score}
    ${put(p, "k")}
    ${fetch(p, "v", `j0 + ${p.keys}u`)}`)}`;
}

/** A fragment of staged memory at an element of a row. */
function fragment(p: Plan, type: string, order: string, row: string, column: string, { pitch, at }: Pick<Staged, "pitch" | "at">): string {
  const item = itemOf(p);
  return `subgroupMatrixLoad<${type}, ${order}>(&staged, ${at / item}u + (${row}) * ${pitch / item}u + (${column}) / ${item}u, ${pitch / item}u)`;
}

/** q goes through staging memory, as many rows at a time as it holds. */
function loadQueries(p: Plan): string {
  const rows = queryRows(p);
  const { depths } = fragmentsOf(p);
  const load = (i: number, pass: number): string =>
    times(p.parts.q, (half) =>
      repeat(p, "t", depths, (t) => {
        const column = `${half * p.width}u + part * ${p.width / p.split}u + ${t} * ${p.k}u`;
        const row = `group + ${i * p.m}u - ${pass * rows}u`;
        return `q_part[${(half * p.down + i) * depths}u + ${t}] = ${fragment(p, left(p), "row_major", row, column, { pitch: queryPitch(p), at: 0 })};`;
      }),
    ).join("\n    ");
  const passes = Math.ceil(p.rows / rows);
  return `var q_part: array<${left(p)}, ${p.parts.q * p.down * depths}>;
  ${times(passes, (pass) => {
    const loads = times(p.down, (i) =>
      passes > 1 ? `if ((group + ${i * p.m}u) / ${rows}u == ${pass}u) { ${load(i, pass)} }` : load(i, pass),
    );
    return `${pass > 0 ? "workgroupBarrier();" : ""}
  ${stageQueries(p, rows, `i0 + ${pass * rows}u`, queryPitch(p))}
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
      stagedOf(p, "k"),
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

/**
 * Statements for each fragment of the output, which pass through the subgroup's memory of scores one after the other: `item` for every item, at `at`
 * in row r of the workgroup, column c of the fragment; then `after`.
 */
function eachOutput(p: Plan, item: (n: string) => string, after: (load: string) => string): string {
  const { columns } = fragmentsOf(p);
  const [pitch, across] = [scorePitch(p) / 4, p.n / 4];
  const body = (i: number, n: string): string => {
    const [output, first] = [`o[${i * columns}u + ${n}]`, `(part * ${p.rows}u + group + ${i * p.m}u) * ${pitch}u`];
    return `subgroupMatrixStore<row_major>(&scores, ${first}, ${output}, ${pitch}u);
      workgroupBarrier();
      for (var e = lane; e < ${p.m * across}u; e += ${p.lanes}u) {
        let c = e % ${across}u; let at = ${first} + (e / ${across}u) * ${pitch}u + c; let r = group + ${i * p.m}u + e / ${across}u;
        ${item(n)}
      }
      ${after(`${output} = subgroupMatrixLoad<${result(p)}, row_major>(&scores, ${first}, ${pitch}u);`)}`;
  };
  return times(p.down, (i) => repeat(p, "n", columns, (n) => body(i, n), "workgroupBarrier();")).join(
    "\n      workgroupBarrier();\n      ",
  );
}

/** Statements that multiply rows of the output by how much their weights shrank. */
const rescale = (p: Plan): string =>
  `if (turn == 0u) { factors[row] = shrink; }
      ${eachOutput(
        p,
        () => "set_score(at, score(at) * factors[r]);",
        (load) => `workgroupBarrier();
      ${load}`,
      )}`;

function valueStep(p: Plan): string {
  const { columns } = fragmentsOf(p);
  const pitch = scorePitch(p) / 4;
  const weight = (i: number, half: string, t: string): string =>
    `subgroupMatrixLoad<${left(p)}, row_major>(&scores, (group + ${i * p.m}u) * ${pitch}u + ${weightColumn(p)}u + ${half} * ${p.keys / 8}u + (${t} * ${p.k}u) / ${itemOf(p)}u, ${pitch}u)`;
  const value = (n: string, t: string, half: string): string => {
    const column = `${half} * ${p.valueWidth}u + part * ${p.valueWidth / p.split}u + ${n} * ${p.n}u`;
    const [row, at, order] = p.turned ? [column, `${t} * ${p.k}u`, "col_major"] : [`${t} * ${p.k}u`, column, "row_major"];
    return fragment(p, right(p), order, row, at, stagedOf(p, "v"));
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

const storeColumns = (p: Plan): string =>
  eachOutput(
    p,
    (n) =>
      `if (i0 + r < p.l) { put4(ob, i0 + r, part * ${p.valueWidth / p.split / 4}u + ${n} * ${p.n / 4}u + c, score(at) * factors[r]); }`,
    () => "",
  );
