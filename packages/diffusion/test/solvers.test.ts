// Every solver step by step against its reference, over an analytic velocity (goldens/solvers.safetensors).
import { readFile } from "node:fs/promises";
import { denoise, readLatents, type Solver, solvers } from "@wick/diffusion";
import { cpu, type Device, memorySource, openSafetensors, readTensorBytes, scope, type Tensor } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

/** Our names and the golden's. */
const names: Readonly<Record<string, string>> = {
  euler: "euler",
  heun: "heun",
  "dpmpp-2m": "dpmpp2m-flow",
  "dpmpp-2m-k": "dpmpp2m-sigma",
  "euler-stochastic": "euler-stochastic",
  "euler-a": "euler-ancestral",
};

let device: Device;
let read: (key: string) => Promise<Float32Array>;
beforeAll(async () => {
  device = cpu();
  const source = await openSafetensors(memorySource(await readFile(new URL("./goldens/solvers.safetensors", import.meta.url)), "solvers"));
  read = async (key) => {
    const bytes = await readTensorBytes(source, key);
    return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  };
});
afterAll(() => {
  expect(device.liveBytes).toBe(0);
  device.destroy();
});

async function run(solver: Solver, sigmas: readonly number[]): Promise<Float32Array[]> {
  using w = device.tensor(await read("in.W"), [12, 12]);
  using x = device.tensor(await read("in.x"), [3, 12]);
  const normals = await read("in.noise");
  let step = -1;
  const steps: Float32Array[] = [];
  const iterator = denoise(device, {
    latents: x,
    sigmas,
    solver,
    velocity: async (y, sigma) =>
      scope(() =>
        y
          .matmul(w)
          .tanh()
          .mul(1 + sigma)
          .sub(y.mul(0.5)),
      ),
    noise: () => device.tensor(normals.slice(step * 36, (step + 1) * 36), [3, 12]),
  });
  for (step = 0; ; step++) {
    const next = await iterator.next();
    if (next.done) {
      next.value.dispose();
      return steps;
    }
    steps.push((await next.value.latents.toArray()) as Float32Array);
  }
}

describe.each(Object.entries(names))("%s", (ours, theirs) => {
  test.each(["turbo", "late"])("%s", async (schedule) => {
    const sigmas = Array.from(await read(`in.sigmas.${schedule}`));
    const steps = await run(solvers[ours]!, sigmas);
    expect(steps.length).toBe(sigmas.length - 1);
    for (const [i, got] of steps.entries())
      expect(relativeL2(got, await read(`out.${theirs}.${schedule}.${i}`)), `step ${i}`).toBeLessThan(1e-6);
  });
});

describe("the loop", () => {
  test("releases everything when the caller stops early", async () => {
    using x = device.ones([2]);
    const velocity = async (y: Tensor) => scope(() => y.neg());
    for await (const step of denoise(device, { latents: x, sigmas: [1, 0.5, 0], velocity, solver: solvers["euler"]! })) {
      expect(step.index).toBe(0);
      break;
    }
    expect(device.liveBytes).toBe(x.byteLength);
  });

  test("names a solver that needs noise", async () => {
    using x = device.ones([2]);
    const run = denoise(device, {
      latents: x,
      sigmas: [1, 0.5, 0],
      velocity: async (y) => scope(() => y.neg()),
      solver: solvers["euler-a"]!,
    });
    await expect(run.next()).rejects.toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: denoise: the solver euler-a is stochastic; pass noise]`,
    );
  });

  test("finds values that are not finite", async () => {
    using bad = device.tensor([1, Number.NaN], [2]);
    await expect(readLatents(bad, "the result")).rejects.toThrowErrorMatchingInlineSnapshot(
      `[NumericsError: denoise: NaN or infinite values in the result: tensor f32 [2]; use bf16 or f32 weights, or lower the guidance]`,
    );
  });
});
