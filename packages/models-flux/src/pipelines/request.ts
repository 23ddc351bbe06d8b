// What a FLUX.1 pipeline is asked for, and the plan that a valid request becomes. Nothing is computed before a request is valid.
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
  type GuidanceRule,
  type PictureRequest,
  RequestError,
  type Sides,
  type Solver,
  solverOf,
  truncatedSigmas,
  userSigmas,
} from "@wick/diffusion";
import { ShapeError, type Tensor } from "@wick/tensor";
import type { FluxConfig } from "../flux1.ts";
import { tokenSide } from "../tokens.ts";
import type { FluxVariant } from "../variants.ts";
import { kontextSize } from "./pictures.ts";
import { checkRedux, type ReduxPicture } from "./redux-request.ts";

/** What text encoders make of a prompt; stays the caller's. */
export interface FluxEmbeddings {
  /** T5's hidden states [1, l, textWidth]. */
  readonly text: Tensor;
  /** CLIP's pooled output [1, vectorWidth]. */
  readonly pooled: Tensor;
}

/** What a FLUX.1 pipeline is asked for. */
export interface FluxRequest extends Omit<BaseRequest, "prompt">, PictureRequest {
  /** What to draw; required unless there are embeddings, or pictures of `redux`, which go without text then. */
  readonly prompt?: string | undefined;
  /** Instead of a prompt. */
  readonly embeddings?: FluxEmbeddings | undefined;
  /** Pictures to vary or mix, beside the prompt if there is one; not on the negative side. */
  readonly redux?: readonly ReduxPicture[] | undefined;
  /** Tokens [1, l, textWidth] after those of the text, such as `reduxTokens` of a pipeline; not on the negative side. */
  readonly imageTokens?: Tensor | undefined;
  /** The distilled guidance number, an input of the network; models without it take 0 only. */
  readonly guidance?: number | undefined;
  /** Classifier-free guidance on top, at twice the time: negative + trueCfg · (positive - negative); 1 is off. */
  readonly trueCfg?: number | undefined;
  /** Another way to combine both predictions, its scale being trueCfg - 1. */
  readonly guidanceRule?: GuidanceRule | undefined;
  /** What trueCfg steers away from; default "". */
  readonly negativePrompt?: string | undefined;
  /** Instead of a negative prompt. */
  readonly negativeEmbeddings?: FluxEmbeddings | undefined;
  /**
   * dev, schnell, Krea: what to start from. Kontext: what to edit. Fill: what to fill. Depth, Canny: the map to follow.
   * Without width and height, the result has its size in multiples of 16.
   */
  readonly image?: PictureRequest["image"];
  /** Kontext: scale the picture to the nearest of the sizes the model was trained with (default), or only to multiples of 16. */
  readonly fitReference?: boolean | undefined;
  /** What PyTorch would draw the noise in; default "bf16", as the authors' and diffusers' pipelines do. */
  readonly noiseDType?: "bf16" | "f16" | "f32" | undefined;
}

const requestKeys: readonly (keyof FluxRequest)[] = [
  ...(["prompt", "embeddings", "redux", "imageTokens", "negativePrompt", "negativeEmbeddings"] as const),
  ...(["guidance", "trueCfg", "guidanceRule", "image", "strength", "mask", "fitReference", "posterior", "noiseDType"] as const),
  ...baseRequestKeys,
];

/** A valid request, in numbers. */
export interface FluxJob {
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
  /** Pictures. */
  readonly count: number;
  /** Of the latents: [count, c, h, w]. */
  readonly shape: readonly [number, number, number, number];
  /** Tokens per column and row of the picture. */
  readonly rows: number;
  /** Tokens per row of the picture. */
  readonly columns: number;
  /** Decreasing noise levels, one more than steps. */
  readonly sigmas: readonly number[];
  /** How each step is taken. */
  readonly solver: Solver;
  /** The guidance number, for models that take one. */
  readonly guidance: readonly [number] | undefined;
  /** Above 1 when a negative prompt is used. */
  readonly trueCfg: number;
  /** How both sides are combined. */
  readonly guidanceRule: GuidanceRule | undefined;
  /** Of T5, on both sides of trueCfg. */
  readonly textTokens: Sides<number>;
  /** Size of Kontext's reference in pixels. */
  readonly reference:
    | {
        /** In pixels. */
        readonly width: number;
        /** In pixels. */
        readonly height: number;
      }
    | undefined;
}

/** What a job depends on besides the request. */
export interface FluxJobContext {
  /** Which release it is. */
  readonly variant: FluxVariant;
  /** Of the transformer. */
  readonly config: FluxConfig;
  /** Pixels per latent pixel. */
  readonly factor: number;
  /** Of the autoencoder. */
  readonly latentChannels: number;
  /** Tokens that Redux makes of a picture, where there is one. */
  readonly reduxTokens: number | undefined;
}

const maxSidePixels = 8192;
const refuse = (what: string): never => {
  throw new RequestError("generate", what);
};

