// Pictures with Z-Image: from a prompt, from a picture and a prompt, into a hole.
// After huggingface/diffusers src/diffusers/pipelines/z_image/pipeline_z_image{,_img2img,_inpaint}.py and Tongyi-MAI/Z-Image src/zimage/pipeline.py.
import {
  atNoiseLevel,
  combineGuidance,
  DecodeError,
  type DenoiseStep,
  denoise,
  type EnsureOptions,
  guidanceAt,
  keepKnown,
  type LazyModel,
  latentMask,
  type MemoryLimits,
  type MemoryPlan,
  noiseStream,
  pixelTensor,
  RequestError,
  readLatents,
  type Shift,
  type StageMemory,
  type Velocity,
} from "@wick/diffusion";
import type { Qwen3, QwenTokenizer } from "@wick/encoders";
import { fromPixels, type Image } from "@wick/image";
import { runBlocksAsync } from "@wick/nn";
import { type Device, hold, scope, type Tensor } from "@wick/tensor";
import type { AutoencoderKl } from "@wick/vae";
import type { ZImage, ZImageContext } from "../z-image.ts";
import { planZImageMemory, repeated } from "./memory.ts";
import { planJob, type ZImageCaptions, type ZImageDefaults, type ZImageJob, type ZImageRequest } from "./request.ts";

/** The parts a pipeline runs; `zImage()` makes them from a repository. */
export interface ZImageParts {
  /** Absent: requests must bring embeddings. */
  readonly text:
    | {
        /** With the chat template. */
        readonly tokenizer: QwenTokenizer;
        /** Prompts to hidden states. */
        readonly encoder: LazyModel<Qwen3>;
      }
    | undefined;
  /** The denoiser. */
  readonly transformer: LazyModel<ZImage>;
  /** Pictures to latents and back. */
  readonly vae: LazyModel<AutoencoderKl>;
  /** Of the noise schedule. */
  readonly shift: Shift;
  /** What requests leave out. */
  readonly defaults: ZImageDefaults;
  /** Keep all weights on the device between stages and images. */
  readonly keepLoaded: boolean;
  /** How much of the device a run may take; default: no limit. Previews while denoising come on top. */
  readonly memory?: MemoryLimits | undefined;
}

/** A request in numbers, and the device memory that it takes. */
export interface ZImagePlan extends ZImageJob {
  /** By stage. */
  readonly memory: MemoryPlan;
}

/** A finished step with a look at the picture so far. */
export interface ZImageStep extends DenoiseStep {
  /** Decodes the current latents. */
  preview(): Promise<readonly Image[]>;
}

type Watching = Pick<ZImageRequest, "signal" | "onProgress">;

/** Both sides of guidance; `negative` when it is on. */
interface Sides<T> {
  readonly positive: T;
  readonly negative: T | undefined;
}

/** Where a run begins. */
interface Start {
  readonly noise: Tensor;
  /** Latents of the start picture [1, c, h, w]. */
  readonly clean: Tensor | undefined;
  /** Where it is made anew [1, 1, h, w]. */
  readonly mask: Tensor | undefined;
}

/** Prompt to picture: text encoder, denoising loop, autoencoder, each with its weights on the device only while it runs. */
export class ZImagePipeline {
  /** Where it computes. */
  readonly device: Device;
  /** What it runs. */
  readonly parts: ZImageParts;
  constructor(device: Device, parts: ZImageParts) {
    this.device = device;
    this.parts = parts;
  }

  /** One picture (the first, if the request is for several). */
  async generate(request: ZImageRequest): Promise<Image> {
    const [image] = await this.generateAll(request);
    return image!;
  }

  /** All pictures of a request, those of the first prompt first. Throws DecodeError, which holds the latents, when only decoding fails. */
  async generateAll(request: ZImageRequest): Promise<readonly Image[]> {
    const run = this.steps(request);
    for (;;) {
      const step = await run.next();
      if (!step.done) continue;
      using latents = hold(step.value);
      const kept = await readLatents(latents.value);
      request.latentsOut?.(kept);
      try {
        return await this.#decode(latents.value, request);
      } catch (error) {
        throw request.signal?.aborted ? error : new DecodeError(kept, error);
      }
    }
  }

