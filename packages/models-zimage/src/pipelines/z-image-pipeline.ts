// Text to image with Z-Image: prompt → Qwen3 hidden states → denoised latents → picture.
// After huggingface/diffusers src/diffusers/pipelines/z_image/pipeline_z_image.py and Tongyi-MAI/Z-Image src/zimage/pipeline.py.
import {
  type BaseRequest,
  checkKeys,
  checkLatents,
  checkSide,
  checkWhole,
  combineGuidance,
  type DenoiseStep,
  denoise,
  type EnsureOptions,
  flowSigmas,
  guidanceAt,
  type LazyModel,
  RequestError,
  type Shift,
  seededNoise,
  solverOf,
  userSigmas,
  type Velocity,
} from "@wick/diffusion";
import type { Qwen3, QwenTokenizer } from "@wick/encoders";
import { fromPixels, type Image } from "@wick/image";
import { runBlocksAsync } from "@wick/nn";
import { type Device, hold, scope, type Tensor } from "@wick/tensor";
import type { AutoencoderKl } from "@wick/vae";
import type { ZImage, ZImageContext } from "../z-image.ts";

export interface ZImageRequest extends BaseRequest {
  /** What to steer away from; used when guidance is above 0. */
  readonly negativePrompt?: string | undefined;
  /** prediction = positive + guidance · (positive - negative); 0 for Turbo, 3…5 for Base. */
  readonly guidance?: number | undefined;
  /** Guidance is off once 1 - sigma passes this (cfg_truncation). */
  readonly guidanceTruncation?: number | undefined;
  /** Limits the norm of the guided prediction to this factor of the positive one's (cfg_normalization). */
  readonly guidanceNormalization?: number | undefined;
}

const requestKeys: readonly (keyof ZImageRequest)[] = [
  "prompt",
  "negativePrompt",
  "width",
  "height",
  "steps",
  "guidance",
  "guidanceTruncation",
  "guidanceNormalization",
  "seed",
  "rng",
  "count",
  "latents",
  "sigmas",
  "solver",
  "signal",
  "onProgress",
];

/** Defaults of a released model. */
export interface ZImageDefaults {
  readonly width: number;
  readonly height: number;
  readonly steps: number;
  readonly guidance: number;
}

/** The parts a pipeline runs; `zImage()` makes them from a repository. */
export interface ZImageParts {
  readonly tokenizer: QwenTokenizer;
  readonly textEncoder: LazyModel<Qwen3>;
  readonly transformer: LazyModel<ZImage>;
  readonly vae: LazyModel<AutoencoderKl>;
  readonly shift: Shift;
  readonly defaults: ZImageDefaults;
  /** Keep all weights on the device between stages and images. */
  readonly keepLoaded: boolean;
}

/** A finished step with a look at the picture so far. */
export interface ZImageStep extends DenoiseStep {
  /** Decodes the current latents. */
  preview(): Promise<readonly Image[]>;
}

const maxPromptTokens = 512;
const maxSidePixels = 8192;

export class ZImagePipeline {
  readonly device: Device;
  readonly parts: ZImageParts;
  constructor(device: Device, parts: ZImageParts) {
    this.device = device;
    this.parts = parts;
  }

  /** One picture (or `count`) from a prompt. */
  async generate(request: ZImageRequest): Promise<Image> {
    const [image] = await this.generateAll(request);
    return image!;
  }

  /** All `count` pictures of a request. */
  async generateAll(request: ZImageRequest): Promise<readonly Image[]> {
    const run = this.steps(request);
    for (;;) {
      const step = await run.next();
      if (!step.done) continue;
      using latents = hold(step.value);
      return await this.decode(latents.value, request);
    }
  }

