// Device memory of a Z-Image request, stage by stage: every stage is walked through on a device that holds no values.
import { activationBytes, autoencoderNeeds, type StageNeeds, walkBlocks } from "@wick/diffusion";
import { Qwen3 } from "@wick/encoders";
import { cat, type Device, hold, type Tensor } from "@wick/tensor";
import { ZImage, type ZImageContext } from "../z-image.ts";
import type { ZImageParts } from "./parts.ts";
import { guidesTogether, type ZImageJob, type ZImageRequest } from "./request.ts";

const f32Bytes = 4;
const latentBytes = ({ shape: [b, c, h, w] }: ZImageJob): number => b * c * h * w * f32Bytes;
/** Of all hidden states that a job is conditioned on. */
export const captionBytes = ({ positive, negative }: ZImageJob, width: number): number =>
  [...positive.lengths, ...(negative?.lengths ?? [])].reduce((sum, l) => sum + l * width * f32Bytes, 0);

/** What each stage of a valid request needs: planMemory decides what fits. */
export async function zImageNeeds(parts: ZImageParts, request: ZImageRequest, job: ZImageJob): Promise<StageNeeds[]> {
  const { text, transformer, vae, keepLoaded, memory } = parts;
  const bytes = {
    encode: text && (await text.encoder.bytes(request.signal)),
    denoise: await transformer.bytes(request.signal),
    vae: await vae.bytes(request.signal),
  };
  const all = (bytes.encode?.total ?? 0) + bytes.denoise.total + bytes.vae.total;
  const others = (total: number): number => (keepLoaded ? all - total : 0);
  const captions = captionBytes(job, transformer.model.config.captionWidth);
  const coding = { vae: vae.model, weights: bytes.vae, size: job, otherBytes: others(bytes.vae.total), maxGpuBytes: memory?.maxGpuBytes };
  const needs: StageNeeds[] = [];
  if (text && bytes.encode && (job.positive.ids || job.negative?.ids)) {
    const own = captions + encodeActivations(text.encoder, bytes.encode, job);
    const alternatives = ["a smaller textEncoderDType (q8_0, q4_K)", "promptEmbeds made elsewhere"];
    needs.push({ stage: "encode", weights: bytes.encode, activationBytes: own + others(bytes.encode.total), alternatives });
  }
  if (request.image) {
    const sample = request.posterior === "sample" ? latentBytes(job) / job.shape[0] : 0;
    needs.push(autoencoderNeeds({ half: "encode", ...coding, besideBytes: captions + sample }));
  }
  needs.push({
    stage: "denoise",
    weights: bytes.denoise,
    activationBytes: denoiseActivations(parts, bytes.denoise, request, job) + others(bytes.denoise.total),
    alternatives: ["a smaller dtype (q8_0, q4_K)", "a smaller picture", ...(job.shape[0] > 1 ? ["fewer pictures at once"] : [])],
  });
  return [...needs, autoencoderNeeds({ half: "decode", ...coding, besideBytes: latentBytes(job) })];
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

function denoiseActivations(
  { transformer, anotherTransformer }: ZImageParts,
  bytes: Bytes,
  { image, mask }: ZImageRequest,
  job: ZImageJob,
): number {
  const another = anotherTransformer?.() ?? new ZImage(transformer.model.config);
  return activationBytes(another, transformer.policy, bytes.stored, (model, device) => {
    const [, channels, height, width] = job.shape;
    const captions = (lengths: readonly number[]) => lengths.map((l) => device.empty([l, model.config.captionWidth]));
    using given = hold({ positive: captions(job.positive.lengths), negative: captions(job.negative?.lengths ?? []) });
    using _start = hold({
      noise: device.empty(job.shape),
      clean: image && device.empty([1, channels, height, width]),
      mask: mask && device.empty([1, 1, height, width]),
    });
    const context = (list: readonly Tensor[]) => walkBlocks(model.runContext(repeated(list, job.count), { height, width }));
    const together = guidesTogether(job);
    using positive = hold(context(together ? [...given.value.positive, ...given.value.negative] : given.value.positive));
    using negative = hold(job.negative && !together ? context(given.value.negative) : undefined);
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
  const together = guidesTogether(job);
  const sigma = new Array<number>(together ? 2 * job.shape[0] : job.shape[0]).fill(1);
  using both = hold(together ? cat([x, x], 0) : undefined);
  using _p = hold(walkBlocks(model.run(both.value ?? x, sigma, positive)));
  using _n = hold(negative && walkBlocks(model.run(x, sigma, negative)));
  // The guided velocity and the next state.
  using _next = hold([device.empty(job.shape), device.empty(job.shape)]);
}
