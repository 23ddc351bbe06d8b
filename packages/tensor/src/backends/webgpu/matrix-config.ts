// The shapes that subgroup matrices (tensor cores) multiply, and which of an adapter's the kernels take.

/** WebGPU's feature that has them. */
export const matrixFeature = "chromium-experimental-subgroup-matrix";

/** One shape the subgroup matrix unit multiplies: an [m, k] by a [k, n] fragment. */
export interface MatrixConfig {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly input: "f16" | "f32";
}

/** What an adapter says of its subgroups and matrices. */
export interface MatrixInfo {
  readonly subgroupMinSize?: number;
  readonly subgroupMaxSize?: number;
  readonly subgroupMatrixConfigs?: readonly { M: number; N: number; K: number; componentType: string; resultComponentType: string }[];
}

/** Picks f16 fragments with f32 sums, or f32 ones (Apple); never f16 sums, which overflow in real models. */
export function pickMatrixConfig(info: MatrixInfo, f16: boolean): MatrixConfig | undefined {
  const usable = [...(info.subgroupMatrixConfigs ?? [])].filter(
    (c) => c.resultComponentType === "f32" && (c.componentType === "f32" || (f16 && c.componentType === "f16")),
  );
  const best = usable.find((c) => c.componentType === "f16") ?? usable[0];
  return best && { m: best.M, n: best.N, k: best.K, input: best.componentType as "f16" | "f32" };
}