  /** Denoises step by step; returns the final latents [count, c, h/8, w/8], owned by the caller. */
  async *steps(request: ZImageRequest): AsyncGenerator<ZImageStep, Tensor, void> {
    const plan = this.#check(request);
    const { device } = this;
    using captions = hold(await this.#encodeBoth(request, plan.guided));
    const model = await this.parts.transformer.ensure(device, this.#loading(request));
    const size = { height: plan.latentHeight, width: plan.latentWidth };
    const context = (caption: Tensor) => model.context(new Array<Tensor>(plan.count).fill(caption), size);
    using positive = hold(context(captions.value.positive));
    using negative = hold(captions.value.negative ? context(captions.value.negative) : undefined);
    using start = hold(request.latents?.copy() ?? this.#noise(request, plan));
    const run = denoise(device, {
      latents: start.value,
      sigmas: plan.sigmas,
      solver: solverOf(request.solver),
      velocity: this.#velocity(model, request, plan, positive.value, negative.value),
      noise: this.#stepNoise(request, plan),
      signal: request.signal,
    });
    for (;;) {
      const step = await run.next();
      if (step.done) {
        if (!this.parts.keepLoaded) this.parts.transformer.release();
        return step.value;
      }
      request.onProgress?.({
        stage: "step",
        step: step.value.index + 1,
        steps: step.value.count,
        sigma: step.value.next,
        elapsedMs: step.value.elapsedMs,
      });
      const { latents } = step.value;
      yield { ...step.value, preview: () => this.decode(latents, request) };
    }
  }

  /** Hidden states [l, captionWidth] of one prompt, f32, owned by the caller. */
  async encode(prompt: string, request: Pick<ZImageRequest, "signal" | "onProgress"> = {}): Promise<Tensor> {
    const { ids, truncated } = this.parts.tokenizer.encodePrompt(prompt, { maxLength: maxPromptTokens });
    if (truncated > 0)
      throw new RequestError("generate", `the prompt has ${ids.length + truncated} tokens, ${maxPromptTokens} at most; shorten it`);
    const model = await this.parts.textEncoder.ensure(this.device, this.#loading(request));
    request.onProgress?.({ stage: "encode" });
    return scope(() => model.forward(this.device, [Array.from(ids)]).squeeze(0));
  }

  /** Latents [b, c, h, w] to pictures. */
  async decode(latents: Tensor, request: Pick<ZImageRequest, "signal" | "onProgress"> = {}): Promise<readonly Image[]> {
    const vae = await this.parts.vae.ensure(this.device, this.#loading(request));
    request.onProgress?.({ stage: "decode" });
    const images: Image[] = [];
    for (let i = 0; i < latents.dim(0); i++) {
      request.signal?.throwIfAborted();
      using pixels = hold(scope(() => vae.decode(latents.narrow(0, i, 1)).squeeze(0)));
      const [, height, width] = pixels.value.dims(3);
      images.push(fromPixels((await pixels.value.toArray()) as Float32Array, width, height));
    }
    if (!this.parts.keepLoaded) this.parts.vae.release();
    return images;
  }

  /** Releases all weights. */
  [Symbol.dispose](): void {
    for (const part of [this.parts.textEncoder, this.parts.transformer, this.parts.vae]) part.release();
  }

  #loading({ signal, onProgress }: Pick<ZImageRequest, "signal" | "onProgress">): EnsureOptions {
    return { signal, onProgress: onProgress && ((model, progress) => onProgress({ stage: "load", model, progress })) };
  }

  /** Both prompts; the encoder leaves the device before the transformer comes, unless everything is kept. */
  async #encodeBoth(request: ZImageRequest, guided: boolean): Promise<{ positive: Tensor; negative: Tensor | undefined }> {
    const positive = await this.encode(request.prompt, request);
    try {
      const negative = guided ? await this.encode(request.negativePrompt ?? "", request) : undefined;
      if (!this.parts.keepLoaded) this.parts.textEncoder.release();
      return { positive, negative };
    } catch (error) {
      positive.dispose();
      throw error;
    }
  }

  #velocity(model: ZImage, request: ZImageRequest, plan: Plan, positive: ZImageContext, negative: ZImageContext | undefined): Velocity {
    const blocks = model.noise_refiner.length + model.layers.length;
    let step = -1;
    let last = Number.NaN;
    const evaluate = (x: Tensor, sigma: number, context: ZImageContext) =>
      runBlocksAsync(this.device, model.run(x, new Array<number>(plan.count).fill(sigma), context), {
        signal: request.signal,
        after: (_, block) => request.onProgress?.({ stage: "block", step, steps: plan.sigmas.length - 1, block: block + 1, blocks }),
      });
    return async (x, sigma) => {
      if (sigma !== last) step = plan.sigmas.indexOf(sigma);
      last = sigma;
      const scale = guidanceAt(plan.guidance, sigma);
      const p = await evaluate(x, sigma, positive);
      if (!negative || scale === 0) return p;
      using kept = hold(p);
      using n = hold(await evaluate(x, sigma, negative));
      return combineGuidance(kept.value, n.value, scale, plan.guidance.normalization);
    };
  }

  #noise({ seed = 0, rng }: ZImageRequest, plan: Plan): Tensor {
    return seededNoise(this.device, plan.shape, { seed, ...(rng ? { rng } : {}) });
  }

  /** Fresh normals for stochastic solvers, from a stream of its own. */
  #stepNoise({ seed = 0, rng }: ZImageRequest, plan: Plan): () => Tensor {
    let draw = 0;
    return () => seededNoise(this.device, plan.shape, { seed: BigInt(seed) + BigInt(++draw), ...(rng ? { rng } : {}) });
  }

  #check(request: ZImageRequest): Plan {
    checkKeys(request, requestKeys);
    if (typeof request.prompt !== "string") throw new RequestError("generate", "prompt is a text");
    const { defaults, shift } = this.parts;
    const { patch, latentChannels } = this.parts.transformer.model.config;
    const factor = this.parts.vae.model.factor;
    const width = checkSide("width", request.width ?? defaults.width, factor * patch, maxSidePixels);
    const height = checkSide("height", request.height ?? defaults.height, factor * patch, maxSidePixels);
    const count = checkWhole("count", request.count ?? 1, 1, 64);
    const [latentHeight, latentWidth] = [height / factor, width / factor];
    const scale = request.guidance ?? defaults.guidance;
    if (!(scale >= 0 && Number.isFinite(scale))) throw new RequestError("generate", `guidance is a number of at least 0, got ${scale}`);
    const tokens = (latentHeight * latentWidth) / patch ** 2;
    const steps = checkWhole("steps", request.steps ?? defaults.steps, 1, 1000);
    const shape = [count, latentChannels, latentHeight, latentWidth];
    if (request.latents) checkLatents(request.latents, shape);
    solverOf(request.solver);
    return {
      latentHeight,
      latentWidth,
      count,
      shape,
      guided: scale > 0,
      sigmas: request.sigmas ? userSigmas(request.sigmas) : flowSigmas({ steps, shift, tokens }),
      guidance: {
        scale,
        ...(request.guidanceTruncation === undefined ? {} : { truncation: request.guidanceTruncation }),
        ...(request.guidanceNormalization === undefined ? {} : { normalization: request.guidanceNormalization }),
      },
    };
  }
}

interface Plan {
  readonly latentHeight: number;
  readonly latentWidth: number;
  readonly count: number;
  readonly shape: readonly number[];
  readonly guided: boolean;
  readonly sigmas: readonly number[];
  readonly guidance: { readonly scale: number; readonly truncation?: number; readonly normalization?: number };
}
