// Parity of the transformer with black-forest-labs/flux, as functions of a device and of config changes: CPU, GPU and mutation tests share them.

import { readFileSync } from "node:fs";
import { load } from "@wick/nn";
import { type Device, type DType, memorySource, openSafetensors, renameAll, type Tensor, translate, type WeightSource } from "@wick/tensor";
import { type GoldenTensor, goldenInput, type ModuleGolden, readModuleGolden } from "@wick/testing/module-golden";
import { type Comparison, expectModuleParity, type ParityOptions } from "@wick/testing/module-parity";
import { Flux, type FluxConfig, type FluxInputs, type FluxParts, flux1Dev, flux1Names, type Position } from "../src/index.ts";

export type FluxGolden = "dev" | "schnell" | "kontext" | "fill" | "control";
/** Layouts of the same weights: the authors' and diffusers'. */
export type Layout = "black-forest-labs" | "diffusers";

export const goldenUrl = (name: string): URL => new URL(`./goldens/${name}.safetensors`, import.meta.url);
export const openGolden = (name: FluxGolden): Promise<ModuleGolden> => readModuleGolden(goldenUrl(`flux1-${name}`));

/** The reference's config in our words. */
export function configOf(golden: ModuleGolden): FluxConfig {
  const c = golden.config as Record<string, number & number[] & boolean>;
  return {
    ...flux1Dev,
    inChannels: c["in_channels"]!,
    outChannels: c["out_channels"]!,
    vectorWidth: c["vec_in_dim"]!,
    textWidth: c["context_in_dim"]!,
    width: c["hidden_size"]!,
    mlpRatio: c["mlp_ratio"]!,
    heads: c["num_heads"]!,
    doubleBlocks: c["depth"]!,
    singleBlocks: c["depth_single_blocks"]!,
    ropeAxes: c["axes_dim"]!,
    ropeTheta: c["theta"]!,
    guidance: c["guidance_embed"]!,
  };
}

export const tensorOf = (device: Device, { values, shape }: GoldenTensor): Tensor => device.tensor(values as Float32Array, shape);

/** Rows of the first batch item of ids [b, l, 3]. */
function positionsOf(golden: ModuleGolden, name: string): Position[] {
  const { shape, values } = goldenInput(golden, name);
  return Array.from({ length: shape[1]! }, (_, i) => Array.from(values.subarray(3 * i, 3 * i + 3)));
}

/** The inputs of a golden on a device; the tensors belong to the caller. */
export function inputsOf(device: Device, golden: ModuleGolden): FluxInputs {
  const guidance = golden.inputs.get("guidance");
  return {
    img: tensorOf(device, goldenInput(golden, "img")),
    imgPositions: positionsOf(golden, "img_ids"),
    txt: tensorOf(device, goldenInput(golden, "txt")),
    txtPositions: positionsOf(golden, "txt_ids"),
    sigma: Array.from(goldenInput(golden, "timesteps").values),
    y: tensorOf(device, goldenInput(golden, "y")),
    ...(guidance ? { guidance: Array.from(guidance.values) } : {}),
  };
}

/** The golden's weights, in either layout; diffusers' are stored for dev only. The shared file has guidance also for schnell. */
export async function weightsOf(golden: ModuleGolden, layout: Layout): Promise<WeightSource> {
  const source = layout === "diffusers" ? await diffusersWeights() : golden.weights;
  const guided = golden.config["guidance_embed"] === true;
  return translate(
    renameAll(source, (name) => (guided || !name.startsWith("guidance_in.") ? name : undefined)),
    flux1Names,
  );
}

async function diffusersWeights(): Promise<WeightSource> {
  const file = await openSafetensors(memorySource(readFileSync(goldenUrl("flux1.weights-diffusers")), "flux1.weights-diffusers"));
  return renameAll(file, (name) => name.slice("w.".length));
}

type Output = (path: string) => GoldenTensor;
const gelu = (x: number): number => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

/** Value of chunk `part` of a modulation [b, parts · d] for element i of a [b, l, d] tensor. */
function chunkAt(
  { shape, values }: GoldenTensor,
  part: number,
  parts: number,
  [, l, d]: readonly [number, number, number],
): (i: number) => number {
  const width = shape[1]!;
  if (width !== parts * d) throw new Error(`a modulation of ${width} has not ${parts} parts of ${d}`);
  return (i) => values[Math.floor(i / (l * d)) * width + part * d + (i % d)]!;
}
const dimsOf = (t: GoldenTensor): readonly [number, number, number] => t.shape as [number, number, number];

