// Scales of products on f16 fragments come from the operands' largest magnitudes, which are measured once for operands that nobody writes, and
// again after every write: a stale one would make results infinite (too small a scale) or lose their digits (too large a one).
import { relativeL2 } from "@wick/testing";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createWebGpuBackend, type WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { storeOf } from "../../src/backends/webgpu/store.ts";
import { contiguousLayout, narrowLayout, permuteLayout } from "../../src/layout.ts";
import { binaryNode, constNode, inputNode } from "../../src/ops/expr.ts";
import type { View } from "../../src/view.ts";
import { noise } from "../gpu/pair.ts";
import { simulated } from "./vendors.ts";

const [m, k, n] = [16, 32, 16];
/** Factors far outside f16's range of normal numbers, in both directions. */
const [huge, tiny] = [3e8, 2e-9];

let backend: WebGpuBackend;
/** Kernels that ran since the last look. */
let launched: string[] = [];
const measurements = (): number => launched.splice(0).filter((label) => label.startsWith("largest magnitude")).length;
const made: View[] = [];

beforeEach(async () => {
  const { options, ran } = simulated("NVIDIA");
  // Every launch, not only the first of its label.
  ran.add = (label) => {
    launched.push(label);
    return ran;
  };
  backend = await createWebGpuBackend(options);
  launched = [];
});
afterEach(() => {
  for (const { buffer } of made.splice(0)) backend.release(buffer);
  expect(backend.memory().liveBytes).toBe(0);
  backend.destroy();
});

const bytesOf = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer);
const numbers = (count: number, factor: number, seed = 7): Float32Array => noise(count, seed).map((v) => v * factor);
function tensor(rows: number, columns: number, factor: number): View {
  const view: View = { buffer: backend.allocate(rows * columns * 4, "t"), dtype: "f32", layout: contiguousLayout([rows, columns]) };
  backend.write(view.buffer, 0, bytesOf(numbers(rows * columns, factor)));
  made.push(view);
  return view;
}
function release(view: View): void {
  backend.release(view.buffer);
  made.splice(made.indexOf(view), 1);
}
const read = async ({ buffer }: View): Promise<Float32Array> => new Float32Array((await backend.read(buffer, 0, buffer.byteLength)).buffer);

/** Multiplies right away, then compares x w^T with sums in f64. */
async function expectRight(x: View, w: View): Promise<void> {
  const out = tensor(m, n, 1);
  backend.kernels.matmul(out, { a: x, b: { ...w, layout: permuteLayout(w.layout, [1, 0]) } }, {});
  const [a, b, got] = [await read(x), await read(w), await read(out)];
  const want = Float64Array.from({ length: m * n }, (_, i) => {
    let sum = 0;
    for (let j = 0; j < k; j++) sum += a[Math.floor(i / n) * k + j]! * b[(i % n) * k + j]!;
    return sum;
  });
  expect(relativeL2(Float64Array.from(got), want)).toBeLessThan(2e-6);
  release(out);
}

it("operands that nobody writes are measured once, in calls remembered and replayed", async () => {
  const [x, w] = [tensor(m, k, 1), tensor(n, k, 1)];
  await expectRight(x, w);
  expect(measurements()).toBe(2);
  for (let i = 0; i < 3; i++) await expectRight(x, w);
  expect(measurements()).toBe(0);
  // Another pair of the same shapes replays the first one's launches, with measurements of its own.
  const [x2, w2] = [tensor(m, k, huge), tensor(n, k, tiny)];
  await expectRight(x2, w2);
  expect(measurements()).toBe(2);
  await expectRight(x2, w);
  await expectRight(x, w2);
  expect(measurements()).toBe(0);
});

