// The kernels of real shapes as machine code, from the compilers of Mesa's drivers for NVIDIA and AMD, without a GPU (tools/matrix-driver.sh
// prepare): registers, subgroups at once, and what the hot loop is made of. Facts of one compiler, no rates. Run:
// npx tsx --conditions=@wick/source bench/gpu-code.ts [--chip hopper ...] [--tier plain|subgroups|matrix ...] [--precision highest|high ...]
//   [--kernel default|"matrix 4x4 ahead" ...] [--only REGEXP of rows] [--json FILE] [--keep FOLDER]
// --kernel takes one variant for all products or all attention; --keep keeps what the compilers printed, a file per kernel.
import { spawnSync } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chips } from "../tools/machine-code/chips.ts";
import { cells, type Figures, figuresOf, titles } from "../tools/machine-code/figures.ts";
import { type Job, type KernelNote, marker, rows } from "./gpu-code-rows.ts";
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
const root = fileURLToPath(new URL("..", import.meta.url));

interface Row extends KernelNote, Figures {
  readonly chip: string;
}

/** What a compiler prints for each kernel of a row: a form per pass, of which the last counts. */
function printed(chip: string, row: string): { note: KernelNote; text: string }[] {
  const { tier: tiers, precision: precisions, kernel: kernels } = flags;
  const job = { row, tiers, precisions, kernels } as Job;
  const program = ["node", "--conditions=@wick/source", "--import", "tsx", join(root, "bench/gpu-code-kernels.ts"), JSON.stringify(job)];
  const env = { ...process.env, ...chips[chip]!.env };
  // A file: compilers end the process when a pipe is full, which Node makes one that does not wait.
  const log = join(mkdtempSync(join(tmpdir(), "wick-gpu-code-")), "prints.txt");
  try {
    const stdio = ["ignore", "ignore", openSync(log, "w")] as const;
    const { status } = spawnSync(join(root, "tools/matrix-driver.sh"), ["compile", chip, ...program], {
      cwd: root,
      env,
      stdio: [...stdio],
    });
    closeSync(stdio[2]);
    const text = readFileSync(log, "utf8");
    if (status !== 0) throw new Error(`${chip}: the kernels of ${row} could not be compiled:\n${text.slice(-2000)}`);
    return text.split(`\n${marker} `).flatMap((part) => noted(part));
  } finally {
    rmSync(dirname(log), { recursive: true });
  }
}

/** The text after a marker: a note, what was printed after it; nothing after an end. */
function noted(part: string): { note: KernelNote; text: string }[] {
  const end = part.indexOf("\n");
  return part.startsWith("{") ? [{ note: JSON.parse(part.slice(0, end)) as KernelNote, text: part.slice(end + 1) }] : [];
}

const name = ({ label, tier, precision, variant }: Row): string =>
  [label, tier === "matrix" ? precision : tier, ...(variant === "default" ? [] : [`as ${variant}`])].join(", ");

const found: Row[] = [];
const seen = new Set<string>();

/** A kernel's line of the table, once: small kernels around a row's own come again with every row. */
function report(chip: string, { note, text }: { note: KernelNote; text: string }): void {
  const known = chips[chip]!;
  const program = known.parse(text);
  if (!program) throw new Error(`${chip}: the compiler printed nothing for ${note.label}`);
  const row = { chip, ...note, ...figuresOf(known, program, note.workgroup, note.lanes) };
  const line = `${name(row)} | ${cells(row).join(" | ")} |`;
  if (seen.has(chip + line)) return;
  seen.add(chip + line);
  found.push(row);
  write(`| ${row.row} | ${line}`);
  if (flags.keep === undefined) return;
  mkdirSync(flags.keep, { recursive: true });
  writeFileSync(join(flags.keep, `${[chip, row.row, name(row)].join(" ").replace(/[^\w.]+/g, "-")}.txt`), program.text);
}

const wanted = rows().filter((r) => new RegExp(flags.only).test(r.name));
for (const chip of flags.chip) {
  const known = chips[chip];
  if (!known) throw new Error(`unknown chip ${chip}; there are ${Object.keys(chips).join(", ")}`);
  write(`\n**${chip}** (${known.vendor})\n\n| row | kernel | ${titles.join(" | ")} |\n|---|---|${titles.map(() => "---:").join("|")}|`);
  for (const row of wanted) for (const kernel of printed(chip, row.name)) report(chip, kernel);
}
if (flags.json)
  writeFileSync(flags.json, `${JSON.stringify({ date: new Date().toISOString(), commit: commit(), rows: found }, undefined, 1)}\n`);
