// How a matrix variant cuts attention: rows and keys of a workgroup, parts of the operands, what workgroup memory holds.
import type { DType } from "../../../dtype.ts";
import type { MatrixConfig } from "../matrix-config.ts";
import type { DeviceTraits } from "../traits.ts";
import type { AttentionSize } from "./attention-parts.ts";
import { type AttentionVariantName, attentionVariants } from "./attention-variants.ts";
import { fitsHalf, partsOf } from "./gemm-tile.ts";

type Each<T> = Readonly<Record<"q" | "k" | "v", T>>;

/** A workgroup's share: `rows` queries of one head, and how it walks over the keys. */
export interface Plan extends MatrixConfig {
  readonly name: AttentionVariantName;
  readonly lanes: number;
  readonly subgroups: number;
  readonly width: number;
  readonly valueWidth: number;
  /** Subgroups that share a row. */
  readonly split: number;
  /** Fragments of rows of a subgroup. */
  readonly down: number;
  readonly rows: number;
  readonly keys: number;
  /** k and v have memory of their own. */
  readonly both: boolean;
  readonly ahead: boolean;
  /** Rows of values are columns of v, over the keys. */
  readonly turned: boolean;
  /** Weights have memory of their own beside the scores: lanes write theirs while others still read scores. */
  readonly beside: boolean;
  /** Parts that values of the operands and weights go into fragments as. */
  readonly parts: Each<number> & { readonly weights: number };
  /** Operands brought into f16's range by powers of two found from their largest magnitudes. */
  readonly scaled: Each<boolean>;
  /** Loops instead of unrolled fragments: for compilers that take long. */
  readonly loops: boolean;
}

/** Elements in one item of staging memory: 16 bytes. */
export const itemOf = ({ input }: MatrixConfig): number => (input === "f16" ? 8 : 4);
const bytesPer = ({ input }: MatrixConfig): number => (input === "f16" ? 2 : 4);

/** Elements of a staged row: the parts of a row of the operand side by side. */
export const rowOf = (p: Plan, name: "q" | "k" | "v"): number => p.parts[name] * (name === "v" ? p.valueWidth : p.width);
/** Row pitches in elements: 16 bytes more than a row, against bank conflicts. */
export const queryPitch = (p: Plan): number => rowOf(p, "q") + itemOf(p);
/** Row pitch of scores in words, and of the weights: beside them or in their place. */
export const scorePitch = (p: Plan): number => p.keys + 4 + (p.beside ? (p.keys * p.parts.weights * bytesPer(p)) / 4 : 0);
/** Where a row of weights starts in its row of scores, in items. */
export const weightColumn = (p: Plan): number => (p.beside ? p.keys / 4 : 0);

/** Where the keys or values of a step lie in staging memory, in elements. */
export interface Staged {
  readonly rows: number;
  /** Elements of a row, and from one row to the next. */
  readonly row: number;
  readonly pitch: number;
  readonly at: number;
}

/** How the keys or values of a plan lie in workgroup memory. */
export function stagedOf(p: Plan, name: "k" | "v"): Staged {
  const turned = p.turned && name === "v";
  const row = turned ? p.keys : rowOf(p, name);
  const rows = turned ? rowOf(p, name) : p.keys;
  return { rows, row, pitch: row + itemOf(p), at: name === "v" && p.both ? memoryOf(stagedOf(p, "k")) : 0 };
}

const memoryOf = ({ rows, pitch }: Staged): number => rows * pitch;

/** Elements of staging memory. */
export function stagedElements(p: Plan): number {
  const [k, v] = [memoryOf(stagedOf(p, "k")), memoryOf(stagedOf(p, "v"))];
  return p.both ? k + v : Math.max(k, v);
}
/** Rows of q that staging memory holds at once, in whole fragments. */
export const queryRows = (p: Plan): number => Math.min(p.rows, Math.floor(stagedElements(p) / queryPitch(p) / p.m) * p.m);

const workgroupBytes = (p: Plan): number => stagedElements(p) * bytesPer(p) + p.rows * p.split * scorePitch(p) * 4 + p.rows * 4 + 64;

