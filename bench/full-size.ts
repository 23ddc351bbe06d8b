// A whole run of a released model at its full size with random weights: text encoder, transformer, autoencoder, from files in the released
// layout to a picture. Time and memory of every stage; latents and picture for tools/reference/full_size_check.py, which repeats it in PyTorch.
// Run: npx tsx --conditions=@wick/source bench/full-size.ts make FOLDER --model z-image|flux1-schnell [--blocks n]
//      npx tsx --conditions=@wick/source bench/full-size.ts run FOLDER [--size 256] [--steps 2] [--max-memory-gb n] [--dtype q8_0] [--transformer file.gguf]
//        [--device cpu|webgpu]
// "make" writes 20.5 GB (Z-Image) or 33.7 GB (FLUX.1 schnell); "run" writes FOLDER/run.safetensors and prints one line of JSON last.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { PipelineProgress } from "@wick/diffusion";
import { localFolder } from "@wick/hub";
import { type FluxPipeline, flux } from "@wick/models-flux";
import { type ZImagePipeline, zImage } from "@wick/models-zimage";
import { cpu, type Device, type DType, type Shape, type WritableTensor, webgpu, writeFileAtomically, writeSafetensors } from "@wick/tensor";
import { makeRepository, repositories, withFewerBlocks } from "./full-size-repository.ts";
import { commit, machine, resetPeakOfProcess, statusBytes } from "./machine.ts";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: "string", default: "z-image" },
    blocks: { type: "string" },
    size: { type: "string", default: "256" },
    steps: { type: "string", default: "2" },
    "max-memory-gb": { type: "string" },
    dtype: { type: "string" },
    transformer: { type: "string" },
    device: { type: "string", default: "cpu" },
  },
});
const [verb, folder] = positionals;
const prompt = "a lighthouse in fog, photographed from the sea";
const write = (text: string): void => void process.stdout.write(`${text}\n`);

async function openPipeline(device: Device, from: string): Promise<FluxPipeline | ZImagePipeline> {
  const { _class_name: kind } = JSON.parse(readFileSync(join(from, "model_index.json"), "utf8")) as { _class_name: string };
  const limit = flags["max-memory-gb"];
  const { transformer } = flags;
  const options = {
    files: localFolder(from),
    ...(flags.dtype && { dtype: flags.dtype as DType, textEncoderDType: flags.dtype as DType }),
    ...(transformer && { transformer }),
    ...(limit && { maxGpuBytes: Number(limit) * 1e9 }),
  };
  return kind === "FluxPipeline" ? flux(device, options) : zImage(device, options);
}

interface StageUse {
  readonly seconds: number;
  readonly peakDeviceBytes: number;
  readonly peakProcessBytes: number;
}

/** What each stage took, from one report of progress to the next: time, and the most memory on the device and of the process. */
class Stages {
  readonly use: Record<string, StageUse> = {};
  #current: string | undefined;
  #since = performance.now();
  readonly #device: Device;
  constructor(device: Device) {
    this.#device = device;
  }
  enter(stage: string | undefined): void {
    if (stage === this.#current) return;
    const now = performance.now();
    if (this.#current) this.#leave(this.#current, (now - this.#since) / 1000);
    this.#device.resetPeak();
    resetPeakOfProcess();
    this.#current = stage;
    this.#since = now;
  }
  #leave(stage: string, seconds: number): void {
    const before = this.use[stage] ?? { seconds: 0, peakDeviceBytes: 0, peakProcessBytes: 0 };
    this.use[stage] = {
      seconds: before.seconds + seconds,
      peakDeviceBytes: Math.max(before.peakDeviceBytes, this.#device.memory().peakBytes),
      peakProcessBytes: Math.max(before.peakProcessBytes, statusBytes(process.pid, "VmHWM") ?? 0),
    };
  }
  highest(of: "peakDeviceBytes" | "peakProcessBytes"): number {
    return Math.max(...Object.values(this.use).map((use) => use[of]));
  }
  report = (progress: PipelineProgress): void => {
    if (progress.stage === "load") this.enter(`load ${progress.model}`);
    else this.enter(progress.stage === "block" ? "step" : progress.stage);
  };
}

const tensorOf = (name: string, dtype: "f32" | "u8", shape: Shape, values: Float32Array | Uint8Array): WritableTensor => ({
  name,
  dtype,
  shape,
  bytes: () => [new Uint8Array(values.buffer, values.byteOffset, values.byteLength)],
});

async function run(from: string): Promise<void> {
  const device = flags.device === "webgpu" ? await webgpu() : cpu();
  const stages = new Stages(device);
  stages.enter("open");
  const pipe = await openPipeline(device, from);
  const size = Number(flags.size);
  const tensors: WritableTensor[] = [];
  const started = performance.now();
  const request = { prompt, width: size, height: size, steps: Number(flags.steps), seed: 1, onProgress: stages.report };
  const steps = pipe.steps(request);
  for (;;) {
    const step = await steps.next();
    if (step.done) {
      using latents = step.value;
      const [image] = await pipe.decode(latents, request);
      tensors.push(tensorOf("image", "u8", [size, size, 3], image!.rgb));
      break;
    }
    const { index, latents } = step.value;
    tensors.push(tensorOf(`latents.${index}`, "f32", latents.shape, (await latents.toArray()) as Float32Array));
    write(`step ${index + 1}: ${(step.value.elapsedMs / 1000).toFixed(1)} s`);
  }
  stages.enter(undefined);
  await writeFileAtomically(join(from, "run.safetensors"), (sink) =>
    writeSafetensors(sink, tensors, {
      ...{ prompt, size: flags.size, steps: flags.steps },
      ...(flags.dtype && { dtype: flags.dtype }),
      ...(flags.transformer && { transformer: flags.transformer }),
    }),
  );
  const result = {
    benchmark: "full-size",
    date: new Date().toISOString(),
    commit: commit(),
    machine: machine(),
    node: process.version,
    device: device.description,
    model: pipe.constructor.name,
    size,
    dtype: flags.dtype ?? "as stored",
    transformer: flags.transformer,
    stages: stages.use,
    totalSeconds: (performance.now() - started) / 1000,
    limitBytes: flags["max-memory-gb"] ? Number(flags["max-memory-gb"]) * 1e9 : undefined,
    peakDeviceBytes: stages.highest("peakDeviceBytes"),
    peakProcessBytes: stages.highest("peakProcessBytes"),
  };
  write(JSON.stringify(result));
  pipe[Symbol.dispose]();
  device.destroy();
}

const repository = repositories[flags.model];
if (!folder || !repository || !["make", "run"].includes(verb ?? ""))
  throw new Error(`usage: full-size.ts make|run FOLDER [--model ${Object.keys(repositories).join("|")}]`);
if (verb === "make") await makeRepository(folder, flags.blocks ? withFewerBlocks(repository, Number(flags.blocks)) : repository);
else await run(folder);
