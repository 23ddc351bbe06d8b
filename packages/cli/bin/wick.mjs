#!/usr/bin/env node
// The wick command: the built code where there is one, otherwise (in a clone of the repository) the sources through tsx.
import { existsSync } from "node:fs";
import module, { register } from "node:module";
import { setFlagsFromString } from "node:v8";

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  process.stderr.write(`wick: Node ${process.versions.node} is too old; install Node 20.19 or newer\n`);
  process.exit(1);
}

// Node 20 optimises a function after so little work that its compiler, on cores that the threads need, cost a picture of the included model
// more than the optimised code gave back. Loops that run for long are optimised a few milliseconds later.
if (major === 20) setFlagsFromString("--interrupt-budget=500000");

// From Node 22.1 on, compiled code is kept between runs in Node's own cache folder; NODE_DISABLE_COMPILE_CACHE=1 turns that off.
module.enableCompileCache?.();

const { run } = await (existsSync(new URL("../dist/index.js", import.meta.url)) ? import("../dist/index.js") : sources());
const code = await run(process.argv.slice(2));
process.exitCode = code;
// After a signal at once, not when a GPU has run all that it was given; the last words first, where streams are asynchronous.
if (code > 128) process.stdout.write("", () => process.stderr.write("", () => process.exit()));

/** The TypeScript sources of this package and, by the "@wick/source" condition of their manifests, of the others. */
async function sources() {
  const { register: registerTsx } = await import("tsx/esm/api");
  const resolve =
    'export const resolve = (name, context, next) => next(name, { ...context, conditions: ["@wick/source", ...context.conditions] });';
  register(`data:text/javascript,${encodeURIComponent(resolve)}`);
  registerTsx();
  return import("../src/index.ts");
}
