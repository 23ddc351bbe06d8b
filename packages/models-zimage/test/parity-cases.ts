// Parity of the transformer with diffusers at a tiny width, as a function of a device and of config changes.

import { ZImage, type ZImageConfig, zImageConfigFromJson } from "@wick/models-zimage";
import { load } from "@wick/nn";
import { type Device, hold, scope, type Tensor } from "@wick/tensor";
import { type GoldenTensor, goldenInput, type ModuleGolden, readModuleGolden } from "@wick/testing/module-golden";
import { type Comparison, expectModuleParity } from "@wick/testing/module-parity";

export const openGolden = (name: string): Promise<ModuleGolden> =>
  readModuleGolden(new URL(`./goldens/${name}.safetensors`, import.meta.url));

/** Image tokens of the exact golden: 8 x 16 latents in patches of 2. */
const exactImageTokens = 32;

/** The reference runs the final layer over all tokens, we over the image's only. */
function imageRows(output: (path: string) => GoldenTensor, path: string): Float32Array {
  const { shape, values } = output(path);
  return Float32Array.from(values.subarray(0, exactImageTokens * shape.at(-1)!));
}

/** Our modulation is fused into the norm: norm(x) · (1 + scale). */
function modulated(output: (path: string) => GoldenTensor, path: string): Float64Array {
  const { shape, values } = output(path);
  const block = path.slice(0, path.lastIndexOf("."));
  const width = shape.at(-1)!;
  const offset = path.endsWith("attention_norm1") ? 0 : 2 * width;
  const scale = output(`${block}.adaLN_modulation.0`).values;
  return Float64Array.from(values, (v, i) => v * (1 + scale[offset + (i % width)]!));
}

export async function tinyModel(device: Device, golden: ModuleGolden, changes: Partial<ZImageConfig> = {}): Promise<ZImage> {
  const model = new ZImage({ ...zImageConfigFromJson(golden.config), ...changes });
  await load(model, golden.weights, device);
  return model;
}

/** The golden's captions, in order. */
export function captionsOf(device: Device, golden: ModuleGolden, name = "cap"): Tensor[] {
  return [...golden.inputs.keys()]
    .filter((k) => k.startsWith(`${name}.`))
    .sort()
    .map((k) => {
      const { shape, values } = goldenInput(golden, k);
      return device.tensor(values as Float32Array, shape, { label: k });
    });
}

/** Our velocity under the reference's sign, in its shape [b, c, 1, h, w]. */
function output(device: Device, model: ZImage, golden: ModuleGolden): { output: Tensor } {
  const latents = goldenInput(golden, "latents");
  const t = Array.from(goldenInput(golden, "t").values);
  return scope(() => {
    const [b, c, , h, w] = latents.shape as [number, number, number, number, number];
    const x = device.tensor(latents.values as Float32Array, [b, c, h, w]);
    const context = model.context(captionsOf(device, golden), { height: h, width: w });
    const velocity = model.forward(
      x,
      t.map((v) => 1 - v),
      context,
    );
    return { output: velocity.neg().unsqueeze(2) };
  });
}

/** Every module on sequences that need no padding. */
export async function exactParity(device: Device, changes: Partial<ZImageConfig> = {}): Promise<readonly Comparison[]> {
  const golden = await openGolden("z-image-exact");
  using model = await tinyModel(device, golden, changes);
  const heads = (ours: Tensor) => ours.transpose(1, 2);
  // Awaited here: the model lives until this function ends.
  return await expectModuleParity(model, golden, () => output(device, model, golden), {
    view: {
      "**.norm_q": heads,
      "**.norm_k": heads,
      "all_x_embedder.2-1": (t) => t.squeeze(0),
    },
    rename: (path) => (/^(layers|noise_refiner)\.\d+\.(attention_norm2|ffn_norm2)$/.test(path) ? undefined : path),
    expected: {
      "all_final_layer.2-1": imageRows,
      "all_final_layer.2-1.linear": imageRows,
      "all_final_layer.2-1.norm_final": (read, path) => {
        const { shape } = read(path);
        const scale = read("all_final_layer.2-1.adaLN_modulation").values;
        return imageRows(read, path).map((v, i) => v * (1 + scale[i % shape.at(-1)!]!));
      },
      "layers.*.attention_norm1": modulated,
      "layers.*.ffn_norm1": modulated,
      "noise_refiner.*.attention_norm1": modulated,
      "noise_refiner.*.ffn_norm1": modulated,
    },
    absent: {
      "layers.*.*_norm2": "fused with the gate and the residual; the block's output covers it",
      "noise_refiner.*.*_norm2": "fused with the gate and the residual; the block's output covers it",
      "**.adaLN_modulation": "a list here; its Linear is compared",
    },
  });
}

/** End result of a batch of two prompts of different lengths at an odd size: pads inside and between sequences. */
export async function batchError(device: Device, changes: Partial<ZImageConfig> = {}): Promise<{ got: Float32Array; want: Float32Array }> {
  const golden = await openGolden("z-image-batch");
  using model = await tinyModel(device, golden, changes);
  using result = hold(output(device, model, golden));
  return { got: (await result.value.output.toArray()) as Float32Array, want: golden.outputs.get("output")!.values as Float32Array };
}
