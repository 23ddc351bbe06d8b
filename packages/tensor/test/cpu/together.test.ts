// Kernels whose operands lie in as many WebAssembly memories as there are operands, as happens with more than 4 GiB of weights: generated code
// runs all the same, on copies of the strays, and gives what it gives for operands in one memory.
import { afterAll, describe, expect, it, vi } from "vitest";
import { createCpuBackend } from "../../src/backends/cpu/index.ts";
import { plainKernels } from "../../src/backends/cpu/kernels/plain.ts";
import { CpuBuffer } from "../../src/backends/cpu/memory.ts";
import { ArenaSource } from "../../src/backends/cpu/wasm/arena.ts";
import { scratch } from "../../src/backends/cpu/wasm/blocking.ts";
import { together } from "../../src/backends/cpu/wasm/together.ts";
import type { DType } from "../../src/dtype.ts";
import { contiguousLayout, expandLayout, narrowLayout, permuteLayout, stepLayout } from "../../src/layout.ts";
import { binaryNode, inputNode, unaryNode } from "../../src/ops/expr.ts";
import type { KernelTable, OpName } from "../../src/ops/table.ts";
import { quantizeInto } from "../../src/quant/encode.ts";
import type { DeviceBuffer, View } from "../../src/view.ts";
import { Lab } from "./lab.ts";

const threads = 3;
const pageBytes = 65_536;
/** Room for operands in one memory: the staging area of products takes 16 MiB of it. */
const roomBytes = 24 * 2 ** 20;

