// Pictures with FLUX.1: from a prompt, from a picture and a prompt, into a hole, by edit, along a map. One pipeline for all releases.
// After black-forest-labs/flux @ 802fb47 src/flux/{sampling,cli*}.py and huggingface/diffusers src/diffusers/pipelines/flux/pipeline_flux*.py.
import {
  atNoiseLevel,
  binaryMask,
  checkFinite,
  combineGuidance,
  DecodeError,
  type DenoiseStep,
  denoise,
  type EnsureOptions,
  keepKnown,
  type LazyModel,
  latentMask,
  noiseStream,
  pixelTensor,
  RequestError,
  readLatents,
  type Velocity,
} from "@wick/diffusion";
import { fromPixels, type Image } from "@wick/image";
import { runBlocksAsync } from "@wick/nn";
import { cat, type Device, type Held, hold, scope, type Tensor } from "@wick/tensor";
import type { AutoencoderKl } from "@wick/vae";
import type { Flux, FluxContext, FluxModulations } from "../flux1.ts";
import { modulationsFor } from "../modulation-weights.ts";
import { imagePositions, maskTokens, packLatents, textPositions, unpackLatents } from "../tokens.ts";
import type { FluxDefaults, FluxVariant } from "../variants.ts";
import { type FluxEmbeddings, type FluxPlan, type FluxRequest, planRequest } from "./request.ts";

/** A tokenizer with its text encoder; @wick/encoders has T5PromptEncoder and ClipPromptEncoder. */
export interface TextEncoder {
  /** Throws when the prompt is too long. */
  tokens(prompt: string): unknown;
  /** One prompt → [1, …], owned by the caller. */
  encode(prompt: string, options: { device: Device; signal?: AbortSignal | undefined }): Promise<Tensor>;
}

/** Weights that come and go; LazyModel is one. */
export interface Weights {
  /** True while they are on the device. */
  readonly isLoaded: boolean;
  /** Brings them to the device, unless they are there. */
  ensure(device: Device, options?: EnsureOptions): Promise<unknown>;
  /** Lets them go. */
  release(): void;
}

/** What turns a prompt into tensors. */
export interface TextStage {
  /** Prompts to tensors. */
  readonly encoder: TextEncoder;
  /** What it needs on the device. */
  readonly weights: Weights;
}

/** The transformer whole, and in the two parts that `precomputeModulation` loads one after the other; all fill `model`. */
export interface TransformerStage {
  /** The network that all three fill. */
  readonly model: Flux;
  /** All weights. */
  readonly whole: Weights;
  /** Those that make modulations. */
  readonly modulation: Weights;
  /** The rest. */
  readonly trunk: Weights;
}

/** The parts a pipeline runs; `flux()` makes them from files. */
export interface FluxPipelineParts {
  /** Which release it is. */
  readonly variant: FluxVariant;
  /** Absent: requests must bring embeddings. */
  readonly text:
    | {
        /** Tokens of the prompt. */
        readonly t5: TextStage;
        /** The pooled vector. */
        readonly clip: TextStage;
      }
    | undefined;
  /** The denoiser. */
  readonly transformer: TransformerStage;
  /** Pictures to latents and back. */
  readonly vae: LazyModel<AutoencoderKl>;
  /** What requests leave out. */
  readonly defaults: FluxDefaults;
  /** Keep all weights on the device between stages and images. */
  readonly keepLoaded: boolean;
  /** Compute the modulations of the whole schedule first and let go of their weights, 27 % of the network. Never keeps the transformer loaded. */
  readonly precomputeModulation: boolean;
}

/** A finished step with a look at the picture so far. */
export interface FluxStep extends DenoiseStep {
  /** Decodes the current latents. */
  preview(): Promise<readonly Image[]>;
}

type Watching = Pick<FluxRequest, "signal" | "onProgress">;

/** Both sides of guidance; `negative` when it is used. */
interface Sides<T> {
  readonly positive: T;
  readonly negative: T | undefined;
}

