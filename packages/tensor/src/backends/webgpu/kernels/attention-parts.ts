// What all attention kernels share: operands, masks and output as text, and the common interface.

import type { DType } from "../../../dtype.ts";
import type { Layout } from "../../../layout.ts";
import type { View } from "../../../view.ts";
import type { ProgramSpec } from "../pipelines.ts";
import { formatFunctions, loadElement, loadQuad, packQuad, quadType, type StoredDType, wordType } from "../wgsl/formats.ts";
import { mathFunctions } from "../wgsl/math.ts";
import { alignedRows, type OffsetFunction, offsetFunction } from "../wgsl/offsets.ts";
import { type Bound, bindView, type KernelContext } from "./context.ts";
import { storeConversion } from "./elementwise.ts";

/** One piece of the problem: whole heads, a range of queries that starts at `firstQuery`. */
export interface AttentionPiece {
  readonly out: View;
  readonly q: View;
  readonly k: View;
  readonly v: View;
  readonly mask: View | undefined;
  readonly lengths: View | undefined;
  readonly firstQuery: number;
  readonly scale: number;
  readonly causal: boolean;
}

/** Strides of the sequence dimension. */
const sequenceStep = ({ strides }: Layout): number => strides[2]!;

/** One of q, k, v as text. */
export interface HeadSource {
  readonly bound: Bound;
  readonly text: string;
  readonly type: string;
  readonly key: string;
  readonly dtype: DType;
  /** Rows are read as vectors. */
  readonly quad: boolean;
  readonly params: readonly string[];
  readonly values: readonly number[];
}

/** `NAME4(head, i, q)`: four values of row i of a head. */
export function headSource(ctx: KernelContext, name: string, view: View): HeadSource {
  const bound = bindView(ctx, "attention", view);
  const offsets = offsetFunction(`${name}_head`, view.layout, 0, 2);
  const quad = alignedRows(view.layout, bound.offset);
  const d = view.dtype as StoredDType;
  return {
    bound,
    dtype: view.dtype,
    quad,
    type: quad ? quadType(d) : "array<u32>",
    get text() {
      return `${offsets.text}\n${headText(name, d, quad)}`;
    },
    key: `${d}${quad ? "q" : "s"}${offsets.key}`,
    get params() {
      return [`${name}_o`, `${name}_step`, ...offsets.params];
    },
    values: [bound.offset, sequenceStep(view.layout), ...offsets.values],
  };
}

function headText(name: string, d: StoredDType, quad: boolean): string {
  const at = `p.${name}_o + base + i * p.${name}_step`;
  const load = quad
    ? `return vec4<f32>(${loadQuad(d, name, `((${at}) >> 2u) + c`)});`
    : `let o = ${at} + c * 4u; return vec4<f32>(${[0, 1, 2, 3].map((j) => loadElement(d, name, `(o + ${j}u)`)).join(", ")});`;
  return `fn ${name}4(base: u32, i: u32, c: u32) -> vec4<f32> { ${load} }\n`;
}

/** The output as text. */
export interface OutSource extends HeadSource {
  readonly offsets: OffsetFunction;
}

/** `put4(base, i, q, v)`: stores four values of row i of an output head. */
export function outSource(ctx: KernelContext, view: View): OutSource {
  const bound = bindView(ctx, "attention", view);
  const offsets = offsetFunction("out_head", view.layout, 0, 2);
  const quad = alignedRows(view.layout, bound.offset);
  const d = view.dtype as StoredDType;
  return {
    bound,
    offsets,
    dtype: view.dtype,
    quad,
    type: quad ? quadType(d) : "array<u32>",
    get text() {
      return `${offsets.text}\n${outText(d, quad)}`;
    },
    key: `${d}${quad ? "q" : "s"}${offsets.key}`,
    get params() {
      return ["out_o", "out_step", ...offsets.params];
    },
    values: [bound.offset, sequenceStep(view.layout), ...offsets.values],
  };
}

function outText(d: StoredDType, quad: boolean): string {
  const lanes = ["x", "y", "z", "w"].map((l) => storeConversion(`v.${l}`, "f32", d));
  const at = "p.out_o + base + i * p.out_step + q * 4u";
  const store = quad
    ? `let r = vec4<${wordType(d)}>(${lanes.join(", ")}); out[(${at}) >> 2u] = ${packQuad(d, "r")};`
    : `let o = ${at}; ${["x", "y", "z", "w"].map((l, j) => `out[o + ${j}u] = bitcast<u32>(v.${l});`).join(" ")}`;
  return `fn put4(base: u32, i: u32, q: u32, v: vec4<f32>) { ${store} }\n`;
}

/** Text of `masked(head, i, j, s)`, the score after masks, and `key_limit(b, i)`, which does not fall with i; -3.4e38 and below means unseen. */
export interface MaskSource {
  readonly text: string;
  /** Any key below the limit may be unseen, or its score be changed. */
  readonly hides: boolean;
  readonly key: string;
  readonly specs: readonly { name: string; type: string }[];
  readonly bounds: readonly Bound[];
  readonly params: readonly string[];
  readonly values: readonly number[];
}