/** Every operand fills what its memory has left, until a kernel runs. */
class ScatteredLab extends Lab {
  #fillers: DeviceBuffer[] = [];
  #views: View[] = [];
  constructor() {
    const own = pageBytes + Math.ceil((threads * scratch.bytes) / pageBytes) * pageBytes;
    super(createCpuBackend({ kernels: "wasm", plainBelow: 0, threads, arenaBytes: own + roomBytes }));
  }
  #alone(view: View): View {
    const { byteLength } = (view.buffer as unknown as { region: { byteLength: number } }).region;
    this.#fillers.push(this.backend.allocate(roomBytes - byteLength, "filler"));
    this.#views.push(view);
    return view;
  }
  override view(shape: readonly number[], numbers: readonly number[], dtype: DType = "f32"): View {
    return this.#alone(super.view(shape, numbers, dtype));
  }
  override out(shape: readonly number[], dtype: DType = "f32"): View {
    return this.#alone(super.out(shape, dtype));
  }
  /** Releases all operands, so that the next ones are alone again. */
  clear(): void {
    for (const { buffer } of this.#views.splice(0)) this.backend.release(buffer);
  }
  /** Makes room again. */
  settle(): void {
    for (const filler of this.#fillers.splice(0)) this.backend.release(filler);
  }
}

const oneMemory = new Lab(createCpuBackend({ kernels: "wasm", plainBelow: 0, threads }));
const scattered = new ScatteredLab();
afterAll(() => [oneMemory, scattered].forEach((lab) => void lab.backend.destroy()));

/** The same bits as with all operands in one memory, without the plain loops. */
async function check(shape: number[], dtype: DType, prepare: (lab: Lab) => (kernels: KernelTable, out: View) => void): Promise<void> {
  const results: number[][] = [];
  const fallbacks = (Object.keys(plainKernels) as OpName[]).map((op) => vi.spyOn(plainKernels, op));
  for (const lab of [oneMemory, scattered]) {
    const run = prepare(lab);
    const out = lab.out(shape, dtype);
    if (lab === scattered) scattered.settle();
    const before = lab.backend.memory().liveBytes;
    run(lab.backend.kernels, out);
    expect(lab.backend.memory().liveBytes).toBe(before);
    results.push(await lab.numbers(out));
  }
  scattered.clear();
  const fallen = fallbacks.filter((spy) => spy.mock.calls.length > 0).map((spy) => spy.getMockName());
  for (const spy of fallbacks) spy.mockRestore();
  expect(fallen, "generated code must cover this").toEqual([]);
  expect(results[1]).toEqual(results[0]);
}

const [a, b] = [inputNode(0, "f32"), inputNode(1, "f32")];
const turned = (view: View): View => ({ ...view, layout: permuteLayout(view.layout, [1, 0]) });

describe("operands in several memories", () => {
  it("maps, from flipped slices and repeated rows", () =>
    check([48, 64], "bf16", (lab) => {
      const x = lab.random([48, 64], "f32", 1);
      const wide = lab.random([48, 128], "bf16", 2);
      const y = { ...wide, layout: narrowLayout(stepLayout(wide.layout, 0, -1), 1, 5, 64) };
      const row = lab.random([64], "f16", 3);
      const inputs = [x, y, { ...row, layout: expandLayout("t", row.layout, [48, 64]) }];
      const expr = binaryNode("add", binaryNode("mul", a, b), unaryNode("silu", inputNode(2, "f32")));
      return ({ map }, out) => map(out, { inputs }, { expr });
    }));

  it.each(["f32", "bf16", "f16"] as const)("products with %s weights, a bias and a residual", (dtype) =>
    check([40, 1100], "f32", (lab) => {
      const inputs = {
        a: lab.random([40, 1024], "f32", 1),
        b: turned(lab.random([1100, 1024], dtype, 2)),
        operands: [lab.random([40, 1100], "f32", 3)],
      };
      return ({ matmul }, out) => matmul(out, inputs, { epilogue: binaryNode("add", a, b) });
    }),
  );

  it("products with weights of more than one staging area, and with columns of wider weights", () =>
    check([8, 5000], "f32", (lab) => {
      const wide = lab.random([5000, 1100], "f32", 2);
      const weight = { ...wide, layout: narrowLayout(wide.layout, 1, 40, 1024) };
      const inputs = { a: lab.random([8, 1024], "f32", 1), b: turned(weight) };
      return ({ matmul }, out) => matmul(out, inputs, {});
    }));

  it("products with quantized weights", () =>
    check([40, 320], "f32", (lab) => {
      const plain = Float32Array.from({ length: 320 * 512 }, (_, i) => Math.sin(i));
      const bytes = new Uint8Array((plain.length / 32) * 34);
      quantizeInto("q8_0", plain, 0, bytes, 0, plain.length);
      const { buffer } = lab.view([bytes.length], [...bytes], "u8");
      const weight = { buffer, dtype: "q8_0" as const, layout: contiguousLayout([320, 512]) };
      const inputs = { a: lab.random([40, 512], "f32", 1), b: turned(weight) };
      return ({ matmul }, out) => matmul(out, inputs, {});
    }));

  it("batches of products", () =>
    check([3, 33, 45], "f32", (lab) => {
      const inputs = { a: lab.random([3, 33, 64], "f32", 1), b: lab.random([3, 64, 45], "f32", 2) };
      return ({ matmul }, out) => matmul(out, inputs, {});
    }));

  it("norms, rope, softmax, attention, convolution, reductions, rows by index", async () => {
    await check([20, 256], "f32", (lab) => {
      const inputs = { x: lab.random([20, 256]), weight: lab.random([256], "bf16", 2), bias: lab.random([256], "f32", 3) };
      return ({ norm }, out) => norm(out, inputs, { kind: "layer", eps: 1e-6 });
    });
    await check([2, 6, 9, 32], "f32", (lab) => {
      const table = (seed: number): View => {
        const t = lab.random([9, 16], "f32", seed);
        return { ...t, layout: expandLayout("t", t.layout, [2, 6, 9, 16]) };
      };
      const inputs = { x: lab.random([2, 6, 9, 32]), cos: table(2), sin: table(3) };
      return ({ rope }, out) => rope(out, inputs, { interleaved: true });
    });
    await check([30, 100], "f32", (lab) => {
      const inputs = { x: lab.random([30, 100]) };
      return ({ softmax }, out) => softmax(out, inputs, { log: false });
    });
    await check([1, 2, 40, 64], "f32", (lab) => {
      const [q, k, v] = [1, 2, 3].map((seed) => lab.random([1, 2, 40, 64], "f32", seed)) as [View, View, View];
      return ({ attention }, out) => attention(out, { q, k, v }, { scale: 0.125, causal: false });
    });
    await check([1, 8, 12, 12], "f32", (lab) => {
      const inputs = { x: lab.random([1, 8, 12, 12]), weight: lab.random([8, 8, 3, 3], "f32", 2) };
      const attrs = { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 } as const;
      return ({ conv }, out) => conv(out, inputs, attrs);
    });
    await check([20], "f32", (lab) => {
      const inputs = { x: lab.random([20, 256]) };
      return ({ reduce }, out) => reduce(out, inputs, { kind: "sum", reduceRank: 1, correction: 0, p: 2 });
    });
    await check([5, 96], "f32", (lab) => {
      const inputs = { x: lab.random([64, 96]), index: lab.view([5], [3, 63, 0, 7, 7], "i32") };
      return ({ indexSelect }, out) => indexSelect(out, inputs, { dim: 0 });
    });
  });

  it("products whose memories have no room for staging", async () => {
    const prepare = (lab: Lab) => {
      const inputs = { a: lab.random([40, 1024], "f32", 1), b: turned(lab.random([700, 1024], "bf16", 2)) };
      return ({ matmul }: KernelTable, out: View) => matmul(out, inputs, {});
    };
    const fallback = vi.spyOn(plainKernels, "matmul");
    const full = new ScatteredLab();
    const results: number[][] = [];
    for (const lab of [oneMemory, full]) {
      const run = prepare(lab);
      const out = lab.out([40, 700]);
      run(lab.backend.kernels, out);
      results.push(await lab.numbers(out));
    }
    expect(fallback).not.toHaveBeenCalled();
    fallback.mockRestore();
    expect(results[1]).toEqual(results[0]);
    full.backend.destroy();
  });

  it("no memory is opened for what would fit into none", () => {
    const limit = { shared: false, threads: 1, limitBytes: pageBytes * Math.ceil(2 + scratch.bytes / pageBytes) };
    const source = new ArenaSource(limit);
    const inArena = (): View => {
      const region = source.open()!.take(64)!;
      return { buffer: new CpuBuffer(64, "test", region), dtype: "f32", layout: contiguousLayout([16]) };
    };
    const [out, x] = [inArena(), inArena()];
    const run = vi.fn(() => true);
    for (let i = 0; i < 3; i++) expect(together(out, { x }, source, run, { spareBytes: 2 ** 20 })).toBe(false);
    expect(run).not.toHaveBeenCalled();
    expect(source.arenas.length).toBe(3);
  });

  it("nothing is copied where operands are together", () => {
    const [x, out] = [oneMemory.random([8]), oneMemory.out([8])];
    const run = vi.fn(() => true);
    const source = new ArenaSource({ shared: false, threads: 1 });
    expect(together(out, { x }, source, run)).toBe(false);
    expect(run).not.toHaveBeenCalled();
    expect(source.arenas).toEqual([]);
  });
});
