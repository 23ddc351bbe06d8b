// wick doctor --tune: measures the GPU's matrix kernels and keeps the result for later commands.
import type { Measurement, ProductClass, TunerReport } from "@wick/tensor";
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
  const onMeasured = ({ products, kernel, gflops }: Measurement): void =>
    reporter.note(`${kernel} on ${products} products: ${gflops.toFixed(1)} GFLOP/s`);
  const report = await tuneWebgpu({ onMeasured, ...(adapter === undefined ? {} : { adapter }) });
  const file = tuningFile();
  await keepTuning(report, file);
  return { ...report, file };
}

/** The fastest kernel of every class of products, and what was left out. */
export function tuneText({ variants, measured, failures, file }: TuneFacts): string {
  const rows = Object.entries(variants).map(([products, kernel]) => {
    const best = measured.find((m) => m.products === (products as ProductClass) && m.kernel === kernel);
    return [`${products} products`, `${kernel}, ${best?.gflops.toFixed(1) ?? "?"} GFLOP/s`];
  });
  const wrong = Object.entries(failures).map(([kernel, why]) => [`${kernel} left out`, why]);
  return [formatTable([...rows, ...wrong]), `Kept in ${file}.`].join("\n");
}
