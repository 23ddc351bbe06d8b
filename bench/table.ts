// Prints a results file as Markdown: one table per runtime and number of threads, medians, with the time over Wick's in brackets (Wick: the
// share of the peak or of a copy). Run: npx tsx --conditions=@wick/source bench/table.ts bench/results/FILE.json
// [--processor], which takes processor time instead of the wall clock.
import { readFileSync } from "node:fs";
import { markdown, type Results } from "./report.ts";

const [path, by] = process.argv.slice(2);
if (!path) throw new Error("usage: table.ts bench/results/FILE.json [--processor]");
const { date, commit, machine, rows } = JSON.parse(readFileSync(path, "utf8")) as Results;
const write = (text: string): void => void process.stdout.write(`${text}\n\n`);

write(`${machine.cpu}, ${machine.cores} cores, ${machine.gpu ?? "no GPU"}, ${machine.system}; ${date.slice(0, 10)}, commit ${commit}.`);
const runtimes = [...new Set(rows.filter((r) => r.library === "wick").map((r) => r.runtime))];
for (const runtime of runtimes) {
  const own = rows.filter((r) => r.library === "wick" && r.runtime === runtime);
  for (const threads of new Set(own.map((r) => r.threads))) {
    const title = threads === undefined ? runtime : `${runtime}, ${threads} thread${threads > 1 ? "s" : ""}`;
    const others = rows.filter((r) => r.runtime === runtime || (!/^Node/.test(r.runtime) && (r.against ?? runtime).includes(runtime)));
    write(`**${title}**`);
    write(
      markdown(
        others.filter((r) => r.threads === threads || r.library === "tfjs-wasm"),
        by === "--processor",
      ),
    );
  }
}
