// What a user reads when something does not fit: op, operands, remedy.
import { cat, cpu, einsum, scaledDotProductAttention, stack, type Tensor } from "@wick/tensor";
import { messageOf } from "@wick/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

let device = cpu({ kernels: "plain" });
let x: Tensor;
let w: Tensor;
beforeAll(() => {
  device = cpu({ kernels: "plain" });
  x = device.zeros([2, 3]);
  w = device.zeros([4, 5]);
});
afterAll(() => device.destroy());

describe("shapes", () => {
  test.each<[string, () => unknown]>([
    ["matmul", () => x.matmul(w)],
    ["add", () => x.add(w)],
    ["linear", () => x.linear(device.zeros([4]))],
    ["reshape", () => x.reshape(4, -1)],
    ["chunk", () => x.chunk(2, 1)],
    ["split", () => x.split([1, 1], 1)],
    ["narrow", () => x.narrow(1, 2, 2)],
    ["index", () => x.index(5)],
    ["permute", () => x.permute(0, 0)],
    ["dims", () => x.dims(3)],
    ["dim", () => x.dim(2)],
    ["rearrange", () => x.rearrange("b (n k) -> b n k", { n: 2 })],
    ["cat", () => cat([x, w], 0)],
    ["stack", () => stack([x, w])],
    ["expand", () => x.expand(4, 3)],
    ["conv2d", () => device.zeros([1, 3, 8, 8]).conv2d(device.zeros([4, 2, 3, 3]))],
    ["groupNorm", () => device.zeros([1, 6, 2]).groupNorm(4, { eps: 1e-5 })],
    ["attention", () => scaledDotProductAttention(device.zeros([1, 3, 4, 8]), device.zeros([1, 2, 4, 8]), device.zeros([1, 2, 4, 8]))],
    ["max of nothing", () => device.zeros([0]).max()],
    ["tensor", () => device.tensor([1, 2, 3], [2, 2])],
    ["tensor of ragged lists", () => device.tensor([[1, 2], [3]])],
    ["tensor of lists and another shape", () => device.tensor([[1, 2, 3]], [3])],
    ["a shape that is a number", () => device.zeros(3 as never)],
    ["index, fraction", () => x.index([0.5, 2])],
    ["index, text", () => x.index("1:3" as never)],
    ["index, tensor", () => x.index(x as never)],
    ["permute, list", () => x.permute([0, 0])],
    ["topk", () => x.topk(4)],
    ["einsum, sizes", () => einsum("ij,jk->ik", x, w)],
    ["einsum, twice", () => einsum("ii->i", x)],
    ["einsum, ranks", () => einsum("ijk->i", x)],
    ["einsum, operands", () => einsum("ij,jk->ik", x)],
    ["einsum, result", () => einsum("ij->ik", x)],
    ["einsum, dots", () => einsum("...i,...i->...", device.zeros([2, 3]), device.zeros([4, 3]))],
    ["interpolate, mode", () => device.zeros([1, 3, 8]).interpolate([4], { mode: "bicubic" })],
    ["interpolate, antialias", () => device.zeros([1, 3, 8, 8]).interpolate([4, 4], { antialias: true })],
    ["gridSample, shapes", () => device.zeros([1, 3, 8, 8]).gridSample(device.zeros([2, 4, 4, 2]))],
    ["gridSample, mode", () => device.zeros([1, 3, 8, 8]).gridSample(device.zeros([1, 4, 4, 2]), { mode: "cubic" as never })],
    ["gridSample, padding", () => device.zeros([1, 3, 8, 8]).gridSample(device.zeros([1, 4, 4, 2]), { paddingMode: "edge" as never })],
    ["sliceAssign", () => x.sliceAssign([1, 1], device.zeros([2, 2]))],
  ])("%s", (_, fn) => {
    expect(messageOf(fn)).toMatchSnapshot();
  });
});

describe("dtypes", () => {
  test.each<[string, () => unknown]>([
    ["i64 is a storage format", () => device.tensor(BigInt64Array.of(1n), [1]).add(1)],
    ["softmax of integers", () => device.zeros([2], "i32").softmax()],
    ["matmul of integers", () => device.zeros([2, 2], "i32").matmul(x)],
    ["bitwise on floats", () => x.and(1)],
    ["a name of PyTorch", () => x.to("bfloat16" as never)],
    ["no dtype at all", () => device.tensor([1], [1], { dtype: "q9" as never })],
    ["quantizing on the device", () => x.to("q8_0")],
    ["ragged quantized rows", () => device.empty([2, 33], "q8_0")],
    ["an index that is a float", () => x.indexSelect(0, device.zeros([1]))],
    ["bicubic of integers", () => device.zeros([1, 1, 4, 4], "u8").interpolate([2, 2], { mode: "bicubic" })],
    ["gridSample of integers", () => device.zeros([1, 1, 4, 4], "u8").gridSample(device.zeros([1, 4, 4, 2]))],
    ["mean of integers", () => device.zeros([2], "i32").mean()],
  ])("%s", (_, fn) => {
    expect(messageOf(fn)).toMatchSnapshot();
  });
});

describe("devices", () => {
  test("two devices do not mix", () => {
    using other = cpu({ kernels: "plain" });
    expect(messageOf(() => x.add(other.zeros([2, 3])))).toMatchInlineSnapshot(
      `"DeviceError: add: operands are on different devices: full f32 [2, 3] on cpu (plain loops), full f32 [2, 3] on cpu (plain loops); move one with to(device)"`,
    );
  });

  test("a destroyed device says so", () => {
    const gone = cpu({ kernels: "plain" });
    gone.destroy();
    expect(messageOf(() => gone.zeros([2]))).toMatchInlineSnapshot(
      `"DeviceError: allocate: the device was destroyed: full on cpu (plain loops); create a new device"`,
    );
  });

  test("running out of memory is typed, and the device goes on", async () => {
    const before = device.liveBytes;
    expect(messageOf(() => device.zeros([2 ** 25, 2 ** 20]))).toMatchInlineSnapshot(
      `"OutOfMemoryError: allocate: no memory for 140737488355328 bytes of "full" with 6848 live; release tensors or use a smaller dtype"`,
    );
    expect(device.liveBytes).toBe(before);
    using fine = device.ones([3]);
    expect(Array.from((await fine.toArray()) as Float32Array)).toEqual([1, 1, 1]);
  });
});