/** What the pictures of a request become. */
interface Prepared {
  readonly noise: Tensor;
  /** Latents of a start picture [1, c, h, w]. */
  readonly clean: Tensor | undefined;
  /** Features beside those of every image token [1, l, …]. */
  readonly channels: Tensor | undefined;
  /** Tokens after the image tokens [1, lRef, …]. */
  readonly reference: Tensor | undefined;
  /** Where start pictures are made anew [1, 1, h, w]. */
  readonly mask: Tensor | undefined;
}

/** Prompts and pictures to pictures with FLUX.1; `flux()` makes one. */
export class FluxPipeline {
  /** Where it computes. */
  readonly device: Device;
  /** What it runs. */
  readonly parts: FluxPipelineParts;
  constructor(device: Device, parts: FluxPipelineParts) {
    this.device = device;
    this.parts = parts;
  }

  /** One picture of a request. */
  async generate(request: FluxRequest): Promise<Image> {
    const [image] = await this.generateAll(request);
    return image!;
  }

  /** All `count` pictures of a request. Throws DecodeError, which holds the latents, when only decoding fails. */
  async generateAll(request: FluxRequest): Promise<readonly Image[]> {
    const run = this.steps(request);
    for (;;) {
      const step = await run.next();
      if (!step.done) continue;
      using latents = hold(step.value);
      const kept = await readLatents(latents.value);
      try {
        return await this.#decode(latents.value, request);
      } catch (error) {
        throw request.signal?.aborted ? error : new DecodeError(kept, error);
      }
    }
  }