  /** Denoises step by step; returns the final latents [prompts · count, c, h/8, w/8], owned by the caller. */
  async *steps(request: ZImageRequest): AsyncGenerator<ZImageStep, Tensor, void> {
    const job = this.check(request);
    const memory = this.parts.memory?.maxGpuBytes === undefined ? undefined : await planZImageMemory(this.parts, request, job);
    const { transformer, keepLoaded } = this.parts;
    using captions = hold(await this.#captions(request, job, memory));
    using start = hold(await this.#start(request, job));
    try {
      const model = await transformer.ensure(this.device, loading(request, streamBytesOf(memory, "denoise")));
      using contexts = hold(await this.#contexts(model, request, job, captions.value));
      return yield* this.#denoise(request, job, start.value, this.#velocity(model, request, job, contexts.value));
    } finally {
      if (!keepLoaded) transformer.release();
    }
  }

  /**
   * What a request means in numbers and how much device memory each stage takes at most, from the headers of the checkpoints: nothing is
   * loaded. Throws as `check` does, and MemoryError when the request does not fit `memory.maxGpuBytes`.
   */
  async plan(request: ZImageRequest): Promise<ZImagePlan> {
    const job = this.check(request);
    return { ...job, memory: await planZImageMemory(this.parts, request, job) };
  }

  /** What a request means in numbers; throws RequestError or ShapeError for what is wrong with it, before anything is loaded. */
  check(request: ZImageRequest): ZImageJob {
    const { text, transformer, vae, shift, defaults } = this.parts;
    return planJob(request, { tokenizer: text?.tokenizer, shift, defaults, config: transformer.model.config, factor: vae.model.factor });
  }

  /** Hidden states [l, captionWidth] of one prompt, f32, owned by the caller: what `promptEmbeds` takes. */
  async encode(prompt: string, request: Watching = {}): Promise<Tensor> {
    const { positive } = this.check({ prompt, guidance: 0 });
    const [hidden] = await this.#encode(positive.ids!, request);
    return hidden!;
  }

  /** Latents [b, c, h, w] to pictures. Throws NumericsError when they hold NaN or infinite values. */
  async decode(latents: Tensor, request: Watching = {}): Promise<readonly Image[]> {
    await readLatents(latents);
    return this.#decode(latents, request);
  }

  /** Releases all weights. */
  [Symbol.dispose](): void {
    for (const part of [this.parts.text?.encoder, this.parts.transformer, this.parts.vae]) part?.release();
  }

  async #decode(latents: Tensor, request: Watching): Promise<readonly Image[]> {
    const { vae, keepLoaded } = this.parts;
    const images: Image[] = [];
    try {
      const model = await vae.ensure(this.device, loading(request));
      request.onProgress?.({ stage: "decode" });
      const room = await this.#vaeRoom(latents.byteLength);
      for (let i = 0; i < latents.dim(0); i++) {
        using one = hold(latents.narrow(0, i, 1));
        using pixels = hold(await runBlocksAsync(this.device, model.runDecode(one.value, room), { signal: request.signal }));
        const [, , height, width] = pixels.value.dims(4);
        images.push(fromPixels((await pixels.value.toArray()) as Float32Array, width, height));
      }
      return images;
    } finally {
      if (!keepLoaded) vae.release();
    }
  }

  /** Hidden states of every prompt, the same tensor for the same ids; the encoder leaves the device afterwards unless everything is kept. */
  async #encode(prompts: readonly (readonly number[])[], request: Watching, memory?: MemoryPlan): Promise<Tensor[]> {
    const { text, keepLoaded } = this.parts;
    if (!text) throw new RequestError("generate", "this pipeline has no text encoder; pass promptEmbeds");
    using made = hold<Record<string, Tensor>>({});
    try {
      const model = await text.encoder.ensure(this.device, loading(request, streamBytesOf(memory, "encode")));
      request.onProgress?.({ stage: "encode" });
      for (const ids of prompts) {
        const key = ids.join(" ");
        if (made.value[key]) continue;
        const driver = { signal: request.signal, ...text.encoder.driver(request.signal) };
        using hidden = hold(await runBlocksAsync(this.device, model.run(this.device, [ids]), driver));
        made.update((all) => ({ ...all, [key]: hidden.value.squeeze(0).copy() }));
      }
    } finally {
      if (!keepLoaded) text.encoder.release();
    }
    const all = made.release();
    return prompts.map((ids) => all[ids.join(" ")]!);
  }

  async #captions(request: Watching, { positive, negative }: ZImageJob, memory: MemoryPlan | undefined): Promise<Sides<readonly Tensor[]>> {
    const texts = [...(positive.ids ?? []), ...(negative?.ids ?? [])];
    using encoded = hold(texts.length > 0 ? await this.#encode(texts, request, memory) : []);
    const take = ({ embeds }: ZImageCaptions, from: number, count: number) =>
      embeds ? embeds.map((e) => e.to("f32").copy()) : encoded.value.slice(from, from + count);
    const sides = scope(() => ({
      positive: take(positive, 0, positive.ids?.length ?? 0),
      negative: negative && take(negative, positive.ids?.length ?? 0, negative.ids?.length ?? 0),
    }));
    encoded.release();
    return sides;
  }

  /** Encodes the start picture and draws the noise, in this order from one stream, as diffusers does. */
  async #start(request: ZImageRequest, { shape, width, height }: ZImageJob): Promise<Start> {
    const { image, mask, posterior, latents } = request;
    const draw = this.#stream(request);
    using clean = hold(image && (await this.#encodePicture(image, { width, height }, request, posterior === "sample" ? draw : undefined)));
    using noise = hold(latents ? scope(() => latents.to("f32").copy()) : draw(shape));
    const area = mask && latentMask(this.device, mask, { width, height }, this.parts.vae.model.factor);
    return { noise: noise.release(), clean: clean.release(), mask: area };
  }

  /** What the limit leaves for a run of the autoencoder. */
  async #vaeRoom(besideBytes: number): Promise<{ budgetBytes?: number }> {
    const { memory, vae, keepLoaded } = this.parts;
    if (memory?.maxGpuBytes === undefined) return {};
    const weights = keepLoaded ? this.device.liveBytes : (await vae.bytes()).total;
    return { budgetBytes: memory.maxGpuBytes - weights - besideBytes };
  }

  async #encodePicture(
    image: Image,
    size: { width: number; height: number },
    request: Watching,
    draw: ((shape: readonly number[]) => Tensor) | undefined,
  ): Promise<Tensor> {
    const { vae, keepLoaded } = this.parts;
    try {
      const model = await vae.ensure(this.device, loading(request));
      const room = await this.#vaeRoom(0);
      using x = hold(pixelTensor(this.device, image, size));
      using noise = hold(draw?.([1, model.config.latentChannels, size.height / model.factor, size.width / model.factor]));
      return await runBlocksAsync(this.device, model.runEncode(x.value, { noise: noise.value, ...room }), { signal: request.signal });
    } finally {
      if (!keepLoaded) vae.release();
    }
  }

