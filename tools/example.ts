// `npm run example -- 01`: runs the example whose name starts so; 06 is served as a page. Without a number it lists them.
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Files and folders of examples/ that can be run, in order. */
function exampleNames(): string[] {
  return readdirSync(join(root, "examples"))
    .filter((name) => /^\d\d-/.test(name))
    .sort();
}

/** The command that runs an example with further arguments; a folder is a page that Vite serves. */
function commandFor(name: string, rest: readonly string[]): string[] {
  const bin = (command: string) => join(root, "node_modules", command);
  if (!name.endsWith(".ts")) return [bin("vite/bin/vite.js"), join("examples", name), ...rest];
  return [bin("tsx/dist/cli.mjs"), "--conditions=@wick/source", join("examples", name), ...rest];
}

const [wanted, ...rest] = process.argv.slice(2);
const name = wanted && exampleNames().find((one) => one.startsWith(wanted));
if (!name) {
  process.stderr.write(`${wanted ? `no example starts with ${wanted}` : "which example?"}\n  ${exampleNames().join("\n  ")}\n`);
  process.exitCode = 2;
} else {
  const child = spawn(process.execPath, commandFor(name, rest), { cwd: root, stdio: "inherit" });
  // A terminal's Ctrl-C reaches the child by itself; these come to this process alone.
  for (const signal of ["SIGTERM", "SIGHUP"] as const) process.on(signal, () => child.kill(signal));
  child.on("close", (code) => {
    process.exitCode = code ?? 1;
  });
}
