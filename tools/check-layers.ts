// Checks the dependency rule (tools/layers.ts) over all packages; prints every violation and exits with 1 if there is one.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { posix, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { importsOf } from "./imports.ts";
import { type Declared, forbiddenImports, importCycles, layers, type SourceFile } from "./layers.ts";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));

/** Folders of a package that hold code. */
const parts = ["src", "test", "bin", "examples"];

/** Reads the TypeScript files below `folder`, or none when it does not exist. */
function readSources(folder: string): SourceFile[] {
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) => name.replaceAll(sep, "/"));
  return names
    .filter((name) => /\.tsx?$/.test(name) && !name.includes("node_modules/"))
    .map((name) => posix.join(folder, name))
    .map((path) => ({ path, imports: importsOf(path, readFileSync(path, "utf8")) }));
}

/** Names of the dependencies of every kind that are installed for users of packages/`name`. */
function declaredBy(name: string): Set<string> {
  const manifest = JSON.parse(readFileSync(`packages/${name}/package.json`, "utf8")) as Record<string, object | undefined>;
  const fields = ["dependencies", "optionalDependencies", "peerDependencies"];
  return new Set(fields.flatMap((field) => Object.keys(manifest[field] ?? {})));
}

const names = readdirSync("packages").filter((name) => existsSync(`packages/${name}/package.json`));
const files = names.flatMap((name) => parts.flatMap((part) => readSources(`packages/${name}/${part}`)));
const declared: Declared = Object.fromEntries(names.map((name) => [name, declaredBy(name)]));
const problems = [
  ...names
    .filter((name) => name !== "testing" && layers[name] === undefined)
    .map((name) => `packages/${name}: has no layer in tools/layers.ts`),
  ...forbiddenImports(files, declared),
  ...importCycles(files).map((cycle) => `import cycle: ${cycle}`),
];
for (const problem of problems) console.error(problem);
console.log(`check-layers: ${files.length} files, ${problems.length} problems`);
process.exitCode = problems.length > 0 || files.length === 0 ? 1 : 0;
