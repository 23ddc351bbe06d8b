// What a block must not hold, by the buffers that one forward pass creates: scores, expanded weights, and attention beside the MLP. On Dawn's null
// backend, which allocates as every other does, with the kernels of a GPU.
import { load, Module, ropeTable } from "@wick/nn";
import { type Device, type DType, hold, scope, type Tensor, torchCpu, webgpu } from "@wick/tensor";
import { zeroWeights } from "@wick/testing/memory-weights";
import { describe, expect, test } from "vitest";
import { flux1Dev, type ShiftScaleGate, SingleStreamBlock } from "../../src/index.ts";

const width = 256;
const heads = 2;

class Part extends Module {
  readonly block = new SingleStreamBlock({ ...flux1Dev, width, heads });
}

/** Bytes of the largest buffer for values that `run` makes, nothing being left in the pool before. */
function largestMade(device: Device, run: () => void): number {
  const gpu = (device.backend as unknown as { device: GPUDevice }).device;
  const create = gpu.createBuffer.bind(gpu);
  let largest = 0;
  device.backend.trim();
  gpu.createBuffer = (descriptor) => {
    // Parameters of dispatches have a ring of their own, whatever the block is.
    if (descriptor.label !== "uniform ring") largest = Math.max(largest, descriptor.size);
    return create(descriptor);
  };
  try {
    run();
  } finally {
    gpu.createBuffer = create;
  }
  return largest;
}

async function largestOfBlock(dtype: DType, tokens: number): Promise<number> {
  using device = await webgpu({ driver: "null", software: false });
  using model = new Part();
  await load(model, zeroWeights(model), device, { dtype });
  using x = device.randn([1, tokens, width], torchCpu(1));
  using part = hold(scope(() => device.zeros([1, 1, width])));
  const rope = ropeTable(
    device,
    Array.from({ length: tokens }, (_, i) => [0, i, i]),
    { widths: flux1Dev.ropeAxes, theta: 10_000 },
  );
  using _ = hold(rope);
  const modulation: ShiftScaleGate = { shift: part.value, scale: part.value, gate: part.value };
  return largestMade(device, () => {
    scope((): Tensor[] => {
      model.block.forward(x, modulation, rope);
      return [];
    });
  });
}

describe.each(["bf16", "f16", "q8_0", "q4_K"] as const)("a single block with %s weights", (dtype) => {
  const f32Bytes = (values: number): number => 4 * values;

  test("holds nothing larger than its MLP: neither scores nor [attention | mlp] (packed weights join 512 tokens of it at a time)", async () => {
    const tokens = 2048;
    const largest = await largestOfBlock(dtype, tokens);
    expect(largest).toBeGreaterThanOrEqual(f32Bytes(tokens * 4 * width));
    expect(largest).toBeLessThan(f32Bytes(tokens * 5 * width));
    expect(f32Bytes(heads * tokens * tokens)).toBeGreaterThan(f32Bytes(tokens * 5 * width));
  });

  test("holds no expanded weight", async () => {
    expect(await largestOfBlock(dtype, 8)).toBeLessThan(f32Bytes(width * width));
  });
});