/** Ways to change a weight; `factor` is what its values are about afterwards. */
const writes: Readonly<Record<string, (w: View, factor: number) => void>> = {
  "an upload": (w, factor) => backend.write(w.buffer, 0, bytesOf(numbers(n * k, factor, 9))),
  "an upload of one value": (w, factor) => backend.write(w.buffer, 4 * 37, bytesOf(Float32Array.of(factor))),
  "an upload of single bytes": (w, factor) => {
    // The exponent's byte: others stay.
    const exponent = bytesOf(Float32Array.of(factor)).subarray(3);
    for (let i = 0; i < n * k; i++) backend.write(w.buffer, 4 * i + 3, exponent);
  },
  "a copy": (w, factor) => backend.kernels.copy(w, { x: tensor(n, k, factor) }, {}),
  "a copy into a part": (w, factor) => {
    const part = { ...w, layout: narrowLayout(w.layout, 0, 3, 2) };
    backend.kernels.copy(part, { x: tensor(2, k, factor) }, {});
  },
  "an op in place": (w, factor) => {
    backend.kernels.map(w, { inputs: [w] }, { expr: binaryNode("mul", inputNode(0, "f32"), constNode(factor, "f32")) });
  },
  "a product into it": (w, factor) => backend.kernels.matmul(w, { a: tensor(n, 8, factor), b: tensor(8, k, 1) }, {}),
  "a fill": (w, factor) => backend.kernels.fill(w, {}, { value: factor }),
};

describe("a weight is measured again after", () => {
  it.each(Object.keys(writes))("%s", { timeout: 60_000 }, async (name) => {
    const write = writes[name]!;
    // The first product is remembered, the others are replayed.
    for (const factor of [huge, tiny, huge]) {
      const [x, w] = [tensor(m, k, 1), tensor(n, k, 1)];
      await expectRight(x, w);
      write(w, factor);
      await expectRight(x, w);
      measurements();
      await expectRight(x, w);
      expect(measurements()).toBe(0);
    }
  });

  it("its memory went to another tensor", async () => {
    const x = tensor(m, k, 1);
    let store: unknown;
    for (const factor of [1, huge, tiny, 1]) {
      const w = tensor(n, k, factor);
      expect(storeOf(w.buffer)).toBe((store ??= storeOf(w.buffer)));
      await expectRight(x, w);
      release(w);
    }
  });

  it("it was infinite", async () => {
    const [x, w, out] = [tensor(m, k, 1), tensor(n, k, 1), tensor(m, n, 1)];
    backend.write(w.buffer, 0, bytesOf(Float32Array.of(Number.POSITIVE_INFINITY)));
    backend.kernels.matmul(out, { a: x, b: { ...w, layout: permuteLayout(w.layout, [1, 0]) } }, {});
    const values = await read(out);
    expect(values.map((v, i) => Number(i % n === 0 ? Math.abs(v) === Number.POSITIVE_INFINITY : Number.isFinite(v)))).not.toContain(0);
    backend.write(w.buffer, 0, bytesOf(Float32Array.of(tiny)));
    await expectRight(x, w);
  });
});

it("many slices of one tensor", async () => {
  const x = tensor(m, k, 1);
  const all = tensor(80 * n, k, 1);
  for (let i = 0; i < 80; i++) backend.write(all.buffer, 4 * i * n * k, bytesOf(numbers(n * k, i % 2 ? huge : tiny, i + 1)));
  const out = tensor(m, n, 1);
  for (const i of [0, 1, 79, 0]) {
    const part = { ...all, layout: permuteLayout(narrowLayout(all.layout, 0, i * n, n), [1, 0]) };
    backend.kernels.matmul(out, { a: x, b: part }, {});
    const [a, b, got] = [await read(x), numbers(n * k, i % 2 ? huge : tiny, i + 1), await read(out)];
    const first = Float64Array.from({ length: n }, (_, c) => a.subarray(0, k).reduce((sum, v, j) => sum + v * b[c * k + j]!, 0));
    expect(relativeL2(Float64Array.from(got.subarray(0, n)), first)).toBeLessThan(2e-6);
  }
});
