// Device memory of a FLUX.1 request, stage by stage: every stage is walked through on a device that holds no values.
import {
  activationBytes,
  autoencoderNeeds,
  type MemoryStage,
  type ModelBytes,
  type Sides,
  type StageNeeds,
  walkBlocks,
} from "@wick/diffusion";
import { type Device, hold, scope, type Tensor } from "@wick/tensor";
import { Flux, type FluxContext, type FluxModulations } from "../flux1.ts";
import { runModulations } from "../modulation-weights.ts";
import { ReduxPrior } from "../redux.ts";
import { unpackLatents } from "../tokens.ts";
import { contextsOf, inputTokens } from "./conditions.ts";
import type { FluxPipelineParts, TextStage } from "./parts.ts";
import { plusTokens, reduxTokenCount, type TokenSum, withPictures } from "./redux-pictures.ts";
import type { FluxEmbeddings, FluxJob, FluxRequest } from "./request.ts";

const f32Bytes = 4;
const latentBytes = ({ shape: [b, c, h, w] }: FluxJob): number => b * c * h * w * f32Bytes;

/** Of the text and pooled vectors of both sides. */
function conditionBytes({ positive, negative }: FluxJob["textTokens"], { config }: Flux): number {
  const tokens = negative === undefined ? [positive] : [positive, negative];
  return tokens.reduce((sum, l) => sum + (l * config.textWidth + config.vectorWidth) * f32Bytes, 0);
}

/** Tensors that are there while pictures are encoded: conditions, latents that were made before, the mask of a hole. */
export function besideEncoding(job: FluxJob, { image, mask }: FluxRequest, model: Flux): number {
  const made = image && mask ? latentBytes(job) * 2 + job.width * job.height * f32Bytes : latentBytes(job);
  return conditionBytes(job.textTokens, model) + made;
}

/** What the parts of a run take whole and streamed, from the headers of their checkpoints. */
interface PartBytes {
  readonly clip: ModelBytes | undefined;
  readonly t5: ModelBytes | undefined;
  readonly redux: ModelBytes | undefined;
  readonly modulation: ModelBytes | undefined;
  readonly denoise: ModelBytes;
  readonly vae: ModelBytes;
}

async function partBytes(
  { text, redux, transformer, vae, precomputeModulation }: FluxPipelineParts,
  { prompt, redux: pictures, signal }: FluxRequest,
): Promise<PartBytes> {
  const { clip, t5 } = (prompt !== undefined && text) || { clip: undefined, t5: undefined };
  return {
    clip: await clip?.weights.bytes?.(signal),
    t5: await t5?.weights.bytes?.(signal),
    redux: pictures && (await redux?.bytes(signal)),
    modulation: precomputeModulation ? await transformer.modulation.bytes(signal) : undefined,
    denoise: await (precomputeModulation ? transformer.trunk : transformer.whole).bytes(signal),
    vae: await vae.bytes(signal),
  };
}

/** What each stage of a valid request needs: planMemory decides what fits. */
export async function fluxNeeds(parts: FluxPipelineParts, request: FluxRequest, job: FluxJob): Promise<StageNeeds[]> {
  const { text, transformer, vae, keepLoaded, memory, precomputeModulation } = parts;
  const bytes = await partBytes(parts, request);
  // Parts of a split transformer never stay.
  const kept = keepLoaded ? [bytes.clip, bytes.t5, bytes.redux, precomputeModulation ? undefined : bytes.denoise, bytes.vae] : [];
  const others = (own: ModelBytes): number => kept.reduce((sum, b) => sum + (b && b !== own ? b.total : 0), 0);
  const needs: StageNeeds[] = [];
  const encoding = (stage: MemoryStage, part: TextStage, weights: ModelBytes): StageNeeds => ({
    stage,
    weights,
    activationBytes: conditionBytes(job.textTokens, transformer.model) + (part.activationBytes?.(weights) ?? 0) + others(weights),
    alternatives: ["a smaller textEncoderDType (q8_0, q4_K)", "embeddings made elsewhere"],
  });
  if (text && bytes.clip) needs.push(encoding("encodePooled", text.clip, bytes.clip));
  if (text && bytes.t5) needs.push(encoding("encode", text.t5, bytes.t5));
  if (bytes.redux) needs.push(reduxNeeds(parts, bytes.redux, request, { job, otherBytes: others(bytes.redux) }));
  const coding = { vae: vae.model, weights: bytes.vae, otherBytes: others(bytes.vae), maxGpuBytes: memory?.maxGpuBytes };
  if (request.image) {
    const besideBytes = besideEncoding(job, request, transformer.model);
    needs.push(autoencoderNeeds({ half: "encode", ...coding, size: job.reference ?? job, besideBytes }));
  }
  needs.push(
    ...denoiseNeeds(parts, bytes, request, job).map((n) => ({
      ...n,
      activationBytes: n.activationBytes + others(n.weights as ModelBytes),
    })),
  );
  return [...needs, autoencoderNeeds({ half: "decode", ...coding, size: job, besideBytes: latentBytes(job) })];
}

