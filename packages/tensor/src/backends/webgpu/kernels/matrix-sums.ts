// What sums of subgroup matrices begin as.
import type { MatrixConfig } from "../matrix-config.ts";
import type { DeviceTraits } from "../traits.ts";

/**
 * Text of a result fragment of zeros. Mesa's compiler for NVIDIA gives the sums of a loop whichever registers are free, one by one, and then copies those that do
 * not begin at a multiple of four before and after every multiplication. Sums that come from a multiplication lie as it needs them, so there they
 * begin as a product of zeros.
 */
export function zeroSum({ adapterName }: Pick<DeviceTraits, "adapterName">, { m, n, k, input }: MatrixConfig): string {
  const zero = `subgroup_matrix_result<f32, ${n}, ${m}>(0.0)`;
  if (!/\bNVK\b/.test(adapterName)) return zero;
  return `subgroupMatrixMultiplyAccumulate(subgroup_matrix_left<${input}, ${k}, ${m}>(0.0), subgroup_matrix_right<${input}, ${n}, ${k}>(0.0), ${zero})`;
}
