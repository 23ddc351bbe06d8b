// The device itself: order of writes and ops, pooling, limits, errors, loss, profiling, exit.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it, vi } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import { sizeClass } from "../../src/backends/webgpu/buffers.ts";
import { createWebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { DeviceError, OutOfMemoryError } from "../../src/errors.ts";
import { contiguousLayout } from "../../src/layout.ts";
import { binaryNode, constNode, inputNode } from "../../src/ops/expr.ts";
import type { DeviceBuffer, View } from "../../src/view.ts";

const addOne = binaryNode("add", inputNode(0, "f32"), constNode(1, "f32"));
const bytes = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
const floats = (b: Uint8Array): number[] => [...new Float32Array(b.slice().buffer)];
const view = (backend: Backend, n: number, label = "t"): View => ({
  buffer: backend.allocate(n * 4, label),
  dtype: "f32",
  layout: contiguousLayout([n]),
});

async function withDevice(
  options: Parameters<typeof createWebGpuBackend>[0],
  use: (b: Awaited<ReturnType<typeof createWebGpuBackend>>) => Promise<void>,
): Promise<void> {
  const backend = await createWebGpuBackend({ robustness: true, ...options });
  try {
    await use(backend);
  } finally {
    backend.destroy();
  }
}

describe("order", () => {
  it("a write comes after the ops recorded before it", () =>
    withDevice({}, async (b) => {
      const [x, y] = [view(b, 2), view(b, 2)];
      b.write(x.buffer, 0, bytes(1, 2));
      b.kernels.map(y, { inputs: [x] }, { expr: addOne });
      b.write(x.buffer, 0, bytes(10, 20));
      expect(floats(await b.read(y.buffer, 0, 8))).toEqual([2, 3]);
      expect(floats(await b.read(x.buffer, 0, 8))).toEqual([10, 20]);
    }));

  it("a released buffer is reused by the next op without disturbing the last", () =>
    withDevice({}, async (b) => {
      const x = view(b, 64);
      b.write(x.buffer, 0, bytes(...new Array<number>(64).fill(1)));
      const y = view(b, 64);
      b.kernels.map(y, { inputs: [x] }, { expr: addOne });
      b.release(x.buffer);
      const z = view(b, 64);
      expect(b.memory().pooledBytes).toBe(0);
      b.kernels.fill(z, {}, { value: 7 });
      expect(floats(await b.read(y.buffer, 0, 8))).toEqual([2, 2]);
    }));

  it("bytes at any offset, without touching their neighbours", () =>
    withDevice({}, async (b) => {
      const buffer = b.allocate(11, "bytes");
      b.write(
        buffer,
        0,
        Uint8Array.from({ length: 11 }, (_, i) => i),
      );
      b.write(buffer, 3, Uint8Array.of(100, 101, 102));
      b.write(buffer, 9, Uint8Array.of(200, 201));
      expect([...(await b.read(buffer, 0, 11))]).toEqual([0, 1, 2, 100, 101, 102, 6, 7, 8, 200, 201]);
      expect([...(await b.read(buffer, 5, 3))]).toEqual([102, 6, 7]);
    }));

  it("an upload of several chunks", () =>
    withDevice({}, async (b) => {
      const size = 70 << 20;
      const data = new Uint8Array(size).fill(3);
      data[size - 1] = 9;
      const buffer = b.allocate(size, "large");
      b.write(buffer, 0, data);
      await b.idle();
      expect([...(await b.read(buffer, size - 2, 2))]).toEqual([3, 9]);
    }));

  it("more ops than the uniform ring has slots", () =>
    withDevice({ immediates: false }, async (b) => {
      let x = view(b, 4);
      b.kernels.fill(x, {}, { value: 0 });
      for (let i = 0; i < 2500; i++) {
        const y = view(b, 4);
        b.kernels.map(y, { inputs: [x] }, { expr: addOne });
        b.release(x.buffer);
        x = y;
      }
      expect(floats(await b.read(x.buffer, 0, 4))).toEqual([2500]);
    }));
});

describe("memory", () => {
  it("size classes are at most an eighth too large, from 1 MiB on at most 64 KiB", () => {
    for (const n of [1, 256, 257, 3000, 100_000, 1_048_576, 1_048_577, 5_000_001, 78_643_216, 2 ** 30 + 1, 2 ** 32 + 1]) {
      expect(sizeClass(n)).toBeGreaterThanOrEqual(n);
      expect(sizeClass(n)).toBeLessThanOrEqual(n > 2 ** 20 ? n + 65_535 : Math.max(256 + n, n * 1.125));
      expect(sizeClass(sizeClass(n))).toBe(sizeClass(n));
    }
  });

  it("within a target, pooled buffers go before it is passed, the largest first; live ones may pass it", () =>
    withDevice({}, async (b) => {
      const MiB = 2 ** 20;
      const [large, small, live] = [3 * MiB, MiB, 2 * MiB].map((n) => b.allocate(n - 16, "t"));
      b.release(large!);
      b.release(small!);
      b.keepWithin(6 * MiB);
      expect(b.memory()).toMatchObject({ liveBytes: 2 * MiB, pooledBytes: 4 * MiB });
      const more = b.allocate(4 * MiB - 16, "t");
      expect(b.memory()).toMatchObject({ liveBytes: 6 * MiB, pooledBytes: 0, peakBytes: 6 * MiB });
      const beyond = b.allocate(MiB - 16, "t");
      expect(b.memory().liveBytes).toBe(7 * MiB);
      b.release(more);
      expect(b.memory()).toMatchObject({ liveBytes: 3 * MiB, pooledBytes: 4 * MiB });
      b.keepWithin(6 * MiB);
      expect(b.memory()).toMatchObject({ liveBytes: 3 * MiB, pooledBytes: 0, peakBytes: 7 * MiB });
      for (const buffer of [live!, beyond]) b.release(buffer);
    }));

  it("is behind while much that was destroyed waits for the queue, until that has passed", () =>
    withDevice({}, async (b) => {
      const giveBack = (count: number): void => {
        const buffers = Array.from({ length: count }, () => b.allocate(2 ** 27 - 16, "t"));
        for (const buffer of buffers) b.release(buffer);
        b.keepWithin(1);
        b.flush();
      };
      // On software adapters 256 MiB may wait, elsewhere 1 GiB.
      giveBack(b.capabilities.software ? 2 : 7);
      expect(b.isBehind).toBe(false);
      giveBack(2);
      expect(b.isBehind).toBe(true);
      await Promise.all([b.idle(), b.idle()]);
      expect(b.isBehind).toBe(false);
      giveBack(b.capabilities.software ? 2 : 7);
      expect(b.isBehind).toBe(false);
      giveBack(2);
      expect(b.isBehind).toBe(true);
    }));

  it("takes a pooled buffer of up to twice the size for a large one, rather than another beside it", () =>
    withDevice({}, async (b) => {
      const made = vi.spyOn(b.device, "createBuffer");
      const take = (mebibytes: number) => b.allocate(mebibytes * 2 ** 20 - 16, "t");
      b.release(take(500));
      const smaller = take(260);
      expect(b.memory()).toMatchObject({ liveBytes: 500 * 2 ** 20, pooledBytes: 0 });
      const another = take(260);
      b.release(smaller);
      b.release(another);
      // Too large for it, and too small to be worth it.
      for (const mebibytes of [200, 240]) b.release(take(mebibytes));
      expect(made.mock.calls.map(([{ size }]) => size / 2 ** 20)).toEqual([500, 260, 200, 240]);
    }));

  it("waits for one more submission where something was destroyed: Dawn gives its memory back only then", () =>
    withDevice({}, async (b) => {
      const waits = vi.spyOn(b.device.queue, "onSubmittedWorkDone");
      const giveBack = (): void => {
        b.release(b.allocate(4096, "t"));
        b.keepWithin(1);
        b.flush();
      };
      await b.idle();
      expect(waits).toHaveBeenCalledTimes(1);
      giveBack();
      await b.idle();
      expect(waits).toHaveBeenCalledTimes(3);
      await b.idle();
      expect(waits).toHaveBeenCalledTimes(4);
    }));

  it("reports live bytes by label, pooled bytes and the peak", () =>
    withDevice({}, async (b) => {
      const a = b.allocate(4000, "weights");
      const c = b.allocate(4000, "activations");
      const size = sizeClass(4016);
      expect(b.memory()).toMatchObject({ liveBytes: 2 * size, pooledBytes: 0, peakBytes: 2 * size });
      expect(
        b
          .memory()
          .byLabel.map((l) => l.label)
          .sort(),
      ).toEqual(["activations", "weights"]);
      b.release(a);
      expect(b.memory()).toMatchObject({ liveBytes: size, pooledBytes: size });
      b.trim();
      expect(b.memory().pooledBytes).toBe(0);
      b.release(c);
    }));

  it("running out is a typed error; the device stays usable and nothing is leaked", () =>
    withDevice({ memoryLimitBytes: 1 << 20 }, async (b) => {
      const a = b.allocate(600_000, "first");
      const before = b.memory().liveBytes;
      expect(() => b.allocate(600_000, "second")).toThrow(OutOfMemoryError);
      expect(() => b.allocate(600_000, "second")).toThrowErrorMatchingInlineSnapshot(
        `[OutOfMemoryError: allocate: "second" needs 655360 bytes and 655360 of 1048576 bytes are in use; release tensors or use a smaller dtype]`,
      );
      expect(b.memory().liveBytes).toBe(before);
      b.release(a);
      const x = view(b, 150_000);
      b.kernels.fill(x, {}, { value: 2 });
      expect(floats(await b.read(x.buffer, 0, 4))).toEqual([2]);
    }));

  it("what the driver refuses later is a typed error at the next wait; nothing is leaked and the device stays usable", async ({ skip }) => {
    const b = await createWebGpuBackend({ robustness: true });
    skip(b.description.includes("llvmpipe"), "llvmpipe never refuses: it takes memory when it is touched");
    const taken: DeviceBuffer[] = [];
    const fill = async (): Promise<void> => {
      for (let i = 0; i < 64; i++) {
        taken.push(b.allocate(b.capabilities.maxBufferBytes - 64, "huge"));
        await b.idle();
      }
    };
    await expect(fill()).rejects.toThrow(OutOfMemoryError);
    for (const buffer of taken.splice(0)) b.release(buffer);
    expect(b.memory().liveBytes).toBe(0);
    b.trim();
    const x = view(b, 4);
    b.kernels.fill(x, {}, { value: 3 });
    expect(floats(await b.read(x.buffer, 0, 8))).toEqual([3, 3]);
    b.release(x.buffer);
    expect(b.memory()).toMatchObject({ liveBytes: 0 });
    b.destroy();
  });

  it("refusals of the driver are reported once, the first by name, and memory is whole afterwards", async () => {
    // Dawn's null backend has 512 MiB and refuses what exceeds it, on every machine.
    const b = await createWebGpuBackend({ driver: "null" });
    const taken = Array.from({ length: 200 }, (_, i) => b.allocate(100 << 20, `part ${i}`));
    await expect(b.idle()).rejects.toThrow(
      /^allocate: "part 5": 104857600 bytes [^;]*; "part 6"[^;]*; "part 7"[^;]*; and 192 more; release tensors/,
    );
    for (const buffer of taken) b.release(buffer);
    expect(b.memory().liveBytes).toBe(0);
    b.trim();
    for (const buffer of [0, 1, 2, 3].map(() => b.allocate(100 << 20, "after"))) b.release(buffer);
    await b.idle();
    b.destroy();
  });

  it("a read that the driver has no memory for is a typed error; smaller ones go on", async () => {
    const b = await createWebGpuBackend({ driver: "null" });
    const [first] = [b.allocate(200 << 20, "first"), b.allocate(200 << 20, "second")];
    await expect(b.read(first, 0, 200 << 20)).rejects.toThrowErrorMatchingInlineSnapshot(
      `[OutOfMemoryError: webgpu: the driver had no memory (Out of memory.); release tensors, use a smaller dtype, tile or stream]`,
    );
    expect(await b.read(first, 0, 16)).toHaveLength(16);
    b.destroy();
  });

  it("a refusal by throwing leaves no error scope open", async () => {
    const b = await createWebGpuBackend({ driver: "null" });
    const create = vi.spyOn(b.device, "createBuffer").mockImplementation(() => {
      throw new RangeError("no room");
    });
    expect(() => b.allocate(2 << 20, "large")).toThrow(OutOfMemoryError);
    create.mockRestore();
    await expect(b.device.popErrorScope()).rejects.toThrow();
    expect(b.memory().liveBytes).toBe(0);
    b.destroy();
  });

  it("a tensor beyond the largest buffer says so", () =>
    withDevice({ maxBufferBytes: 1 << 20 }, async (b) => {
      expect(() => b.allocate(2 << 20, "big")).toThrowErrorMatchingInlineSnapshot(
        `[OutOfMemoryError: allocate: "big" needs 2097152 bytes, more than this device's largest buffer of 1048576 bytes; split the tensor]`,
      );
    }));

  it("10,000 allocations and releases leave resident memory flat", () =>
    withDevice({}, async (b) => {
      const cycle = async (n: number): Promise<void> => {
        for (let i = 0; i < n; i++) {
          const buffer = b.allocate(1000 + ((i * 977) % 400_000), "cycle");
          b.release(buffer);
          if (i % 100 === 99) b.trim();
        }
        await b.idle();
      };
      await cycle(1000);
      const before = process.memoryUsage().rss;
      await cycle(10_000);
      expect(process.memoryUsage().rss - before).toBeLessThan(100 << 20);
    }));

  it("devices can be opened and destroyed again and again", async () => {
    for (let i = 0; i < 8; i++) {
      await withDevice({}, async (b) => {
        const x = view(b, 4);
        b.kernels.fill(x, {}, { value: i });
        expect(floats(await b.read(x.buffer, 0, 4))).toEqual([i]);
      });
    }
  });
});

describe("ends", () => {
  it("an error that the driver reports while a read waits is that read's", async () => {
    const b = await createWebGpuBackend({ driver: "null" });
    const buffer = b.allocate(16, "x");
    const pending = b.read(buffer, 0, 16);
    b.device.dispatchEvent(Object.assign(new Event("uncapturederror"), { error: { message: "refused" } }));
    await expect(pending).rejects.toThrow("webgpu: refused");
    expect(await b.read(buffer, 0, 16)).toHaveLength(16);
    b.destroy();
  });

  it("destroy() rejects pending reads and later calls", async () => {
    const b = await createWebGpuBackend();
    const x = view(b, 1 << 16);
    b.kernels.fill(x, {}, { value: 1 });
    const pending = b.read(x.buffer, 0, 16);
    b.destroy();
    await expect(pending).rejects.toThrow(DeviceError);
    expect(() => b.allocate(4, "late")).toThrowErrorMatchingInlineSnapshot(
      `[DeviceError: allocate: the device was destroyed; open a new one]`,
    );
    expect(() => b.kernels.fill(x, {}, { value: 2 })).toThrow(DeviceError);
    await expect(b.read(x.buffer, 0, 4)).rejects.toThrow(DeviceError);
    await expect(b.idle()).rejects.toMatchObject({ reason: "destroyed" });
    b.destroy();
  });

  it("a lost device rejects pending reads with the reason", async () => {
    const b = await createWebGpuBackend();
    const x = view(b, 1 << 16);
    b.kernels.fill(x, {}, { value: 1 });
    const pending = b.read(x.buffer, 0, 16);
    b.device.destroy(); // as if the driver had taken it
    await expect(pending).rejects.toThrow(DeviceError);
    await b.device.lost;
    expect(() => b.flush()).toThrow(/^flush: the device was lost \(destroyed\)/);
    await expect(b.idle()).rejects.toMatchObject({ reason: "lost" });
  });

  it("no adapter says what to do", async () => {
    const gpu = { requestAdapter: async () => null } as unknown as GPU;
    await expect(createWebGpuBackend({ gpu })).rejects.toThrow(/no WebGPU adapter was found; .*or use cpu\(\)/);
    await expect(createWebGpuBackend({ adapter: "no such adapter" })).rejects.toMatchObject({
      reason: "unknown-adapter",
      detail: expect.stringMatching(/^no adapter is called "no such adapter"; the option "adapter" takes a part of ./),
    });
  });

  const run = (body: string): Promise<{ stdout: string }> => {
    const source = fileURLToPath(new URL("../../src/backends/webgpu/index.ts", import.meta.url));
    const script = `const { createWebGpuBackend } = await import(${JSON.stringify(source)});
const b = await createWebGpuBackend();
const x = { buffer: b.allocate(4 << 20, "x"), dtype: "f32", layout: { shape: [1 << 20], strides: [1], offset: 0 } };
for (let i = 0; i < 20; i++) b.kernels.fill(x, {}, { value: i });
${body}`;
    const args = ["--conditions=@wick/source", "--import", "tsx", "--input-type=module", "-e", script];
    return promisify(execFile)(process.execPath, args, { timeout: 50_000 });
  };
  it.each([
    ["with work in flight", "b.flush(); console.log('end');"],
    ["after a read", "console.log((await b.read(x.buffer, 0, 4)).length === 4 ? 'end' : '');"],
    ["after destroy() with work in flight", "b.flush(); b.destroy(); console.log('end');"],
    ["after process.exit", "b.flush(); console.log('end'); process.exit(0);"],
  ])("the process ends by itself %s", async (_name, body) => {
    expect((await run(body)).stdout).toContain("end");
  });

  it("works in a worker thread", async () => {
    const body = `const { Worker, isMainThread, workerData } = await import("node:worker_threads");
const code = \`const { workerData, parentPort } = require("node:worker_threads");
import("tsx/esm/api").then(({ register }) => { register(); return import(workerData); }).then(async ({ createWebGpuBackend }) => {
  const b = await createWebGpuBackend();
  const buffer = b.allocate(16, "w");
  b.kernels.fill({ buffer, dtype: "f32", layout: { shape: [4], strides: [1], offset: 0 } }, {}, { value: 5 });
  parentPort.postMessage(new Float32Array((await b.read(buffer, 0, 16)).buffer)[3]);
  b.destroy();
});\`;
const worker = new Worker(code, { eval: true, workerData: ${JSON.stringify(fileURLToPath(new URL("../../src/backends/webgpu/index.ts", import.meta.url)))}, execArgv: ["--conditions=@wick/source"] });
console.log("value", await new Promise((resolve, reject) => { worker.on("message", resolve); worker.on("error", reject); }));
b.destroy();`;
    expect((await run(body)).stdout).toContain("value 5");
  });
});

describe("profile", () => {
  it.each([true, false])("times every op (timestamps: %s)", (timestamps) =>
    withDevice({ timestamps }, async (b) => {
      const x = view(b, 1000);
      let region = "first";
      const record = () => {
        b.kernels.fill(x, {}, { value: 1 });
        region = "second";
        b.kernels.map(x, { inputs: [] }, { expr: constNode(2, "f32") });
      };
      const timings = await b.profile(record, () => region);
      expect(timings.map((t) => [t.op, t.region])).toEqual([
        ["fill", "first"],
        ["map", "second"],
      ]);
      for (const t of timings) expect(t.elapsedMicros).toBeGreaterThanOrEqual(0);
      expect(timings[0]!.startMicros).toBe(0);
      expect(timings[1]!.bytes).toBe(4000);
      if (!timestamps) expect(timings[0]!.label).toContain("host clock");
    }),
  );

  it("does not nest, and ends when its function throws", () =>
    withDevice({}, async (b) => {
      await expect(b.profile(() => b.profile(() => undefined).then(() => undefined))).rejects.toThrow(/do not nest/);
      await expect(
        b.profile(() => {
          throw new Error("inside");
        }),
      ).rejects.toThrow("inside");
      expect(await b.profile(() => undefined)).toEqual([]);
    }));
});
