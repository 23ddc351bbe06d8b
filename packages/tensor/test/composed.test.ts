// Every fused op as composed from basic ones, against the same goldens as the fused kernels, on a backend that has none of the fused kernels; and
// activations against their formulas.
import { cpu, Device, epilogue, hold, scope, type Tensor, torchCpu } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { describe, expect, test } from "vitest";
import { createCpuBackend } from "../src/backends/cpu/index.ts";
import type { FusedOp } from "../src/ops/table.ts";
import { readFamily } from "./conformance/goldens.ts";
import { runRow } from "./conformance/run.ts";

const fused: readonly FusedOp[] = ["softmax", "norm", "groupNorm", "attention", "rope", "qkNormRope"];

/** The CPU backend without the fused kernels. */
function basicDevice(): Device {
  const backend = createCpuBackend({ kernels: "plain" });
  const basic = Object.fromEntries(Object.entries(backend.kernels).filter(([op]) => !fused.includes(op as FusedOp)));
  const without = new Proxy(backend, {
    get(target, name) {
      if (name === "kernels") return basic;
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return new Device(without);
}

/** Sums over keys and widths are taken in f32 tensors, where the oracle's loops sum in f64. */
const factor = 4;

describe.each(["norm", "attention"])("%s goldens", async (family) => {
  const { rows, stored } = await readFamily(family);
  test.each([...new Set(rows.map((r) => r.op))])("%s", async (op) => {
    using device = basicDevice();
    const problems: string[] = [];
    for (const row of rows.filter((r) => r.op === op)) {
      const problem = await runRow(device, row, stored, factor);
      if (problem) problems.push(problem);
    }
    expect(problems).toEqual([]);
  });
});

describe("beyond the goldens", () => {
  const both = async (run: (device: Device) => Tensor): Promise<[number, string]> => {
    const values: Float32Array[] = [];
    const layouts: string[] = [];
    for (const device of [basicDevice(), cpu({ kernels: "plain" })]) {
      using own = device;
      using result = hold(scope(() => run(own)));
      layouts.push(`${result.value.dtype} ${result.value.shape} / ${result.value.layout.strides}`);
      values.push(Float32Array.from((await result.value.toArray()) as Float32Array));
    }
    expect(layouts[0]).toBe(layouts[1]);
    return [relativeL2(values[0]!, values[1]!), layouts[0]!];
  };
  const draw = (device: Device, shape: number[], seed: number): Tensor => device.randn(shape, torchCpu(seed));

  test.each(["layerNorm", "rmsNorm"] as const)("%s takes an epilogue", async (name) => {
    const [error] = await both((d) => {
      const then = epilogue((y, s, t) => y.mul(s.add(1)).add(t), draw(d, [1, 12], 2), draw(d, [5, 1], 3));
      return draw(d, [2, 5, 12], 1)[name]({ weight: draw(d, [12], 4), eps: 1e-6, then });
    });
    expect(error).toBeLessThan(4e-6);
  });

  test("groupNorm takes an epilogue and keeps its 16-bit dtype", async () => {
    const then = epilogue((y) => y.silu());
    const [error, what] = await both((d) =>
      draw(d, [2, 8, 3, 5], 1)
        .to("bf16")
        .groupNorm(4, { weight: draw(d, [8], 2), bias: draw(d, [8], 3), eps: 1e-5, then }),
    );
    expect(error).toBeLessThan(8e-3);
    expect(what).toContain("bf16");
  });

  test("attention lies in memory as the fused result does, for grouped heads, a mask, lengths and causality at once", async () => {
    const [error] = await both((d) =>
      draw(d, [2, 4, 5, 8], 1).attend(draw(d, [2, 2, 7, 8], 2), draw(d, [2, 2, 7, 6], 3), {
        ...{ causal: true, scale: 0.3, lengths: d.tensor([7, 0], [2], { dtype: "i32" }) },
        mask: draw(d, [1, 4, 1, 7], 4),
      }),
    );
    expect(error).toBeLessThan(8e-6);
  });
});

describe("activations against their formulas", () => {
  const forms: Readonly<Record<string, [fused: (x: Tensor) => Tensor, composed: (x: Tensor) => Tensor]>> = {
    gelu: [
      (x) => x.gelu(),
      (x) =>
        x.mul(0.5).mul(
          x
            .add(x.pow(3).mul(0.044715))
            .mul(Math.sqrt(2 / Math.PI))
            .tanh()
            .add(1),
        ),
    ],
    geluErf: [(x) => x.geluErf(), (x) => x.mul(0.5).mul(x.mul(Math.SQRT1_2).erf().add(1))],
    geluQuick: [(x) => x.geluQuick(), (x) => x.mul(x.mul(1.702).sigmoid())],
    silu: [(x) => x.silu(), (x) => x.mul(x.sigmoid())],
    swiglu: [(x) => x.swiglu(x.flip(0)), (x) => x.div(x.neg().exp().add(1)).mul(x.flip(0))],
    modulate: [(x) => x.modulate(x.flip(0), x), (x) => x.add(x.square()).add(x.flip(0))],
    gatedAdd: [(x) => x.gatedAdd(x.flip(0), x), (x) => x.mul(x.flip(0).add(1))],
  };
  test.each(Object.keys(forms))("%s", async (name) => {
    using device = cpu();
    using x = device.randn([1000], torchCpu(1));
    const [one, other] = forms[name]!;
    using pair = hold(scope(() => [one(x), other(x)] as const));
    const [a, b] = await Promise.all(pair.value.map((t) => t.toArray()));
    expect(relativeL2(a as Float32Array, b as Float32Array)).toBeLessThan(1e-6);
  });
});
