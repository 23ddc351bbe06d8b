// Tiled runs of an autoencoder half: overlapping tiles go through the network one by one and are blended over the overlap.
// After huggingface/diffusers src/diffusers/models/autoencoders/autoencoder_kl.py (tiled_decode, _tiled_encode, blend_v, blend_h) and
// autoencoder_tiny.py (_tiled_decode). Norm statistics are per tile, so the result differs a little from an untiled run, here as there.
import type { BlockRun } from "@wick/nn";
import { cat, type Held, hold, ShapeError, scope, type Tensor } from "@wick/tensor";

/** Squares that an image is cut into. */
export interface TileOptions {
  /** Side in pixels; a multiple of the autoencoder's factor. */
  readonly size: number;
  /** Part of a tile that it shares with the next one, 0…1; a whole number of latents. */
  readonly overlap: number;
}

/** What diffusers' `enable_tiling()` does to the FLUX.1 and Z-Image autoencoder: images of up to 1024 pixels are not tiled. */
export const diffusersTiles: TileOptions = { size: 1024, overlap: 0.25 };

/** A cut of one direction, in elements of the network's input or output. */
export interface Grid {
  /** Side of an input tile, and the way from one tile to the next. */
  readonly tile: number;
  readonly stride: number;
  /** Output rows (columns) that are mixed with the tile before. */
  readonly blend: number;
  /** Output rows (columns) that a tile contributes. */
  readonly keep: number;
}

/** Throws ShapeError unless tiles and overlaps are whole latents of `factor` pixels. */
export function checkTiles(op: string, { size, overlap }: TileOptions, factor: number): void {
  const shared = size * overlap;
  const whole = size > 0 && size % factor === 0 && overlap >= 0 && overlap < 1 && Number.isInteger(shared) && shared % factor === 0;
  if (whole) return;
  throw new ShapeError(op, `tiles of ${size} pixels with overlap ${overlap} do not consist of whole latents of ${factor} pixels`);
}

/** How latents are cut to decode `tiles` of pixels. */
export function decodeGrid({ size, overlap }: TileOptions, factor: number): Grid {
  const shared = size * overlap;
  return { tile: size / factor, stride: (size - shared) / factor, blend: shared, keep: size - shared };
}

/** How an image is cut to encode `tiles` of pixels. */
export function encodeGrid({ size, overlap }: TileOptions, factor: number): Grid {
  const shared = size * overlap;
  return { tile: size, stride: size - shared, blend: shared / factor, keep: (size - shared) / factor };
}

/** A way to run a network in tiles: x [b, c, h, w] through `run` tile by tile. */
export type Tiler = (x: Tensor, grid: Grid, run: (tile: Tensor) => BlockRun<Tensor>) => BlockRun<Tensor>;

/** x [b, c, h, w] through `run`: whole, in tiles if there is a grid that it exceeds, and image by image when asked. */
export function* runCut(
  x: Tensor,
  grid: Grid | undefined,
  oneByOne: boolean,
  tiler: Tiler,
  run: (part: Tensor) => BlockRun<Tensor>,
): BlockRun<Tensor> {
  const tiled = grid && (x.dim(2) > grid.tile || x.dim(3) > grid.tile);
  const each = tiled ? (part: Tensor) => tiler(part, grid, run) : run;
  if (!oneByOne) return yield* each(x);
  using done = hold<readonly Tensor[]>([]);
  for (let i = 0; i < x.dim(0); i++) {
    using image = hold(x.narrow(0, i, 1));
    using out = hold(yield* each(image.value));
    done.update((images) => [...images, out.release()]);
  }
  return scope(() => cat(done.value));
}

/** What is kept of finished tiles; full tiles are released as soon as they are placed. */
interface Mosaic {
  /** Finished rows of tiles. */
  readonly rows: readonly Tensor[];
  /** The current row, cropped. */
  readonly row: readonly Tensor[];
  /** Lowest rows of the tiles above and of those of the current row. */
  readonly above: readonly Tensor[];
  readonly below: readonly Tensor[];
  /** Last columns of the tile to the left. */
  readonly left: readonly Tensor[];
}

