// The golden rows of every op (values from PyTorch) on each tier of WebGPU kernels that the adapter has; no test runner needed.
// Run: npx tsx --conditions=@wick/source bench/gpu-conformance.ts [--tier plain|subgroups|matrix ...] [--sample] [--seconds N]
//   [--family NAME ...] [--kernel NAME]. --kernel takes one kernel for all products or all attention that it can run, such as "matrix 2x2 ahead"
//   or "matrix 1 turned".
// Prints the rows that are off and one line of JSON per tier; ends with status 1 if any row is off.
import { parseArgs } from "node:util";
import { type Device, type WebGpuOptions, webgpu } from "@wick/tensor";
import { families, readFamily } from "../packages/tensor/test/conformance/goldens.ts";
import { type Row, runRow, type Stored } from "../packages/tensor/test/conformance/run.ts";
import { sampleRows } from "../packages/tensor/test/conformance/sample.ts";
import { type KernelName, tuningOf } from "./one-kernel.ts";

type Tier = NonNullable<WebGpuOptions["tier"]>;

const { values: flags } = parseArgs({
  options: {
    tier: { type: "string", multiple: true, default: ["plain", "subgroups", "matrix"] },
    sample: { type: "boolean", default: false },
    seconds: { type: "string", default: "600" },
    family: { type: "string", multiple: true, default: [...families] },
    kernel: { type: "string" },
  },
});
/** As in the GPU tests: f32 sums are ordered for parallel hardware. */
const factor = 4;
const write = (text: string): void => void process.stdout.write(`${text}\n`);

interface Count {
  rows: number;
  off: number;
  left: number;
}

async function runFamily(device: Device, rows: readonly Row[], stored: Stored, count: Count, until: number): Promise<void> {
  for (const row of rows) {
    if (performance.now() > until) {
      count.left++;
      continue;
    }
    const problem = await runRow(device, row, stored, factor).catch((error: Error) => `${row.id}: ${error.message.split("\n")[0]}`);
    count.rows++;
    if (!problem) continue;
    count.off++;
    if (count.off <= 50) write(`  ${problem}`);
  }
}

/** The tier's device; with --kernel, as if that kernel had been measured to be the fastest. */
async function openTier(tier: Tier): Promise<Device> {
  const kernel = flags.kernel as KernelName | undefined;
  if (kernel === undefined) return webgpu({ tier });
  using probe = await webgpu({ tier });
  const { adapterName } = probe.capabilities as unknown as { readonly adapterName: string };
  return webgpu({ tier, tuning: [tuningOf(adapterName, tier, kernel)] });
}

/** One tier's rows; an adapter without the tier is a line of its own, not a failure. */
async function runTier(tier: Tier): Promise<boolean> {
  const start = performance.now();
  const device = await openTier(tier).catch((error: Error) => error);
  if (device instanceof Error) {
    write(JSON.stringify({ benchmark: "conformance", tier, absent: device.message.split("\n")[0] }));
    return true;
  }
  const count: Count = { rows: 0, off: 0, left: 0 };
  for (const family of flags.family) {
    const { rows, stored } = await readFamily(family);
    await runFamily(device, flags.sample ? sampleRows(rows, 2, 1) : rows, stored, count, start + Number(flags.seconds) * 1000);
  }
  const seconds = Math.round((performance.now() - start) / 1000);
  write(
    JSON.stringify({
      benchmark: "conformance",
      tier,
      kernel: flags.kernel,
      device: device.description,
      sample: flags.sample,
      ...count,
      seconds,
    }),
  );
  device.destroy();
  return count.off === 0;
}

let good = true;
for (const tier of flags.tier) good = (await runTier(tier as Tier)) && good;
process.exitCode = good ? 0 : 1;
