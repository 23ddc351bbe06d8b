// Checks every published package after a build: the files its manifest promises exist, versions agree across the workspace,
// and publint finds nothing to warn about. Prints what is wrong; exits with 1 if anything is.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { publint } from "publint";
import { formatMessage } from "publint/utils";

const root = fileURLToPath(new URL("..", import.meta.url));

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly private?: boolean;
  readonly license?: string;
  readonly description?: string;
  readonly files?: readonly string[];
  readonly dependencies?: Readonly<Record<string, string>>;
}

const read = (name: string) => JSON.parse(readFileSync(join(root, "packages", name, "package.json"), "utf8")) as Manifest;
const manifests = new Map(readdirSync(join(root, "packages")).map((name) => [name, read(name)]));
const versions = new Map([...manifests.values()].map(({ name, version }) => [name, version]));

/** What is wrong with the manifest of packages/`folder`, without running anything. */
function manifestProblems(folder: string, manifest: Manifest): string[] {
  const wanted = [...(manifest.files ?? []), "dist/index.js", "dist/index.d.ts"];
  const missing = wanted.filter((path) => !existsSync(join(root, "packages", folder, path)));
  const stale = Object.entries(manifest.dependencies ?? {}).filter(
    ([name, version]) => versions.has(name) && versions.get(name) !== version,
  );
  return [
    ...missing.map((path) => `${path} is missing${path.startsWith("dist") ? "; run npm run build first" : ""}`),
    ...stale.map(([name, version]) => `depends on ${name} ${version}, the workspace has ${versions.get(name)}`),
    ...(manifest.license === "Apache-2.0" ? [] : ["license is not Apache-2.0"]),
    ...(manifest.description ? [] : ["has no description"]),
  ];
}

/** Everything wrong with packages/`folder`. */
async function problemsOf(folder: string, manifest: Manifest): Promise<string[]> {
  const own = manifestProblems(folder, manifest);
  if (own.length > 0) return own;
  const { messages, pkg } = await publint({ pkgDir: join(root, "packages", folder), level: "warning", strict: true });
  return messages.map((message) => formatMessage(message, pkg, { color: false }) ?? message.code);
}

const published = [...manifests].filter(([, manifest]) => !manifest.private);
let problems = 0;
for (const [folder, manifest] of published) {
  for (const problem of await problemsOf(folder, manifest)) {
    problems++;
    console.error(`packages/${folder}: ${problem}`);
  }
}
console.log(`check-packages: ${published.length} packages, ${problems} problems`);
process.exitCode = problems > 0 ? 1 : 0;
