// Streams of bytes onto a device: how much may wait in the driver, and what happens when too few or too many bytes arrive.
import { dryRun } from "@wick/tensor";
import { expect, test, vi } from "vitest";

const MiB = 2 ** 20;
const piece = new Uint8Array(32 * MiB);

test("staged bytes are counted over all uploads, also those that run side by side", async () => {
  const { device } = dryRun();
  const idle = vi.spyOn(device.backend, "idle");
  const weight = async (): Promise<void> => (await device.upload([64 * MiB], "u8", [piece, piece])).dispose();
  for (let i = 0; i < 3; i++) await weight();
  expect(idle).toHaveBeenCalledTimes(0);
  await weight();
  expect(idle).toHaveBeenCalledTimes(1);
  await Promise.all([weight(), weight(), weight(), weight()]);
  expect(idle).toHaveBeenCalledTimes(2);
});

test("an abort ends waiting for the device: what it was given runs on", async () => {
  const { device } = dryRun();
  vi.spyOn(device.backend, "idle").mockReturnValue(new Promise(() => {}));
  const stop = new AbortController();
  const waits = [device.idle(stop.signal), device.upload([256 * MiB], "u8", new Array<Uint8Array>(8).fill(piece), "w", stop.signal)];
  const outcomes = Promise.allSettled(waits);
  stop.abort(new Error("enough"));
  expect(await outcomes).toEqual(waits.map(() => ({ status: "rejected", reason: new Error("enough") })));
  await expect(device.idle(stop.signal)).rejects.toThrow("enough");
  expect(device.liveBytes).toBe(0);
});

test("an abort while work is handed over ends the wait too: the signal tells nobody who listens only afterwards", async () => {
  const { device } = dryRun();
  const stop = new AbortController();
  vi.spyOn(device.backend, "idle").mockImplementation(() => {
    stop.abort(new Error("enough"));
    return new Promise(() => {});
  });
  await expect(device.idle(stop.signal)).rejects.toThrow("enough");
});

test("an upload that ends early or goes on too long fails and leaves nothing", async () => {
  const { device } = dryRun();
  await expect(device.upload([8], "u8", [new Uint8Array(4)], "w")).rejects.toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: upload: 4 of 8 bytes arrived for w: u8 [8]]`,
  );
  await expect(device.upload([8], "u8", [new Uint8Array(12)], "w")).rejects.toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: upload: more than 8 bytes for w: u8 [8]]`,
  );
  expect(device.liveBytes).toBe(0);
});
