// wick bench: how quick a model is here, as figures that can be kept and compared.
import { cpus } from "node:os";
import { type ModuleProfile, profile } from "@wick/nn";
import { chromeTrace, type Device, type DType } from "@wick/tensor";
import type { HubOptions } from "../models/find-files.ts";
import { type OpenedModel, openModel, type PaintRequest } from "../models/registry.ts";
import { CommandDevice, type DeviceOptions, openDevice } from "../open-device.ts";
import { checkWritable, writeWhole } from "../output-file.ts";
import { paint } from "../paint.ts";
import { Progress } from "../progress.ts";
import { type CommonOptions, Reporter } from "../reporter.ts";
import { formatBytes, formatDuration, formatTable } from "../units.ts";
import { version } from "../version.ts";

export interface BenchOptions extends CommonOptions, DeviceOptions, HubOptions {
  readonly model: string;
  readonly revision?: string;
  readonly dtype?: DType;
  readonly textEncoderDtype?: DType;
  readonly maxMemory?: number;
  readonly width?: number;
  readonly height?: number;
  readonly steps?: number;
  readonly guidance?: number;
  readonly runs: number;
  readonly prompt: string;
  /** Times by module and kernel; a name is that of a trace file. */
  readonly profile?: true | string;
}

/** Makes the same picture `runs` times after a cold one, and reports the times. */
export async function bench(options: BenchOptions, signal: AbortSignal): Promise<void> {
  const reporter = new Reporter(options);
  const progress = new Progress(reporter);
  if (typeof options.profile === "string") await checkWritable(options.profile, "--profile");
  using opened = new CommandDevice(await openDevice(options, (text) => reporter.note(text)), signal);
  const { device } = opened;
  const opening = performance.now();
  using model = await openModel(device, {
    ...options,
    textEncoderDType: options.textEncoderDtype,
    maxGpuBytes: options.maxMemory,
    signal,
    onDownload: progress.download,
    onNotice: (text) => reporter.note(text),
  });
  const openMillis = performance.now() - opening;
  const { prompt, width, height, steps, guidance } = options;
  const request: PaintRequest = { prompt, width, height, steps, guidance, seed: 0, signal, onProgress: progress.pipeline };
  const runs = [];
  for (let run = 0; run <= options.runs; run++) {
    progress.restart();
    const { totalMillis, stepMillis, records } = await paint(model, device, request);
    runs.push({ totalMillis, stepMillis, record: records[0]! });
  }
  const profiled = options.profile && (await profileOne(options.profile, model, device, request));
  const [cold, ...warm] = runs as [(typeof runs)[0], ...typeof runs];
  const { record } = cold;
  const document = {
    version,
    machine: { processor: cpus()[0]?.model.trim() ?? "unknown", threads: cpus().length, node: process.versions.node },
    device: { ...record.device, float32MatmulPrecision: device.capabilities.float32MatmulPrecision },
    model: { name: record.model.name, pipeline: record.model.pipeline, dtype: options.dtype, maxGpuBytes: options.maxMemory },
    picture: { width: record.width, height: record.height, steps: record.steps, guidance: record.guidance },
    openMillis,
    coldMillis: cold.totalMillis,
    warmMillis: warm.map((run) => run.totalMillis),
    medianMillis: median(warm.map((run) => run.totalMillis)),
    medianStepMillis: median(warm.flatMap((run) => run.stepMillis)),
    peakDeviceBytes: device.peakBytes,
    residentBytes: process.memoryUsage().rss,
    ...(profiled ? { profile: (({ wallMs, deviceMs, modules, ops }) => ({ wallMs, deviceMs, modules, ops }))(profiled) } : {}),
  };
  const table = formatTable([
    ["device", record.device.description],
    ["model", `${record.model.name}, ${record.width} x ${record.height}, ${record.steps} steps, guidance ${record.guidance}`],
    ["opening", formatDuration(openMillis)],
    ["first picture", formatDuration(cold.totalMillis)],
    ["next pictures", `${formatDuration(document.medianMillis)} (median of ${warm.length})`],
    ["step", `${document.medianStepMillis.toFixed(1)} ms (median)`],
    ["memory", `${formatBytes(document.peakDeviceBytes)} on the device at most, ${formatBytes(document.residentBytes)} in the process`],
  ]);
  reporter.result(profiled ? `${table}\n\none more picture, by module and kernel\n${profiled}` : table, document);
}

/** One more picture with times by module and kernel; written as a trace when `target` names a file. */
async function profileOne(
  target: true | string,
  model: OpenedModel,
  device: Device,
  request: PaintRequest,
): Promise<ModuleProfile<unknown>> {
  const { onProgress: _, ...quiet } = request;
  const profiled = await profile(device, model.painter.networks, () => paint(model, device, quiet));
  if (target !== true) await writeWhole(target, new TextEncoder().encode(chromeTrace(profiled.timings)));
  return profiled;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
