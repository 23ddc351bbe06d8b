// Pictures with FLUX.1: from a prompt, from a picture and a prompt, into a hole, by edit, along a map. One pipeline for all releases.
// After black-forest-labs/flux @ 802fb47 src/flux/{sampling,cli*}.py and huggingface/diffusers src/diffusers/pipelines/flux/pipeline_flux*.py.

import {
  binaryMask,
  type Draw,
  type EncodePicture,
  guided,
  ImagePipeline,
  type ImageStep,
  latentMask,
  loading,
  type MemoryPlan,
  noiseStream,
  type Planned,
  pixelTensor,
  RequestError,
  type Sides,
  type StageNeeds,
  type StepRun,
  stepRun,
  streamBytesOf,
  type Velocity,
  type Watching,
} from "@wick/diffusion";
import type { Image } from "@wick/image";
import { type Module, runBlocksAsync } from "@wick/nn";
import { cat, hold, scope, type Tensor } from "@wick/tensor";
import { latentPreview } from "@wick/vae";
import type { FluxContext, FluxModulations } from "../flux1.ts";
import { runModulations } from "../modulation-weights.ts";
import { maskTokens, packLatents, unpackLatents } from "../tokens.ts";
import { contextsOf, type FluxStart, inputTokens } from "./conditions.ts";
import { besideEncoding, fluxNeeds } from "./memory.ts";
import type { FluxPipelineParts, TextStage } from "./parts.ts";
import { reduxTokenCount, reduxTokens, withPictures } from "./redux-pictures.ts";
import type { ReduxPicture } from "./redux-request.ts";
import { type FluxEmbeddings, type FluxJob, type FluxRequest, planJob } from "./request.ts";

/** A request in numbers, and the device memory that it takes. */
export interface FluxPlan extends FluxJob, Planned {}

/** A finished step with a look at the picture so far. */
export type FluxStep = ImageStep;

/** By noise level. */
type Ahead = ReadonlyMap<number, FluxModulations>;

/** Prompts and pictures to pictures with FLUX.1; `flux()` makes one. */
export class FluxPipeline extends ImagePipeline<FluxRequest, FluxJob, FluxPipelineParts> {
  override check(request: FluxRequest): FluxJob {
    const { variant, transformer, vae, text, redux, defaults } = this.parts;
    const job = planJob(request, {
      variant: { ...variant, defaults },
      config: transformer.model.config,
      factor: vae.model.factor,
      latentChannels: vae.model.config.latentChannels,
      reduxTokens: redux && reduxTokenCount(redux.model),
    });
    for (const prompt of [request.prompt, job.trueCfg > 1 && !request.negativeEmbeddings ? (request.negativePrompt ?? "") : undefined]) {
      if (prompt === undefined) continue;
      if (!text)
        throw new RequestError("generate", "this pipeline has no text encoders; pass embeddings, and negativeEmbeddings for trueCfg");
      text.t5.encoder.tokens(prompt);
    }
    return job;
  }

