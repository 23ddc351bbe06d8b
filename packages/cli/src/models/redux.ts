// Pictures of --redux: what they are in a request, and whose Redux reads them.
import type { Image } from "@wick/image";

/** Where Redux comes from unless --redux-model says otherwise. */
export const reduxRepository = "black-forest-labs/FLUX.1-Redux-dev";

/** A picture of a request's `redux`. */
export interface VariedPicture {
  readonly image: Image;
  readonly strength: number;
  readonly scale: number;
  readonly pooledScale: number;
}

/** Pictures with their strengths as a request has them: the mean of several, which leaves the prompt as it is. */
export const variedPictures = (pictures: readonly { readonly image: Image; readonly strength: number }[]): VariedPicture[] =>
  pictures.map((picture) => ({ ...picture, scale: 1 / pictures.length, pooledScale: 1 / pictures.length }));
