// Streams beyond the fixtures: other seeds and shapes, mixed draws, integers, states; and the CUDA generator's counter mapping.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { cpu } from "../src/cpu.ts";
import { type RandomDType, TorchCpuGenerator, torchCpu } from "../src/random/torch-cpu.ts";
import { torchCuda } from "../src/random/torch-cuda.ts";

interface Golden {
  readonly cases: readonly { op: "randn" | "rand"; seed: string; size: number; dtype: RandomDType; sha256: string; next: number }[];
  readonly mixed: readonly { seed: number; sha256: readonly string[]; state: string }[];
  readonly randint: readonly { low: number; high: number; values: readonly number[] }[];
  readonly randperm: readonly { n: number; values: readonly number[] }[];
  readonly fresh: readonly { seed: string; sha256: string }[];
}

const golden = JSON.parse(readFileSync(new URL("./goldens/rng.json", import.meta.url), "utf8")) as Golden;
const sha256 = (values: ArrayBufferView): string =>
  createHash("sha256")
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest("hex");

describe("torchCpu", () => {
  it.each(["f32", "f64", "bf16", "f16"] as const)("other seeds and sizes in %s", (dtype) => {
    for (const c of golden.cases.filter((one) => one.dtype === dtype)) {
      const g = torchCpu(BigInt(c.seed));
      expect(sha256(g[c.op](c.size, dtype)), `${c.op} seed ${c.seed} size ${c.size}`).toBe(c.sha256);
      expect(g.randn(1)[0], `after ${c.op} seed ${c.seed} size ${c.size}`).toBe(c.next);
    }
  });

  it("keeps the spare normal across other draws, and saves PyTorch's own state", () => {
    for (const c of golden.mixed) {
      const g = torchCpu(c.seed);
      const parts = [g.randn(5), g.randn(16), g.randn(3), g.rand(9), g.randn(20, "bf16"), g.randn(1)];
      expect(parts.map(sha256)).toEqual(c.sha256);
      expect(sha256(g.state())).toBe(c.state);
    }
    for (const { seed, sha256: want } of golden.fresh) expect(sha256(torchCpu(BigInt(seed)).state())).toBe(want);
  });

  it("continues from a saved state, wherever it was saved", () => {
    for (const drawn of [0, 1, 5, 623, 624, 625, 1000]) {
      const g = torchCpu(11);
      g.rand(drawn);
      g.randn(1);
      const again = TorchCpuGenerator.fromState(g.state());
      expect(again.randn(40)).toEqual(g.randn(40));
      expect(again.randn(3)).toEqual(g.randn(3));
      expect(again.seed).toBe(11n);
    }
  });

  it("draws integers and permutations", () => {
    for (const c of golden.randint) expect([...torchCpu(8).randint(c.low, c.high, 12)]).toEqual(c.values);
    for (const c of golden.randperm) expect([...torchCpu(4).randperm(c.n)]).toEqual(c.values);
  });

  it("treats seeds equal modulo 2^32 alike, and refuses what is no seed or state", () => {
    expect(torchCpu(2 ** 32 + 5).rand(4)).toEqual(torchCpu(5).rand(4));
    expect(() => torchCpu(0.5)).toThrowErrorMatchingInlineSnapshot(
      `[TensorError: torchCpu: a seed must be a whole number: 0.5; pass a bigint beyond 2^53]`,
    );
    expect(() => torchCpu(2 ** 60)).toThrowErrorMatchingInlineSnapshot(
      `[TensorError: torchCpu: a seed must be a whole number: 1152921504606847000; pass a bigint beyond 2^53]`,
    );
    expect(() => torchCpu(0, "cuda" as never)).toThrowErrorMatchingInlineSnapshot(
      `[TensorError: torchCpu: unknown stream "cuda"; known are torch-cpu and torch-cpu-legacy]`,
    );
    for (const draw of [() => torchCpu(0).randn(2, "i32" as never), () => torchCuda(0).rand(2, "i32" as never)])
      expect(draw).toThrow(/^randn?: no random numbers are drawn in i32; draw in f32, (f64, )?bf16, f16$/);
    expect(() => torchCpu(1).randn(-1)).toThrowErrorMatchingInlineSnapshot(
      `[TensorError: randn: the number of values must be a whole number of at least 0: -1]`,
    );
    expect(() => torchCpu(1).randint(5, 5, 1)).toThrowErrorMatchingInlineSnapshot(
      `[TensorError: randint: bounds must be whole numbers that fit i32 with low < high: low 5, high 5]`,
    );
    expect(() => TorchCpuGenerator.fromState(new Uint8Array(16))).toThrowErrorMatchingInlineSnapshot(
      `[TensorError: fromState: a torch CPU generator state has 5056 bytes, these are 16]`,
    );
    expect(() => TorchCpuGenerator.fromState(new Uint8Array(5056))).toThrowErrorMatchingInlineSnapshot(
      `[TensorError: fromState: not a torch CPU generator state: seeded 0, left 0, next 0]`,
    );
  });

  it("draws 262,144 values well under 0.3 s", () => {
    const g = torchCpu(0);
    g.randn(1 << 14);
    const start = performance.now();
    g.randn(1 << 18);
    expect(performance.now() - start).toBeLessThan(300);
  });
});

