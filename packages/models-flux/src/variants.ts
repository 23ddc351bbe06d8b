// The releases of FLUX.1: network, schedule, and what requests leave out. Numbers: black-forest-labs/flux @ 802fb47 src/flux/cli*.py, the
// model cards, and huggingface/diffusers src/diffusers/pipelines/flux.
import { fluxDevShift, noShift, type Shift } from "@wick/diffusion";
import { flux1CannyDev, flux1DepthDev, flux1Dev, flux1FillDev, flux1KontextDev, flux1KreaDev, flux1Schnell } from "./configs.ts";
import type { FluxConfig } from "./flux1.ts";

/**
 * What a picture given in a request is to the model: something to start from ("start"), tokens beside those of the result ("reference"),
 * a picture with a hole ("hole"), or an outline to follow ("control").
 */
export type PictureRole = "start" | "reference" | "hole" | "control";

/** What requests to a release leave out. */
export interface FluxDefaults {
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
  /** Model steps. */
  readonly steps: number;
  /** 0 for models without a guidance number. */
  readonly guidance: number;
}

/** A release of FLUX.1: what its pipeline takes and does. */
export interface FluxVariant {
  /** As `variant` of `flux()` calls it. */
  readonly name: string;
  /** Of the transformer. */
  readonly config: FluxConfig;
  /** Of the noise schedule. */
  readonly shift: Shift;
  /** What a request's picture is for. */
  readonly picture: PictureRole;
  /** Longest prompt in T5 tokens; shorter ones are filled up to this. */
  readonly maxTextTokens: number;
  /** What requests leave out. */
  readonly defaults: FluxDefaults;
}

/** 28 steps, guidance 3.5 (diffusers FluxPipeline). */
export const dev: FluxVariant = {
  name: "dev",
  config: flux1Dev,
  shift: fluxDevShift,
  picture: "start",
  maxTextTokens: 512,
  defaults: { width: 1024, height: 1024, steps: 28, guidance: 3.5 },
};

/** 4 steps, 256 tokens (model card of FLUX.1-schnell). */
export const schnell: FluxVariant = {
  ...dev,
  name: "schnell",
  config: flux1Schnell,
  shift: noShift,
  maxTextTokens: 256,
  defaults: { ...dev.defaults, steps: 4, guidance: 0 },
};

/** As dev. */
export const kreaDev: FluxVariant = { ...dev, name: "krea-dev", config: flux1KreaDev };

/** 28 steps, guidance 2.5 (diffusers' documentation of FluxKontextPipeline). */
export const kontextDev: FluxVariant = {
  ...dev,
  name: "kontext-dev",
  config: flux1KontextDev,
  picture: "reference",
  defaults: { ...dev.defaults, guidance: 2.5 },
};

/** 50 steps, guidance 30 (cli_fill.py, diffusers FluxFillPipeline). */
export const fillDev: FluxVariant = {
  ...dev,
  name: "fill-dev",
  config: flux1FillDev,
  picture: "hole",
  defaults: { ...dev.defaults, steps: 50, guidance: 30 },
};

/** 50 steps, guidance 10 (cli_control.py). */
export const depthDev: FluxVariant = {
  ...dev,
  name: "depth-dev",
  config: flux1DepthDev,
  picture: "control",
  defaults: { ...dev.defaults, steps: 50, guidance: 10 },
};

/** 50 steps, guidance 30 (cli_control.py). */
export const cannyDev: FluxVariant = {
  ...depthDev,
  name: "canny-dev",
  config: flux1CannyDev,
  defaults: { ...depthDev.defaults, guidance: 30 },
};

/** All of them by name. */
export const fluxVariants: Readonly<Record<string, FluxVariant>> = Object.fromEntries(
  [dev, schnell, kreaDev, kontextDev, fillDev, depthDev, cannyDev].map((v) => [v.name, v]),
);

const byClass: Readonly<Record<string, FluxVariant>> = {
  FluxKontextPipeline: kontextDev,
  FluxFillPipeline: fillDev,
  FluxControlPipeline: cannyDev,
};

/**
 * The release that a network belongs to. Widths tell Fill and the control models, a missing guidance embedder tells schnell; the rest
 * share one network, so that `hints` (the pipeline class in model_index.json, file and repository names) decide, and dev is assumed.
 */
export function variantOf(
  { inChannels, outChannels, guidance }: Pick<FluxConfig, "inChannels" | "outChannels" | "guidance">,
  hints: readonly string[],
): FluxVariant {
  const named = hints.map((h) => byClass[h]).find((v) => v !== undefined);
  const mentions = (word: string) => hints.some((h) => h.toLowerCase().includes(word));
  if (inChannels === 2 * outChannels) return mentions("depth") ? depthDev : cannyDev;
  if (inChannels > outChannels) return fillDev;
  if (!guidance) return schnell;
  if (named?.picture === "reference" || mentions("kontext")) return kontextDev;
  return mentions("krea") ? kreaDev : dev;
}
