// Values on their way in and out as lists, comparing them, and what console.log shows.
import { inspect } from "node:util";
import { cpu, type Device, torchCpu } from "@wick/tensor";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

let device: Device;
beforeEach(() => {
  device = cpu({ kernels: "plain" });
});
afterEach(() => device.destroy());

describe("lists", () => {
  test("nested lists give the shape and come back", async () => {
    const values = [
      [
        [1, 2, 3],
        [4, 5, 6],
      ],
      [
        [7, 8, 9],
        [10, 11, 12.5],
      ],
    ];
    const x = device.tensor(values);
    expect(x.shape).toEqual([2, 2, 3]);
    expect(await x.toList()).toEqual(values);
    expect(await x.index(1, ":", -1).toList()).toEqual([9, 12.5]);
  });

  test("a number is a scalar, an empty list has no values", async () => {
    const seven = device.tensor(7, { dtype: "i32" });
    expect([seven.shape, seven.dtype, await seven.toList()]).toEqual([[], "i32", 7]);
    expect(`${device.tensor([1, 2], [2, 1], { dtype: "bf16", label: "pair" })}`).toBe("pair bf16 [2, 1]");
    expect(await device.tensor([]).toList()).toEqual([]);
    expect(await device.tensor([[], []]).toList()).toEqual([[], []]);
  });

  test("64-bit integers come back as numbers", async () => {
    expect(await device.tensor(BigInt64Array.of(-1n, 2n ** 40n)).toList()).toEqual([-1, 2 ** 40]);
  });

  test("dimensions may be given in one list", () => {
    const x = device.zeros([2, 3, 4]);
    expect(x.permute([2, 0, 1]).shape).toEqual([4, 2, 3]);
    expect(x.repeat([1, 2, 1]).shape).toEqual([2, 6, 4]);
    expect(x.flip([0, 2]).shape).toEqual([2, 3, 4]);
  });
});

describe("allClose", () => {
  test("holds within the tolerances alone, and leaves nothing behind", async () => {
    const x = device.randn([4, 8], torchCpu(0));
    const near = x.mul(1 + 5e-6).compute();
    const before = device.liveBytes;
    expect(await x.allClose(near)).toBe(true);
    expect(await x.allClose(near, { rtol: 1e-6 })).toBe(false);
    expect(await x.allClose(0, { atol: 10 })).toBe(true);
    expect(device.liveBytes).toBe(before);
  });

  test("NaN is close to nothing unless asked", async () => {
    const x = device.tensor([1, Number.NaN]);
    expect(await x.allClose(x)).toBe(false);
    expect(await x.allClose(x, { equalNan: true })).toBe(true);
  });
});

test("console.log shows what a tensor is, and whether it is still there", () => {
  const x = device.zeros([2, 3]);
  expect(inspect({ x })).toMatchInlineSnapshot(`"{ x: Tensor(full f32 [2, 3] on cpu) }"`);
  x.dispose();
  expect(inspect(x)).toMatchInlineSnapshot(`"Tensor(full f32 [2, 3], released)"`);
  expect(inspect(device)).toMatchInlineSnapshot(`"Device(cpu (plain loops))"`);
});

test("drawing without a generator says how to get one", () => {
  expect(() => device.randn([2], undefined as never)).toThrowErrorMatchingInlineSnapshot(
    `[TensorError: randn: draws from a generator, there is no hidden one: pass torchCpu(seed) after the shape]`,
  );
  expect(() => device.zeros([2]).gather(device.zeros([2]) as never, 0 as never)).toThrowErrorMatchingInlineSnapshot(
    `[TensorError: gather: takes tensors: got 0]`,
  );
});