/** How the kernel reads what hides scores: a mask (bytes or values to add), lengths per sample, causality. */
export function maskSource(ctx: KernelContext, { mask, lengths, causal }: AttentionPiece): MaskSource {
  const specs: { name: string; type: string }[] = [];
  const bounds: Bound[] = [];
  const params: string[] = [];
  const values: number[] = [];
  let text = "return s;";
  let functions = "";
  if (mask) {
    const bound = bindView(ctx, "attention", mask);
    const offsets = offsetFunction("mask_row", mask.layout, 0, 3);
    specs.push({ name: "mask", type: "array<u32>" });
    bounds.push(bound);
    params.push("mask_o", "mask_step", ...offsets.params);
    values.push(bound.offset, mask.layout.strides[3]!, ...offsets.values);
    functions = `${offsets.text}\n`;
    const value = loadElement(mask.dtype as StoredDType, "mask", "(p.mask_o + mask_row(head * p.l + i) + j * p.mask_step)");
    text = mask.dtype === "u8" ? `return select(-3.4e38, s, ${value} != 0u);` : `return s + f32(${value});`;
  }
  let limit = "p.s";
  if (lengths) {
    const bound = bindView(ctx, "attention", lengths);
    specs.push({ name: "lengths", type: "array<u32>" });
    bounds.push(bound);
    params.push("lengths_o", "lengths_step");
    values.push(bound.offset, lengths.layout.strides[0]!);
    limit = "min(p.s, u32(max(bitcast<i32>(lengths[p.lengths_o + b * p.lengths_step]), 0)))";
  }
  if (causal) limit = `min(${limit}, p.first + i + 1u)`;
  const all = `${functions}fn masked(head: u32, i: u32, j: u32, s: f32) -> f32 { ${text} }\nfn key_limit(b: u32, i: u32) -> u32 { return ${limit}; }\n`;
  return {
    text: all,
    hides: mask !== undefined,
    key: `${mask ? mask.dtype : ""}${lengths ? "L" : ""}${causal ? "C" : ""}${params.length}`,
    specs,
    bounds,
    params,
    values,
  };
}

/** Operands, masks and output of a piece as text. */
export interface AttentionText {
  readonly sources: readonly HeadSource[];
  readonly target: OutSource;
  readonly mask: MaskSource;
}

/** What the choice of kernel depends on. */
export interface AttentionSize {
  readonly width: number;
  readonly valueWidth: number;
  readonly queries: number;
  readonly keys: number;
  /** Operations. */
  readonly work: number;
  /** Of q, k and v. */
  readonly dtypes: readonly DType[];
  readonly elements: readonly number[];
}

/** What a kernel on f16 is to be given: of q, k and v their parts and whether they are brought into f16's range; whether magnitudes are needed. */
export interface Halves {
  readonly parts: readonly number[];
  readonly scaled: readonly boolean[];
  readonly measured: boolean;
  /** Values are given column by column: [batch, heads, parts x width, keys], zeros beyond the last key. */
  readonly turned: boolean;
}

/** One kernel: queries and value columns per workgroup, and its text. */
export interface Flash {
  readonly key: string;
  readonly rows: number;
  readonly chunk: number;
  /** The kernel takes its operands as f16, and where they are measured the words of `largestHeads` as a last binding. */
  readonly halves?: Halves;
  spec(text: AttentionText): ProgramSpec;
}

/** Functions over eight values as f16. */
export const pairFunctions = `fn low_part(v: vec4<f32>) -> vec4<f32> { return v - high_part(v); }
fn bits(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> { return vec4<u32>(bitcast<vec2<u32>>(vec4<f16>(a)), bitcast<vec2<u32>>(vec4<f16>(b))); }
`;

export const times = <T>(n: number, f: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => f(i));

/** The program of a kernel from its functions and body; 64 threads unless `more` says otherwise. */
export function attentionSpec(
  label: string,
  { sources, target, mask }: AttentionText,
  extra: string,
  body: string,
  more: Partial<Pick<ProgramSpec, "enable" | "builtins" | "subgroupSize" | "workgroup">> & { readonly measured?: boolean } = {},
): ProgramSpec {
  const { measured, ...rest } = more;
  const text = `${sources.map((s) => s.text).join("")}${target.text}${mask.text}${extra}`;
  const functions = mathFunctions(text + body);
  return {
    label,
    bindings: [
      ...["q", "k", "v"].map((name, i) => ({ name, type: sources[i]!.type })),
      ...mask.specs,
      { name: "out", type: target.type, write: true },
      ...(measured ? [{ name: "largest", type: "array<u32>" }] : []),
    ],
    params: [
      "total",
      "heads",
      "groups",
      "l",
      "s",
      "vw",
      "quads",
      "first",
      "scale:f32",
      ...[...sources, target].flatMap((s) => s.params),
      ...mask.params,
    ],
    workgroup: [64],
    declarations: formatFunctions(functions + text + body) + functions + text,
    body,
    ...rest,
  };
}

/** Splits the workgroup index into head, block of queries and chunk of value columns. */
export const locate = (rows: number, chunk: number): string => `let blocks = (p.l + ${rows - 1}u) / ${rows}u;
  let chunks = (p.vw + ${chunk - 1}u) / ${chunk}u;
  let head = wg / (blocks * chunks);
  let rest = wg % (blocks * chunks);
  let v0 = (rest % chunks) * ${chunk / 4}u;
  let b = head / p.heads;
  let kv = b * p.groups + (head % p.heads) / (p.heads / p.groups);
  let qb = q_head(head); let kb = k_head(kv); let vb = v_head(kv); let ob = out_head(head);`;
