// Decodes one image with the released autoencoder's sizes (84 million parameters, random weights): time, and the memory
// that was estimated beside the memory that was measured.
// Run: npx tsx --conditions=@wick/source bench/vae-decode.ts [--size 1024] [--device cpu|webgpu|null] [--tile n] [--max-binding-mib n]
//   [--tier plain|subgroups|matrix] [--out folder]
// --tile: squares of n pixels that overlap by a quarter, as diffusers' `enable_tiling()` cuts larger images. The device "null" is Dawn's null backend: it checks every binding against the limits and computes nothing.
// --out writes weights, latents and image as safetensors, which tools/reference/vae_decode_check.py repeats with diffusers.
import { mkdirSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { initParameters, runBlocksAsync, save } from "@wick/nn";
import {
  cpu,
  type Device,
  type Shape,
  type Tensor,
  type Tier,
  torchCpu,
  webgpu,
  writeFileAtomically,
  writeSafetensors,
} from "@wick/tensor";
import { AutoencoderKl, diffusersTiles, estimateDecodeBytes, flux1Autoencoder, type RunOptions } from "@wick/vae";

const { values } = parseArgs({
  options: {
    size: { type: "string", default: "1024" },
    device: { type: "string", default: "cpu" },
    "max-binding-mib": { type: "string" },
    tile: { type: "string" },
    tier: { type: "string" },
    out: { type: "string" },
  },
});
const size = { height: Number(values.size), width: Number(values.size) };
const how: RunOptions = values.tile ? { tile: { ...diffusersTiles, size: Number(values.tile) } } : {};
const mib = 2 ** 20;

async function openDevice(): Promise<Device> {
  if (values.device === "cpu") return cpu();
  return webgpu({
    ...(values.device === "null" && { driver: "null" }),
    ...(values.tier && { tier: values.tier as Tier }),
    ...(values["max-binding-mib"] && { maxBindingBytes: Number(values["max-binding-mib"]) * mib }),
  });
}

/** What the reference needs to repeat the run. */
async function writeRun(folder: string, latents: Tensor, pixels: Float32Array): Promise<void> {
  mkdirSync(folder, { recursive: true });
  await writeFileAtomically(join(folder, "weights.safetensors"), (sink) => save(model, sink));
  const drawn = (await latents.toArray()) as Float32Array;
  const tensor = (name: string, shape: Shape, values: Float32Array) => ({
    name,
    dtype: "f32" as const,
    shape,
    bytes: () => [new Uint8Array(values.buffer, values.byteOffset, values.byteLength)],
  });
  const tensors = [tensor("latents", latents.shape, drawn), tensor("image", [1, 3, size.height, size.width], pixels)];
  await writeFileAtomically(join(folder, "run.safetensors"), (sink) =>
    writeSafetensors(sink, tensors, values.tile ? { tile: values.tile } : {}),
  );
}

using device = await openDevice();
using model = new AutoencoderKl(flux1Autoencoder);
initParameters(model, device, torchCpu(0));
const { maxBufferBytes, maxBindingBytes } = device.capabilities;
const estimate = estimateDecodeBytes(flux1Autoencoder, size, { ...how, ...(maxBufferBytes && { maxTensorBytes: maxBufferBytes }) });
using latents = device.randn([1, 16, size.height / 8, size.width / 8], torchCpu(1));
device.resetPeak();
const started = performance.now();
using image = await runBlocksAsync(device, model.runDecode(latents, how));
const numbers = (await image.toArray()) as Float32Array;
const seconds = (performance.now() - started) / 1000;
const report = {
  machine: { cpu: cpus()[0]?.model, cores: cpus().length, node: process.version, load: loadavg()[0] },
  device: device.description,
  pixels: size,
  ...(values.tile && { tile: Number(values.tile) }),
  maxBindingMib: maxBindingBytes / mib,
  seconds,
  estimatedPeakMib: estimate.peakBytes / mib,
  measuredPeakMib: device.peakBytes / mib,
  ratio: device.peakBytes / estimate.peakBytes,
  largestTensorMib: estimate.largestTensorBytes / mib,
  processPeakMib: process.resourceUsage().maxRSS / 1024,
};
process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
if (values.out) await writeRun(values.out, latents, numbers);
