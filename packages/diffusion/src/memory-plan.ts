// How much device memory a request takes, stage by stage, from shapes and dtypes alone, and what to do when there is less.
import { type BlockRun, type DTypePolicy, type Module, parameterSites } from "@wick/nn";
import { type Device, type DType, dryRun, scope, TensorError } from "@wick/tensor";
import type { BlockBytes } from "./block-stream.ts";

/** What runs one after the other; FLUX.1 alone has "encodePooled" (CLIP), "encodeRedux" (pictures) and "modulate" (modulations made ahead). */
export type MemoryStage = "encodePooled" | "encode" | "encodeRedux" | "encodePicture" | "modulate" | "denoise" | "decode";

/** One stage of a run. */
export interface StageMemory {
  /** Which part of a run. */
  readonly stage: MemoryStage;
  /** Bytes of the stage's weights that are on the device at once. */
  readonly weightBytes: number;
  /** Highest sum of everything else: latents, activations, weights of other stages that are kept. */
  readonly activationBytes: number;
  /** Weights and activations. */
  readonly peakBytes: number;
  /** Set when the weights do not fit: what they may take, blocks coming and going. */
  readonly streamBytes: number | undefined;
}

/** What every stage of a run takes on the device. */
export interface MemoryPlan {
  /** In the order they run. */
  readonly stages: readonly StageMemory[];
  /** The highest of all stages. */
  readonly peakBytes: number;
  /** The limit it was made for. */
  readonly maxGpuBytes: number | undefined;
}

/** A request that does not fit `maxGpuBytes`; `needsBytes` is the least that it takes. */
export class MemoryError extends TensorError {
  /** The least the request takes. */
  readonly needsBytes: number;
  /** The limit. */
  readonly maxGpuBytes: number;
  constructor(detail: string, needsBytes: number, maxGpuBytes: number) {
    super("plan", detail);
    this.needsBytes = needsBytes;
    this.maxGpuBytes = maxGpuBytes;
  }
}

/** What a stage needs, before it is known how much there is. */
export interface StageNeeds {
  /** Which part of a run. */
  readonly stage: MemoryStage;
  /** Of the stage's model. */
  readonly weights: BlockBytes;
  /** Everything else at once. */
  readonly activationBytes: number;
  /** What would make it fit, for the message: "a smaller size". */
  readonly alternatives: readonly string[];
}

/** How much of a device a run may take. */
export interface MemoryLimits {
  /** Bytes; no limit by default. */
  readonly maxGpuBytes?: number | undefined;
  /** Bring blocks in one by one when the weights do not fit. Default true. */
  readonly stream?: boolean | undefined;
}

/** What a program may say of a pipeline's memory when it opens one. */
export interface ResidencyOptions {
  /** Keep all weights on the device between stages and images; default when they take at most 2 GiB together and there is no maxGpuBytes. */
  readonly keepLoaded?: boolean | undefined;
  /** Most bytes of device memory that a run may take; what does not fit is streamed block by block, or refused before it is loaded. */
  readonly maxGpuBytes?: number | undefined;
  /** False refuses what would have to be streamed. Default true. */
  readonly stream?: boolean | undefined;
}

const keptBytes = 2 * 2 ** 30;

/** The parts of a pipeline that say what stays on the device. */
export interface Residency {
  /** Keep all weights on the device between stages and images. */
  readonly keepLoaded: boolean;
  /** How much of the device a run may take; default: no limit. Previews while denoising come on top. */
  readonly memory?: MemoryLimits | undefined;
}

/** The parts of a pipeline that these options decide, for weights of `totalBytes`. */
export const residency = ({ keepLoaded, maxGpuBytes, stream }: ResidencyOptions, totalBytes: number): Residency => ({
  keepLoaded: keepLoaded ?? (maxGpuBytes === undefined && totalBytes <= keptBytes),
  memory: { maxGpuBytes, stream },
});

/** The least that a stage can do with. */
const leastBytes = ({ weights, activationBytes }: StageNeeds, stream: boolean): number =>
  (stream ? weights.least : weights.total) + activationBytes;

/** Decides for every stage whether its weights fit or stream; throws MemoryError for the first of which neither does. */
export function planMemory(needs: readonly StageNeeds[], limits: MemoryLimits): MemoryPlan {
  const { maxGpuBytes = Number.POSITIVE_INFINITY, stream = true } = limits;
  const refused = needs.find((n) => leastBytes(n, stream) > maxGpuBytes);
  if (refused) throw doesNotFit(refused, Math.max(...needs.map((n) => leastBytes(n, stream))), maxGpuBytes, stream);
  const stages = needs.map((n) => planStage(n, maxGpuBytes));
  return { stages, peakBytes: Math.max(...stages.map((s) => s.peakBytes)), maxGpuBytes: limits.maxGpuBytes };
}

function planStage({ stage, weights, activationBytes }: StageNeeds, maxGpuBytes: number): StageMemory {
  const whole = weights.total + activationBytes;
  if (whole <= maxGpuBytes) return { stage, weightBytes: weights.total, activationBytes, peakBytes: whole, streamBytes: undefined };
  const streamBytes = maxGpuBytes - activationBytes;
  return { stage, weightBytes: streamBytes, activationBytes, peakBytes: maxGpuBytes, streamBytes };
}

/** What the weights of a stage may take when its blocks come and go; undefined when all of them fit, or nothing is limited. */
export const streamBytesOf = (plan: MemoryPlan | undefined, stage: MemoryStage): number | undefined =>
  plan?.stages.find((s) => s.stage === stage)?.streamBytes;

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/** `enough` is the least with which every stage fits. */
function doesNotFit(needs: StageNeeds, enough: number, max: number, stream: boolean): MemoryError {
  const { stage, weights, activationBytes, alternatives } = needs;
  const least = leastBytes(needs, stream);
  const parts = `weights ${mib(least - activationBytes)} of ${mib(weights.total)}, everything else ${mib(activationBytes)}`;
  const ways = [...(stream || weights.least === weights.total ? [] : ["stream: true"]), ...alternatives, `maxGpuBytes of ${enough}`];
  return new MemoryError(`${stage} needs ${mib(least)}, maxGpuBytes is ${mib(max)}: ${parts}; use ${ways.join(", or ")}`, enough, max);
}

/** Runs to the end, releasing what each pause leaves behind, as runBlocksAsync does. The result belongs to the caller. */
export function walkBlocks<T>(run: BlockRun<T>): T {
  const advance = () => scope((() => run.next()) as () => object) as IteratorResult<Module, T>;
  let step = advance();
  while (!step.done) step = advance();
  return step.value;
}

/** Highest bytes beside the weights while `run` computes with `model` (an instance of its own, without data) on a device without values. */
export function activationBytes<M extends Module>(
  model: M,
  dtypes: DTypePolicy,
  stored: (path: string) => DType,
  run: (model: M, device: Device) => void,
): number {
  const { device } = dryRun();
  for (const site of parameterSites(model)) {
    if (site.aliasOf !== undefined) continue;
    using data = device.empty(site.parameter.shape, dtypes({ ...site, stored: stored(site.path) }), site.path);
    site.parameter.fill(data);
  }
  const weights = device.liveBytes;
  device.resetPeak();
  run(model, device);
  const peak = device.peakBytes;
  model.unload();
  return peak - weights;
}
