// What the first result of a process costs on the CPU: processor time of making a device and running one op, in fresh processes, medians.
// Run: npx tsx --conditions=@wick/source bench/cpu-start.ts [--rounds=N]
import { execFileSync } from "node:child_process";
import { cpus, loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { createCpuBackend } from "../packages/tensor/src/backends/cpu/index.ts";
import { contiguousLayout, permuteLayout } from "../packages/tensor/src/layout.ts";
import { inputNode, unaryNode } from "../packages/tensor/src/ops/expr.ts";
import type { View } from "../packages/tensor/src/view.ts";
import { processorMs } from "./cpu-peak.ts";

const { values: options } = parseArgs({ options: { rounds: { type: "string", default: "9" }, op: { type: "string" } } });

/** Runs one op on a new device and gives the milliseconds of both. */
function firstResult(op: string): number {
  const start = processorMs();
  const backend = createCpuBackend({ threads: 1 });
  const view = (shape: readonly number[]): View => {
    const buffer = backend.allocate(4 * shape.reduce((n, d) => n * d, 1), "start");
    return { buffer, dtype: "f32", layout: contiguousLayout(shape) };
  };
  const [x, y] = [view([64, 256]), view([64, 256])];
  const turned = { ...x, layout: permuteLayout(x.layout, [1, 0]) };
  const ops: Record<string, () => void> = {
    nothing: () => {},
    silu: () => backend.kernels.map(y, { inputs: [x] }, { expr: unaryNode("silu", inputNode(0, "f32")) }),
    softmax: () => backend.kernels.softmax(y, { x }, { log: false }),
    norm: () => backend.kernels.norm(y, { x }, { kind: "rms", eps: 1e-6 }),
    sum: () => backend.kernels.reduce(view([64]), { x }, { kind: "sum", reduceRank: 1, correction: 0, p: 2 }),
    matmul: () => backend.kernels.matmul(view([64, 64]), { a: x, b: turned }, {}),
  };
  ops[op]!();
  return processorMs() - start;
}

if (options.op) {
  process.stdout.write(String(firstResult(options.op)));
} else {
  process.stdout.write(`${cpus()[0]?.model}, Node ${process.version}, load ${loadavg()[0]?.toFixed(1)}; milliseconds of processor time\n`);
  for (const op of ["nothing", "silu", "softmax", "norm", "sum", "matmul"]) {
    const run = () => Number(execFileSync(process.execPath, [...process.execArgv, fileURLToPath(import.meta.url), `--op=${op}`]));
    const times = Array.from({ length: Number(options.rounds) }, run).sort((a, b) => a - b);
    process.stdout.write(
      `${op.padEnd(8)} ${times[times.length >> 1]!.toFixed(1)} (${times[0]!.toFixed(1)} to ${times.at(-1)!.toFixed(1)})\n`,
    );
  }
}
