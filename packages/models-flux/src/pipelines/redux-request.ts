// The pictures that a request's `redux` gives to vary.
import { checkKeys, RequestError } from "@wick/diffusion";
import type { Image } from "@wick/image";

/** A picture to vary. Several are mixed: the sum of text and tokens, each times the picture's scales. */
export interface ReduxPicture {
  /** Of any size; it is squeezed to a square. */
  readonly image: Image;
  /** Of the picture's tokens beside the text; default 1. */
  readonly strength?: number | undefined;
  /** Of text and tokens, diffusers' prompt_embeds_scale; default 1. Scales of several pictures that add up to 1 keep the text as it is. */
  readonly scale?: number | undefined;
  /** Of the pooled vector, diffusers' pooled_prompt_embeds_scale; default 1. */
  readonly pooledScale?: number | undefined;
}

const pictureKeys: readonly (keyof ReduxPicture)[] = ["image", "strength", "scale", "pooledScale"];
/** What to do where pictures are given to a pipeline that cannot read them. */
export const noRedux =
  'this pipeline has no Redux; open it with redux: huggingFace("black-forest-labs/FLUX.1-Redux-dev"), or pass imageTokens made elsewhere';

/** Throws RequestError unless these are pictures with finite scales and there is a Redux to read them. */
export function checkRedux(pictures: readonly ReduxPicture[], hasRedux: boolean): void {
  const refuse = (what: string): never => {
    throw new RequestError("generate", what);
  };
  if (!hasRedux) refuse(noRedux);
  if (!Array.isArray(pictures) || pictures.length === 0) refuse("redux is a list of pictures, such as [{ image }]");
  for (const picture of pictures) {
    checkKeys(picture, pictureKeys);
    if (!(picture.image?.rgb instanceof Uint8Array)) refuse("a picture of redux has an image");
    for (const key of ["strength", "scale", "pooledScale"] as const)
      if (!Number.isFinite(picture[key] ?? 1)) refuse(`${key} of a picture of redux is a number, got ${picture[key]}`);
  }
}
