// Parity of the autoencoders with diffusers, as functions of a device and of config changes: the CPU, GPU and mutation tests share them.
import { load } from "@wick/nn";
import { type Device, invert, remap, scope, stripPrefix, type Tensor, translate, type WeightSource } from "@wick/tensor";
import { type Numbers, relativeL2 } from "@wick/testing";
import { type GoldenTensor, goldenInput, type ModuleGolden, readModuleGolden } from "@wick/testing/module-golden";
import { type Comparison, expectModuleParity, type ParityOptions } from "@wick/testing/module-parity";
import {
  AutoencoderKl,
  type AutoencoderKlConfig,
  AutoencoderTiny,
  autoencoderKlConfigFromJson,
  autoencoderKlFromBfl,
  autoencoderKlNames,
  autoencoderTinyConfigFromJson,
  autoencoderTinyNames,
  momentsOf,
  type TileOptions,
} from "../src/index.ts";

export const openGolden = (name: string): Promise<ModuleGolden> =>
  readModuleGolden(new URL(`./goldens/${name}.safetensors`, import.meta.url));

/** A golden's input on a device. */
export function inputOn(device: Device, golden: ModuleGolden, name: string): Tensor {
  const { values, shape } = goldenInput(golden, name);
  return device.tensor(values as Float32Array, shape);
}

/** The layout that the weights are renamed to before they are loaded. */
export type Layout = "diffusers" | "black-forest-labs";

const inLayout = (source: WeightSource, layout: Layout): WeightSource =>
  translate(layout === "diffusers" ? source : remap(source, invert(autoencoderKlFromBfl)), autoencoderKlNames);

/** One half of the tiny KL autoencoder with the golden's weights; the other half stays empty. */
export async function loadKlHalf(
  device: Device,
  golden: ModuleGolden,
  half: "encoder" | "decoder",
  layout: Layout = "diffusers",
  changes: Partial<AutoencoderKlConfig> = {},
): Promise<AutoencoderKl> {
  const model = new AutoencoderKl({ ...autoencoderKlConfigFromJson(golden.config), ...changes });
  await load(model[half], stripPrefix(inLayout(golden.weights, layout), `${half}.`), device);
  return model;
}

const silu = (x: number): number => x / (1 + Math.exp(-x));
const siluOf = (output: (path: string) => GoldenTensor, path: string): Float64Array => Float64Array.from(output(path).values, silu);
/** What the second convolution of a residual block gives with the shortcut added: the block's output. */
const withShortcut = (output: (path: string) => GoldenTensor, path: string) => output(path.slice(0, path.lastIndexOf("."))).values;

const klOptions: ParityOptions = {
  view: { "**.group_norm": (x) => x.flatten(2) },
  expected: { "**.norm1": siluOf, "**.norm2": siluOf, "**.conv_norm_out": siluOf, "**.conv2": withShortcut },
  absent: Object.fromEntries(
    ["encoder", "decoder", "encoder.down_blocks.*", "decoder.up_blocks.*", "**.mid_block"].map((path) => [
      path,
      "runs block by block; the golden has the same output for the last part",
    ]),
  ),
};

/** Image to latents; the golden's image has sides that are no multiples of 8, which `encode` refuses, so the parts are called. */
export async function klEncodeParity(device: Device, changes: Partial<AutoencoderKlConfig> = {}, layout: Layout = "diffusers") {
  const golden = await openGolden("kl-encode");
  using model = await loadKlHalf(device, golden, "encoder", layout, changes);
  using image = inputOn(device, golden, "image");
  const run = () =>
    scope(() => {
      const { mean, std } = momentsOf(model.encoder.forward(image));
      return { mean, std, latents: model.scaleLatents(mean) };
    });
  return await expectModuleParity(model.encoder, golden, run, { ...klOptions, prefix: "encoder." });
}

export async function klDecodeParity(device: Device, changes: Partial<AutoencoderKlConfig> = {}, layout: Layout = "diffusers") {
  const golden = await openGolden("kl-decode");
  using model = await loadKlHalf(device, golden, "decoder", layout, changes);
  using latents = inputOn(device, golden, "latents");
  return await expectModuleParity(model.decoder, golden, () => ({ image: model.decode(latents) }), { ...klOptions, prefix: "decoder." });
}

/** Both halves of the tiny KL autoencoder. */
export async function loadKl(device: Device, golden: ModuleGolden): Promise<AutoencoderKl> {
  const model = new AutoencoderKl(autoencoderKlConfigFromJson(golden.config));
  await load(model, golden.weights, device);
  return model;
}

/** Tiles of the tiled golden: 32 pixels, a quarter of them shared. */
export const goldenTiles: TileOptions = { size: 32, overlap: 0.25 };

/** Relative L2 of tiled decode and encode. */
export async function klTiledErrors(device: Device, tile: TileOptions = goldenTiles) {
  const golden = await openGolden("kl-tiled");
  using model = await loadKl(device, golden);
  using image = inputOn(device, golden, "image");
  using z = inputOn(device, golden, "z");
  using decoded = scope(() => model.decode(model.scaleLatents(z), { tile }));
  using mean = scope(() => model.moments(image, { tile }).mean);
  const error = async (actual: Tensor, name: string) => relativeL2((await actual.toArray()) as Numbers, golden.outputs.get(name)!.values);
  return { image: await error(decoded, "image"), mean: await error(mean, "mean"), untiled: await error(decoded, "untiled.image") };
}

const tinyGolden = openGolden("tae");

export async function loadTiny(device: Device): Promise<{ model: AutoencoderTiny; golden: ModuleGolden }> {
  const golden = await tinyGolden;
  const model = new AutoencoderTiny(autoencoderTinyConfigFromJson(golden.config));
  await load(model, translate(golden.weights, autoencoderTinyNames), device);
  return { model, golden };
}

const relu = (output: (path: string) => GoldenTensor, path: string): Float64Array =>
  Float64Array.from(output(path).values, (x) => Math.max(0, x));

/** Encode (of an image that `encode` refuses for its sides), decode, and decode in tiles of 8 latents that share one. */
export async function tinyParity(device: Device, tile: TileOptions = { size: 64, overlap: 0.125 }): Promise<readonly Comparison[]> {
  const { model, golden } = await loadTiny(device);
  using _ = model;
  using image = inputOn(device, golden, "image");
  using latents = inputOn(device, golden, "latents");
  using wide = inputOn(device, golden, "tiled.latents");
  using tiled = model.decode(wide, { tile });
  const run = () => ({ latents: model.encoder.forward(image), image: model.decode(latents), "tiled.image": tiled.copy() });
  return await expectModuleParity(model, golden, run, {
    expected: {
      "decoder.layers.0": relu,
      "**.conv.0": relu,
      "**.conv.2": relu,
      "**.conv.4": (output, path) => output(path.slice(0, -".conv.4".length)).values,
    },
    absent: {
      encoder: "runs layer by layer; the latents are compared",
      decoder: "runs layer by layer; the image is compared",
      "*.layers": "runs layer by layer; the last layer is compared",
      "*.layers.*.conv": "the fused last convolution already adds the input",
    },
  });
}

/** The largest relative L2 of the comparisons. */
export const worst = (compared: readonly Comparison[]): number => Math.max(...compared.map((c) => c.error));
