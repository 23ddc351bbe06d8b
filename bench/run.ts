// The comparison with what a user would pick instead: peers in the same run, interleaved round by round.
// Run: npm run bench -- [--full] [--device webgpu] [--threads 1,2] [--node PATH ...] [--variant wide] [--only REGEX] [--rounds N] [--into FILE]
import { parseArgs } from "node:util";
import { type Case, cpuCases, webgpuCases } from "./cases.ts";
import { compare, type Row } from "./compare.ts";
import { contestants } from "./contestants.ts";
import { commit, machine } from "./machine.ts";
import { caseTable, save } from "./report.ts";

const { values: flags } = parseArgs({
  options: {
    full: { type: "boolean", default: false },
    device: { type: "string", default: "cpu" },
    threads: { type: "string" },
    node: { type: "string", multiple: true },
    variant: { type: "string", multiple: true, default: [] },
    only: { type: "string", default: "" },
    peers: { type: "string", default: "" },
    rounds: { type: "string", default: "5" },
    ms: { type: "string", default: "60" },
    into: { type: "string" },
    list: { type: "boolean", default: false },
  },
});
if (flags.device !== "cpu" && flags.device !== "webgpu") throw new Error(`--device is cpu or webgpu, got ${flags.device}`);
const host = machine();
const device = flags.device;
const all: readonly Case[] = device === "cpu" ? cpuCases : webgpuCases;
const chosen = all.filter((c) => (flags.full || c.set === "quick") && new RegExp(flags.only).test(c.id));
const threads = (flags.threads ?? `${host.cores}`).split(",").map(Number);
const entries = contestants({ device, nodes: flags.node ?? [process.execPath], threads, variants: flags.variant }).filter((c) =>
  new RegExp(flags.peers).test(c.name),
);
const say = (text: string): void => void process.stdout.write(`${text}\n`);

async function main(): Promise<void> {
  if (flags.list) return say([...chosen.map((c) => c.id), ...entries.map((c) => c.name)].join("\n"));
  say(
    `${host.cpu}, ${host.cores} cores, ${host.gpu ?? "no NVIDIA GPU"}, load ${host.load}; ${chosen.length} rows, ${entries.length} contestants`,
  );
  const rows: Row[] = [];
  const date = new Date().toISOString();
  const place = `${host.cpu} ${host.gpu ?? ""}`
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
  const path = flags.into ?? `bench/results/${date.slice(0, 10)}-${place}.json`;
  for (const one of chosen) {
    const found = await compare(one, entries, { rounds: Number(flags.rounds), minMs: Number(flags.ms), onProgress: progress });
    progress("");
    say(caseTable(found));
    rows.push(...found.map((row) => ({ ...row, date: new Date().toISOString(), commit: commit() })));
    const driver = rows.find((r) => r.library === "wick" && r.detail)?.detail;
    save(path, { schema: 1, date, commit: commit(), machine: host, driver, rows });
    for (const { contestant, difference = 0 } of found)
      if (difference > one.tolerance) say(`  NOTE ${contestant} computed something else: relative distance ${difference.toExponential(1)}`);
  }
  say(`written to ${path}`);
}

/** A line that the next one replaces, on a terminal only. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

await main();
