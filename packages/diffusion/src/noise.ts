// Seeded start noise, the same as PyTorch's.
import { type Device, sizeOf, type Tensor, torchCpu } from "@wick/tensor";

/** Named random streams; see @wick/tensor's random numbers. */
export type RngKind = "torch-cpu" | "torch-cpu-legacy";

/** Which stream of random numbers, from which seed. */
export interface NoiseOptions {
  /** As for torch.manual_seed. */
  readonly seed: number | bigint;
  /** Which generation of PyTorch's streams; "torch-cpu" by default. */
  readonly rng?: RngKind;
  /** The dtype PyTorch would draw in: bf16 in FLUX pipelines, f32 in Z-Image ones. The result is f32. */
  readonly drawDType?: "f32" | "bf16" | "f16";
}

/** Standard normals of `shape` as torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=…), widened to f32. */
export function seededNoise(device: Device, shape: readonly number[], options: NoiseOptions): Tensor {
  return noiseStream(device, options)(shape);
}

/** Draws of any shape one after the other from one seeded stream, as calls of torch.randn with one generator. */
export function noiseStream(
  device: Device,
  { seed, rng = "torch-cpu", drawDType = "f32" }: NoiseOptions,
): (shape: readonly number[]) => Tensor {
  const stream = torchCpu(seed, rng);
  return (shape) => {
    const drawn = stream.randn(sizeOf(shape), drawDType);
    if (drawn instanceof Float32Array) return device.tensor(drawn, shape, { label: "noise" });
    return widened(device, drawn as Uint16Array, shape, drawDType as "bf16" | "f16");
  };
}

function widened(device: Device, bits: Uint16Array, shape: readonly number[], dtype: "bf16" | "f16"): Tensor {
  using narrow = device.fromBytes(new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength), shape, dtype, "noise");
  return narrow.to("f32").compute();
}
