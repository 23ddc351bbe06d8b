// `npm test`: finds a GPU driver and a Chromium, runs the vitest projects (unit, gpu, browser, isolated) and ends with one line
// alone, "N passed, N failed". Arguments after -- go to vitest; naming a --project runs only that one.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { findChromium } from "./chromium.ts";
import { closingLine, countTests, type VitestReport } from "./test-report.ts";
import { describeDriver, findDriver, noDriverAdvice } from "./vulkan.ts";

const say = (line: string) => process.stdout.write(`${line}\n`);

/** Names of the projects this machine can run; says which one it cannot, and why. */
function runnableProjects(hasDriver: boolean): string[] {
  const projects = ["unit"];
  if (hasDriver) projects.push("gpu");
  else say(`\nNOT RUN: the gpu tests. ${noDriverAdvice}\n`);
  if (findChromium()) projects.push("browser", "isolated");
  else say("\nNOT RUN: the browser tests. No Chromium found; install one or point CHROMIUM_PATH at it.\n");
  return projects;
}

/** Runs vitest with `args`; resolves to its exit code. */
function runVitest(args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const vitest = join(dirname(createRequire(import.meta.url).resolve("vitest/package.json")), "vitest.mjs");
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [vitest, "run", ...args], { env, stdio: ["ignore", "inherit", "inherit"] });
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 1));
  });
}

/** The JSON report vitest left, or null when it died before writing one. */
function readReport(path: string): VitestReport | null {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as VitestReport;
  } catch {
    return null;
  }
}

async function main(): Promise<void> {
  const extra = process.argv.slice(2);
  const driver = await findDriver();
  if (driver) say(`GPU tests on: ${describeDriver(driver)}`);
  const named = extra.some((arg) => arg === "--project" || arg.startsWith("--project="));
  const projects = named ? [] : runnableProjects(driver !== null).flatMap((name) => ["--project", name]);
  const env = { ...process.env, ...driver?.env, ...(driver ? { WICK_TEST_DRIVER: describeDriver(driver) } : {}) };
  const folder = mkdtempSync(join(tmpdir(), "wick-test-"));
  const reportPath = join(folder, "report.json");
  const code = await runVitest([...projects, "--reporter=default", "--reporter=json", `--outputFile.json=${reportPath}`, ...extra], env);
  const counts = countTests(readReport(reportPath), code);
  rmSync(folder, { recursive: true });
  if (counts.passed + counts.failed === 0) say("no test was run");
  say(closingLine(counts));
  process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
}

await main();
