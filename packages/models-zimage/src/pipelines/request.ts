// What a Z-Image pipeline is asked for, and the plan that a valid request becomes. Nothing is computed or loaded before a request is valid.
import {
  type BaseRequest,
  baseRequestKeys,
  checkKeys,
  checkLatents,
  checkNoise,
  checkPictureRequest,
  checkSide,
  checkWhole,
  flooredSize,
  flowSigmas,
  type Guidance,
  type GuidanceRule,
  type PictureRequest,
  RequestError,
  type Shift,
  type Solver,
  solverOf,
  truncatedSigmas,
  userSigmas,
} from "@wick/diffusion";
import type { QwenTokenizer } from "@wick/encoders";
import { ShapeError, type Tensor } from "@wick/tensor";
import { checkZImagePositions, type ZImageConfig } from "../z-image.ts";

/** What a Z-Image pipeline is asked for. */
export interface ZImageRequest extends Omit<BaseRequest, "prompt">, PictureRequest {
  /** One prompt, or a batch of them: the pictures of the first come first. */
  readonly prompt?: string | readonly string[] | undefined;
  /** What to steer away from; used when guidance is above 0. One for all prompts, or one each. Default "". */
  readonly negativePrompt?: string | readonly string[] | undefined;
  /** Instead of a prompt: hidden states of the text encoder, one [l, captionWidth] per batch item; stay the caller's. */
  readonly promptEmbeds?: readonly Tensor[] | undefined;
  /** Instead of a negative prompt; one per batch item. */
  readonly negativePromptEmbeds?: readonly Tensor[] | undefined;
  /** prediction = positive + guidance · (positive - negative); 0 for Turbo, 3…5 for Base. */
  readonly guidance?: number | undefined;
  /** Guidance is off once 1 - sigma passes this (cfg_truncation). */
  readonly guidanceTruncation?: number | undefined;
  /** Limits the norm of the guided prediction to this factor of the positive one's (cfg_normalization). */
  readonly guidanceNormalization?: number | undefined;
  /** Another way to combine both predictions than `positive + guidance · (positive - negative)`. */
  readonly guidanceRule?: GuidanceRule | undefined;
  /** How much of the start picture is made anew, in 0…1: the last int(steps · strength) steps run. Default 1 with a mask, else 0.6. */
  readonly strength?: number | undefined;
}

const requestKeys: readonly (keyof ZImageRequest)[] = [
  ...(["prompt", "negativePrompt", "promptEmbeds", "negativePromptEmbeds"] as const),
  ...(["guidance", "guidanceTruncation", "guidanceNormalization", "guidanceRule", "image", "strength", "mask", "posterior"] as const),
  ...baseRequestKeys,
];

/** Defaults of a released model. */
export interface ZImageDefaults {
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
  /** Model steps. */
  readonly steps: number;
  /** 0 is off. */
  readonly guidance: number;
}

/** One side of guidance: texts with their token ids, or embeddings. */
export interface ZImageCaptions {
  /** Token ids of each caption. */
  readonly ids: readonly (readonly number[])[] | undefined;
  /** Hidden states of each caption [l, captionWidth]. */
  readonly embeds: readonly Tensor[] | undefined;
  /** Tokens of each caption. */
  readonly lengths: readonly number[];
}

/** A valid request, in numbers. */
export interface ZImageJob {
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
  /** Of the latents: [prompts · count, c, h/8, w/8]. */
  readonly shape: readonly [number, number, number, number];
  /** Pictures per prompt. */
  readonly count: number;
  /** Decreasing noise levels, one more than steps. */
  readonly sigmas: readonly number[];
  /** How each step is taken. */
  readonly solver: Solver;
  /** Scale and limits of classifier-free guidance. */
  readonly guidance: Guidance;
  /** What to draw. */
  readonly positive: ZImageCaptions;
  /** When guidance is on. */
  readonly negative: ZImageCaptions | undefined;
}

/** Latent pixels of a batch up to which both sides of guidance are evaluated at once. */
const togetherPixels = 1024;

/**
 * Whether the guided and the unguided velocity are evaluated as one batch, as diffusers always does: at small sizes, where calls and the
 * reading of weights cost more than the work, so that the activations of two evaluations matter little.
 */
export function guidesTogether({ shape: [b, , h, w], guidance, negative }: ZImageJob): boolean {
  return negative !== undefined && (guidance.truncation ?? 1) >= 1 && b * h * w <= togetherPixels;
}

/** What a job depends on besides the request. */
export interface ZImageJobContext {
  readonly config: ZImageConfig;
  /** Absent: requests must bring embeddings. */
  readonly tokenizer: QwenTokenizer | undefined;
  readonly shift: Shift;
  readonly defaults: ZImageDefaults;
  /** Pixels per latent pixel. */
  readonly factor: number;
}

const maxPromptTokens = 512;
const maxSidePixels = 8192;
const refuse = (what: string): never => {
  throw new RequestError("generate", what);
};