  async #contexts(
    model: ZImage,
    { signal }: Watching,
    { shape, count }: ZImageJob,
    { positive, negative }: Sides<readonly Tensor[]>,
  ): Promise<Sides<ZImageContext>> {
    const size = { height: shape[2], width: shape[3] };
    const context = (captions: readonly Tensor[]) =>
      runBlocksAsync(this.device, model.runContext(repeated(captions, count), size), {
        signal,
        ...this.parts.transformer.driver(signal),
      });
    using first = hold(await context(positive));
    const second = negative && (await context(negative));
    return { positive: first.release(), negative: second };
  }

  #velocity(model: ZImage, request: ZImageRequest, job: ZImageJob, contexts: Sides<ZImageContext>): Velocity {
    const blocks = model.noise_refiner.length + model.layers.length;
    const steps = job.sigmas.length - 1;
    let [step, last] = [-1, Number.NaN];
    const { before, after } = this.parts.transformer.driver(request.signal);
    const evaluate = (x: Tensor, sigma: number, context: ZImageContext) =>
      runBlocksAsync(this.device, model.run(x, new Array<number>(job.shape[0]).fill(sigma), context), {
        signal: request.signal,
        before,
        after: async (module, block) => {
          await after?.(module, block);
          request.onProgress?.({ stage: "block", step, steps, block: block + 1, blocks });
        },
      });
    return async (x, sigma) => {
      if (sigma !== last) step = job.sigmas.indexOf(sigma);
      last = sigma;
      const scale = guidanceAt(job.guidance, sigma);
      using positive = hold(await evaluate(x, sigma, contexts.positive));
      if (!contexts.negative || scale === 0) return positive.release();
      using negative = hold(await evaluate(x, sigma, contexts.negative));
      return combineGuidance(positive.value, negative.value, scale, job.guidance.normalization);
    };
  }

  async *#denoise(request: ZImageRequest, job: ZImageJob, start: Start, velocity: Velocity): AsyncGenerator<ZImageStep, Tensor, void> {
    const { noise, clean, mask } = start;
    using x = hold(clean ? atNoiseLevel(clean, noise, job.sigmas[0]!) : noise.copy());
    const fresh = this.#stream({ ...request, seed: BigInt(request.seed ?? 0) + 1n });
    const run = denoise(this.device, {
      latents: x.value,
      sigmas: job.sigmas,
      solver: job.solver,
      velocity,
      noise: () => fresh(job.shape),
      signal: request.signal,
      ...(clean && mask ? { adjust: keepKnown(clean, noise, mask) } : {}),
    });
    try {
      for (;;) {
        const step = await run.next();
        if (step.done) return step.value;
        const { index, count, next, latents, elapsedMs } = step.value;
        await readLatents(latents, `the latents after step ${index + 1} of ${count}`);
        request.onProgress?.({ stage: "step", step: index + 1, steps: count, sigma: next, elapsedMs });
        yield { ...step.value, preview: () => this.decode(latents, request) };
      }
    } finally {
      // Ends the inner iteration too when this one is left early.
      await run.return(undefined as unknown as Tensor);
    }
  }

  #stream({ seed = 0, rng }: Pick<ZImageRequest, "seed" | "rng">): (shape: readonly number[]) => Tensor {
    return noiseStream(this.device, { seed, ...(rng ? { rng } : {}) });
  }
}

const loading = ({ signal, onProgress }: Watching, streamBytes?: number): EnsureOptions => ({
  signal,
  onProgress: onProgress && ((model, progress) => onProgress({ stage: "load", model, progress })),
  streamBytes,
});

const streamBytesOf = (memory: MemoryPlan | undefined, stage: StageMemory["stage"]): number | undefined =>
  memory?.stages.find((s) => s.stage === stage)?.streamBytes;
