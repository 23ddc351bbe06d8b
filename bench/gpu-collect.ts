// Puts the lines of a run of gpu.sh into bench/results/<date>-<gpu>.json. Run by gpu.sh; by hand after fetching results from elsewhere:
// npx tsx --conditions=@wick/source bench/gpu-collect.ts FOLDER/results.jsonl
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

const [path] = process.argv.slice(2);
if (!path) throw new Error("usage: gpu-collect.ts FOLDER/results.jsonl");

interface Line {
  readonly benchmark: string;
  readonly date?: string;
  readonly device?: string;
  readonly machine?: { readonly gpu?: string };
}

const lines = readFileSync(path, "utf8")
  .split("\n")
  .filter(Boolean)
  .map((line) => JSON.parse(line) as Line);
const check = lines.find((l) => l.benchmark === "check" && l.device);
const date = check?.date ?? new Date().toISOString();
const gpu = check?.machine?.gpu ?? check?.device ?? "unknown";
const place = gpu
  .toLowerCase()
  .replace(/[^a-z0-9]+/g, "-")
  .replace(/^-|-$/g, "")
  .slice(0, 60);
const to = `bench/results/${date.slice(0, 10)}-gpu-${place}.json`;
mkdirSync("bench/results", { recursive: true });
writeFileSync(to, `${JSON.stringify({ schema: 1, date, driver: gpu, lines }, undefined, 1)}\n`);
process.stdout.write(`collected into ${to}\n`);
