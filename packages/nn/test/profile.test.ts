import { cpu, fold, hold, scope, type Tensor, torchCpu } from "@wick/tensor";
import { expect, test } from "vitest";
import {
  capture,
  initParameters,
  LayerNorm,
  Linear,
  Module,
  profile,
  type RopeTable,
  repeat,
  ropeTable,
  SelfAttention,
} from "../src/index.ts";

class Block extends Module {
  readonly norm = new LayerNorm(16);
  readonly attn = new SelfAttention({ width: 16, heads: 2, qkNorm: 1e-6 });
  forward(x: Tensor, rope: RopeTable): Tensor {
    return x.add(this.attn.forward(this.norm.forward(x), { rope }));
  }
}
class Scaled extends Linear {
  override forward(x: Tensor): Tensor {
    return super.forward(x).mul(2).compute();
  }
}
class Net extends Module {
  readonly blocks = repeat(3, () => new Block());
  readonly head = new Scaled(16, 16);
  forward(x: Tensor, rope: RopeTable): Tensor {
    return this.head.forward(fold(this.blocks, x, (h, block) => block.forward(h, rope)));
  }
}

async function withNet(use: (net: Net, run: () => Tensor, device: ReturnType<typeof cpu>) => Promise<void>): Promise<void> {
  using device = cpu();
  {
    using net = new Net();
    initParameters(net, device, torchCpu(0));
    using x = device.randn([1, 8, 16], torchCpu(1));
    const ids = Array.from({ length: 8 }, (_, i) => [i]);
    using rope = hold(ropeTable(device, ids, { widths: [8], theta: 100 }));
    await use(net, () => scope(() => net.forward(x, rope.value)), device);
  }
  expect(device.liveBytes).toBe(0);
}

test("a profile tells kernels by module and runs the kernels of an unprofiled run", () =>
  withNet(async (net, run, device) => {
    using plain = run();
    const unprofiled = await device.profile(() => {
      using _ = run().compute();
    });
    const profiled = await profile(device, net, run);
    using result = profiled.result;
    expect(await result.toArray()).toEqual(await plain.toArray());
    expect(profiled.timings.map((t) => t.op)).toEqual(unprofiled.map((t) => t.op));
    expect(profiled.timings.map((t) => t.op)).toContain("qkNormRope");

    const calls = profiled.modules.map(({ path, type, calls }) => `${path} ${type} ${calls}`);
    expect(calls.slice(0, 9)).toMatchInlineSnapshot(`
      [
        " Net 1",
        "blocks.0 Block 1",
        "blocks.0.norm LayerNorm 1",
        "blocks.0.attn SelfAttention 1",
        "blocks.0.attn.to_q Linear 1",
        "blocks.0.attn.to_k Linear 1",
        "blocks.0.attn.to_v Linear 1",
        "blocks.0.attn.to_out.0 Linear 1",
        "blocks.1 Block 1",
      ]
    `);
    expect(calls).toContain("head Scaled 1");
    const at = (path: string) => profiled.modules.find((m) => m.path === path)!;
    const self = profiled.modules.reduce((s, m) => s + m.selfMs, 0);
    expect(self).toBeCloseTo(profiled.deviceMs, 6);
    expect(at("").totalMs).toBeCloseTo(profiled.deviceMs, 6);
    expect(at("blocks.0").totalMs).toBeLessThanOrEqual(at("").totalMs);
    expect(at("blocks.1.attn.to_q").flops).toBe(2 * 8 * 16 * 16);
    expect(profiled.timings.find((t) => t.region === "head")?.op).toBe("matmul");
    expect(profiled.timings.some((t) => t.region === "blocks.2.attn" && t.op === "attention")).toBe(true);
    const text = profiled.toString({ least: 0 });
    expect(text).toMatch(/^blocks\.\*\.attn\.to_q +Linear +3 /m);
    expect(text).toMatch(/^matmul +13 /m);
    expect(profiled.toString({ depth: 1, least: 0 })).not.toMatch(/^blocks/m);
    expect(profiled.wallMs).toBeGreaterThan(0);
  }));

test("profiles see taps, name several models and leave classes as they were, also after a throw", () =>
  withNet(async (net, run, device) => {
    const own = [Linear.prototype.forward, Scaled.prototype.forward, LayerNorm.prototype.forward];
    const both = await profile(device, { net }, () => capture(net, ["head"], run));
    using taps = both.result;
    using _ = taps.result;
    expect(taps.output("head").shape).toEqual([1, 8, 16]);
    expect(both.modules.map((m) => m.path)).toContain("net.blocks.0.attn");
    const failing = profile(device, net, () => {
      throw new Error("no");
    });
    await expect(failing).rejects.toThrow("no");
    expect([Linear.prototype.forward, Scaled.prototype.forward, LayerNorm.prototype.forward]).toEqual(own);
    const nested = profile(device, net, () => profile(device, net, run));
    await expect(nested).rejects.toThrow(/do not nest/);
  }));
