// The embedded model's picture (64 x 64, 12 steps, guidance 3): cold process to PNG, and warm in one process.
// Beside it, when WICK_PYTHON names a python with torch, diffusers and transformers: the same picture by PyTorch (2 threads), a whole process.
// Run: npx tsx --conditions=@wick/source bench/tiny-picture.ts [rounds]. Prints JSON: medians and spread, with the machine's load.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { localFolder } from "@wick/hub";
import { zImage } from "@wick/models-zimage";
import { cpu } from "@wick/tensor";
import { tinyZImage } from "@wick/tiny-zimage";

const rounds = Number(process.argv[2] ?? 5);
const bin = fileURLToPath(new URL("../packages/cli/bin/wick.mjs", import.meta.url));

function spread(times: number[]): { medianMs: number; minMs: number; maxMs: number } {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (i: number) => Math.round(sorted[i]!);
  return { medianMs: at(Math.floor(sorted.length / 2)), minMs: at(0), maxMs: at(sorted.length - 1) };
}

/** Start of the process to its end, PNG written. */
function coldMs(folder: string): number {
  const started = performance.now();
  const args = [bin, "generate", "a red apple", "--device", "cpu", "--quiet", "--out", join(folder, "apple.png")];
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`generate failed: ${stderr}`);
  return performance.now() - started;
}

/** The same picture by PyTorch, from the start of the process to its end; undefined without a python. */
function torchColdMs(folder: string): number | undefined {
  const python = process.env["WICK_PYTHON"];
  if (!python) return undefined;
  const script = fileURLToPath(new URL("../tools/reference/tiny-zimage/sample.py", import.meta.url));
  const env = { ...process.env, OMP_NUM_THREADS: String(Math.min(2, cpus().length)) };
  const started = performance.now();
  const { status, stderr } = spawnSync(python, [script, "a red apple", "--out", join(folder, "torch.png")], { encoding: "utf8", env });
  if (status !== 0) throw new Error(`sample.py failed: ${stderr}`);
  return performance.now() - started;
}

async function warmMs(): Promise<number[]> {
  using device = cpu();
  using pipe = await zImage(device, {
    files: localFolder(fileURLToPath(tinyZImage.modelUrl)),
    defaults: { width: 64, height: 64, steps: 12, guidance: 3 },
  });
  const times: number[] = [];
  for (let i = 0; i <= rounds; i++) {
    const started = performance.now();
    await pipe.generate({ prompt: "a red apple", seed: i });
    if (i > 0) times.push(performance.now() - started);
  }
  return times;
}

const folder = mkdtempSync(join(tmpdir(), "wick-bench-"));
try {
  const cold: number[] = [];
  const torch: (number | undefined)[] = [];
  for (let i = 0; i < rounds; i++) {
    cold.push(coldMs(folder));
    torch.push(torchColdMs(folder));
  }
  const torchCold = torch.filter((ms) => ms !== undefined);
  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, node: process.version, load: loadavg()[0] };
  process.stdout.write(
    `${JSON.stringify({ machine, rounds, cold: spread(cold), torchCold: torchCold.length > 0 ? spread(torchCold) : "missing", warm: spread(await warmMs()) }, undefined, 2)}\n`,
  );
} finally {
  rmSync(folder, { recursive: true });
}
