// The choice of matrix kernel: what was measured on this adapter, else the defaults of its kind.

import { defaultVariants, productClass } from "../preferences.ts";
import type { DeviceTraits } from "../traits.ts";
import type { Finish } from "./finish.ts";
import { canMatrix, matrixTile } from "./gemm-matrix.ts";
import type { Gemm, GemmSize } from "./gemm-parts.ts";
import { fewRows, registerTile, workgroupTile } from "./gemm-plain.ts";
import { broadcastTile, canBroadcast } from "./gemm-subgroups.ts";
import { isSplitProduct } from "./gemm-tile.ts";
import { type GemmVariant, type GemmVariantName, gemmVariants } from "./gemm-variants.ts";
import type { MatrixSource } from "./matrix-source.ts";

/** The kernel for a product on this device. */
export function chooseGemm(traits: DeviceTraits, size: GemmSize, a: MatrixSource, b: MatrixSource, finish: Finish): Gemm {
  const few = size.m <= 4 && a.along === "k" && b.along === "k" && !traits.software;
  return few ? fewRows(size, a, b, finish) : gemmOf(chooseVariant(traits, size, a, b, finish), traits, size, a, b, finish);
}

/** The first variant of the adapter's preferences that can run the product. */
export const chooseVariant = (traits: DeviceTraits, size: GemmSize, a: MatrixSource, b: MatrixSource, finish: Finish): GemmVariant =>
  variantsFor(traits, size, a, b, finish).next().value ?? gemmVariants["registers 4x4"];

/** The adapter's preferences that can run the product, in order. */
export function* variantsFor(
  traits: DeviceTraits,
  size: GemmSize,
  a: MatrixSource,
  b: MatrixSource,
  finish: Finish,
): Generator<GemmVariant, undefined> {
  const isSplit = isSplitProduct(traits, a, b);
  const tuned = traits.tuned[productClass(size, b.dtype, isSplit)];
  const names: readonly GemmVariantName[] = tuned ? [tuned, ...defaultVariants(traits, size)] : defaultVariants(traits, size);
  for (const name of names) {
    const variant: GemmVariant = gemmVariants[name];
    // Unless measured to be faster: operands in two parts, fetched ahead, need more registers than there are.
    if (name !== tuned && variant.kind === "matrix" && variant.ahead && isSplit) continue;
    if (canRun(variant, traits, size, a, b, finish)) yield variant;
  }
  return undefined;
}

function canRun(variant: GemmVariant, traits: DeviceTraits, size: GemmSize, a: MatrixSource, b: MatrixSource, finish: Finish): boolean {
  // Software drivers take long to compile large tiles with element-wise access.
  const vectors = a.quad && b.quad && finish.quad;
  switch (variant.kind) {
    case "registers":
      return variant.rows <= 4 || vectors || !traits.software;
    case "workgroup":
      return traits.maxInvocations >= 256 && traits.workgroupBytes >= 16384;
    case "broadcast":
      return canBroadcast(traits, variant, a) && (vectors || traits.forced) && isWorthwhile(traits, size);
    case "matrix":
      return canMatrix(traits, variant, a, b) && isWorthwhile(traits, size);
  }
}

/** Small products have no use for large tiles; a forced tier runs them all the same. */
function isWorthwhile({ forced, software }: DeviceTraits, { m, n, k, batch }: GemmSize): boolean {
  return forced || (m >= 16 && n >= 16 && k >= 16 && (!software || 2 * m * n * k * batch >= 4e6));
}

function gemmOf(variant: GemmVariant, traits: DeviceTraits, size: GemmSize, a: MatrixSource, b: MatrixSource, finish: Finish): Gemm {
  switch (variant.kind) {
    case "registers":
      return registerTile(variant, size, a, b, finish);
    case "workgroup":
      return workgroupTile(traits, variant, size, a, b, finish);
    case "broadcast":
      return broadcastTile(traits, variant, size, a, b, finish);
    case "matrix":
      return matrixTile(traits, variant, size, a, b, finish);
  }
}
