// The process behind a session: runs one command line after the other and sends back what each wrote and how it ended. What was not
// closed is found by collecting garbage after every run: Node then warns of it, and the warning counts as output.
import { setImmediate } from "node:timers/promises";
import { run } from "../src/run.ts";
import type { Outcome, SessionRun } from "./cli-process.ts";

let [stdout, stderr] = ["", ""];
const decoder = new TextDecoder();
const text = (chunk: string | Uint8Array): string => (typeof chunk === "string" ? chunk : decoder.decode(chunk));

process.stdout.write = (chunk: string | Uint8Array): boolean => {
  stdout += text(chunk);
  return true;
};
process.stderr.write = (chunk: string | Uint8Array): boolean => {
  stderr += text(chunk);
  return true;
};
process.removeAllListeners("warning");
process.on("warning", ({ name, message }) => {
  stderr += `${name}: ${message}\n`;
});
// Every run listens for closed pipes.
for (const stream of [process.stdout, process.stderr]) stream.setMaxListeners(0);

const home = process.cwd();
const settings = { ...process.env };

async function runOne({ args, cwd = home, env = {} }: SessionRun): Promise<Outcome> {
  [stdout, stderr] = ["", ""];
  process.chdir(cwd);
  for (const name of Object.keys(process.env)) if (!(name in settings)) delete process.env[name];
  Object.assign(process.env, settings, env);
  const code = await run(args);
  for (let i = 0; i < 2; i++) {
    globalThis.gc?.();
    await setImmediate();
  }
  return { code, stdout, stderr };
}

process.on("message", (message: SessionRun) => {
  void runOne(message).then((outcome) => process.send!(outcome));
});
process.on("disconnect", () => process.exit(0));
