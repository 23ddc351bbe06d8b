// The kernels of real shapes as machine code, from the compilers of Mesa's drivers for NVIDIA and AMD, without a GPU (tools/matrix-driver.sh
// prepare): registers, subgroups at once, and what the hot loop is made of. Facts of one compiler, no rates. Run:
// npx tsx --conditions=@wick/source bench/gpu-code.ts [--chip hopper ...] [--tier plain|subgroups|matrix ...] [--precision highest|high ...]
//   [--kernel default|"matrix 4x4 ahead" ...] [--only REGEXP of rows] [--json FILE] [--keep FOLDER]
// --kernel takes one variant for all products or all attention; --keep keeps what the compilers printed, a file per kernel.
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chips } from "../tools/machine-code/chips.ts";
import { cells, type Figures, figuresOf, titles } from "../tools/machine-code/figures.ts";
import { type Job, type KernelNote, marker } from "./gpu-code-notes.ts";
import { commit } from "./machine.ts";

const { values: flags } = parseArgs({
  options: {
    chip: { type: "string", multiple: true, default: ["hopper", "navi31"] },
    tier: { type: "string", multiple: true, default: ["matrix"] },
    precision: { type: "string", multiple: true, default: ["highest"] },
    kernel: { type: "string", multiple: true, default: ["default"] },
    only: { type: "string", default: "" },
    json: { type: "string" },
    keep: { type: "string" },
  },
});
const write = (text: string): void => void process.stdout.write(`${text}\n`);
const job: Job = { tiers: flags.tier, precisions: flags.precision, kernels: flags.kernel, only: flags.only } as Job;
const root = fileURLToPath(new URL("..", import.meta.url));

interface Row extends KernelNote, Figures {
  readonly chip: string;
}

/** What a compiler prints for each kernel, as it comes: a form per pass of which the last counts. */
async function* printed(chip: string): AsyncGenerator<{ note: KernelNote; text: string }> {
  const program = ["node", "--conditions=@wick/source", "--import", "tsx", join(root, "bench/gpu-code-kernels.ts"), JSON.stringify(job)];
  const env = { ...process.env, ...chips[chip]!.env };
  const child = spawn(join(root, "tools/matrix-driver.sh"), ["compile", chip, ...program], {
    cwd: root,
    env,
    stdio: ["ignore", "inherit", "pipe"],
  });
  const ended = new Promise<number | null>((done) => child.once("close", done));
  let note: KernelNote | undefined;
  let lines: string[] = [];
  let outside: string[] = [];
  for await (const line of createInterface({ input: child.stderr })) {
    const said = line.startsWith(marker) ? (JSON.parse(line.slice(marker.length)) as KernelNote | "end") : undefined;
    if (said === "end" && note) yield { note, text: lines.join("\n") };
    if (said) {
      note = said === "end" ? undefined : said;
      lines = [];
      continue;
    }
    if (line.startsWith("NAK IR")) lines = lines.filter((l) => l.startsWith("shared_size"));
    if (note) lines.push(line);
    else outside = [...outside.slice(-20), line];
  }
  if ((await ended) !== 0) throw new Error(`${chip}: the kernels could not be compiled:\n${outside.join("\n")}`);
}

const name = ({ label, tier, precision, variant }: Row): string =>
  [label, tier === "matrix" ? precision : tier, ...(variant === "default" ? [] : [`as ${variant}`])].join(", ");

const rows: Row[] = [];
for (const chip of flags.chip) {
  const known = chips[chip];
  if (!known) throw new Error(`unknown chip ${chip}; there are ${Object.keys(chips).join(", ")}`);
  write(`\n**${chip}** (${known.vendor})\n\n| row | kernel | ${titles.join(" | ")} |\n|---|---|${titles.map(() => "---:").join("|")}|`);
  for await (const { note, text } of printed(chip)) {
    const program = known.parse(text);
    if (!program) throw new Error(`${chip}: the compiler printed nothing for ${note.label}`);
    const row = { chip, ...note, ...figuresOf(known, program, note.workgroup, note.lanes) };
    rows.push(row);
    write(`| ${row.row} | ${name(row)} | ${cells(row).join(" | ")} |`);
    if (flags.keep === undefined) continue;
    mkdirSync(flags.keep, { recursive: true });
    writeFileSync(join(flags.keep, `${[chip, row.row, name(row)].join(" ").replace(/[^\w.]+/g, "-")}.txt`), text);
  }
}
if (flags.json) writeFileSync(flags.json, `${JSON.stringify({ date: new Date().toISOString(), commit: commit(), rows }, undefined, 1)}\n`);