  override steps(request: FluxRequest): StepRun<FluxStep, Tensor> {
    return stepRun(this.#run(request));
  }

  async *#run(request: FluxRequest): AsyncGenerator<FluxStep, Tensor, void> {
    const job = this.check(request);
    const memory = await this.limits(request, job);
    using prompts = hold(await this.#encodeBoth(request, job, memory));
    using start = hold(await this.#start(request, job));
    using ahead = hold(await this.#modulationsAhead(request, job, prompts.value, memory));
    const { transformer, keepLoaded, precomputeModulation, vae } = this.parts;
    const weights = precomputeModulation ? transformer.trunk : transformer.whole;
    try {
      await weights.ensure(this.device, loading(request, streamBytesOf(memory, "denoise")));
      using contexts = hold(contextsOf(transformer.model, job, prompts.value, vae.model.factor));
      const given = { prompts: prompts.value, contexts: contexts.value, start: start.value, ahead: ahead.value };
      return yield* this.denoise(request, job, start.value, this.#velocity(request, job, given));
    } finally {
      await weights.settle();
      if (precomputeModulation || !keepLoaded) weights.release();
    }
  }

  /** T5's hidden states and CLIP's pooled output of one prompt, owned by the caller. */
  encode(prompt: string, request: Watching = {}): Promise<FluxEmbeddings> {
    return this.#encode(prompt, request, undefined);
  }

  /**
   * The sum of pictures' tokens [1, l, textWidth] by Redux, each times strength and scale; owned by the caller. What `imageTokens` of a request
   * takes: pictures whose tokens shall follow each other are read one by one and joined.
   */
  reduxTokens(pictures: readonly ReduxPicture[], request: Watching = {}): Promise<Tensor> {
    return this.#reduxTokens(pictures, request, undefined);
  }

  override get networks(): Readonly<Record<string, Module>> {
    const { text, redux, transformer, vae } = this.parts;
    const encoders = Object.entries({
      text_encoder: text?.clip.network,
      text_encoder_2: text?.t5.network,
      image_encoder: redux?.model.image_encoder,
      image_embedder: redux?.model.image_embedder,
    });
    return {
      ...Object.fromEntries(encoders.flatMap(([name, n]) => (n ? [[name, n]] : []))),
      transformer: transformer.model,
      vae: vae.model,
    };
  }

  /** Releases all weights. */
  override [Symbol.dispose](): void {
    const { text, redux, transformer, vae } = this.parts;
    const stages = [text?.t5.weights, text?.clip.weights, redux, transformer.modulation, transformer.trunk, transformer.whole, vae];
    for (const part of stages) part?.release();
  }

  protected override needs(request: FluxRequest, job: FluxJob): Promise<StageNeeds[]> {
    return fluxNeeds(this.parts, request, job);
  }

  protected override rough(latents: Tensor): Tensor {
    return latentPreview(latents);
  }

  /** In bf16 unless told otherwise, as the authors' pipelines draw. */
  protected override noise({ seed = 0, rng, noiseDType = "bf16" }: FluxRequest, offset = 0n): Draw {
    return noiseStream(this.device, { seed: BigInt(seed) + offset, drawDType: noiseDType, ...(rng ? { rng } : {}) });
  }

  async #encode(prompt: string, request: Watching, memory: MemoryPlan | undefined): Promise<FluxEmbeddings> {
    const { text, keepLoaded } = this.parts;
    if (!text) throw new RequestError("generate", "this pipeline has no text encoders; pass embeddings");
    const { signal } = request;
    const one = async ({ encoder, weights }: TextStage, stage: "encodePooled" | "encode"): Promise<Tensor> => {
      try {
        await weights.ensure(this.device, loading(request, streamBytesOf(memory, stage)));
        request.onProgress?.({ stage: "encode" });
        return await encoder.encode(prompt, { device: this.device, signal, ...weights.driver?.(signal) });
      } finally {
        await weights.settle?.();
        if (!keepLoaded) weights.release();
      }
    };
    using pooled = hold(await one(text.clip, "encodePooled"));
    return { text: await one(text.t5, "encode"), pooled: pooled.release() };
  }

  async #encodeBoth(request: FluxRequest, job: FluxJob, memory: MemoryPlan | undefined): Promise<Sides<FluxEmbeddings>> {
    const copied = (e: FluxEmbeddings) => scope(() => ({ text: e.text.to("f32").copy(), pooled: e.pooled.to("f32").copy() }));
    const { embeddings, redux, imageTokens, prompt, negativeEmbeddings, negativePrompt } = request;
    const given = embeddings ? copied(embeddings) : prompt === undefined ? this.#noText() : undefined;
    using positive = hold(given ?? (await this.#encode(prompt!, request, memory)));
    if (redux) {
      using tokens = hold(await this.#reduxTokens(redux, request, memory));
      positive.update((text) => withPictures(text, tokens.value, redux));
    }
    if (imageTokens) positive.update(({ text, pooled }) => ({ text: cat([text, imageTokens.to("f32")], 1), pooled }));
    if (job.trueCfg === 1) return { positive: positive.release(), negative: undefined };
    const negative = negativeEmbeddings ? copied(negativeEmbeddings) : await this.#encode(negativePrompt ?? "", request, memory);
    return { positive: positive.release(), negative };
  }

  /** Zeros, as diffusers' prior has them without text encoders. */
  #noText(): FluxEmbeddings {
    const { textWidth, vectorWidth } = this.parts.transformer.model.config;
    return scope(() => ({
      text: this.device.zeros([1, this.parts.variant.maxTextTokens, textWidth]),
      pooled: this.device.zeros([1, vectorWidth]),
    }));
  }

  #reduxTokens(pictures: readonly ReduxPicture[], request: Watching, memory: MemoryPlan | undefined): Promise<Tensor> {
    const { redux, keepLoaded } = this.parts;
    const streamBytes = streamBytesOf(memory, "encodeRedux");
    return reduxTokens(redux, pictures, { device: this.device, request, loading: loading(request, streamBytes), keepLoaded });
  }

  /** Draws the noise and encodes the pictures, drawing samples in diffusers' order: Fill takes the noise first, the others the picture. */
  #start(request: FluxRequest, job: FluxJob): Promise<FluxStart> {
    const { image, mask, posterior = "mean", latents } = request;
    const { picture } = this.parts.variant;
    const draw = this.noise(request);
    const sample = posterior === "sample" && picture !== "reference" ? draw : undefined;
    return this.withEncoder(request, besideEncoding(job, request, this.parts.transformer.model), async (encode) => {
      using made = hold<{ -readonly [K in keyof FluxStart]?: Tensor }>({});
      const add = (key: keyof FluxStart, tensor: Tensor) => made.update((all) => ({ ...all, [key]: tensor }));
      const startsFromPicture = picture === "start" || (request.strength ?? 1) < 1;
      if (image && (picture !== "hole" || startsFromPicture)) {
        const encoded = await encode(() => pixelTensor(this.device, image, job.reference ?? job), sample);
        if (picture === "reference") add("reference", packed(encoded));
        else if (picture === "control") add("channels", packed(encoded));
        else add("clean", encoded);
      }
      // diffusers' Fill samples the whole picture even when it does not start from it.
      else if (sample && image) draw([1, ...job.shape.slice(1)]).dispose();
      add("noise", latents ? scope(() => latents.to("f32").copy()) : draw(job.shape));
      if (image && mask && picture === "hole") add("channels", await this.#holeChannels({ image, mask }, job, encode, sample));
      if (mask && picture === "start") add("mask", latentMask(this.device, mask, job, this.parts.vae.model.factor));
      const { noise, clean, channels, reference, mask: area } = made.release();
      return { noise: noise!, clean, channels, reference, mask: area };
    });
  }

  /** Tokens of the picture without the hole, and of the mask [1, l, 64 + 256]. */
  async #holeChannels(
    { image, mask }: { image: Image; mask: Image },
    job: FluxJob,
    encode: EncodePicture,
    draw: Draw | undefined,
  ): Promise<Tensor> {
    const { device } = this;
    using hole = hold(device.tensor(binaryMask(mask, job), [1, 1, job.height, job.width], { label: "mask" }));
    using kept = hold(await encode(() => pixelTensor(device, image, job).mul(hole.value.rsub(1)), draw));
    return scope(() => cat([packLatents(kept.value), maskTokens(hole.value, this.parts.vae.model.factor)], 2));
  }

  /** Modulations of every noise level, with their weights on the device for just that long. */
  async #modulationsAhead(
    request: FluxRequest,
    job: FluxJob,
    prompts: Sides<FluxEmbeddings>,
    memory: MemoryPlan | undefined,
  ): Promise<Sides<Ahead> | undefined> {
    const { transformer, precomputeModulation } = this.parts;
    if (!precomputeModulation) return undefined;
    const { signal } = request;
    const { model, modulation } = transformer;
    try {
      // `trunk` and `whole` fill the same parameters.
      transformer.whole.release();
      await modulation.ensure(this.device, loading(request, streamBytesOf(memory, "modulate")));
      const driver = { signal, ...modulation.driver(signal) };
      const at = ({ pooled }: FluxEmbeddings) =>
        runBlocksAsync(this.device, runModulations(model, job.sigmas.slice(0, -1), { y: pooled, guidance: job.guidance }), driver);
      using positive = hold(await at(prompts.positive));
      const negative = prompts.negative && (await at(prompts.negative));
      return { positive: positive.release(), negative };
    } finally {
      await modulation.settle();
      modulation.release();
    }
  }

  #velocity(request: FluxRequest, job: FluxJob, { prompts, contexts, start, ahead }: VelocityInputs): Velocity {
    const { transformer, precomputeModulation } = this.parts;
    const { model } = transformer;
    const weights = precomputeModulation ? transformer.trunk : transformer.whole;
    const blocks = model.double_blocks.length + model.single_blocks.length;
    const evaluate = async (x: Tensor, sigma: number, side: keyof Sides<unknown>): Promise<Tensor> => {
      const made = ahead && modulationsAt(ahead[side]!, sigma, job);
      using vec = hold(made ? undefined : model.condition({ sigma: [sigma], y: prompts[side]!.pooled, guidance: job.guidance }));
      using tokens = hold(scope(() => inputTokens(x, start)));
      const run = model.run(tokens.value, made ?? vec.value!, contexts[side]!);
      using out = hold(await runBlocksAsync(this.device, run, this.driver(request, job, { weights, blocks, sigma })));
      return scope(() => unpackLatents(out.value.narrow(1, 0, job.rows * job.columns), job));
    };
    return async (x, sigma) => {
      using positive = hold(await evaluate(x, sigma, "positive"));
      if (!contexts.negative) return positive.release();
      using negative = hold(await evaluate(x, sigma, "negative"));
      // negative + s (positive - negative) = positive + (s - 1) (positive - negative)
      return guided(positive.value, negative.value, { scale: job.trueCfg - 1, sigma, sigmas: job.sigmas, x }, job.guidanceRule);
    };
  }
}

interface VelocityInputs {
  readonly prompts: Sides<FluxEmbeddings>;
  readonly contexts: Sides<FluxContext>;
  readonly start: FluxStart;
  readonly ahead: Sides<Ahead> | undefined;
}

function modulationsAt(ahead: Ahead, sigma: number, { solver }: FluxJob): FluxModulations {
  const made = ahead.get(sigma);
  if (made) return made;
  const detail = `the solver ${solver.name} evaluates between the noise levels of the schedule, at ${sigma}`;
  throw new RequestError("generate", `${detail}; open the pipeline without precomputeModulation`);
}

/** Tokens of latents that are then released. */
function packed(latents: Tensor): Tensor {
  using owned = hold(latents);
  return scope(() => packLatents(owned.value).contiguous());
}
