// Device memory of a Z-Image request, stage by stage: every stage is walked through on a device that holds no values.
import { activationBytes, type MemoryLimits, type MemoryPlan, planMemory, type StageNeeds, walkBlocks } from "@wick/diffusion";
import { Qwen3 } from "@wick/encoders";
import { type Device, hold, OutOfMemoryError, type Tensor } from "@wick/tensor";
import { estimateDecodeBytes, estimateEncodeBytes } from "@wick/vae";
import { ZImage, type ZImageContext } from "../z-image.ts";
import type { ZImageJob, ZImageRequest } from "./request.ts";
import type { ZImageParts } from "./z-image-pipeline.ts";

const f32Bytes = 4;
const latentBytes = ({ shape: [b, c, h, w] }: ZImageJob): number => b * c * h * w * f32Bytes;
const captionBytes = ({ positive, negative }: ZImageJob, width: number): number =>
  [...positive.lengths, ...(negative?.lengths ?? [])].reduce((sum, l) => sum + l * width * f32Bytes, 0);

/** Predicts the memory of a valid request; throws MemoryError, naming what would help, when it is more than the limits allow. */
export async function planZImageMemory(parts: ZImageParts, request: ZImageRequest, job: ZImageJob): Promise<MemoryPlan> {
  const limits: MemoryLimits = parts.memory ?? {};
  const bytes = {
    encode: parts.text && (await parts.text.encoder.bytes(request.signal)),
    denoise: await parts.transformer.bytes(request.signal),
    vae: await parts.vae.bytes(request.signal),
  };
  const all = (bytes.encode?.total ?? 0) + bytes.denoise.total + bytes.vae.total;
  const others = (total: number): number => (parts.keepLoaded ? all - total : 0);
  const captions = captionBytes(job, parts.transformer.model.config.captionWidth);
  const needs: StageNeeds[] = [];
  if (parts.text && bytes.encode && (job.positive.ids || job.negative?.ids)) {
    const own = captions + encodeActivations(parts.text.encoder, bytes.encode, job);
    const alternatives = ["a smaller textEncoderDType (q8_0, q4_K)", "promptEmbeds made elsewhere"];
    needs.push({ stage: "encode", weights: bytes.encode, activationBytes: own + others(bytes.encode.total), alternatives });
  }
  const vae = (half: "encode" | "decode", besideBytes: number) =>
    vaeActivations(half, parts, job, besideBytes + bytes.vae.total + others(bytes.vae.total));
  const smaller = ["a smaller picture"];
  if (request.image) {
    const beside = captions + (request.posterior === "sample" ? latentBytes(job) / job.shape[0] : 0);
    const own = beside + vae("encode", beside);
    needs.push({ stage: "encodePicture", weights: bytes.vae, activationBytes: own + others(bytes.vae.total), alternatives: smaller });
  }
  needs.push({
    stage: "denoise",
    weights: bytes.denoise,
    activationBytes: denoiseActivations(parts, bytes.denoise, request, job) + others(bytes.denoise.total),
    alternatives: ["a smaller dtype (q8_0, q4_K)", "a smaller picture", ...(job.shape[0] > 1 ? ["fewer pictures at once"] : [])],
  });
  const latents = latentBytes(job);
  const own = latents + vae("decode", latents);
  needs.push({ stage: "decode", weights: bytes.vae, activationBytes: own + others(bytes.vae.total), alternatives: smaller });
  return planMemory(needs, limits);
}

type Bytes = Awaited<ReturnType<ZImageParts["transformer"]["bytes"]>>;

function encodeActivations(encoder: NonNullable<ZImageParts["text"]>["encoder"], bytes: Bytes, job: ZImageJob): number {
  const { config, layers } = encoder.model;
  const longest = Math.max(...[...(job.positive.ids ?? []), ...(job.negative?.ids ?? [])].map((ids) => ids.length));
  const model = new Qwen3(config, { layers: layers.length });
  return activationBytes(model, encoder.policy, bytes.stored, (m, device) => {
    using _ = hold(walkBlocks(m.run(device, [new Array<number>(longest).fill(0)])));
  });
}

/** Beside the weights; automatic tiles shrink to what is left of the limit. When the smallest do not fit, planMemory refuses them. */
function vaeActivations(
  half: "encode" | "decode",
  { vae, memory }: ZImageParts,
  { width, height }: ZImageJob,
  besideBytes: number,
): number {
  const { config } = vae.model;
  const budgetBytes = memory?.maxGpuBytes === undefined ? undefined : memory.maxGpuBytes - besideBytes;
  const estimate = half === "decode" ? estimateDecodeBytes : estimateEncodeBytes;
  try {
    return estimate(config, { width, height }, { budgetBytes }).activationBytes;
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error;
    return estimate(config, { width, height }, { tile: { size: 16 * vae.model.factor, overlap: 0.25 } }).activationBytes;
  }
}

function denoiseActivations({ transformer }: ZImageParts, bytes: Bytes, { image, mask }: ZImageRequest, job: ZImageJob): number {
  return activationBytes(new ZImage(transformer.model.config), transformer.policy, bytes.stored, (model, device) => {
    const [, channels, height, width] = job.shape;
    const captions = (lengths: readonly number[]) => lengths.map((l) => device.empty([l, model.config.captionWidth]));
    using given = hold({ positive: captions(job.positive.lengths), negative: captions(job.negative?.lengths ?? []) });
    using _start = hold({
      noise: device.empty(job.shape),
      clean: image && device.empty([1, channels, height, width]),
      mask: mask && device.empty([1, 1, height, width]),
    });
    const context = (list: readonly Tensor[]) => walkBlocks(model.runContext(repeated(list, job.count), { height, width }));
    using positive = hold(context(given.value.positive));
    using negative = hold(job.negative && context(given.value.negative));
    // The start, and the solver's copy of it.
    using x = hold([device.empty(job.shape), device.empty(job.shape)]);
    runBoth(model, device, x.value[0]!, job, positive.value, negative.value);
  });
}

/** Every caption `count` times in a row. */
export const repeated = (captions: readonly Tensor[], count: number): Tensor[] => captions.flatMap((c) => new Array<Tensor>(count).fill(c));

function runBoth(
  model: ZImage,
  device: Device,
  x: Tensor,
  job: ZImageJob,
  positive: ZImageContext,
  negative: ZImageContext | undefined,
): void {
  const sigma = new Array<number>(job.shape[0]).fill(1);
  using _p = hold(walkBlocks(model.run(x, sigma, positive)));
  using _n = hold(negative && walkBlocks(model.run(x, sigma, negative)));
  // The guided velocity and the next state.
  using _next = hold([device.empty(job.shape), device.empty(job.shape)]);
}
