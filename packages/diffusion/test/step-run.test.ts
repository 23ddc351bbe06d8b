// Who owns the final latents of a run, however it is iterated.
import { type DenoiseStep, denoise, euler, resultOf, type StepRun } from "@wick/diffusion";
import { cpu, type Device, scope, type Tensor } from "@wick/tensor";
import { expect, test } from "vitest";

/** Runs `use` over three steps; at the end only the latents it was given are on the device. */
async function withRun(use: (run: StepRun<DenoiseStep, Tensor>, device: Device) => Promise<void>): Promise<void> {
  using device = cpu();
  using latents = device.ones([1, 2, 4, 4]);
  const before = device.liveBytes;
  const velocity = async (x: Tensor) => scope(() => x.mul(0.5).compute());
  await use(denoise(device, { latents, sigmas: [1, 0.5, 0.25, 0], velocity, solver: euler }), device);
  expect(device.liveBytes).toBe(before);
}

test("for await releases the final latents when the loop is over", async () => {
  await withRun(async (run) => {
    const seen: number[] = [];
    for await (const step of run) seen.push((await step.latents.toArray())[0] as number);
    expect(seen).toEqual([0.75, 0.65625, 0.57421875]);
  });
});

test("a copy of the last step's latents is the caller's", async () => {
  await withRun(async (run) => {
    let kept: Tensor | undefined;
    for await (const step of run) if (step.index + 1 === step.count) kept = step.latents.copy();
    expect((await kept!.toArray())[0]).toBe(0.57421875);
    kept!.dispose();
  });
});

test("next() hands the final latents to the caller", async () => {
  await withRun(async (run) => {
    using latents = await resultOf(run);
    expect((await latents.toArray())[0]).toBe(0.57421875);
  });
});

test.each(["break", "return", "throw"])("%s in the loop releases everything", async (how) => {
  await withRun(async (run, device) => {
    const before = device.liveBytes;
    const leave = async (): Promise<void> => {
      for await (const step of run) {
        if (step.index === 0) continue;
        expect(device.liveBytes).toBeGreaterThan(before);
        if (how === "break") break;
        if (how === "return") return;
        throw new Error("enough");
      }
    };
    if (how === "throw") await expect(leave()).rejects.toThrow("enough");
    else await leave();
  });
});

test("await using, and throw(), end a run that was begun by hand", async () => {
  await withRun(async (run) => {
    await run.next();
    await run[Symbol.asyncDispose]();
    expect((await run.next()).done).toBe(true);
  });
  await withRun(async (run) => {
    await run.next();
    await expect(run.throw(new Error("enough"))).rejects.toThrow("enough");
  });
});
