// The device without values: bytes are those of a real device, values are refused.
import { expect, test } from "vitest";
import { cpu, type Device, dryRun, scope, type Tensor } from "../src/index.ts";

function work(device: Device): Tensor {
  return scope(() => {
    const x = device.ones([1, 8, 16, 12]);
    const h = x.conv2d(device.ones([4, 8, 3, 3]), { padding: 1 }).silu();
    return h.interpolate([32, 24]).add(1).mean([2, 3]);
  });
}

test("live and peak bytes are those of a device that computes", () => {
  using real = cpu();
  const { device } = dryRun();
  work(real).dispose();
  using out = work(device);
  expect(device.peakBytes).toBe(real.peakBytes);
  expect(device.liveBytes).toBe(out.byteLength);
});

test("the largest tensor is counted since the last reset", () => {
  const dry = dryRun();
  work(dry.device).dispose();
  expect(dry.largestTensorBytes).toBe(4 * 8 * 16 * 12 * 2);
  dry.device.resetPeak();
  dry.device.zeros([5]).dispose();
  expect(dry.largestTensorBytes).toBe(20);
  expect(dry.device.liveBytes).toBe(0);
});

test("values and times are refused", async () => {
  const { device } = dryRun();
  using x = device.zeros([2]);
  await expect(x.toArray()).rejects.toThrowErrorMatchingInlineSnapshot(
    `[UnsupportedError: read: a dry run has no values; compute on another device]`,
  );
  await expect(device.profile(() => {})).rejects.toThrowErrorMatchingInlineSnapshot(
    `[UnsupportedError: profile: a dry run takes no time; profile on another device]`,
  );
});
