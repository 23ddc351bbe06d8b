// The first TypeScript example of the README, run as it stands there (.ci/run type-checks and runs all the others too).
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { decodePng } from "@wick/image";
import { expect, test } from "vitest";
import { blockModule, readmeBlocks } from "../readme-blocks.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

test("the README's first example writes its picture", { timeout: 120_000 }, async () => {
  const [first] = readmeBlocks("README.md", readFileSync(join(root, "README.md"), "utf8"));
  // Inside the repository, so that its packages are found.
  mkdirSync(join(root, ".cache"), { recursive: true });
  const folder = mkdtempSync(join(root, ".cache/readme-first-"));
  try {
    writeFileSync(join(folder, "example.ts"), blockModule(first!));
    const tsx = pathToFileURL(join(root, "node_modules/tsx/dist/loader.mjs")).href;
    await promisify(execFile)(process.execPath, ["--import", tsx, "--conditions=@wick/source", "example.ts"], { cwd: folder });
    const name = /writeFile\("([^"]+)"/.exec(first!.code)?.[1];
    const { width, height } = decodePng(readFileSync(join(folder, name!)));
    expect([width, height]).toEqual([64, 64]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
