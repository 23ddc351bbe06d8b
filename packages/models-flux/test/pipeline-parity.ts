// Whole pipelines against diffusers, step by step: shared by CPU and GPU tests.
import { type Device, hold, scope } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { goldenInput, type ModuleGolden } from "@wick/testing/module-golden";
import type { FluxRequest, ReduxPicture } from "../src/index.ts";
import type { FluxGolden } from "./parity-cases.ts";
import { packedValues, pictureOf, readPipelineGolden, requestInputs, type TinyOptions, tinyFlux } from "./tiny-flux.ts";

export interface PipelineComparison {
  /** Relative L2 of the latents after every step. */
  readonly steps: readonly number[];
  /** Largest difference of the noise levels. */
  readonly sigmas: number;
  /** Relative L2 of the decoded picture in -1…1. */
  readonly image: number;
}

/** How the reference was called. */
interface CalledOptions extends Pick<FluxRequest, "guidance" | "steps" | "seed" | "strength"> {
  /** By picture, of Redux. */
  readonly scales?: readonly number[];
  readonly pooledScales?: readonly number[];
  readonly strengths?: readonly number[];
}

const reduxPictures = (golden: ModuleGolden, { scales, pooledScales, strengths }: Required<CalledOptions>): ReduxPicture[] =>
  scales.map((scale, i) => ({
    image: pictureOf(goldenInput(golden, `picture.${i}`)),
    strength: strengths[i],
    scale,
    pooledScale: pooledScales[i],
  }));

/** Runs the pipeline golden `name` with the network `network` on a device. */
export async function comparePipeline(
  device: Device,
  name: string,
  network: FluxGolden,
  request: Partial<FluxRequest> = {},
  options: TinyOptions = {},
): Promise<PipelineComparison> {
  const golden = await readPipelineGolden(name);
  using pipe = await tinyFlux(device, network, options);
  const called = JSON.parse(golden.metadata.get("options")!) as CalledOptions;
  const { guidance, steps, seed, strength } = called;
  using inputs = hold(requestInputs(device, golden));
  const redux = called.scales && reduxPictures(golden, called as Required<CalledOptions>);
  const full: FluxRequest = { guidance, steps, seed, strength, ...inputs.value, ...(redux ? { redux } : {}), ...request };
  const expected = (path: string) => golden.outputs.get(path)!.values;
  const run = pipe.steps(full);
  const errors: number[] = [];
  let step = await run.next();
  for (; !step.done; step = await run.next()) {
    errors.push(relativeL2(await packedValues(step.value.latents), expected(`latents.${step.value.index}`)));
  }
  using latents = hold(step.value);
  const vae = await pipe.parts.vae.ensure(device);
  using pixels = hold(scope(() => vae.decode(latents.value)));
  const { sigmas } = pipe.check(full);
  const wanted = Array.from(expected("sigmas")).slice(-sigmas.length);
  return {
    steps: errors,
    sigmas: Math.max(...sigmas.map((s, i) => Math.abs(s - wanted[i]!))),
    image: relativeL2((await pixels.value.toArray()) as Float32Array, expected("image")),
  };
}
