// Runs the command line in child processes and temporary folders: the real binary, one process a run, or many runs in one process.
import { fork, spawn } from "node:child_process";
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

/** The environment without the user's own settings of the hub. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const { HF_HOME: _home, HF_TOKEN: _token, HF_ENDPOINT: _endpoint, ...clean } = process.env;
  return clean;
}

/** Runs `wick` with these arguments. Colours, terminals and the user's own settings are kept away. */
export function wick(args: readonly string[], { cwd, env, onStderr }: RunOptions = {}): Promise<Outcome> {
  const child = spawn(process.execPath, [binary, ...args], {
    cwd,
    env: { ...cleanEnvironment(), ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
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

/** One run of a session. */
export interface SessionRun {
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** A process that stays: starting Node and reading the modules takes most of a short run's time. */
export interface Session {
  /** As the function `wick`, without signals; runs wait for each other. */
  wick(args: readonly string[], options?: Omit<SessionRun, "args">): Promise<Outcome>;
  close(): void;
}

/** Starts a process that runs the sources of the command line, one run after the other; `preload` is a module to import before them. */
export function openSession({ preload }: { readonly preload?: URL } = {}): Session {
  const child = fork(fileURLToPath(new URL("session-child.ts", import.meta.url)), {
    execArgv: ["--expose-gc", "--conditions=@wick/source", "--import", "tsx", ...(preload ? ["--import", preload.href] : [])],
    env: cleanEnvironment(),
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const ended = new Promise<never>((_, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`the session's process ended with code ${code}`)));
  });
  ended.catch(() => {});
  let last: Promise<unknown> = Promise.resolve();
  const runOne = (run: SessionRun): Promise<Outcome> => {
    const answer = new Promise<Outcome>((resolve) => child.once("message", (message) => resolve(message as Outcome)));
    child.send(run);
    return Promise.race([answer, ended]);
  };
  return {
    wick(args, options = {}) {
      const outcome = last.then(() => runOne({ args, ...options }));
      last = outcome.catch(() => {});
      return outcome;
    },
    close: () => child.disconnect(),
  };
}
