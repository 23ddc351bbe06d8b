// The rows of a run of gpu.sh that have a target, as a table in Markdown: what was measured, PyTorch beside it, and the target. Run by gpu.sh; by
// hand: npx tsx --conditions=@wick/source bench/gpu-summary.ts FOLDER/results.jsonl
import { readFileSync } from "node:fs";

/** A line of results; which fields it has depends on its benchmark. */
interface Line {
  readonly benchmark: string;
  readonly device?: string;
  readonly machine?: { readonly gpu?: string };
  readonly date?: string;
  readonly commit?: string;
  readonly failed?: number | string;
  readonly missing?: string;
  readonly tier?: string;
  readonly row?: string;
  readonly rows?: number;
  readonly off?: number;
  readonly left?: number;
  readonly sample?: boolean;
  readonly results?: readonly { readonly tier: string; readonly precision: string; readonly rate: number }[];
  readonly library?: string;
  readonly implementation?: string;
  readonly model?: string;
  readonly blocks?: number | string;
  readonly size?: number;
  readonly dtype?: string;
  readonly precision?: string;
  readonly medianMs?: number;
  readonly coldMs?: number;
  readonly peakDeviceBytes?: number | null;
  readonly loadGBs?: number;
  readonly plainUploadGBs?: number;
  readonly bytes?: number;
  readonly loadMs?: number;
  readonly plainUploadMs?: number;
}

/** [what, measured, PyTorch and Wick's time over its, target] */
type Row = readonly [string, string, string, string];
const absent = "not measured";

/** The last one: a stage may have been run again. */
const last = (lines: readonly Line[], is: (line: Line) => boolean): Line | undefined => lines.findLast(is);

function rateRow(lines: readonly Line[], title: string, name: string, target: string): Row {
  const line = last(lines, (l) => l.benchmark === "kernels" && l.row === name && l.results !== undefined);
  const best = line?.results?.toSorted((a, b) => b.rate - a.rate)[0];
  return [`${title} \`${name}\``, best ? `${(best.rate / 1000).toFixed(1)} TFLOP/s (${best.tier}, ${best.precision})` : absent, "", target];
}

/** PyTorch on a CPU gives null. */
const gigabytes = (bytes: number | null | undefined): string => (bytes ? `, ${(bytes / 1e9).toFixed(1)} GB` : "");

/** A whole step at the real width; runs with fewer blocks say so. */
function stepRow(lines: readonly Line[], [model, size, dtype, precision]: readonly [string, number, string, string], target: string): Row {
  const steps = lines.filter((l) => l.benchmark === "step" && l.model === model && l.size === size && l.medianMs !== undefined);
  const wick = last(steps, (l) => l.library === "wick" && l.dtype === dtype && l.precision === precision);
  const torch = last(steps, (l) => l.library !== "wick" && l.blocks === (wick?.blocks ?? "all"));
  const few = wick && wick.blocks !== "all" ? `, ${wick.blocks} block(s) of each kind` : "";
  const mine = wick && `${wick.medianMs!.toFixed(0)} ms, cold ${wick.coldMs?.toFixed(0)} ms${gigabytes(wick.peakDeviceBytes)}${few}`;
  const ratio = wick && torch ? `, ${(wick.medianMs! / torch.medianMs!).toFixed(2)}x` : "";
  const theirs = torch ? `${torch.medianMs!.toFixed(0)} ms${gigabytes(torch.peakDeviceBytes)} (${torch.implementation})${ratio}` : absent;
  return [`${model} step at ${size}, ${dtype}, ${precision}`, mine ?? absent, theirs, target];
}

/** Steps at sizes without a target, such as those of a quick run. */
function otherSteps(lines: readonly Line[]): Row[] {
  const mine = lines.filter((l) => l.benchmark === "step" && l.library === "wick" && l.size !== 1024 && l.size !== 512);
  const keys = new Map(mine.map((l) => [`${l.model} ${l.size} ${l.dtype} ${l.precision}`, l]));
  return [...keys.values()].map(({ model, size, dtype, precision }) => stepRow(lines, [model!, size!, dtype!, precision!], ""));
}

function loadRow(lines: readonly Line[]): Row {
  const line = last(lines, (l) => l.benchmark === "load" && l.plainUploadMs !== undefined);
  const rate = (ms: number) => `${(line!.bytes! / ms / 1e6).toFixed(1)} GB/s`;
  const share = line && (line.plainUploadMs! / line.loadMs!) * 100;
  const measured = line ? `${rate(line.loadMs!)} of ${rate(line.plainUploadMs!)}: ${share!.toFixed(0)} %` : absent;
  return ["bf16 file in the page cache, read and uploaded, of plain uploads", measured, "", "70 %"];
}

function conformanceRow(lines: readonly Line[], tier: string): Row {
  const of = lines.filter((l) => l.benchmark === "conformance" && l.tier === tier && l.rows !== undefined);
  const line = last(of, (l) => !l.sample) ?? of.at(-1);
  const left = line?.left ? `, ${line.left} not run` : "";
  const text = line ? `${line.off} of ${line.rows} ${line.sample ? "sampled " : ""}rows off${left}` : absent;
  return [`golden rows, ${tier} kernels`, text, "", "0 off"];
}

/** What was measured and what was not, beside the targets. */
function summary(lines: readonly Line[]): string {
  const check = last(lines, (l) => l.benchmark === "check" && l.device !== undefined);
  const missing = last(lines, (l) => l.missing !== undefined);
  const step = (model: string, size: number, dtype: string, precision: string, target = "") =>
    stepRow(lines, [model, size, dtype, precision], target);
  const rows: Row[] = [
    ...["plain", "subgroups", "matrix"].map((tier) => conformanceRow(lines, tier)),
    rateRow(lines, "product", "matmul 4608x3072x12288 f16 x f16", "150, then 300"),
    rateRow(lines, "attention", "attention 24x4608x128 f16", "120, then 250"),
    step("flux1-dev", 1024, "bf16", "high", "500 ms, then 250"),
    step("z-image", 1024, "bf16", "high", "400 ms, then 200"),
    step("flux1-dev", 1024, "bf16", "highest"),
    step("z-image", 1024, "bf16", "highest"),
    step("flux1-dev", 1024, "q8_0", "high"),
    step("z-image", 1024, "q8_0", "high"),
    ...(["flux1-dev", "z-image"] as const).map((model) => step(model, 512, "bf16", "high")),
    ...otherSteps(lines),
    loadRow(lines),
  ];
  const where = `${check?.machine?.gpu ?? check?.device ?? "no adapter"}; ${check?.date?.slice(0, 10) ?? "no date"}, commit ${check?.commit ?? "unknown"}`;
  return [
    `**${where}**${missing ? `; PyTorch: ${missing.missing}` : ""}`,
    "",
    "| row | Wick | PyTorch bf16, and Wick's time over its | target |",
    "|---|---|---|---|",
    ...rows.map((row) => `| ${row.join(" | ")} |`),
  ].join("\n");
}

const [path] = process.argv.slice(2);
if (!path) throw new Error("usage: gpu-summary.ts FOLDER/results.jsonl");
const lines = readFileSync(path, "utf8").split("\n").filter(Boolean);
process.stdout.write(`${summary(lines.map((line) => JSON.parse(line) as Line))}\n`);
