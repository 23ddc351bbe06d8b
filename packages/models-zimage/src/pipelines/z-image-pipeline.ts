// Pictures with Z-Image: from a prompt, from a picture and a prompt, into a hole.
// After huggingface/diffusers src/diffusers/pipelines/z_image/pipeline_z_image{,_img2img,_inpaint}.py and Tongyi-MAI/Z-Image src/zimage/pipeline.py.

import {
  classifierFree,
  guidanceAt,
  guided,
  ImagePipeline,
  type ImageStep,
  latentMask,
  loading,
  type MemoryPlan,
  type Planned,
  pixelTensor,
  RequestError,
  type Sides,
  type StageNeeds,
  type StartState,
  type StepRun,
  stepRun,
  streamBytesOf,
  type Velocity,
  type Watching,
} from "@wick/diffusion";
import { type Module, runBlocksAsync } from "@wick/nn";
import { cat, hold, scope, type Tensor } from "@wick/tensor";
import { latentPreview } from "@wick/vae";
import type { ZImage, ZImageContext } from "../z-image.ts";
import { captionBytes, repeated, zImageNeeds } from "./memory.ts";
import type { ZImageParts } from "./parts.ts";
import { guidesTogether, planJob, type ZImageCaptions, type ZImageJob, type ZImageRequest } from "./request.ts";

/** A request in numbers, and the device memory that it takes. */
export interface ZImagePlan extends ZImageJob, Planned {}

/** A finished step with a look at the picture so far. */
export type ZImageStep = ImageStep;

/** What the network is conditioned on: both sides of guidance as one batch, positive first, or each by itself. */
type Contexts =
  | { readonly together: true; readonly both: ZImageContext }
  | { readonly together: false; readonly positive: ZImageContext; readonly negative: ZImageContext | undefined };

/** Prompts and pictures to pictures with Z-Image; `zImage()` makes one. */
export class ZImagePipeline extends ImagePipeline<ZImageRequest, ZImageJob, ZImageParts> {
  override check(request: ZImageRequest): ZImageJob {
    const { text, transformer, vae, shift, defaults } = this.parts;
    return planJob(request, { tokenizer: text?.tokenizer, shift, defaults, config: transformer.model.config, factor: vae.model.factor });
  }

  override steps(request: ZImageRequest): StepRun<ZImageStep, Tensor> {
    return stepRun(this.#run(request));
  }

  async *#run(request: ZImageRequest): AsyncGenerator<ZImageStep, Tensor, void> {
    const job = this.check(request);
    const memory = await this.limits(request, job);
    const { transformer, keepLoaded } = this.parts;
    using captions = hold(await this.#captions(request, job, memory));
    using start = hold(await this.#start(request, job));
    try {
      const model = await transformer.ensure(this.device, loading(request, streamBytesOf(memory, "denoise")));
      using contexts = hold(await this.#contexts(model, request, job, captions.value));
      return yield* this.denoise(request, job, start.value, this.#velocity(model, request, job, contexts.value));
    } finally {
      await transformer.settle();
      if (!keepLoaded) transformer.release();
    }
  }

  /** Hidden states [l, captionWidth] of one prompt, f32, owned by the caller: what `promptEmbeds` takes. */
  async encode(prompt: string, request: Watching = {}): Promise<Tensor> {
    const { positive } = this.check({ prompt, guidance: 0 });
    const [hidden] = await this.#encode(positive.ids!, request);
    return hidden!;
  }

  override get networks(): Readonly<Record<string, Module>> {
    const { text, transformer, vae } = this.parts;
    return { ...(text ? { text_encoder: text.encoder.model } : {}), transformer: transformer.model, vae: vae.model };
  }

  /** Releases all weights. */
  override [Symbol.dispose](): void {
    for (const part of [this.parts.text?.encoder, this.parts.transformer, this.parts.vae]) part?.release();
  }

  protected override needs(request: ZImageRequest, job: ZImageJob): Promise<StageNeeds[]> {
    return zImageNeeds(this.parts, request, job);
  }

  protected override rough(latents: Tensor): Tensor {
    return latentPreview(latents);
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
      await text.encoder.settle();
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
  async #start(request: ZImageRequest, job: ZImageJob): Promise<StartState> {
    const { image, mask, posterior, latents } = request;
    const draw = this.noise(request);
    const besideBytes = captionBytes(job, this.parts.transformer.model.config.captionWidth);
    using clean = hold(
      image &&
        (await this.withEncoder(request, besideBytes, (encode) =>
          encode(() => pixelTensor(this.device, image, job), posterior === "sample" ? draw : undefined),
        )),
    );
    using noise = hold(latents ? scope(() => latents.to("f32").copy()) : draw(job.shape));
    const area = mask && latentMask(this.device, mask, job, this.parts.vae.model.factor);
    return { noise: noise.release(), clean: clean.release(), mask: area };
  }

  async #contexts(
    model: ZImage,
    { signal }: Watching,
    job: ZImageJob,
    { positive, negative }: Sides<readonly Tensor[]>,
  ): Promise<Contexts> {
    const { shape, count } = job;
    const size = { height: shape[2], width: shape[3] };
    const context = (captions: readonly Tensor[]) =>
      runBlocksAsync(this.device, model.runContext(repeated(captions, count), size), {
        signal,
        ...this.parts.transformer.driver(signal),
      });
    if (negative && guidesTogether(job)) return { together: true, both: await context([...positive, ...negative]) };
    using first = hold(await context(positive));
    const second = negative && (await context(negative));
    return { together: false, positive: first.release(), negative: second };
  }

  #velocity(model: ZImage, request: ZImageRequest, job: ZImageJob, contexts: Contexts): Velocity {
    const weights = this.parts.transformer;
    const blocks = model.noise_refiner.length + model.layers.length;
    const evaluate = (x: Tensor, sigma: number, context: ZImageContext) =>
      runBlocksAsync(
        this.device,
        model.run(x, new Array<number>(x.dim(0)).fill(sigma), context),
        this.driver(request, job, { weights, blocks, sigma }),
      );
    const { sigmas, guidance } = job;
    const rule = guidance.rule ?? classifierFree(guidance.normalization);
    return async (x, sigma) => {
      const scale = guidanceAt(guidance, sigma);
      const combined = (positive: Tensor, negative: Tensor) => guided(positive, negative, { scale, sigma, sigmas, x }, rule);
      if (contexts.together) {
        using twice = hold(cat([x, x], 0));
        using both = hold(await evaluate(twice.value, sigma, contexts.both));
        const [b] = job.shape;
        return scope(() => combined(both.value.narrow(0, 0, b), both.value.narrow(0, b, b)));
      }
      using positive = hold(await evaluate(x, sigma, contexts.positive));
      if (!contexts.negative || scale === 0) return positive.release();
      using negative = hold(await evaluate(x, sigma, contexts.negative));
      return combined(positive.value, negative.value);
    };
  }
}