/** Ours is modulated in the norm: (1 + scale) · norm + shift. */
const modulated =
  (lin: string, shift: number, scale: number, parts: number) =>
  (output: Output, path: string): Float64Array => {
    const norm = output(path);
    const at = (part: number) => chunkAt(output(lin), part, parts, dimsOf(norm));
    const [shiftAt, scaleAt] = [at(shift), at(scale)];
    return Float64Array.from(norm.values, (y, i) => (1 + scaleAt(i)) * y + shiftAt(i));
  };

/** Ours is gated and added to the residual in the product: x + gate · y. */
const gatedOnto =
  (residual: (output: Output) => Float64Array, lin: string, gate: number) =>
  (output: Output, path: string): Float64Array => {
    const branch = output(path);
    const gateAt = chunkAt(output(lin), gate, 6, dimsOf(branch));
    const x = residual(output);
    return Float64Array.from(branch.values, (y, i) => x[i]! + gateAt(i) * y);
  };

function streamExpectations(stream: "img" | "txt"): NonNullable<ParityOptions["expected"]> {
  const block = "double_blocks.0";
  const lin = `${block}.${stream}_mod.lin`;
  const embedded = (output: Output) => Float64Array.from(output(`${stream}_in`).values);
  const attended = (output: Output) => gatedOnto(embedded, lin, 2)(output, `${block}.${stream}_attn.proj`);
  return {
    [`${block}.${stream}_norm1`]: modulated(lin, 0, 1, 6),
    [`${block}.${stream}_norm2`]: modulated(lin, 3, 4, 6),
    [`${block}.${stream}_attn.proj`]: gatedOnto(embedded, lin, 2),
    [`${block}.${stream}_mlp.0`]: (output, path) => Float64Array.from(output(path).values, gelu),
    [`${block}.${stream}_mlp.2`]: gatedOnto(attended, lin, 5),
  };
}

const options: ParityOptions = {
  // Between its ends a block is allowed twice its tolerance: GELU near -2.3 doubles relative errors.
  tolerance: 2e-5,
  endTolerance: 1e-5,
  expected: {
    ...streamExpectations("img"),
    ...streamExpectations("txt"),
    "single_blocks.0.pre_norm": modulated("single_blocks.0.modulation.lin", 0, 1, 3),
    "final_layer.norm_final": modulated("final_layer.adaLN_modulation.1", 0, 1, 2),
  },
  absent: {
    pe_embedder: "a table without a module; it has a test of its own",
    "single_blocks.0.linear1": "computed by rows and columns; it has a test of its own",
    "single_blocks.0.linear2": "computed by rows and columns; it has a test of its own",
  },
};

/** Errors of whole blocks and of the result, which the project promises to keep within 1e-5. */
export const blockErrors = (compared: readonly Comparison[]): number[] =>
  compared.filter((c) => /^(output|final_layer|(double|single)_blocks\.\d+(:\d)?)$/.test(c.path)).map((c) => c.error);

export interface FluxParityOptions {
  readonly layout?: Layout;
  readonly changes?: Partial<FluxConfig>;
  readonly parts?: FluxParts;
}

/** Compares a whole golden on a device; `changes` are wrong constants that must make it fail. */
export async function fluxParity(device: Device, name: FluxGolden, given: FluxParityOptions = {}): Promise<readonly Comparison[]> {
  const golden = await openGolden(name);
  using model = new Flux({ ...configOf(golden), ...given.changes }, given.parts);
  await load(model, await weightsOf(golden, given.layout ?? "black-forest-labs"), device);
  const inputs = inputsOf(device, golden);
  try {
    return await expectModuleParity(model, golden, () => ({ output: model.forward(inputs) }), options);
  } finally {
    for (const t of [inputs.img, inputs.txt, inputs.y]) t.dispose();
  }
}

/** The golden's result with weights of another dtype, for comparisons with looser tolerances. */
export async function fluxOutput(
  device: Device,
  name: FluxGolden,
  dtype: DType,
): Promise<{ actual: Float32Array; expected: Float32Array }> {
  const golden = await openGolden(name);
  using model = new Flux(configOf(golden));
  await load(model, await weightsOf(golden, "black-forest-labs"), device, { dtype });
  const inputs = inputsOf(device, golden);
  using out = model.forward(inputs);
  for (const t of [inputs.img, inputs.txt, inputs.y]) t.dispose();
  return { actual: (await out.toArray()) as Float32Array, expected: golden.outputs.get("output")!.values as Float32Array };
}
