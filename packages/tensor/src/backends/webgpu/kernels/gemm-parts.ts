// What all matrix kernels share: their interface to the dispatcher, declarations, and how they store results.
import { foldGrid } from "../encoder.ts";
import type { BindingSpec, ProgramSpec } from "../pipelines.ts";
import type { DeviceTraits } from "../traits.ts";
import { formatFunctions } from "../wgsl/formats.ts";
import { mathFunctions } from "../wgsl/math.ts";
import type { Finish } from "./finish.ts";
import type { MatrixSource } from "./matrix-source.ts";

export interface GemmSize {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batch: number;
}

export interface Gemm {
  readonly key: string;
  readonly grid: readonly [number, number, number];
  /** Operands whose `largestMagnitude` the kernel takes as its last bindings. */
  readonly measured?: readonly ("a" | "b")[];
  spec(): ProgramSpec;
}

/** Bindings of a product besides the output and the epilogue's operands: its operands, and the magnitudes of both where they are scaled. */
export const gemmBindings = ({ tier }: DeviceTraits): number => (tier === "matrix" ? 4 : 2);

export const times = <T>(n: number, f: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => f(i));

/** Bindings, parameters and functions that all kernels of the family share. */
export function gemmSpec(
  label: string,
  workgroup: number,
  a: MatrixSource,
  b: MatrixSource,
  finish: Finish,
  extra: string,
  body: string,
  more: Pick<ProgramSpec, "enable" | "builtins" | "subgroupSize"> & { readonly last?: readonly BindingSpec[] } = {},
): ProgramSpec {
  const { last = [], ...rest } = more;
  const text = `${a.text}${b.text}${finish.text}\n${extra}`;
  const functions = mathFunctions(text + body);
  return {
    label,
    bindings: [{ name: "a", type: a.type }, { name: "b", type: b.type }, ...finish.specs, ...last],
    params: ["m", "n", "k", "row", "n0", ...a.params, ...b.params, ...finish.params],
    workgroup: [workgroup],
    declarations: formatFunctions(functions + text + body, rest.enable?.includes("f16")) + functions + text,
    body,
    ...rest,
  };
}

/** Workgroups in x, y and z: tiles, then the batch. */
export const withBatch = (tiles: number, batch: number): [number, number, number] => {
  const [x, y] = foldGrid(tiles);
  return [x, y, batch];
};

/** Statements that store four neighbouring results of one row, within p.m and p.n. */
export function storeRow(finish: Finish, row: string, column: string, value: string): string {
  if (finish.quad) return `if (${row} < p.m && ${column} < p.n) { put4(((z * p.m) + ${row}) * p.row + p.n0 + ${column}, ${value}); }`;
  const lanes = ["x", "y", "z", "w"].map((l, j) => `if (${column} + ${j}u < p.n) { put(o + ${j}u, v.${l}); }`);
  return `if (${row} < p.m) { let v = ${value}; let o = ((z * p.m) + ${row}) * p.row + p.n0 + ${column}; ${lanes.join(" ")} }`;
}
