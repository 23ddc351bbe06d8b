// The part of gpu-code.ts that runs on the chip that is not there: makes the kernels of a row, and says on standard error, between the compiler's
// prints, which kernel they are of. Takes one JSON argument (Job).
import { writeSync } from "node:fs";
import { createWebGpuBackend, type WebGpuBackend } from "../packages/tensor/src/backends/webgpu/index.ts";
import type { Tier } from "../packages/tensor/src/backends/webgpu/tier.ts";
import { bytesOf } from "../packages/tensor/src/dtype.ts";
import { contiguousLayout } from "../packages/tensor/src/layout.ts";
import { sizeOf } from "../packages/tensor/src/shape.ts";
import type { View } from "../packages/tensor/src/view.ts";
import { type Job, type KernelNote, marker, rows } from "./gpu-code-rows.ts";
import { tuningOf } from "./one-kernel.ts";
import type { Case } from "./webgpu-cases.ts";

const say = (note: KernelNote | "end"): void => void writeSync(2, `\n${marker} ${JSON.stringify(note)}\n`);

/** Product of the numbers of `@workgroup_size(…)`. */
const workgroupOf = (code: string): number =>
  (/@workgroup_size\(([^)]*)\)/.exec(code)?.[1] ?? "1").split(",").reduce((n, part) => n * Number(part), 1);

/** Makes the backend announce every pipeline that it compiles. */
function announce({ device, capabilities }: WebGpuBackend, note: Omit<KernelNote, "label" | "workgroup" | "lanes">): void {
  const codes = new WeakMap<GPUShaderModule, string>();
  const [makeModule, makePipeline] = [device.createShaderModule.bind(device), device.createComputePipeline.bind(device)];
  device.createShaderModule = (d) => {
    const module = makeModule(d);
    codes.set(module, d.code);
    return module;
  };
  device.createComputePipeline = (d) => {
    const code = codes.get(d.compute.module) ?? "";
    const lanes = Number(/@subgroup_size\((\d+)\)/.exec(code)?.[1] ?? (capabilities.subgroupSize || 32));
    say({ ...note, label: d.label ?? "", workgroup: workgroupOf(code), lanes });
    const pipeline = makePipeline(d);
    say("end");
    return pipeline;
  };
}

/** A device that takes one variant for everything that it can run. */
async function open(tier: Tier, precision: KernelNote["precision"], variant: KernelNote["variant"]): Promise<WebGpuBackend> {
  const backend = await createWebGpuBackend({ tier, float32MatmulPrecision: precision });
  if (variant === "default") return backend;
  const { adapterName: adapter } = backend.capabilities;
  backend.destroy();
  return createWebGpuBackend({ tier, float32MatmulPrecision: precision, tuning: [tuningOf(adapter, tier, variant)] });
}

async function compileRow(backend: WebGpuBackend, row: Case): Promise<void> {
  const made: View[] = [];
  const run = row.prepare(backend.kernels, (shape, dtype = "f32", change = (l) => l) => {
    const buffer = backend.allocate(Math.max(4, bytesOf(dtype, sizeOf(shape))), "operand");
    made.push({ buffer, dtype, layout: change(contiguousLayout(shape)) });
    return made.at(-1)!;
  });
  run();
  await backend.idle();
  for (const { buffer } of made) backend.release(buffer);
  backend.trim();
}

const { row: wanted, tiers, precisions, kernels } = JSON.parse(process.argv[2] ?? "{}") as Job;
const row = rows().find((r) => r.name === wanted);
if (!row) throw new Error(`no row ${wanted}`);
for (const tier of tiers) {
  for (const precision of tier === "matrix" ? precisions : (["highest"] as const)) {
    for (const variant of kernels) {
      const backend = await open(tier, precision, variant);
      announce(backend, { row: row.name, tier, precision, variant });
      await compileRow(backend, row);
      backend.destroy();
    }
  }
}
process.exit(0);
