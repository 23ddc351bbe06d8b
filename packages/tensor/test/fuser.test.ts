// The elementwise fuser and epilogues: how many kernels run, and that fusing never changes a bit.
import { cpu, epilogue, scope, torchCpu } from "@wick/tensor";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

let device = cpu();
beforeEach(() => {
  device = cpu();
});
afterEach(() => device.destroy());

/** Names of the kernels that `fn` runs. */
async function kernelsOf(fn: () => void): Promise<string[]> {
  return (await device.profile(() => scope(fn))).map((t) => t.op);
}

describe("chains", () => {
  test("become one kernel", async () => {
    using x = device.ones([64]);
    using g = device.ones([64]);
    expect(await kernelsOf(() => void x.mul(g.add(1)).add(3).gelu().sub(x).compute())).toEqual(["map"]);
  });

  test("an intermediate with two consumers is computed once for the second", async () => {
    using x = device.ones([64]);
    const ops = await kernelsOf(() => {
      const shared = x.add(1);
      shared.exp().compute();
      shared.log().compute();
    });
    expect(ops).toEqual(["map", "map", "map"]);
  });

  test("a tensor used twice in one op is taken in once", async () => {
    using x = device.ones([64]);
    expect(
      await kernelsOf(() => {
        const y = x.add(1);
        y.mul(y).compute();
      }),
    ).toEqual(["map"]);
  });

  test("stop at six operands", async () => {
    const parts = Array.from({ length: 9 }, (_, i) => device.full([8], i));
    const ops = await kernelsOf(() => void parts.reduce((a, b) => a.add(b)).compute());
    expect(ops.length).toBe(2);
    using sum = scope(() => parts.reduce((a, b) => a.add(b)));
    expect((await sum.toArray())[0]).toBe(36);
    for (const p of parts) p.dispose();
  });

  test.each(["f32", "f16", "bf16"] as const)("give the bits of unfused ops in %s", async (dtype) => {
    using x = device.randn([257], torchCpu(1), dtype);
    using y = device.randn([257], torchCpu(2), dtype);
    using fused = scope(() => x.mul(y).add(1.3).silu().sub(y).mul(0.7));
    using step = scope(() => x.mul(y).compute().add(1.3).compute().silu().compute().sub(y).compute().mul(0.7).compute());
    expect(await fused.toBytes()).toEqual(await step.toBytes());
  });

  test("u8 wraps between fused ops as it does in memory", async () => {
    using x = device.tensor(Uint8Array.of(250, 3), [2]);
    using y = scope(() => x.add(10).floorDiv(2));
    expect(Array.from((await y.toArray()) as Uint8Array)).toEqual([2, 6]);
  });
});

test("integers clamped by fractions are f32, as in torch", async () => {
  using clamped = scope(() => device.arange(4, undefined, 1, "i32").clamp(0.5, 2.5));
  expect([clamped.dtype, ...((await clamped.toArray()) as Float32Array)]).toEqual(["f32", 0.5, 1, 2, 2.5]);
  using whole = scope(() => device.arange(4, undefined, 1, "i32").clamp(1, 2));
  expect([whole.dtype, ...((await whole.toArray()) as Int32Array)]).toEqual(["i32", 1, 1, 2, 2]);
});

describe("epilogues", () => {
  test("run inside matmul, norm and convolution", async () => {
    using x = device.randn([4, 8], torchCpu(0));
    using w = device.randn([6, 8], torchCpu(1));
    using b = device.randn([6], torchCpu(2));
    using r = device.randn([4, 6], torchCpu(3));
    const then = epilogue((y, residual) => y.gelu().add(residual), r);
    expect(await kernelsOf(() => void x.linear(w, b, then).compute())).toEqual(["matmul"]);
    using fused = scope(() => x.linear(w, b, then));
    using plain = scope(() => x.matmul(w.t()).add(b).gelu().add(r));
    const [got, want] = [await fused.toArray(), await plain.toArray()];
    for (const [i, v] of want.entries()) expect(Number(got[i])).toBeCloseTo(Number(v), 5);
  });

  test("broadcast their operands per sample", async () => {
    using x = device.ones([2, 3, 4]);
    using gate = device.tensor([1, 2, 3, 4, 10, 20, 30, 40], [2, 1, 4]);
    using eye = device.eye(4);
    using y = scope(() =>
      x.matmul(
        eye,
        epilogue((v, g) => v.mul(g), gate),
      ),
    );
    expect(Array.from((await y.toArray()) as Float32Array).slice(8, 16)).toEqual([1, 2, 3, 4, 10, 20, 30, 40]);
  });
});
