// Queries and keys in one kernel give what the norm's module, cat and rope give, and taps see the norm as ever.
import { cpu, type Device, hold, scope, type Tensor, torchCpu } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { expect, test } from "vitest";
import { capture, initParameters, Module, patch, RmsNorm, ropeTable, rotatedHeads, SelfAttention } from "../src/index.ts";

class Pair extends Module {
  readonly first = new RmsNorm(8, { eps: 1e-3 });
  readonly second = new RmsNorm(8, { eps: 1e-2, name: "scale" });
  forward(a: Tensor, b: Tensor): Tensor {
    return scope(() => {
      const rope = ropeTable(
        a.device,
        Array.from({ length: a.dim(1) + b.dim(1) }, (_, i) => [i, 2 * i]),
        { widths: [2, 6], theta: 100 },
      );
      const streams = [
        { x: a, norm: this.first },
        { x: b, norm: this.second },
      ];
      return rotatedHeads(streams, { heads: 2, rope, interleaved: true });
    });
  }
}

const values = async (t: Tensor): Promise<Float32Array> => (await t.toArray()) as Float32Array;

async function withPair(fn: (model: Pair, a: Tensor, b: Tensor, device: Device) => Promise<void>): Promise<void> {
  using device = cpu();
  {
    using model = new Pair();
    initParameters(model, device, torchCpu(3));
    using a = device.randn([2, 3, 16], torchCpu(1));
    using b = device.randn([2, 5, 16], torchCpu(2));
    await fn(model, a, b, device);
  }
  expect(device.liveBytes).toBe(0);
}

test("a captured norm gives its values, and the result stays the same", () =>
  withPair(async (model, a, b) => {
    using fused = model.forward(a, b);
    expect(fused.shape).toEqual([2, 2, 8, 8]);
    using taps = capture(model, ["first"], () => model.forward(a, b));
    using stepwise = taps.result;
    expect(relativeL2(await values(fused), await values(stepwise))).toBeLessThan(1e-6);
    expect(taps.output("first").shape).toEqual([2, 2, 3, 8]);
    expect([...taps.calls.keys()]).toEqual(["first"]);
  }));

test("a patched norm takes part", () =>
  withPair(async (model, a, b) => {
    using plain = model.forward(a, b);
    using _ = patch(model, ["second"], (x) => x.mul(2));
    using patched = model.forward(a, b);
    using tail = scope(() => plain.narrow(2, 3, 5).mul(2));
    using head = plain.narrow(2, 0, 3);
    using patchedTail = patched.narrow(2, 3, 5);
    using patchedHead = patched.narrow(2, 0, 3);
    expect(relativeL2(await values(patchedTail), await values(tail))).toBeLessThan(1e-6);
    expect(relativeL2(await values(patchedHead), await values(head))).toBeLessThan(1e-6);
  }));

test("attention of the library takes it, too", () =>
  withPair(async (_model, a, _b, device) => {
    using model = new SelfAttention({ width: 16, heads: 2, qkNorm: 1e-3 });
    initParameters(model, device, torchCpu(5));
    using rope = hold(ropeTable(device, [[0], [1], [2]], { widths: [8], theta: 100 }));
    using fused = model.forward(a, { rope: rope.value });
    using taps = capture(model, ["norm_q", "norm_k"], () => model.forward(a, { rope: rope.value }));
    using stepwise = taps.result;
    expect(taps.calls.size).toBe(2);
    expect(relativeL2(await values(fused), await values(stepwise))).toBeLessThan(1e-6);
  }));
