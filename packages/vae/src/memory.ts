// Memory of an autoencoder run, found by running the network on a device that computes nothing, and the choice of tiles that follows from it.
import { type BlockRun, type Module, namedParameters, runBlocks } from "@wick/nn";
import { type Device, type DType, dryRun, OutOfMemoryError, type Shape, ShapeError, scope, type Tensor } from "@wick/tensor";
import type { TileOptions } from "./tiling.ts";

/** What a run needs, in bytes. */
export interface MemoryEstimate {
  /** All weights of the autoencoder, both halves. */
  readonly weightBytes: number;
  /** Highest sum of everything else that is alive at once: input, activations, result. */
  readonly activationBytes: number;
  /** Both: what `device.peakBytes` shows after a run on a device that holds nothing else. */
  readonly peakBytes: number;
  /** The largest single tensor; it has to fit `capabilities.maxBufferBytes` (kernels split what exceeds `maxBindingBytes`). */
  readonly largestTensorBytes: number;
}

/** "auto" tiles only what does not fit, "never" runs the whole image, or tiles of a given size (images that fit one tile are not cut). */
export type Tile = "auto" | "never" | TileOptions;

/** How an image goes through the network. */
export interface RunOptions {
  /** Default "auto". */
  readonly tile?: Tile | undefined;
  /** Bytes that the run may take beside the weights; without it only the device's largest buffer limits "auto". */
  readonly budgetBytes?: number | undefined;
}

/** Of an image, in pixels. */
export interface ImageSize {
  /** In pixels. */
  readonly height: number;
  /** In pixels. */
  readonly width: number;
}

/** What an estimate is made for. */
export interface EstimateOptions extends RunOptions {
  /** Images at once. Default 1. */
  readonly batch?: number;
  /** Of the input, and so of the activations. Default f32. */
  readonly dtype?: DType;
  /** Default f32. */
  readonly weightDType?: DType;
  /** Largest tensor that "auto" allows: the device's `capabilities.maxBufferBytes`. No limit by default. */
  readonly maxTensorBytes?: number;
}

/** The encoder or the decoder. */
export type Half = "encode" | "decode";
/** Rows and columns. */
export type LatentSize = readonly [number, number];

/** Latents of an image; throws ShapeError unless its sides are multiples of `factor`. */
export function latentSizeOf(half: Half, factor: number, { height, width }: ImageSize): LatentSize {
  if ([height, width].some((n) => n < factor || n % factor !== 0)) {
    const size = `${height} x ${width} (height x width)`;
    throw new ShapeError(half, `the sides of an image are multiples of ${factor} pixels: ${size}; crop, pad or resize it`);
  }
  return [height / factor, width / factor];
}

/** How a batch goes through the network. */
export interface Plan {
  readonly tile: TileOptions | undefined;
  /** One image at a time: the same numbers, less memory. */
  readonly oneByOne: boolean;
}

/** One half of an autoencoder and an input for it. */
export interface Job<M extends Module> {
  readonly half: Half;
  /** A model of the same config, without weights. */
  readonly make: () => M;
  readonly run: (model: M, input: Tensor, plan: Plan) => BlockRun<Tensor>;
  readonly inputShape: Shape;
  readonly dtype: DType;
  readonly latentSize: LatentSize;
  /** Pixels per latent. */
  readonly factor: number;
  /** Part of a tile that automatic tiling shares with the next one. */
  readonly overlap: number;
}

/** Measures a run by making every tensor of it without contents. */
export function measure<M extends Module>(job: Job<M>, plan: Plan, weightDType: DType = "f32"): MemoryEstimate {
  const dry = dryRun();
  const { device } = dry;
  using model = job.make();
  for (const [path, parameter] of namedParameters(model)) {
    using data = device.empty(parameter.shape, weightDType, path);
    parameter.fill(data);
  }
  const weightBytes = device.liveBytes;
  device.resetPeak();
  scope(() => {
    runBlocks(job.run(model, device.empty(job.inputShape, job.dtype), plan));
  });
  const { peakBytes } = device;
  return { weightBytes, activationBytes: peakBytes - weightBytes, peakBytes, largestTensorBytes: dry.largestTensorBytes };
}

/** Largest tensor and sum of activations that a run may have. */
export interface Limits {
  readonly tensorBytes: number;
  readonly budgetBytes: number;
}

/** What a device and the caller allow. */
export const limitsOf = ({ capabilities }: Device, { budgetBytes }: Pick<RunOptions, "budgetBytes">): Limits => ({
  tensorBytes: capabilities.maxBufferBytes ?? Number.POSITIVE_INFINITY,
  budgetBytes: budgetBytes ?? Number.POSITIVE_INFINITY,
});

