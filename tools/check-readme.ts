// Type-checks every ```ts block of the READMEs and of docs/guide, and runs those not marked no-run, each as a module of its
// own in an empty folder. Prints what failed with the Markdown file's line numbers; exits with 1 if anything did.
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { blockFileName, blockModule, type ReadmeBlock, readmeBlocks } from "./readme-blocks.ts";
import { findDriver } from "./vulkan.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = join(root, ".cache/readme");
const runFile = promisify(execFile);
const runLimitMs = 120_000;

/** Markdown files whose examples are promises, by path from the root. */
function markdownFiles(): string[] {
  const packages = readdirSync(join(root, "packages")).map((name) => `packages/${name}/README.md`);
  const guide = existsSync(join(root, "docs/guide")) ? readdirSync(join(root, "docs/guide")).map((name) => `docs/guide/${name}`) : [];
  return ["README.md", ...guide, ...packages].filter((path) => path.endsWith(".md") && existsSync(join(root, path)));
}

/** Output of a failed child process, without the temporary folder's name. */
function outputOf(error: unknown): string {
  const { stdout = "", stderr = "", killed = false } = error as { stdout?: string; stderr?: string; killed?: boolean };
  return `${killed ? `took longer than ${runLimitMs / 1000} s\n` : ""}${stdout}${stderr}`.replaceAll(`${folder}/`, "").trim();
}

/** Compiles all blocks at once; null when they are right, else the compiler's messages. */
async function typeCheck(): Promise<string | null> {
  const config = { extends: "../../tsconfig.base.json", include: ["*.ts"], exclude: [] };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
  const compiler = join(root, "node_modules/@typescript/native/bin/tsc");
  return runFile(process.execPath, [compiler, "-p", folder], { cwd: folder }).then(() => null, outputOf);
}

/** Runs one block in an empty folder; null when it ends well, else what it printed. */
async function runBlock(block: ReadmeBlock, env: Readonly<Record<string, string>>): Promise<string | null> {
  const cwd = join(folder, blockFileName(block).replace(/\.ts$/, ""));
  mkdirSync(cwd);
  const args = ["--import", pathToFileURL(join(root, "node_modules/tsx/dist/loader.mjs")).href, "--conditions=@wick/source"];
  const options = { cwd, env: { ...process.env, ...env }, timeout: runLimitMs };
  return runFile(process.execPath, [...args, join(folder, blockFileName(block))], options).then(() => null, outputOf);
}

async function main(): Promise<void> {
  const blocks = markdownFiles().flatMap((path) => readmeBlocks(path, readFileSync(join(root, path), "utf8")));
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const block of blocks) writeFileSync(join(folder, blockFileName(block)), blockModule(block));
  const problems: string[] = [];
  const typeErrors = await typeCheck();
  if (typeErrors !== null) problems.push(typeErrors);
  const env = (await findDriver())?.env ?? {};
  for (const block of blocks.filter((one) => one.run)) {
    const failure = await runBlock(block, env);
    if (failure !== null) problems.push(`${block.path}:${block.line}: the example fails\n${failure}`);
  }
  for (const problem of problems) console.error(`${problem}\n`);
  console.log(`check-readme: ${blocks.length} examples, ${blocks.filter((one) => one.run).length} run, ${problems.length} problems`);
  process.exitCode = problems.length > 0 || blocks.length === 0 ? 1 : 0;
}

await main();
