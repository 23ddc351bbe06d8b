// Adapters merged and taken back on kernels that remember what they measured of weights (subgroup matrices, here simulated): weights loaded into
// the memory of earlier ones are measured anew. Here because it joins packages that may not import from each other.
import { attachLora, Linear, load, Module, withLora } from "@wick/nn";
import { cpu, type Device, scope, webgpu } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { expect, test } from "vitest";
import { f32Tensor, memoryWeights } from "../../packages/nn/test/memory-weights.ts";
import { simulated } from "../../packages/tensor/test/simulator/vendors.ts";

class Model extends Module {
  readonly proj = new Linear(32, 16, { bias: false });
}
const waves = (count: number, factor: number): Float32Array => Float32Array.from({ length: count }, (_, i) => Math.sin(i * i + 1) * factor);
/** The change is 10^14 times the base. */
const base = await memoryWeights({ "proj.weight": f32Tensor([16, 32], waves(512, 1e-8)) });
const lora = await memoryWeights({
  "proj.lora_A.weight": f32Tensor([2, 32], waves(64, 1e3)),
  "proj.lora_B.weight": f32Tensor([16, 2], waves(32, 1e3)),
});

/** Outputs with the base, the adapter merged, the base again, attached, and detached. */
async function outputs(device: Device): Promise<Float32Array[]> {
  const out: Float32Array[] = [];
  const run = async (model: Model): Promise<void> => {
    using x = device.tensor(waves(16 * 32, 1), [16, 32]);
    using y = scope(() => model.proj.forward(x));
    out.push((await y.toArray()) as Float32Array);
  };
  for (const weights of [base, withLora(base, lora, 1), base]) {
    using model = new Model();
    await load(model, weights, device);
    await run(model);
    if (weights !== base || out.length === 1) continue;
    using attached = await attachLora(model, lora);
    await run(model);
    attached.detach();
    await run(model);
  }
  return out;
}

test("merged, unmerged, attached, detached: as on the CPU", { timeout: 60_000 }, async () => {
  const { options, ran } = simulated("NVIDIA");
  using gpu = await webgpu(options);
  using reference = cpu();
  const [got, want] = [await outputs(gpu), await outputs(reference)];
  expect([...ran].join()).toContain("matmul matrix");
  expect(got).toHaveLength(5);
  for (const [i, values] of got.entries()) expect(relativeL2(values, want[i]!), `output ${i}`).toBeLessThan(2e-6);
  expect(gpu.liveBytes).toBe(0);
});