/** Checks everything that can be checked before computing; throws RequestError or ShapeError naming the limit. */
export function planJob(request: FluxRequest, context: FluxJobContext): FluxJob {
  checkKeys(request, requestKeys);
  checkText(request, context);
  checkPictures(request, context.variant);
  checkNoise(request);
  const { variant, factor, latentChannels } = context;
  const reference = variant.picture === "reference" && request.image ? kontextSize(request.image, request.fitReference ?? true) : undefined;
  const own = reference ?? (request.image && flooredSize(request.image, factor * tokenSide));
  const side = (name: "width" | "height") =>
    checkSide(name, request[name] ?? own?.[name] ?? variant.defaults[name], factor * tokenSide, maxSidePixels);
  const [width, height] = [side("width"), side("height")];
  const [h, w] = [height / factor, width / factor];
  const count = checkWhole("count", request.count ?? 1, 1, 64);
  const shape = [count, latentChannels, h, w] as const;
  if (request.latents) checkLatents(request.latents, shape);
  const [rows, columns] = [h / tokenSide, w / tokenSide];
  return {
    width,
    height,
    count,
    shape,
    rows,
    columns,
    sigmas: sigmasOf(request, variant, rows * columns),
    solver: solverOf(request.solver),
    guidance: guidanceOf(request, context),
    trueCfg: trueCfgOf(request),
    guidanceRule: request.guidanceRule,
    textTokens: textTokensOf(request, context),
    reference,
  };
}

function sigmasOf({ sigmas, steps, strength }: FluxRequest, { shift, defaults }: FluxVariant, tokens: number): number[] {
  const count = checkWhole("steps", steps ?? defaults.steps, 1, 1000);
  const all = sigmas ? userSigmas(sigmas) : flowSigmas({ steps: count, shift, tokens });
  return strength === undefined ? all : truncatedSigmas(all, strength);
}

function guidanceOf({ guidance }: FluxRequest, { variant, config }: FluxJobContext): readonly [number] | undefined {
  const value = guidance ?? variant.defaults.guidance;
  if (!Number.isFinite(value) || value < 0) refuse(`guidance is a number of at least 0, got ${value}`);
  if (config.guidance) return [value];
  return value === 0 ? undefined : refuse(`${variant.name} takes no guidance number, got ${value}; use trueCfg`);
}

function trueCfgOf({ trueCfg = 1, negativePrompt, negativeEmbeddings, guidanceRule }: FluxRequest): number {
  if (!Number.isFinite(trueCfg) || trueCfg < 1) refuse(`trueCfg is a number of at least 1 (off), got ${trueCfg}`);
  if (trueCfg === 1 && (negativePrompt || negativeEmbeddings)) refuse("a negative prompt needs trueCfg above 1");
  if (trueCfg === 1 && guidanceRule) refuse("a guidanceRule needs trueCfg above 1");
  return trueCfg;
}

function textTokensOf(
  { embeddings, redux, imageTokens, negativeEmbeddings, trueCfg = 1 }: FluxRequest,
  { variant, reduxTokens = 0 }: FluxJobContext,
): Sides<number> {
  const tokens = (e: FluxEmbeddings | undefined) => e?.text.dim(1) ?? variant.maxTextTokens;
  const ofPictures = (redux ? reduxTokens : 0) + (imageTokens?.dim(1) ?? 0);
  return { positive: tokens(embeddings) + ofPictures, negative: trueCfg > 1 ? tokens(negativeEmbeddings) : undefined };
}

function checkText(request: FluxRequest, { config, reduxTokens }: FluxJobContext): void {
  const { prompt, embeddings, redux, negativePrompt, negativeEmbeddings } = request;
  if (redux) checkRedux(redux, reduxTokens !== undefined);
  const texts = [prompt, embeddings].filter((text) => text !== undefined).length;
  if (texts > 1 || (texts === 0 && !redux)) refuse("give either prompt or embeddings");
  for (const text of [prompt, negativePrompt]) if (text !== undefined && typeof text !== "string") refuse("prompt is a text");
  if (negativePrompt !== undefined && negativeEmbeddings) refuse("give either negativePrompt or negativeEmbeddings");
  for (const e of [embeddings, negativeEmbeddings]) if (e) checkEmbeddings(e, config);
  if (request.imageTokens) checkTokens("imageTokens", request.imageTokens, config);
}

function checkEmbeddings({ text, pooled }: FluxEmbeddings, { textWidth, vectorWidth }: FluxConfig): void {
  checkTokens("embeddings.text", text, { textWidth });
  if (`${pooled.shape}` !== `${[1, vectorWidth]}`) throw new ShapeError("generate", `embeddings.pooled is [1, ${vectorWidth}]: ${pooled}`);
}

function checkTokens(name: string, tokens: Tensor, { textWidth }: Pick<FluxConfig, "textWidth">): void {
  if (tokens.rank !== 3 || tokens.dim(0) !== 1 || tokens.dim(2) !== textWidth)
    throw new ShapeError("generate", `${name} is [1, l, ${textWidth}]: ${tokens}`);
}

function checkPictures(request: FluxRequest, { picture, name }: FluxVariant): void {
  const { image, mask, strength, fitReference } = request;
  if (picture === "hole" && !(image && mask)) refuse(`${name} needs image and mask`);
  if (picture === "control" && !image) refuse(`${name} needs image: the map to follow`);
  if (mask && (picture === "reference" || picture === "control")) refuse(`${name} takes no mask`);
  if (strength !== undefined && (picture === "reference" || picture === "control")) refuse(`${name} takes no strength`);
  if (fitReference !== undefined && picture !== "reference") refuse(`${name} takes no fitReference`);
  checkPictureRequest(request);
}
