// What the network sees beside the noise level: text, positions, and what pictures add to image tokens.
import type { Sides, StartState } from "@wick/diffusion";
import { cat, scope, type Tensor } from "@wick/tensor";
import type { Flux, FluxContext } from "../flux1.ts";
import { imagePositions, packLatents, textPositions } from "../tokens.ts";
import type { FluxEmbeddings, FluxJob } from "./request.ts";

/** What the pictures of a request become. */
export interface FluxStart extends StartState {
  /** Features beside those of every image token [1, l, …]. */
  readonly channels: Tensor | undefined;
  /** Tokens after the image tokens [1, lRef, …]. */
  readonly reference: Tensor | undefined;
}

/** Both sides' text and positions; `factor` is pixels per latent pixel. Owned by the caller. */
export function contextsOf(model: Flux, job: FluxJob, prompts: Sides<FluxEmbeddings>, factor: number): Sides<FluxContext> {
  const { rows, columns, reference } = job;
  const beside = reference ? imagePositions(reference.height / factor / 2, reference.width / factor / 2, 1) : [];
  const positions = [...imagePositions(rows, columns), ...beside];
  const context = ({ text }: FluxEmbeddings) => model.context(text, textPositions(text.dim(1)), positions);
  return scope(() => ({ positive: context(prompts.positive), negative: prompts.negative && context(prompts.negative) }));
}

/** What the network sees of latents x [b, c, h, w]: their tokens, with what stands beside and after them. */
export function inputTokens(x: Tensor, { channels, reference }: Pick<FluxStart, "channels" | "reference">): Tensor {
  const repeated = (t: Tensor) => t.expand(x.dim(0), -1, -1);
  const beside = channels ? cat([packLatents(x), repeated(channels)], 2) : packLatents(x);
  return reference ? cat([beside, repeated(reference)], 1) : beside;
}