/** The measure of a job under the plan that the options lead to. */
export function estimateJob<M extends Module>(job: Job<M>, options: EstimateOptions): MemoryEstimate {
  const { tile = "auto", maxTensorBytes = Number.POSITIVE_INFINITY, budgetBytes = Number.POSITIVE_INFINITY } = options;
  return measure(job, planRun(job, tile, { tensorBytes: maxTensorBytes, budgetBytes }), options.weightDType);
}

const within = (e: MemoryEstimate, limits: Limits): boolean =>
  e.largestTensorBytes <= limits.tensorBytes && e.activationBytes <= limits.budgetBytes;

/** Sides of automatic tiles in latents: multiples of this, so that a quarter or an eighth of them is whole. */
const tileStep = 8;
const smallestTile = 16;

/**
 * The whole batch if it fits, else one image at a time, else the largest tiles that fit.
 * Throws OutOfMemoryError when the smallest tiles do not fit either. `known` remembers plans of jobs of one config.
 */
export function planRun<M extends Module>(job: Job<M>, tile: Tile, limits: Limits, known = new Map<string, Plan>()): Plan {
  if (tile !== "auto") return { tile: tile === "never" ? undefined : tile, oneByOne: false };
  if (limits.tensorBytes === Number.POSITIVE_INFINITY && limits.budgetBytes === Number.POSITIVE_INFINITY)
    return { tile: undefined, oneByOne: false };
  const key = `${job.half} ${job.inputShape} ${job.dtype} ${limits.tensorBytes} ${limits.budgetBytes}`;
  const plan = known.get(key) ?? planWhole(job, limits) ?? planTiles(job, limits);
  known.set(key, plan);
  return plan;
}

function planWhole<M extends Module>(job: Job<M>, limits: Limits): Plan | undefined {
  const oneByOne = job.inputShape[0]! > 1 ? [false, true] : [false];
  return oneByOne.map((each): Plan => ({ tile: undefined, oneByOne: each })).find((plan) => within(measure(job, plan), limits));
}

function planTiles<M extends Module>(job: Job<M>, limits: Limits): Plan {
  const [height, width] = job.latentSize;
  const oneByOne = job.inputShape[0]! > 1;
  const planOf = (latents: number): Plan => ({ tile: { size: latents * job.factor, overlap: job.overlap }, oneByOne });
  const fits = (latents: number): boolean => within(measure(job, planOf(latents)), limits);
  const largest = largestThat(fits, Math.floor((Math.max(height, width) - 1) / tileStep));
  if (largest === 0) throw doesNotFit(job, limits, measure(job, planOf(smallestTile)));
  const roomy = Array.from({ length: largest }, (_, i) => (largest - i) * tileStep).filter(
    (n) => n >= smallestTile && n >= largest * (tileStep / 2),
  );
  return planOf(roomy.find((n) => !leavesSliver(height, n, job.overlap) && !leavesSliver(width, n, job.overlap)) ?? largest * tileStep);
}

/** The largest number of steps 2…most whose tiles fit, by halving (memory grows with the tile); 0 when none does. */
function largestThat(fits: (latents: number) => boolean, most: number): number {
  let [low, high] = [smallestTile / tileStep - 1, most];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle * tileStep)) low = middle;
    else high = middle - 1;
  }
  return low < smallestTile / tileStep ? 0 : low;
}

/** True if the last tile would lie wholly inside the overlap of the one before: work for nothing, with statistics of few pixels. */
function leavesSliver(length: number, tile: number, overlap: number): boolean {
  const stride = tile * (1 - overlap);
  const last = length - Math.floor((length - 1) / stride) * stride;
  return length > tile && last <= tile - stride;
}

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

function doesNotFit<M extends Module>({ half, inputShape, factor }: Job<M>, limits: Limits, least: MemoryEstimate): OutOfMemoryError {
  const short = [
    [least.largestTensorBytes, limits.tensorBytes, "in one tensor"],
    [least.activationBytes, limits.budgetBytes, "in all"],
  ] as const;
  const needs = short
    .filter(([need, room]) => need > room)
    .map(([need, room, what]) => `${mib(need)} ${what}, there is room for ${mib(room)}`);
  const input = `input [${inputShape.join(", ")}]`;
  return new OutOfMemoryError(
    half,
    `the smallest tiles, ${smallestTile * factor} pixels, need ${needs.join("; and ")}: ${input}; use a smaller image or a 16-bit dtype`,
  );
}
