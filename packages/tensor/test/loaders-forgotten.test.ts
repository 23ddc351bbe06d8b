// Files of checkpoints that nobody closed are closed when the collector finds them, and not before.
import { existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { fileSource } from "@wick/tensor";
import { expect, test } from "vitest";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** How many handles this process has on `path`. */
const openHandles = (path: string): number =>
  readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false;
    }
  }).length;

// Only Linux lists the open files of a process.
test.runIf(existsSync("/proc/self/fd"))("a forgotten file is closed, without a warning", async () => {
  const folder = mkdtempSync(join(tmpdir(), "wick-forgotten-"));
  const path = join(folder, "file.bin");
  writeFileSync(path, Uint8Array.of(1, 2, 3, 4));
  const warnings: string[] = [];
  const listen = (warning: Error): void => void warnings.push(warning.message);
  process.on("warning", listen);
  try {
    const kept = await fileSource(path);
    await (async () => expect((await (await fileSource(path)).read(0, 2)).length).toBe(2))();
    expect(openHandles(path)).toBe(2);
    for (let round = 0; round < 20 && openHandles(path) > 1; round++) {
      collect();
      await sleep(10);
    }
    expect(openHandles(path)).toBe(1);
    expect([...(await kept.read(1, 3))]).toEqual([2, 3, 4]);
    await kept.close();
    expect(openHandles(path)).toBe(0);
    expect(warnings).toEqual([]);
  } finally {
    process.off("warning", listen);
    rmSync(folder, { recursive: true });
  }
});