describe("torchCuda", () => {
  const near = (got: Float32Array, want: readonly number[]): void => {
    for (const [i, v] of want.entries()) expect(Math.abs(got[i]! - v), `value ${i}`).toBeLessThan(2e-6 + Math.abs(v) * 1e-6);
  };

  it("gives the values that torch prints for seed 0", () => {
    near(torchCuda(0).randn(6), [-0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086473, -0.57972564]);
  });

  it("spreads large draws over the card's threads", () => {
    const card = { sms: 2, threadsPerSm: 256 };
    const [small, large] = [torchCuda(7, card).randn(512), torchCuda(7, card).randn(5000)];
    expect(large.subarray(0, 512)).toEqual(small);
    // 512 threads draw 2,048 values an iteration; the second iteration is the second counter block of the same threads.
    expect(large.subarray(2048, 2560)).toEqual(torchCuda(7, card, 4).randn(512));
    expect(torchCuda(7).randn(5000).subarray(512, 1024)).not.toEqual(large.subarray(512, 1024));
    expect(torchCuda(7).randn(300)).toEqual(torchCuda(7, card).randn(300));
  });

  it("moves its offset by four per iteration and continues from it", () => {
    const g = torchCuda(3n, { sms: 1, threadsPerSm: 1024 });
    g.randn(10);
    expect(g.state()).toEqual({ seed: 3n, offset: 4 });
    g.rand(10_000);
    expect(g.state().offset).toBe(16);
    const again = torchCuda(3, g.card, g.state().offset);
    expect(again.rand(5)).toEqual(g.rand(5));
  });

  it("rounds narrow formats from f32, and keeps uniforms below 1", () => {
    const bits = torchCuda(1).randn(1000, "bf16");
    const values = torchCuda(1).randn(1000);
    const widened = new Float32Array(Uint32Array.from(bits, (b) => b << 16).buffer);
    expect(widened.every((v, i) => Math.abs(v - values[i]!) <= Math.abs(values[i]!) / 256)).toBe(true);
    expect(
      torchCuda(1)
        .rand(4096, "bf16")
        .every((b) => b < 0x3f80),
    ).toBe(true);
    const mean =
      torchCuda(1)
        .rand(65536)
        .reduce((a, v) => a + v, 0) / 65536;
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.005);
  });

  it("refuses impossible cards and offsets", () => {
    expect(() => torchCuda(1, { sms: 0, threadsPerSm: 2048 })).toThrowErrorMatchingInlineSnapshot(
      `[TensorError: torchCuda: a card needs at least one multiprocessor of 256 threads: sms 0, threadsPerSm 2048]`,
    );
    expect(() => torchCuda(1, undefined, 3)).toThrowErrorMatchingInlineSnapshot(
      `[TensorError: torchCuda: an offset must be a multiple of 4: 3]`,
    );
  });
});

describe("device.randn", () => {
  it("draws bf16 from the bf16 stream, also of the older generation", async () => {
    using device = cpu();
    for (const stream of ["torch-cpu", "torch-cpu-legacy"] as const) {
      using x = device.randn([3, 7], torchCpu(42, stream), "bf16");
      const want = Uint32Array.from(torchCpu(42, stream).randn(21, "bf16"), (b) => b << 16);
      expect(await x.toArray()).toEqual(new Float32Array(want.buffer));
    }
    using y = device.rand([5], torchCpu(1));
    expect(await y.toArray()).toEqual(torchCpu(1).rand(5));
  });
});
