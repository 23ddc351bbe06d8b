// What all text-to-image pipelines share, whatever their network and text encoders: the loop with its reports, pictures to latents and back, and
// what stays on the device in between. A pipeline adds its requests, its conditions and its velocity; `steps` of each one says the order.
import { fromPixels, type Image } from "@wick/image";
import { type BlockDriver, type Module, runBlocksAsync } from "@wick/nn";
import { type Device, hold, scope, type Tensor } from "@wick/tensor";
import { type DenoiseStep, denoise } from "./denoise.ts";
import { DecodeError, readLatents } from "./latents.ts";
import type { EnsureOptions, LazyModel } from "./lazy-model.ts";
import { type MemoryPlan, planMemory, type Residency, type StageNeeds } from "./memory-plan.ts";
import { noiseStream } from "./noise.ts";
import type { PictureAutoencoder, Room } from "./picture-autoencoder.ts";
import { atNoiseLevel, keepKnown } from "./pictures.ts";
import type { BaseRequest } from "./request.ts";
import type { Solver, Velocity } from "./solvers.ts";
import { resultOf, type StepRun } from "./step-run.ts";

/** What can be watched and stopped. */
export type Watching = Pick<BaseRequest, "signal" | "onProgress">;
/** The part of a request that every pipeline has. */
export type SharedRequest = Watching & Pick<BaseRequest, "seed" | "rng" | "latentsOut">;

/** A valid request in numbers: the part that the loop needs. */
export interface SharedJob {
  /** Of the latents [b, c, h, w]. */
  readonly shape: readonly [number, number, number, number];
  /** N + 1 decreasing noise levels. */
  readonly sigmas: readonly number[];
  /** How steps are taken. */
  readonly solver: Solver;
}

/** The parts that every pipeline has. */
export interface SharedParts extends Residency {
  /** Pictures to latents and back. */
  readonly vae: LazyModel<PictureAutoencoder>;
}

/** What a plan adds to a job. */
export interface Planned {
  /** Device memory by stage. */
  readonly memory: MemoryPlan;
}

/** Both sides of guidance; `negative` when it is on. */
export interface Sides<T> {
  /** What to steer to. */
  readonly positive: T;
  /** What to steer away from. */
  readonly negative: T | undefined;
}

/** Where a run begins. */
export interface StartState {
  /** [b, c, h, w] */
  readonly noise: Tensor;
  /** Latents of a start picture [1, c, h, w]. */
  readonly clean: Tensor | undefined;
  /** Where it is made anew [1, 1, h, w]. */
  readonly mask: Tensor | undefined;
}

/** A finished step with a look at the picture so far. */
export interface ImageStep extends DenoiseStep {
  /** Decodes the current latents; `rough` maps each latent pixel to a colour instead: no weights, an eighth of the size. */
  preview(options?: {
    /** Colours instead of decoding. */
    readonly rough?: boolean;
  }): Promise<readonly Image[]>;
}

/** Draws standard normals of a shape, one after the other from one stream. */
export type Draw = (shape: readonly number[]) => Tensor;
/** Pictures [1, 3, H, W] to model latents, owned by the caller. */
export type EncodePicture = (pixels: () => Tensor, draw?: Draw) => Promise<Tensor>;

/** Requests to pictures by denoising latents; subclasses add conditions and velocity. */
export abstract class ImagePipeline<R extends SharedRequest, J extends SharedJob, P extends SharedParts> implements Disposable {
  /** Where it computes. */
  readonly device: Device;
  /** What it runs. */
  readonly parts: P;
  constructor(device: Device, parts: P) {
    this.device = device;
    this.parts = parts;
  }

  /** What a request means in numbers; throws RequestError or ShapeError for what is wrong with it, before anything is loaded. */
  abstract check(request: R): J;
  /** Denoises step by step; the result is the final latents [b, c, h, w]. See StepRun for who owns them. */
  abstract steps(request: R): StepRun<ImageStep, Tensor>;
  /** What each stage of a valid request needs. */
  protected abstract needs(request: R, job: J): Promise<StageNeeds[]>;
  /** latents [b, c, h, w] → a small rough picture [b, 3, h, w] in -1…1 without weights. */
  protected abstract rough(latents: Tensor): Tensor;
  /** The models it runs, by the names of their folders: what `capture`, `profile` and `summary` look into. */
  abstract get networks(): Readonly<Record<string, Module>>;
  /** Releases all weights. */
  abstract [Symbol.dispose](): void;

  /** One picture (the first, if the request is for several). */
  async generate(request: R): Promise<Image> {
    const [image] = await this.generateAll(request);
    return image!;
  }

  /** All pictures of a request, those of the first prompt first. Throws DecodeError, which holds the latents, when only decoding fails. */
  async generateAll(request: R): Promise<readonly Image[]> {
    using latents = hold(await resultOf(this.steps(request)));
    const kept = await readLatents(latents.value);
    request.latentsOut?.(kept);
    try {
      return await this.#decode(latents.value, request);
    } catch (error) {
      throw request.signal?.aborted ? error : new DecodeError(kept, error);
    }
  }

  /**
   * What a request means in numbers and how much device memory each stage takes at most, from the headers of the checkpoints: nothing is
   * loaded. Throws as `check` does, and MemoryError when the request does not fit `memory.maxGpuBytes`.
   */
  async plan(request: R): Promise<J & Planned> {
    const job = this.check(request);
    return { ...job, memory: planMemory(await this.needs(request, job), this.parts.memory ?? {}) };
  }