/** As AutoencoderKL: blending is in place, so a tile is mixed with neighbours that were mixed before, first rows, then columns. */
export function* runTiled(x: Tensor, grid: Grid, run: (tile: Tensor) => BlockRun<Tensor>): BlockRun<Tensor> {
  const [, , height, width] = x.dims(4);
  using mosaic = hold<Mosaic>({ rows: [], row: [], above: [], below: [], left: [] });
  for (let top = 0; top < height; top += grid.stride) {
    for (let start = 0; start < width; start += grid.stride) {
      using tile = hold(cut(x, top, start, grid.tile));
      using out = hold(yield* run(tile.value));
      mosaic.update((m) => place(m, out.value, grid));
    }
    mosaic.update(({ rows, row, below }) => ({ rows: [...rows, cat(row, 3)], row: [], above: below, below: [], left: [] }));
  }
  return scope(() => cat(mosaic.value.rows, 2));
}

/** A view of at most `tile` rows and columns from a corner. */
function cut(x: Tensor, top: number, start: number, tile: number): Tensor {
  return scope(() => x.narrow(2, top, Math.min(tile, x.dim(2) - top)).narrow(3, start, Math.min(tile, x.dim(3) - start)));
}

/** The mosaic with the next tile of the current row. */
function place({ rows, row, above, below, left }: Mosaic, raw: Tensor, { blend, keep }: Grid): Mosaic {
  const mixedRows = mix(above[row.length], raw, 2, blend);
  const tile = mix(left[0], mixedRows, 3, blend);
  const kept = cut(tile, 0, 0, keep).copy();
  return { rows, above, row: [...row, kept], below: [...below, lastOf(tile, 2, blend)], left: [lastOf(tile, 3, blend)] };
}

function lastOf(tile: Tensor, dim: number, count: number): Tensor {
  const length = Math.min(count, tile.dim(dim));
  return tile.narrow(dim, tile.dim(dim) - length, length).copy();
}

/** `tile` whose first entries along `dim` fade in from the last ones of `before`. */
function mix(before: Tensor | undefined, tile: Tensor, dim: number, blend: number): Tensor {
  const extent = before ? Math.min(before.dim(dim), tile.dim(dim), blend) : 0;
  if (!before || extent === 0) return tile;
  const old = before.narrow(dim, before.dim(dim) - extent, extent);
  const mixed = old.mul(ramp(tile, dim, extent, true)).add(tile.narrow(dim, 0, extent).mul(ramp(tile, dim, extent, false)));
  return cat([mixed.to(tile.dtype), tile.narrow(dim, extent, tile.dim(dim) - extent)], dim);
}

/** Weights 0, 1/n, 2/n, … along `dim`, or what they leave of 1. */
function ramp(like: Tensor, dim: number, extent: number, falling: boolean): Tensor {
  const weights = Float32Array.from({ length: extent }, (_, i) => (falling ? 1 - i / extent : i / extent));
  return like.device.tensor(weights, dim === 2 ? [extent, 1] : [extent]);
}

/** As AutoencoderTiny: every tile is laid over the picture with weights that rise from 0 to 1 over the overlap at its top and left. */
export function* runFeathered(x: Tensor, grid: Grid, run: (tile: Tensor) => BlockRun<Tensor>): BlockRun<Tensor> {
  const [b, , height, width] = x.dims(4);
  const outSize = (n: number): number => (n * grid.keep) / grid.stride;
  let picture: Held<Tensor> | undefined;
  try {
    for (let top = 0; top < height; top += grid.stride) {
      for (let start = 0; start < width; start += grid.stride) {
        using tile = hold(cut(x, top, start, grid.tile));
        using out = hold(yield* run(tile.value));
        picture ??= hold(x.device.zeros([b, out.value.dim(1), outSize(height), outSize(width)], out.value.dtype as "f32"));
        picture.update((p) => layOver(p, out.value, outSize(top), outSize(start), grid.blend));
      }
    }
    return picture!.value.copy();
  } finally {
    picture?.[Symbol.dispose]();
  }
}

function layOver(picture: Tensor, tile: Tensor, top: number, start: number, blend: number): Tensor {
  const [, , rows, columns] = tile.dims(4);
  const under = picture.narrow(2, top, rows).narrow(3, start, columns);
  const weights = rise(tile, rows, top > 0 ? blend : 0)
    .unsqueeze(1)
    .mul(rise(tile, columns, start > 0 ? blend : 0));
  const mixed = weights.mul(tile).add(weights.rsub(1).mul(under));
  return picture.sliceAssign([0, 0, top, start], mixed.to(tile.dtype));
}

/** `length` weights: 0 … 1 over the first `blend`, then 1. */
function rise({ device }: Tensor, length: number, blend: number): Tensor {
  return device.tensor(Float32Array.from({ length }, (_, i) => (blend < 2 ? 1 : Math.min(1, i / (blend - 1)))));
}