/** Elements of a row of turned values: whole steps over the keys. */
export const turnedPitch = (keys: number): number => Math.ceil(keys / 32) * 32;

/** Some operand goes in as two parts. */
export const isSplitPlan = ({ parts }: Plan): boolean => parts.weights > 1;

/** The kernel reads the largest magnitudes of the operands. */
export const isMeasured = (p: Plan): boolean => isSplitPlan(p) || p.scaled.q || p.scaled.k || p.scaled.v;

/** The plan of a variant with the longest steps over the keys that workgroup memory allows; undefined where none serves. */
export function planOf(traits: DeviceTraits, name: AttentionVariantName, size: AttentionSize): Plan | undefined {
  const variant = attentionVariants[name];
  const { matrix, tier, subgroupSize: lanes, maxInvocations, software } = traits;
  if (variant.kind !== "matrix" || tier !== "matrix" || !matrix || lanes === 0) return undefined;
  const { down, subgroups, ahead, turned } = variant;
  const { width, valueWidth, queries, keys } = size;
  if (subgroups * lanes > maxInvocations || queries < matrix.m || keys < 8) return undefined;
  const split = splitOf(size);
  const unit = Math.max(16, matrix.k, matrix.n) * split;
  const own = (down * matrix.m) / split;
  const sharable = own >= 1 && Number.isInteger(own) && lanes % own === 0;
  if (Math.max(width, valueWidth) > 512 || width % unit !== 0 || valueWidth % unit !== 0 || !sharable) return undefined;
  // A subgroup of a shared row has few columns of the output already.
  if (split > 1 && down > 1) return undefined;
  // Four subgroups have no registers for the next keys of their widest heads.
  if (split === 4 && subgroups === 4 && ahead) return undefined;
  const operands = operandsOf(traits, matrix, size);
  // Values are turned where they are brought to f16.
  if (turned && matrix.input !== "f16") return undefined;
  if (matrix.input === "f16" && !fitsBindings(traits, size, operands.parts)) return undefined;
  const rows = (subgroups / split) * down * matrix.m;
  const common = { ...matrix, ...operands, name, lanes, subgroups, width, valueWidth, split, down, rows, ahead, turned, loops: software };
  return stepOf(common, traits);
}

const splitOf = ({ width, valueWidth }: AttentionSize): number => {
  const widest = Math.max(width, valueWidth);
  return widest <= 128 ? 1 : widest <= 256 ? 2 : 4;
};

function operandsOf(traits: DeviceTraits, matrix: MatrixConfig, { dtypes }: AttentionSize): Pick<Plan, "parts" | "scaled"> {
  const each = <T>(f: (d: DType) => T): Each<T> => ({ q: f(dtypes[0]!), k: f(dtypes[1]!), v: f(dtypes[2]!) });
  const parts = each((d) => partsOf(traits, matrix, d));
  return {
    parts: { ...parts, weights: Math.max(parts.q, parts.k, parts.v) },
    scaled: each((d) => matrix.input === "f16" && !fitsHalf.includes(d)),
  };
}

/** Whether the operands fit bindings when they are laid out in parts, each row in its place. */
const fitsBindings = ({ maxBindingBytes }: DeviceTraits, { elements, keys }: AttentionSize, { q, k, v }: Each<number>): boolean =>
  [q, k, (v * turnedPitch(keys)) / keys].every((parts, i) => 2 * parts * elements[i]! <= maxBindingBytes);

function stepOf(common: Omit<Plan, "keys" | "both" | "beside">, { workgroupBytes: limit }: DeviceTraits): Plan | undefined {
  for (const [keys, both] of [
    [32, true],
    [32, false],
    [16, true],
    [16, false],
    [8, true],
    [8, false],
  ] as const) {
    if (keys % common.n !== 0 || keys % common.k !== 0) continue;
    for (const beside of [true, false]) {
      const plan = { ...common, keys, both, beside };
      if (queryRows(plan) > 0 && workgroupBytes(plan) <= limit) return plan;
    }
  }
  return undefined;
}