/** Checks everything that can be checked before computing; throws RequestError or ShapeError naming the limit. */
export function planJob(request: ZImageRequest, context: ZImageJobContext): ZImageJob {
  checkKeys(request, requestKeys);
  checkPictureRequest(request);
  checkNoise(request);
  const { config, factor, defaults } = context;
  const multiple = factor * config.patch;
  const own = request.image && flooredSize(request.image, multiple);
  const side = (name: "width" | "height") => checkSide(name, request[name] ?? own?.[name] ?? defaults[name], multiple, maxSidePixels);
  const [width, height] = [side("width"), side("height")];
  const [h, w] = [height / factor, width / factor];
  const scale = request.guidance ?? defaults.guidance;
  if (!(scale >= 0 && Number.isFinite(scale))) refuse(`guidance is a number of at least 0, got ${scale}`);
  const positive = captionsOf("prompt", request.prompt, request.promptEmbeds, context);
  if (scale === 0 && request.negativePrompt?.length) refuse("negativePrompt needs guidance above 0");
  const negative = scale > 0 ? negativeOf(request, positive.lengths.length, context) : undefined;
  const [rows, columns] = [h / config.patch, w / config.patch];
  checkZImagePositions(config, Math.max(...positive.lengths, ...(negative?.lengths ?? [])), rows, columns);
  const count = checkWhole("count", request.count ?? 1, 1, 64);
  const shape = [positive.lengths.length * count, config.latentChannels, h, w] as const;
  if (request.latents) checkLatents(request.latents, shape);
  const sigmas = sigmasOf(request, context, rows * columns);
  return {
    width,
    height,
    shape,
    count,
    sigmas,
    solver: solverOf(request.solver),
    guidance: guidanceOf(request, scale),
    positive,
    negative,
  };
}

function guidanceOf({ guidanceTruncation, guidanceNormalization, guidanceRule }: ZImageRequest, scale: number): Guidance {
  if (guidanceRule !== undefined && guidanceNormalization !== undefined)
    refuse("guidanceNormalization belongs to the usual rule; give it or guidanceRule");
  for (const [name, value] of Object.entries({ guidanceTruncation, guidanceNormalization }))
    if (value !== undefined && !(value >= 0 && Number.isFinite(value))) refuse(`${name} is a number of at least 0, got ${value}`);
  return {
    scale,
    ...(guidanceTruncation === undefined ? {} : { truncation: guidanceTruncation }),
    ...(guidanceNormalization === undefined ? {} : { normalization: guidanceNormalization }),
    ...(guidanceRule === undefined ? {} : { rule: guidanceRule }),
  };
}

/** The default strengths of diffusers' ZImageImg2ImgPipeline and ZImageInpaintPipeline. */
const defaultStrength = { image: 0.6, mask: 1 };

function sigmasOf(
  { sigmas, steps, image, mask, strength }: ZImageRequest,
  { shift, defaults }: ZImageJobContext,
  tokens: number,
): number[] {
  const count = checkWhole("steps", steps ?? defaults.steps, 1, 1000);
  const all = sigmas ? userSigmas(sigmas) : flowSigmas({ steps: count, shift, tokens });
  if (!image) return all;
  return truncatedSigmas(all, strength ?? (mask ? defaultStrength.mask : defaultStrength.image));
}

function negativeOf(request: ZImageRequest, batch: number, context: ZImageJobContext): ZImageCaptions {
  const { negativePrompt, negativePromptEmbeds, promptEmbeds } = request;
  if (promptEmbeds && !negativePromptEmbeds && negativePrompt === undefined)
    refuse("guidance with promptEmbeds needs negativePromptEmbeds or negativePrompt; or set guidance to 0");
  const shared = typeof negativePrompt === "string" || negativePrompt === undefined;
  const texts = negativePromptEmbeds ? negativePrompt : shared ? new Array<string>(batch).fill(negativePrompt ?? "") : negativePrompt;
  const negative = captionsOf("negativePrompt", texts, negativePromptEmbeds, context);
  const got = negative.lengths.length;
  return got === batch ? negative : refuse(`there are ${batch} prompts but ${got} negative ones; give one for all, or one each`);
}

type Texts = string | readonly string[] | undefined;

function captionsOf(name: string, texts: Texts, embeds: readonly Tensor[] | undefined, context: ZImageJobContext): ZImageCaptions {
  if ((texts === undefined) === (embeds === undefined)) refuse(`give either ${name} or ${name}Embeds`);
  if (embeds) {
    for (const e of embeds) checkEmbeds(name, e, context.config);
    if (embeds.length === 0) refuse(`${name}Embeds is an empty list`);
    return { ids: undefined, embeds, lengths: embeds.map((e) => e.dim(0)) };
  }
  const { tokenizer } = context;
  if (!tokenizer) return refuse(`this pipeline has no text encoder; pass ${name}Embeds`);
  const list = (typeof texts === "string" ? [texts] : texts) as readonly unknown[];
  if (!Array.isArray(list) || list.length === 0) refuse(`${name} is a text or a list of texts`);
  const ids = list.map((text) => tokensOf(name, text, tokenizer));
  return { ids, embeds: undefined, lengths: ids.map((i) => i.length) };
}

function tokensOf(name: string, text: unknown, tokenizer: QwenTokenizer): number[] {
  if (typeof text !== "string") return refuse(`${name} is a text or a list of texts`);
  const { ids, truncated } = tokenizer.encodePrompt(text, { maxLength: maxPromptTokens, truncate: true });
  if (truncated > 0) refuse(`the ${name} has ${ids.length + truncated} tokens, ${maxPromptTokens} at most; shorten it`);
  return Array.from(ids);
}

function checkEmbeds(name: string, embeds: Tensor, { captionWidth }: ZImageConfig): void {
  if (embeds.rank !== 2 || embeds.dim(1) !== captionWidth || embeds.dim(0) === 0)
    throw new ShapeError("generate", `${name}Embeds are [l, ${captionWidth}] each: ${embeds}`);
}
