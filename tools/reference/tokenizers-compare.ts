// Compares this project's tokenizers with ids that `tokenizers.py ids DIR OUT.json` wrote:
// `tsx --conditions=@wick/source tools/reference/tokenizers-compare.ts clip|t5|qwen DIR OUT.json`. Exits with 1 on any difference.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { clipTokenizer, qwenTokenizer, type TokenizerFiles, t5Tokenizer } from "../../packages/encoders/src/tokenizers/index.ts";

const loaders = { clip: clipTokenizer, t5: t5Tokenizer, qwen: qwenTokenizer };
const names = ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "spiece.model", "chat_template.jinja"];

function readFiles(directory: string): TokenizerFiles {
  const present = names.filter((name) => existsSync(join(directory, name)));
  return Object.fromEntries(present.map((name) => [name, readFileSync(join(directory, name))]));
}

function main(): void {
  const [kind = "", directory = "", expectedPath = ""] = process.argv.slice(2);
  const load = loaders[kind as keyof typeof loaders];
  if (!load || !expectedPath) throw new Error("usage: tokenizers-compare.ts clip|t5|qwen DIR OUT.json");
  const files = readFiles(directory);
  const started = performance.now();
  const tokenizer = load(files);
  const loadMs = performance.now() - started;
  const expected = JSON.parse(readFileSync(expectedPath, "utf8")) as { text: string; ids: number[] }[];
  const encodeStart = performance.now();
  const wrong = expected.filter(({ text, ids }) => tokenizer.encode(text).ids.join() !== ids.join());
  const encodeMs = performance.now() - encodeStart;
  for (const { text, ids } of wrong.slice(0, 10)) {
    console.log(
      JSON.stringify(text.slice(0, 100)),
      "\n  expected",
      ids.slice(0, 40).join(" "),
      "\n  got     ",
      tokenizer.encode(text).ids.slice(0, 40).join(" "),
    );
  }
  console.log(`${kind}: ${wrong.length} of ${expected.length} differ; load ${loadMs.toFixed(0)} ms, encode ${encodeMs.toFixed(0)} ms`);
  if (wrong.length > 0) process.exitCode = 1;
}

main();
