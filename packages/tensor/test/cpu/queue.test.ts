// Jobs that wait in the queue of the worker threads: in order, with the numbers of one thread, seen by whoever looks at memory.
import { expect, test } from "vitest";
import { createCpuBackend } from "../../src/backends/cpu/index.ts";
import { contiguousLayout } from "../../src/layout.ts";
import { binaryNode, inputNode } from "../../src/ops/expr.ts";
import { values } from "./lab.ts";

const [rows, width] = [96, 160];
const sum = binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32"));

/** Products, norms and sums in turn through the same three buffers, with a write between; what `look` reads on the way and at the end. */
async function chain(threads: number, rounds: number): Promise<Buffer> {
  const backend = createCpuBackend({ threads, plainBelow: 0 });
  const view = (shape: readonly number[], seed: number) => {
    const size = shape.reduce((n, d) => n * d, 1);
    const buffer = backend.allocate(4 * size, "queue");
    backend.write(buffer, 0, new Uint8Array(Float32Array.from(values(size, seed)).buffer));
    return { buffer, dtype: "f32" as const, layout: contiguousLayout(shape) };
  };
  const [x, y, z, w] = [view([rows, width], 1), view([rows, width], 2), view([rows, width], 3), view([width, width], 4)];
  const seen: Uint8Array[] = [];
  try {
    for (let i = 0; i < rounds; i++) {
      backend.kernels.matmul(y, { a: x, b: w }, {});
      backend.kernels.norm(z, { x: y }, { kind: "rms", eps: 1e-6 });
      backend.kernels.map(x, { inputs: [z, x] }, { expr: sum });
      backend.kernels.norm(x, { x }, { kind: "layer", eps: 1e-6 });
      if (i % 7 === 0) backend.write(w.buffer, 4 * i, new Uint8Array(Float32Array.of(i / rounds).buffer));
      if (i % 50 === 0) seen.push(await backend.read(x.buffer, 0, 4 * rows * width));
    }
    seen.push(await backend.read(x.buffer, 0, 4 * rows * width));
    return Buffer.concat(seen);
  } finally {
    backend.destroy();
  }
}

test.each([2, 5])("%d threads give the numbers of one, job after job", async (threads) => {
  const [one, many] = [await chain(1, 101), await chain(threads, 101)];
  expect(new Set(new Float32Array(one.buffer, one.byteOffset, one.byteLength / 4)).size).toBeGreaterThan(1000);
  expect(many.equals(one)).toBe(true);
});

test("a device may end while jobs wait", () => {
  const backend = createCpuBackend({ threads: 2, plainBelow: 0 });
  const x = { buffer: backend.allocate(4 * 512 * 512, "queue"), dtype: "f32" as const, layout: contiguousLayout([512, 512]) };
  const y = { ...x, buffer: backend.allocate(4 * 512 * 512, "queue") };
  for (let i = 0; i < 20; i++) backend.kernels.norm(y, { x }, { kind: "rms", eps: 1e-6 });
  backend.destroy();
  expect(() => backend.memory()).toThrowErrorMatchingInlineSnapshot(
    `[DeviceError: memory: this CPU device was destroyed; create another one]`,
  );
});