  /** Denoises step by step; returns the final latents [count, c, h/8, w/8], owned by the caller. */
  async *steps(request: FluxRequest): AsyncGenerator<FluxStep, Tensor, void> {
    const plan = this.plan(request);
    using prompts = hold(await this.#encodeBoth(request, plan));
    using prepared = hold(await this.#prepare(request, plan));
    using ahead = hold(await this.#modulationsAhead(request, plan, prompts.value));
    const { transformer, keepLoaded, precomputeModulation } = this.parts;
    const weights = precomputeModulation ? transformer.trunk : transformer.whole;
    try {
      await weights.ensure(this.device, loading(request));
      using contexts = hold(this.#contexts(plan, prompts.value, prepared.value));
      const velocity = this.#velocity({
        request,
        plan,
        prompts: prompts.value,
        contexts: contexts.value,
        prepared: prepared.value,
        ahead: ahead.value,
      });
      return yield* this.#denoise(request, plan, prepared, velocity);
    } finally {
      if (precomputeModulation || !keepLoaded) weights.release();
    }
  }

  /** What a request means in numbers; throws RequestError or ShapeError for what is wrong with it. */
  plan(request: FluxRequest): FluxPlan {
    const { variant, transformer, vae, text, defaults } = this.parts;
    const { latentChannels } = vae.model.config;
    const plan = planRequest(request, {
      variant: { ...variant, defaults },
      config: transformer.model.config,
      factor: vae.model.factor,
      latentChannels,
    });
    for (const prompt of [request.prompt, plan.trueCfg > 1 && !request.negativeEmbeddings ? (request.negativePrompt ?? "") : undefined]) {
      if (prompt === undefined) continue;
      if (!text)
        throw new RequestError("generate", "this pipeline has no text encoders; pass embeddings, and negativeEmbeddings for trueCfg");
      text.t5.encoder.tokens(prompt);
    }
    return plan;
  }

  /** T5's hidden states and CLIP's pooled output of one prompt, owned by the caller. */
  async encode(prompt: string, request: Watching = {}): Promise<FluxEmbeddings> {
    const { text, keepLoaded } = this.parts;
    if (!text) throw new RequestError("generate", "this pipeline has no text encoders; pass embeddings");
    const one = async ({ encoder, weights }: TextStage): Promise<Tensor> => {
      try {
        await weights.ensure(this.device, loading(request));
        request.onProgress?.({ stage: "encode" });
        return await encoder.encode(prompt, { device: this.device, signal: request.signal });
      } finally {
        if (!keepLoaded) weights.release();
      }
    };
    using pooled = hold(await one(text.clip));
    return { text: await one(text.t5), pooled: pooled.release() };
  }

  /** Latents [b, c, h, w] to pictures. Throws NumericsError when the latents hold NaN. */
  async decode(latents: Tensor, request: Watching = {}): Promise<readonly Image[]> {
    await checkFinite(latents, "the latents");
    return await this.#decode(latents, request);
  }

  async #decode(latents: Tensor, request: Watching): Promise<readonly Image[]> {
    const { vae, keepLoaded } = this.parts;
    const images: Image[] = [];
    try {
      const model = await vae.ensure(this.device, loading(request));
      request.onProgress?.({ stage: "decode" });
      for (let i = 0; i < latents.dim(0); i++) {
        using one = hold(latents.narrow(0, i, 1));
        using pixels = hold(await runBlocksAsync(this.device, model.runDecode(one.value), { signal: request.signal }));
        const [, , height, width] = pixels.value.dims(4);
        images.push(fromPixels((await pixels.value.toArray()) as Float32Array, width, height));
      }
    } finally {
      if (!keepLoaded) vae.release();
    }
    return images;
  }

  /** Releases all weights. */
  [Symbol.dispose](): void {
    const { text, transformer, vae } = this.parts;
    const stages = [text?.t5.weights, text?.clip.weights, transformer.modulation, transformer.trunk, transformer.whole, vae];
    for (const part of stages) part?.release();
  }

  async #encodeBoth(request: FluxRequest, plan: FluxPlan): Promise<Sides<FluxEmbeddings>> {
    const copied = (e: FluxEmbeddings) => scope(() => ({ text: e.text.to("f32").copy(), pooled: e.pooled.to("f32").copy() }));
    const { embeddings, prompt, negativeEmbeddings, negativePrompt } = request;
    using positive = hold(embeddings ? copied(embeddings) : await this.encode(prompt!, request));
    if (plan.trueCfg === 1) return { positive: positive.release(), negative: undefined };
    const negative = negativeEmbeddings ? copied(negativeEmbeddings) : await this.encode(negativePrompt ?? "", request);
    return { positive: positive.release(), negative };
  }

  /** Draws the noise and encodes the pictures, drawing samples in diffusers' order: Fill takes the noise first, the others the picture. */
  async #prepare(request: FluxRequest, plan: FluxPlan): Promise<Prepared> {
    const { seed = 0, rng, noiseDType = "bf16", image, mask, posterior = "mean", latents } = request;
    const { picture } = this.parts.variant;
    const draw = noiseStream(this.device, { seed, drawDType: noiseDType, ...(rng ? { rng } : {}) });
    const sample = posterior === "sample" && picture !== "reference" ? draw : undefined;
    const encode = (pixels: () => Tensor) => this.#encodePicture(pixels, request, sample);
    using made = hold<{ -readonly [K in keyof Prepared]?: Tensor }>({});
    const add = (key: keyof Prepared, tensor: Tensor) => made.update((all) => ({ ...all, [key]: tensor }));
    const size = plan.reference ?? plan;
    const startsFromPicture = picture === "start" || (request.strength ?? 1) < 1;
    if (image && (picture !== "hole" || startsFromPicture)) {
      const encoded = await encode(() => pixelTensor(this.device, image, size));
      if (picture === "reference") add("reference", packed(encoded));
      else if (picture === "control") add("channels", packed(encoded));
      else add("clean", encoded);
    }
    // diffusers' Fill samples the whole picture even when it does not start from it.
    else if (sample && image) draw([1, ...plan.shape.slice(1)]).dispose();
    add("noise", latents ? scope(() => latents.to("f32").copy()) : draw(plan.shape));
    if (image && mask && picture === "hole") add("channels", await this.#holeChannels(encode, image, mask, plan));
    if (mask && picture === "start") {
      add("mask", latentMask(this.device, mask, plan, this.parts.vae.model.factor));
    }
    if (image && !this.parts.keepLoaded) this.parts.vae.release();
    const { noise, clean, channels, reference, mask: area } = made.release();
    return { noise: noise!, clean, channels, reference, mask: area };
  }

