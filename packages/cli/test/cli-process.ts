// Runs the real binary in a child process and a temporary folder.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const binary = fileURLToPath(new URL("../bin/wick.mjs", import.meta.url));

/** How a run ended and what it said. */
export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Called with all of stderr so far, for tests that act while the command runs. */
  readonly onStderr?: (text: string, kill: (signal: NodeJS.Signals) => void) => void;
}

/** A folder that `remove` deletes. */
export function temporaryFolder(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), "wick-cli-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Runs `wick` with these arguments. Colours, terminals and the user's own settings are kept away. */
export function wick(args: readonly string[], { cwd, env, onStderr }: RunOptions = {}): Promise<Outcome> {
  const { HF_HOME: _home, HF_TOKEN: _token, HF_ENDPOINT: _endpoint, ...clean } = process.env;
  const child = spawn(process.execPath, [binary, ...args], { cwd, env: { ...clean, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    onStderr?.(stderr, (signal) => child.kill(signal));
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
}
