// How a matrix variant cuts a product: fragments per subgroup, subgroups per workgroup, depth and number of staged slices, parts and scales of operands.
import { type DType, isQuantized } from "../../../dtype.ts";
import type { MatrixConfig } from "../matrix-config.ts";
import type { DeviceTraits } from "../traits.ts";
import type { Runs } from "./gemm-runs.ts";
import type { MatrixVariant } from "./gemm-variants.ts";
import type { MatrixSource } from "./matrix-source.ts";
import { zeroSum } from "./matrix-sums.ts";

/** A workgroup's tile: a grid of subgroups of `down` x `across` fragments. */
export interface Tile {
  /** Of the variant. */
  readonly name: string;
  readonly config: MatrixConfig;
  readonly down: number;
  readonly across: number;
  readonly grid: { readonly down: number; readonly across: number };
  readonly threads: number;
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
  /** Values of one item of staging memory: what is 16 bytes. */
  readonly item: 4 | 8;
  /** Row pitch of staged tiles in items: 8 values more than the depth, against bank conflicts. */
  readonly pitch: number;
  /** Slices in workgroup memory while the next one is fetched into registers; 0: slices are staged and multiplied in turn. */
  readonly slots: 0 | 1 | 2;
  /** Parts that a value of each operand is staged as. */
  readonly parts: { readonly a: number; readonly b: number };
  /** Operands brought into f16's range by powers of two found from their largest magnitudes. */
  readonly scaled: { readonly a: boolean; readonly b: boolean };
  /** What sums begin as. */
  readonly zero: string;
}

/** An operand of a tile. */
export interface Side {
  readonly name: "a" | "b";
  readonly source: MatrixSource;
  readonly runs: Runs;
  /** Fetched values are staged as they are. */
  readonly moved: boolean;
  readonly rows: number;
  readonly limit: string;
  readonly start: string;
  readonly parts: number;
  readonly scaled: boolean;
}

/** Dtypes whose values are f16 values. */
export const fitsHalf: readonly DType[] = ["f16", "f8e4m3", "f8e5m2"];

/** Parts that values of a dtype go into fragments as. bf16 has fewer digits than f16, but more range; f32 and blocks have more digits. */
export function partsOf(traits: DeviceTraits, { input }: MatrixConfig, dtype: DType): number {
  const long = dtype === "f32" || isQuantized(dtype);
  return input === "f16" && long && traits.float32MatmulPrecision === "highest" ? 2 : 1;
}

/** Whether values of one of the dtypes go into fragments as two parts. */
export const splitsAny = (traits: DeviceTraits, dtypes: readonly DType[]): boolean => {
  const { tier, matrix } = traits;
  return tier === "matrix" && matrix !== undefined && dtypes.some((d) => partsOf(traits, matrix, d) > 1);
};

/** Whether an operand goes into fragments as two parts. */
export const isSplitProduct = (traits: DeviceTraits, a: MatrixSource, b: MatrixSource): boolean => splitsAny(traits, [a.dtype, b.dtype]);

/** The tile of a variant, with the deepest staging that workgroup memory allows; undefined if none does. */
export const tileOf = (traits: DeviceTraits, variant: MatrixVariant, a: MatrixSource, b: MatrixSource): Tile | undefined =>
  tilesOf(traits, variant, a, b).find((tile) => tileBytes(tile, Math.max(1, tile.slots) * tile.columns) <= traits.mostTileBytes);

/** Workgroup memory of a tile that stages `rowsOfB` rows of b. */
export const tileBytes = ({ slots, rows, parts, pitch, grid, config }: Tile, rowsOfB: number): number =>
  (Math.max(1, slots) * rows * parts.a + rowsOfB * parts.b) * pitch * 16 + grid.down * grid.across * config.m * config.n * 4;

/** Tiles of a variant, the most wanted first, whatever memory they need. */
export function tilesOf(traits: DeviceTraits, variant: MatrixVariant, a: MatrixSource, b: MatrixSource): Tile[] {
  const config = traits.matrix;
  const { down, across, ahead, grid } = variant;
  const threads = grid.down * grid.across * traits.subgroupSize;
  if (!config || threads === 0 || threads > traits.maxInvocations) return [];
  const { m, n, k, input } = config;
  const item = (input === "f16" ? 8 : 4) as 4 | 8;
  const common = {
    ...{ name: variantLabel(variant), config, down, across, grid, threads, item },
    ...{ rows: grid.down * down * m, columns: grid.across * across * n, zero: zeroSum(traits, config) },
    parts: { a: partsOf(traits, config, a.dtype), b: partsOf(traits, config, b.dtype) },
    scaled: { a: input === "f16" && !fitsHalf.includes(a.dtype), b: input === "f16" && !fitsHalf.includes(b.dtype) },
  } as const;
  // Two slices of half the depth need half the barriers of one of the whole.
  return (ahead ? ([2, 1] as const) : ([0] as const))
    .flatMap((slots) => [32, 16].map((depth) => ({ ...common, depth, slots, pitch: (depth + 8) / item })))
    .filter(({ depth }) => depth % k === 0);
}

/** The variant in words, without its family. */
const variantLabel = ({ down, across, ahead, grid }: MatrixVariant): string =>
  `${down}x${across}${ahead ? " ahead" : ""}${grid.down * grid.across === 4 ? "" : ` in ${grid.down * grid.across}`}`;

/** Whether an f32 operand is multiplied in more than one 16-bit part. */
export const isSplit = ({ parts }: Tile): boolean => parts.a + parts.b > 2;

/** An operand as the kernel stages it. */
export function sideOf(tile: Tile, name: "a" | "b", source: MatrixSource): Side {
  const runs = source.runs(tile.item);
  const [parts, scaled] = [tile.parts[name], tile.scaled[name]];
  return {
    ...{ name, source, runs, parts, scaled },
    moved: source.dtype === "f16" && runs.unit === 8 && parts === 1 && !scaled,
    rows: name === "a" ? tile.rows : tile.columns,
    limit: name === "a" ? "p.m" : "p.n",
    start: name === "a" ? "r0" : "c0",
  };
}