  async #encodePicture(pixels: () => Tensor, request: Watching, draw: ((shape: readonly number[]) => Tensor) | undefined): Promise<Tensor> {
    const { vae, keepLoaded } = this.parts;
    try {
      const model = await vae.ensure(this.device, loading(request));
      using x = hold(scope(pixels));
      const [, , height, width] = x.value.dims(4);
      using noise = hold(draw?.([1, model.config.latentChannels, height / model.factor, width / model.factor]));
      return await runBlocksAsync(this.device, model.runEncode(x.value, { noise: noise.value }), { signal: request.signal });
    } catch (error) {
      if (!keepLoaded) vae.release();
      throw error;
    }
  }

  /** Tokens of the picture without the hole, and of the mask [1, l, 64 + 256]. */
  async #holeChannels(encode: (pixels: () => Tensor) => Promise<Tensor>, image: Image, mask: Image, plan: FluxPlan): Promise<Tensor> {
    const { device } = this;
    using hole = hold(device.tensor(binaryMask(mask, plan), [1, 1, plan.height, plan.width], { label: "mask" }));
    using kept = hold(await encode(() => pixelTensor(device, image, plan).mul(hole.value.rsub(1))));
    return scope(() => cat([packLatents(kept.value), maskTokens(hole.value, this.parts.vae.model.factor)], 2));
  }

  /** Modulations of every noise level, with their weights on the device for just that long. */
  async #modulationsAhead(
    request: FluxRequest,
    plan: FluxPlan,
    prompts: Sides<FluxEmbeddings>,
  ): Promise<Sides<Map<number, FluxModulations>> | undefined> {
    const { transformer, precomputeModulation } = this.parts;
    if (!precomputeModulation) return undefined;
    try {
      // `trunk` and `whole` fill the same parameters.
      transformer.whole.release();
      await transformer.modulation.ensure(this.device, loading(request));
      const at = ({ pooled }: FluxEmbeddings) =>
        modulationsFor(transformer.model, plan.sigmas.slice(0, -1), { y: pooled, guidance: plan.guidance }) as Map<number, FluxModulations>;
      return scope(() => ({ positive: at(prompts.positive), negative: prompts.negative && at(prompts.negative) }));
    } finally {
      transformer.modulation.release();
    }
  }

  #contexts(plan: FluxPlan, prompts: Sides<FluxEmbeddings>, { reference }: Prepared): Sides<FluxContext> {
    const { model } = this.parts.transformer;
    const factor = this.parts.vae.model.factor * 2;
    const size = plan.reference && reference ? [plan.reference.height / factor, plan.reference.width / factor] : [0, 0];
    const positions = [...imagePositions(plan.rows, plan.columns), ...imagePositions(size[0]!, size[1]!, 1)];
    const context = ({ text }: FluxEmbeddings) => model.context(text, textPositions(text.dim(1)), positions);
    return scope(() => ({ positive: context(prompts.positive), negative: prompts.negative && context(prompts.negative) }));
  }

  #velocity({ request, plan, prompts, contexts, prepared, ahead }: VelocityInputs): Velocity {
    const { model } = this.parts.transformer;
    const blocks = model.double_blocks.length + model.single_blocks.length;
    const steps = plan.sigmas.length - 1;
    const evaluate = async (x: Tensor, sigma: number, side: keyof Sides<unknown>): Promise<Tensor> => {
      const y = prompts[side]!.pooled;
      const condition = ahead?.[side]?.get(sigma) ?? model.condition({ sigma: [sigma], y, guidance: plan.guidance });
      using made = hold(ahead ? undefined : condition);
      using tokens = hold(scope(() => inputTokens(x, prepared)));
      using out = hold(
        await runBlocksAsync(this.device, model.run(tokens.value, condition, contexts[side]!), {
          signal: request.signal,
          after: (_, block) => request.onProgress?.({ stage: "block", step: plan.sigmas.indexOf(sigma), steps, block: block + 1, blocks }),
        }),
      );
      void made;
      return scope(() => unpackLatents(out.value.narrow(1, 0, plan.rows * plan.columns), plan));
    };
    return async (x, sigma) => {
      using positive = hold(await evaluate(x, sigma, "positive"));
      if (!contexts.negative) return positive.release();
      using negative = hold(await evaluate(x, sigma, "negative"));
      // negative + s (positive - negative) = positive + (s - 1) (positive - negative)
      return combineGuidance(positive.value, negative.value, plan.trueCfg - 1);
    };
  }

  async *#denoise(
    request: FluxRequest,
    plan: FluxPlan,
    prepared: Held<Prepared>,
    velocity: Velocity,
  ): AsyncGenerator<FluxStep, Tensor, void> {
    const { noise, clean, mask } = prepared.value;
    using start = hold(scope(() => (clean ? atNoiseLevel(clean, noise, plan.sigmas[0]!) : noise.copy())));
    const run = denoise(this.device, {
      latents: start.value,
      sigmas: plan.sigmas,
      solver: plan.solver,
      velocity,
      noise: this.#stepNoise(request, plan),
      signal: request.signal,
      ...(clean && mask ? { adjust: keepKnown(clean, noise, mask) } : {}),
    });
    try {
      for (;;) {
        const step = await run.next();
        if (step.done) return step.value;
        const { index, count, next, latents, elapsedMs } = step.value;
        await checkFinite(latents, `the result of step ${index + 1} of ${count}`);
        request.onProgress?.({ stage: "step", step: index + 1, steps: count, sigma: next, elapsedMs });
        yield { ...step.value, preview: () => this.decode(latents, request) };
      }
    } finally {
      // Ends the inner iteration too when this one is left early.
      await run.return(undefined as unknown as Tensor);
    }
  }

  /** Fresh normals for stochastic solvers, from a stream of its own. */
  #stepNoise({ seed = 0, rng, noiseDType = "bf16" }: FluxRequest, plan: FluxPlan): () => Tensor {
    const draw = noiseStream(this.device, { seed: BigInt(seed) + 1n, drawDType: noiseDType, ...(rng ? { rng } : {}) });
    return () => draw(plan.shape);
  }
}

interface VelocityInputs {
  readonly request: FluxRequest;
  readonly plan: FluxPlan;
  readonly prompts: Sides<FluxEmbeddings>;
  readonly contexts: Sides<FluxContext>;
  readonly prepared: Prepared;
  readonly ahead: Sides<Map<number, FluxModulations>> | undefined;
}

const loading = ({ signal, onProgress }: Watching): EnsureOptions => ({
  signal,
  onProgress: onProgress && ((model, progress) => onProgress({ stage: "load", model, progress })),
});

/** Tokens of latents that are then released. */
function packed(latents: Tensor): Tensor {
  using owned = hold(latents);
  return scope(() => packLatents(owned.value).contiguous());
}

/** What the network sees of latents x [b, c, h, w]: their tokens, with what stands beside and after them. */
function inputTokens(x: Tensor, { channels, reference }: Prepared): Tensor {
  const repeated = (t: Tensor) => t.expand(x.dim(0), -1, -1);
  const beside = channels ? cat([packLatents(x), repeated(channels)], 2) : packLatents(x);
  return reference ? cat([beside, repeated(reference)], 1) : beside;
}
