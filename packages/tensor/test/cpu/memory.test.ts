// Memory, reads and writes, profiles and the end of a CPU backend.
import { describe, expect, it } from "vitest";
import { createCpuBackend } from "../../src/backends/cpu/index.ts";
import { DeviceError, OutOfMemoryError } from "../../src/errors.ts";
import { Lab } from "./lab.ts";

describe("CPU memory", () => {
  it("reports live, pooled and peak bytes by label and reuses what was released", () => {
    const b = createCpuBackend({ kernels: "plain" });
    const [w, x, y] = [b.allocate(1000, "weight"), b.allocate(64, "x"), b.allocate(64, "x")];
    expect(b.memory()).toEqual({
      liveBytes: 1152,
      pooledBytes: 0,
      peakBytes: 1152,
      byLabel: [
        { label: "weight", bytes: 1024, count: 1 },
        { label: "x", bytes: 128, count: 2 },
      ],
    });
    b.release(w);
    const { liveBytes, pooledBytes, peakBytes } = b.memory();
    expect([liveBytes, pooledBytes, peakBytes]).toEqual([128, 1024, 1152]);
    b.release(b.allocate(990, "again"));
    expect(b.memory().peakBytes).toBe(1152);
    b.trim();
    b.resetPeak();
    expect(b.memory().peakBytes).toBe(128);
    b.release(x);
    b.release(y);
    expect(b.memory().liveBytes).toBe(0);
    expect(() => b.release(y)).toThrowErrorMatchingInlineSnapshot(`[DeviceError: release: not a live buffer of this device: "x"]`);
    b.destroy();
  });

  it("throws a typed error when memory runs out and stays usable", () => {
    const b = createCpuBackend({ kernels: "plain", memoryLimitBytes: 4096 });
    const kept = b.allocate(4000, "kept");
    expect(() => b.allocate(200, "more")).toThrowErrorMatchingInlineSnapshot(
      `[OutOfMemoryError: allocate: no memory for 200 bytes of "more" with 4096 live (limit 4096); release tensors or use a smaller dtype]`,
    );
    expect(() => createCpuBackend({ kernels: "plain" }).allocate(2 ** 52, "huge")).toThrow(OutOfMemoryError);
    b.release(kept);
    b.release(b.allocate(4000, "again"));
    b.destroy();
  });

  it("checks ranges and buffers of other devices", async () => {
    const [b, other] = [createCpuBackend({ kernels: "plain" }), createCpuBackend()];
    const x = b.allocate(8, "x");
    expect(() => b.write(x, 4, new Uint8Array(5))).toThrowErrorMatchingInlineSnapshot(
      `[DeviceError: write: bytes 4 to 9 lie outside a buffer of 8 bytes]`,
    );
    await expect(b.read(x, -1, 2)).rejects.toThrow(DeviceError);
    await expect(other.read(x, 0, 2)).rejects.toThrow(DeviceError);
    b.write(x, 3, Uint8Array.of(1, 2, 3));
    const bytes = await b.read(x, 3, 3);
    b.write(x, 3, Uint8Array.of(9));
    expect(bytes).toEqual(Uint8Array.of(1, 2, 3));
  });

  it("profiles what ran", async () => {
    const lab = new Lab(createCpuBackend({ kernels: "plain" }));
    const [a, b] = [lab.random([4, 8]), lab.random([8, 2])];
    const out = lab.out([4, 2]);
    const timings = await lab.backend.profile(async () => {
      lab.backend.kernels.matmul(out, { a, b }, {});
      await lab.backend.idle();
      lab.backend.kernels.fill(out, {}, { value: 0 });
      await expect(lab.backend.profile(() => {})).rejects.toThrow("profiles do not nest");
    });
    expect(timings.map(({ op, label, flops, bytes }) => ({ op, label, flops, bytes }))).toEqual([
      { op: "matmul", label: "out", flops: 128, bytes: 224 },
      { op: "fill", label: "out", flops: 0, bytes: 32 },
    ]);
    expect(timings[0]!.startMicros).toBe(0);
  });

  it("refuses everything after destroy", async () => {
    const lab = new Lab(createCpuBackend({ kernels: "plain" }));
    const out = lab.out([4]);
    lab.backend.destroy();
    expect(() => lab.backend.kernels.fill(out, {}, { value: 0 })).toThrowErrorMatchingInlineSnapshot(
      `[DeviceError: fill: this CPU device was destroyed; create another one]`,
    );
    expect(() => lab.backend.allocate(4, "x")).toThrow(DeviceError);
    await expect(lab.backend.read(out.buffer, 0, 4)).rejects.toThrow(DeviceError);
    await expect(lab.backend.idle()).rejects.toThrow(DeviceError);
  });
});
