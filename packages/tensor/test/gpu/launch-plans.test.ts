// Remembered launches: the second call of a kind replays the first one's dispatches, on other buffers and with nothing carried over.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createWebGpuBackend, type WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { OutOfMemoryError } from "../../src/errors.ts";
import { contiguousLayout } from "../../src/layout.ts";
import { binaryNode, constNode, type ExprNode, inputNode, unaryNode } from "../../src/ops/expr.ts";
import type { View } from "../../src/view.ts";

let backend: WebGpuBackend;
beforeAll(async () => {
  backend = await createWebGpuBackend({ robustness: true });
});
afterAll(() => {
  expect(backend.memory().liveBytes).toBe(0);
  backend.destroy();
});

const made: View[] = [];
function tensor(shape: readonly number[], values?: readonly number[]): View {
  const count = shape.reduce((a, b) => a * b, 1);
  const view: View = { buffer: backend.allocate(count * 4, "t"), dtype: "f32", layout: contiguousLayout(shape) };
  if (values) backend.write(view.buffer, 0, new Uint8Array(Float32Array.from(values).buffer));
  made.push(view);
  return view;
}
const read = async ({ buffer }: View): Promise<number[]> => [
  ...new Float32Array((await backend.read(buffer, 0, buffer.byteLength)).buffer),
];
const releaseAll = (): void => {
  for (const { buffer } of made.splice(0)) backend.release(buffer);
};
const map = (out: View, x: View, expr: ExprNode): void => backend.kernels.map(out, { inputs: [x] }, { expr });
const plus = (value: number): ExprNode => binaryNode("add", inputNode(0, "f32"), constNode(value, "f32"));

describe("a call like an earlier one", () => {
  it("works on its own buffers", async () => {
    const results: View[] = [];
    for (let i = 0; i < 3; i++) {
      const x = tensor([2, 2], [i, 0, 0, i]);
      const out = tensor([2, 2]);
      backend.kernels.matmul(out, { a: x, b: x }, {});
      results.push(out);
    }
    expect(await Promise.all(results.map(read))).toEqual([0, 1, 2].map((i) => [i * i, 0, 0, i * i]));
    releaseAll();
  });

  it("is told from calls that differ in a constant, its sign, an offset, a stride or which operands are one tensor", async () => {
    const x = tensor([4], [1, 2, 3, 4]);
    // Not x * 0 and x * -0: drivers may take both for zero.
    const ones: ExprNode[] = [plus(1), plus(2), unaryNode("neg", inputNode(0, "f32")), constNode(0, "f32"), constNode(-0, "f32")];
    const outs = ones.map((expr) => {
      const out = tensor([4]);
      map(out, x, expr);
      return out;
    });
    const part = (offset: number, stride: number): View => {
      const out = tensor([2]);
      map(out, { ...x, layout: { shape: [2], strides: [stride], offset } }, plus(0));
      return out;
    };
    outs.push(part(0, 1), part(1, 1), part(0, 2));
    expect(await Promise.all(outs.map(read))).toEqual([
      [2, 3, 4, 5],
      [3, 4, 5, 6],
      [-1, -2, -3, -4],
      [0, 0, 0, 0],
      [-0, -0, -0, -0],
      [1, 2],
      [2, 3],
      [1, 3],
    ]);
    releaseAll();
  });

  it("copies within one tensor as the first such call did, and between two as the first of those", async () => {
    const shifted = (v: View, offset: number): View => ({ ...v, layout: { shape: [4], strides: [1], offset } });
    for (let round = 0; round < 2; round++) {
      const [one, two] = [tensor([8], [1, 2, 3, 4, 5, 6, 7, 8]), tensor([8], [0, 0, 0, 0, 0, 0, 0, 0])];
      backend.kernels.copy(shifted(two, 4), { x: shifted(one, 0) }, {});
      backend.kernels.copy(shifted(one, 4), { x: shifted(one, 0) }, {});
      expect(await read(two)).toEqual([0, 0, 0, 0, 1, 2, 3, 4]);
      expect(await read(one)).toEqual([1, 2, 3, 4, 1, 2, 3, 4]);
      releaseAll();
    }
  });
});

describe("scratch memory", () => {
  it("is released when a call runs out of memory, the first time and on replay; the device stays usable", async () => {
    using limited = { b: await createWebGpuBackend({ memoryLimitBytes: 6 << 20 }), [Symbol.dispose]: () => limited.b.destroy() };
    const { b } = limited;
    const rows: View = { buffer: b.allocate(1 << 20, "rows"), dtype: "f16", layout: contiguousLayout([2 ** 12, 127]) };
    const out: View = { buffer: b.allocate(1 << 20, "out"), dtype: "f16", layout: contiguousLayout([2 ** 12, 127]) };
    const softmax = (): void => b.kernels.softmax(out, { x: rows }, { log: false });
    const crowded = (): void => {
      const filler = b.allocate(3 << 20, "filler");
      const before = b.memory().liveBytes;
      expect(softmax).toThrow(OutOfMemoryError);
      expect(b.memory().liveBytes).toBe(before);
      b.release(filler);
    };
    crowded();
    softmax();
    crowded();
    softmax();
    await b.idle();
    expect(
      b
        .memory()
        .byLabel.map((l) => l.label)
        .sort(),
    ).toEqual(["out", "rows"]);
  });
});
