// Ownership: scopes, folds, held values, leaks, use after release, and the fuser's hidden references.
import { cpu, DisposedError, fold, foldAsync, hold, OutOfMemoryError, scope, type Tensor } from "@wick/tensor";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

let device = cpu();
beforeEach(() => {
  device = cpu();
});
afterEach(() => device.destroy());

describe("scope", () => {
  test("keeps what it returns and releases the rest", async () => {
    using x = device.tensor([1, 2, 3, 4], [2, 2]);
    const before = device.liveBytes;
    using y = scope(() => x.matmul(x.t()).softmax().exp());
    expect(device.liveBytes - before).toBe(y.byteLength);
    expect(y.isDisposed).toBe(false);
  });

  test("keeps tensors inside arrays, objects and maps", () => {
    const { a, list, map } = scope(() => ({ a: device.zeros([1]), list: [device.zeros([2])], map: new Map([["k", device.zeros([3])]]) }));
    for (const t of [a, list[0]!, map.get("k")!]) {
      expect(t.isDisposed).toBe(false);
      t.dispose();
    }
    expect(device.liveBytes).toBe(0);
  });

  test("hands what it keeps to the scope around it", () => {
    scope(() => {
      const inner = scope(() => device.ones([4]));
      expect(inner.isDisposed).toBe(false);
    });
    expect(device.liveBytes).toBe(0);
  });

  test("a throw releases everything", () => {
    expect(() =>
      scope(() => {
        device
          .zeros([1000])
          .add(1)
          .matmul(device.zeros([3, 3]));
      }),
    ).toThrow("matmul");
    expect(device.liveBytes).toBe(0);
  });

  test("running out of memory while results are computed releases them all", () => {
    using small = cpu({ kernels: "plain", memoryLimitBytes: 10_000 });
    using x = small.zeros([1000]);
    expect(() => scope(() => [x.add(1), x.add(2)])).toThrow(OutOfMemoryError);
    expect(small.liveBytes).toBe(x.byteLength);
    using y = scope(() => x.add(1));
    expect(small.liveBytes).toBe(x.byteLength + y.byteLength);
  });

  test("a result that was released inside stays released", () => {
    const gone = scope(() => {
      const t = device.zeros([4]);
      t.dispose();
      return t;
    });
    expect(gone.isDisposed).toBe(true);
    expect(device.liveBytes).toBe(0);
  });

  test("10,000 scopes leave no bytes and a flat heap", () => {
    using x = device.zeros([8]);
    const cycle = (n: number): void => {
      for (let i = 0; i < n; i++) scope(() => void x.add(1).softmax().sum().compute());
    };
    cycle(1000);
    const before = process.memoryUsage().rss;
    cycle(10_000);
    expect(device.liveBytes).toBe(x.byteLength);
    expect(process.memoryUsage().rss - before).toBeLessThan(100 << 20);
  });

  test("an async function does not compile, and is refused at run time", () => {
    // @ts-expect-error scope() is synchronous
    expect(() => scope(async () => device.zeros([1]))).toThrow(/promise/);
  });

  test("deferred results do not hold on to their operands", () => {
    using kept = scope(() => device.zeros([1000]).add(1).mul(2));
    expect(device.liveBytes).toBe(kept.byteLength);
  });
});

describe("fold", () => {
  test("holds two states at most, and leaves the first to its owner", async () => {
    using start = device.ones([256]);
    device.resetPeak();
    using end = fold([1, 2, 3, 4, 5], start, (x, n) => x.add(n).exp().log());
    expect(device.peakBytes).toBeLessThanOrEqual(4 * start.byteLength);
    expect(start.isDisposed).toBe(false);
    expect(Math.round(Number((await end.toArray())[0]))).toBe(16);
  });

  test("carries objects and releases their replaced parts only", () => {
    using a = device.ones([8]);
    const end = fold([0, 1], { x: a, y: device.ones([8]) }, ({ x, y }) => ({ x: x.add(1), y }));
    expect(end.y.isDisposed).toBe(false);
    end.x.dispose();
    end.y.dispose();
    expect(device.liveBytes).toBe(a.byteLength);
  });

  test("a throwing step releases the carried state", async () => {
    using a = device.ones([8]);
    const failing = (x: Tensor, n: number) => {
      if (n === 2) throw new Error("stop");
      return x.add(1);
    };
    await expect(foldAsync([0, 1, 2], a, failing)).rejects.toThrow("stop");
    expect(device.liveBytes).toBe(a.byteLength);
  });
});

describe("hold", () => {
  test("outlives the scope it was made in, until the end of its own block", async () => {
    {
      using latents = scope(() => hold(device.zeros([16])));
      await Promise.resolve();
      latents.update((x) => x.add(1).mul(3));
      expect(Array.from((await latents.value.toArray()) as Float32Array)).toEqual(new Array(16).fill(3));
      expect(device.liveBytes).toBe(64);
    }
    expect(device.liveBytes).toBe(0);
  });

  test("release gives the value away", () => {
    const held = hold(device.zeros([4]));
    const t = held.release();
    held[Symbol.dispose]();
    expect(t.isDisposed).toBe(false);
    t.dispose();
  });
});

describe("use after release", () => {
  test("names the tensor and the remedy", () => {
    const x = device.zeros([2, 3]);
    x.label = "latents";
    x.dispose();
    expect(() => x.add(1)).toThrow(DisposedError);
    expect(() => x.add(1)).toThrowErrorMatchingInlineSnapshot(
      `[DisposedError: use: latents f32 [2, 3] was released; return it from its scope, or own it with hold() or using]`,
    );
  });

  test("a view keeps the storage alive after its base is released", async () => {
    const x = device.tensor([1, 2, 3, 4], [2, 2]);
    using row = x.narrow(0, 1, 1);
    x.dispose();
    expect(Array.from((await row.toArray()) as Float32Array)).toEqual([3, 4]);
  });

  test("disposing twice is harmless", () => {
    const x = device.zeros([2]);
    x.dispose();
    x.dispose();
    expect(device.liveBytes).toBe(0);
  });

  test("a deferred expression outlives its disposed operand", async () => {
    const x = device.ones([3]);
    using y = x.add(1);
    x.dispose();
    expect(Array.from((await y.toArray()) as Float32Array)).toEqual([2, 2, 2]);
  });
});