/** Pictures that Redux reads beside the text, and the text with their tokens. */
function reduxNeeds(
  { redux, transformer }: FluxPipelineParts,
  weights: ModelBytes,
  { redux: pictures = [] }: FluxRequest,
  { job, otherBytes }: { job: FluxJob; otherBytes: number },
): StageNeeds {
  const { config } = redux!.model;
  const { textWidth, vectorWidth } = transformer.model.config;
  const { imageSize, channels } = config.encoder;
  const beside = activationBytes(new ReduxPrior(config), redux!.policy, weights.stored, (model, device) => {
    const textTokens = job.textTokens.positive - reduxTokenCount(model);
    using text = hold({ text: device.empty([1, textTokens, textWidth]), pooled: device.empty([1, vectorWidth]) });
    using sum = hold<TokenSum>({});
    // From the second picture on all are alike.
    for (const { strength = 1 } of pictures.slice(0, 2)) {
      using pixels = hold(device.empty([1, channels, imageSize, imageSize]));
      using one = hold(walkBlocks(model.run(pixels.value)));
      sum.update((before) => plusTokens(before, one.value, strength));
    }
    text.update((embeddings) => withPictures(embeddings, sum.value.tokens!, pictures));
  });
  const alternatives = ["a smaller textEncoderDType (q8_0)", "imageTokens made elsewhere"];
  return { stage: "encodeRedux", weights, activationBytes: beside + otherBytes, alternatives };
}

/** The loop, and before it the modulations made ahead. */
function denoiseNeeds(parts: FluxPipelineParts, { modulation, denoise }: PartBytes, request: FluxRequest, job: FluxJob): StageNeeds[] {
  const smaller = ["a smaller dtype (q8_0, q4_K)", "a smaller picture", ...(job.shape[0] > 1 ? ["fewer pictures at once"] : [])];
  const peaks = denoisePeaks(parts, denoise, request, job);
  const loop = { stage: "denoise", weights: denoise, activationBytes: peaks.loop } as const;
  if (!modulation) return [{ ...loop, alternatives: ["precomputeModulation: true", ...smaller] }];
  const ahead = {
    stage: "modulate",
    weights: modulation,
    activationBytes: peaks.ahead,
    alternatives: ["fewer steps", ...smaller],
  } as const;
  return [ahead, { ...loop, alternatives: smaller }];
}

/** Highest bytes beside the weights, while modulations are made ahead and in the loop. */
function denoisePeaks(
  parts: FluxPipelineParts,
  { stored }: ModelBytes,
  request: FluxRequest,
  job: FluxJob,
): { ahead: number; loop: number } {
  const { transformer, precomputeModulation, vae } = parts;
  const { config } = transformer.model;
  let ahead = 0;
  const loop = activationBytes(transformer.another?.() ?? new Flux(config), transformer.whole.policy, stored, (model, device) => {
    const weights = device.liveBytes;
    const embeddings = (tokens: number): FluxEmbeddings => ({
      text: device.empty([1, tokens, config.textWidth]),
      pooled: device.empty([1, config.vectorWidth]),
    });
    const { positive, negative } = job.textTokens;
    using prompts = hold({ positive: embeddings(positive), negative: negative === undefined ? undefined : embeddings(negative) });
    using start = hold(emptyStart(device, request, job, { config, factor: vae.model.factor }));
    const at = ({ pooled }: FluxEmbeddings) =>
      walkBlocks(runModulations(model, job.sigmas.slice(0, -1), { y: pooled, guidance: job.guidance })) as Ahead;
    const { value } = prompts;
    using made = hold(precomputeModulation ? { positive: at(value.positive), negative: value.negative && at(value.negative) } : undefined);
    ahead = device.peakBytes - weights;
    device.resetPeak();
    using contexts = hold(contextsOf(model, job, value, vae.model.factor));
    // The start, and the solver's copy of it.
    using x = hold([device.empty(job.shape), device.empty(job.shape)]);
    const run = (side: keyof Sides<unknown>) =>
      walkOnce(model, job, {
        context: contexts.value[side]!,
        y: value[side]!.pooled,
        made: made.value?.[side]?.get(job.sigmas[0]!),
        tokens: () => inputTokens(x.value[0]!, start.value),
      });
    using _p = hold(run("positive"));
    using _n = hold(contexts.value.negative && run("negative"));
    // The guided velocity and the next state.
    using _next = hold([device.empty(job.shape), device.empty(job.shape)]);
  });
  return { ahead, loop };
}

type Ahead = ReadonlyMap<number, FluxModulations>;

interface OneEvaluation {
  readonly context: FluxContext;
  readonly y: Tensor;
  readonly made: FluxModulations | undefined;
  readonly tokens: () => Tensor;
}

/** One evaluation of the network, as the pipeline does it. */
function walkOnce(model: Flux, job: FluxJob, { context, y, made, tokens }: OneEvaluation): Tensor {
  using vec = hold(made ? undefined : model.condition({ sigma: [1], y, guidance: job.guidance }));
  using input = hold(scope(tokens));
  using out = hold(walkBlocks(model.run(input.value, made ?? vec.value!, context)));
  return scope(() => unpackLatents(out.value.narrow(1, 0, job.rows * job.columns), job).contiguous());
}

/** Tensors of the shapes that a request's pictures have. */
function emptyStart(
  device: Device,
  { image, mask }: FluxRequest,
  job: FluxJob,
  { config, factor }: { config: Flux["config"]; factor: number },
) {
  const [, channels, h, w] = job.shape;
  const extra = config.inChannels - config.outChannels;
  const tokens = (size: { width: number; height: number }) => (size.width / factor / 2) * (size.height / factor / 2);
  return {
    noise: device.empty(job.shape),
    clean: image && !job.reference ? device.empty([1, channels, h, w]) : undefined,
    mask: mask && device.empty([1, 1, h, w]),
    channels: extra > 0 ? device.empty([1, job.rows * job.columns, extra]) : undefined,
    reference: job.reference && device.empty([1, tokens(job.reference), config.inChannels]),
  };
}
