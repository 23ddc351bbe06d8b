// wick doctor --tune: measures the GPU's kernels of products and attention and keeps the result for later commands.
import type { Measurement, TunerReport } from "@wick/tensor";
import { CliError } from "../cli-error.ts";
import { gpuFailureText } from "../open-device.ts";
import type { Reporter } from "../reporter.ts";
import { keepTuning, tuningFile } from "../tuning-file.ts";
import { formatTable } from "../units.ts";

/** What the report of `wick doctor --tune` has about tuning. */
export interface TuneFacts extends TunerReport {
  readonly file: string;
}

/** Measures, says so as it goes, and writes the file; rejects with DeviceError when there is no adapter. */
export async function tune(reporter: Reporter, adapter: string | undefined): Promise<TuneFacts> {
  const { tuneWebgpu } = await import("@wick/tensor");
  const onMeasured = ({ work, kernel, gflops }: Measurement): void =>
    reporter.note(`${kernel} on ${workText(work)}: ${gflops.toFixed(1)} GFLOP/s`);
  const report = await tuneWebgpu({ onMeasured, ...(adapter === undefined ? {} : { adapter }) }).catch((cause: unknown) => {
    throw new CliError(`no WebGPU device: ${gpuFailureText(cause)}`, 1, { cause });
  });
  const file = tuningFile();
  await keepTuning(report, file);
  return { ...report, file };
}

/** "large block split" in words: f32 activations by quantized weights, multiplied at --matmul-precision highest. */
function workText(work: string): string {
  const split = work.endsWith(" split") ? " at highest" : "";
  const [size, stored] = work.split(" ") as [string, "f32" | "half" | "block"];
  if (work.includes("attention")) return `${size === "half" ? "16-bit" : size} attention${split}`;
  const weights = { f32: "f32", half: "16-bit", block: "quantized" }[stored];
  return `${size} products, f32 x ${weights}${split}`;
}

/** The fastest kernel of every class of products and attention, and what was left out. */
export function tuneText({ variants, attention = {}, measured, failures, file }: TuneFacts): string {
  const chosen = Object.entries({ ...variants, ...attention });
  const rows = chosen.map(([work, kernel]) => {
    const best = measured.find((m) => m.work === work && m.kernel === kernel);
    return [workText(work), `${kernel}, ${best?.gflops.toFixed(1) ?? "?"} GFLOP/s`];
  });
  const wrong = Object.entries(failures).map(([kernel, why]) => [`${kernel} left out`, why]);
  const hasPrecisions = chosen.some(([work]) => work.endsWith("split"));
  const precisions = hasPrecisions ? ['Rows without "at highest" are at --matmul-precision high.'] : [];
  return [formatTable([...rows, ...wrong]), ...precisions, `Kept in ${file}.`].join("\n");
}