  /** The memory plan of a run, when there is a limit. */
  protected async limits(request: R, job: J): Promise<MemoryPlan | undefined> {
    const { memory } = this.parts;
    if (memory?.maxGpuBytes === undefined) return undefined;
    const plan = planMemory(await this.needs(request, job), memory);
    this.device.keepWithin(memory.maxGpuBytes);
    return plan;
  }

  /** Latents [b, c, h, w] to pictures. Throws NumericsError when they hold NaN or infinite values. */
  async decode(latents: Tensor, request: Watching = {}): Promise<readonly Image[]> {
    await readLatents(latents);
    return await this.#decode(latents, request);
  }

  async #decode(latents: Tensor, request: Watching): Promise<readonly Image[]> {
    const { vae, keepLoaded } = this.parts;
    const images: Image[] = [];
    try {
      const model = await vae.ensure(this.device, loading(request));
      request.onProgress?.({ stage: "decode" });
      const room = await this.#roomBeside(latents.byteLength);
      for (let i = 0; i < latents.dim(0); i++) {
        using one = hold(latents.narrow(0, i, 1));
        using pixels = hold(await runBlocksAsync(this.device, model.runDecode(one.value, room), { signal: request.signal }));
        await this.device.idle(request.signal);
        images.push(await imageOf(pixels.value));
      }
      return images;
    } finally {
      if (!keepLoaded) vae.release();
    }
  }

  async #roughPictures(latents: Tensor): Promise<readonly Image[]> {
    using pixels = hold(scope(() => this.rough(latents)));
    const images: Image[] = [];
    for (let i = 0; i < latents.dim(0); i++) {
      using one = hold(scope(() => pixels.value.narrow(0, i, 1).copy()));
      images.push(await imageOf(one.value));
    }
    return images;
  }

  /** What the limit leaves for a run of the autoencoder beside other tensors. */
  async #roomBeside(besideBytes: number): Promise<Room> {
    const { memory, vae, keepLoaded } = this.parts;
    if (memory?.maxGpuBytes === undefined) return {};
    const weights = keepLoaded ? this.device.liveBytes : (await vae.bytes()).total;
    return { budgetBytes: memory.maxGpuBytes - weights - besideBytes };
  }

  /** Runs `use`, which may encode pictures beside `besideBytes` of other tensors; the weights for it leave unless everything is kept. */
  protected async withEncoder<T>(request: Watching, besideBytes: number, use: (encode: EncodePicture) => Promise<T>): Promise<T> {
    const { vae, keepLoaded } = this.parts;
    try {
      return await use(async (pixels, draw) => {
        const model = await vae.ensure(this.device, loading(request));
        const room = await this.#roomBeside(besideBytes);
        using x = hold(scope(pixels));
        const [, , height, width] = x.value.dims(4);
        using noise = hold(draw?.([1, model.config.latentChannels, height / model.factor, width / model.factor]));
        return await runBlocksAsync(this.device, model.runEncode(x.value, { noise: noise.value, ...room }), { signal: request.signal });
      });
    } finally {
      if (!keepLoaded) vae.release();
    }
  }

  /** Standard normals as PyTorch draws them from the request's seed; other offsets are other streams. */
  protected noise({ seed = 0, rng }: R, offset = 0n): Draw {
    return noiseStream(this.device, { seed: BigInt(seed) + offset, ...(rng ? { rng } : {}) });
  }

  /** Hooks of one evaluation of the network at `sigma`: abort, weights that stream, progress. */
  protected driver(
    { signal, onProgress }: Watching,
    { sigmas }: SharedJob,
    { weights, blocks, sigma }: { weights: Pick<LazyModel<Module>, "driver">; blocks: number; sigma: number },
  ): BlockDriver {
    const { before, after } = weights.driver(signal);
    const [step, steps] = [sigmas.indexOf(sigma), sigmas.length - 1];
    return {
      signal,
      before,
      after: async (module, block) => {
        await after?.(module, block);
        onProgress?.({ stage: "block", step, steps, block: block + 1, blocks });
      },
    };
  }

  /** The loop: from noise, or from a picture at the first noise level, to the final latents. Stops at latents that are not numbers. */
  protected async *denoise(request: R, job: J, start: StartState, velocity: Velocity): AsyncGenerator<ImageStep, Tensor, void> {
    const { noise, clean, mask } = start;
    using x = hold(scope(() => (clean ? atNoiseLevel(clean, noise, job.sigmas[0]!) : noise.copy())));
    const fresh = this.noise(request, 1n);
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
        yield { ...step.value, preview: ({ rough } = {}) => (rough ? this.#roughPictures(latents) : this.decode(latents, request)) };
      }
    } finally {
      // Ends the inner iteration too when this one is left early; its value is not used, but the type wants one.
      await run.return(undefined as unknown as Tensor);
    }
  }
}

/** One picture [1, 3, H, W]. */
async function imageOf(pixels: Tensor): Promise<Image> {
  const [, , height, width] = pixels.dims(4);
  return fromPixels((await pixels.toArray()) as Float32Array, width, height);
}

/** How a request's parts are loaded: stopped and reported as the request wants it, streamed within `streamBytes` if given. */
export const loading = ({ signal, onProgress }: Watching, streamBytes?: number): EnsureOptions => ({
  signal,
  onProgress: onProgress && ((model, progress) => onProgress({ stage: "load", model, progress })),
  streamBytes,
});
