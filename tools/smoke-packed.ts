// Installs the packed packages into an empty project, as a user would get them: imports each in Node, type-checks against
// their declarations, starts the command line, builds a browser page with Vite and opens it when there is a Chromium. Needs `npm run build` first.
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import { preview } from "vite";
import { chromiumArgs, findChromium } from "./chromium.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const runFile = promisify(execFile);
const limitMs = 120_000;

interface Manifest {
  readonly name: string;
  readonly private?: boolean;
  readonly bin?: Readonly<Record<string, string>>;
}

const manifests = readdirSync(join(root, "packages"))
  .map((name) => JSON.parse(readFileSync(join(root, "packages", name, "package.json"), "utf8")) as Manifest)
  .filter((manifest) => !manifest.private);
const names = manifests.map(({ name }) => name);
/** Packages with a command are programs for Node; the others must work in a browser too. */
const browserNames = manifests.filter(({ bin }) => !bin).map(({ name }) => name);

/** Runs a program in `cwd`; resolves to its output, rejects with the output in the message. */
async function run(program: string, args: readonly string[], cwd: string): Promise<string> {
  const shell = program === "npm" && process.platform === "win32";
  try {
    const { stdout, stderr } = await runFile(program, args, { cwd, shell, timeout: limitMs, maxBuffer: 1 << 26 });
    return stdout + stderr;
  } catch (error) {
    const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
    throw new Error(`${program} ${args.join(" ")} failed\n${stdout}${stderr}`);
  }
}

/** Packs all published packages into `folder`; resolves to the tarball of each by package name. */
async function pack(folder: string): Promise<Record<string, string>> {
  const workspaces = names.flatMap((name) => ["--workspace", name]);
  await run("npm", ["pack", "--silent", "--pack-destination", folder, ...workspaces], root);
  const files = readdirSync(folder);
  const tarballOf = (name: string) =>
    files.find((file) => file.startsWith(`${name.replace("@", "").replace("/", "-")}-`) && file.endsWith(".tgz"));
  return Object.fromEntries(names.map((name) => [name, `file:${join(folder, tarballOf(name) ?? `${name} was not packed`)}`]));
}

/** Imports every package; optional dependencies are left out, since importing must not need them. */
async function checkNode(project: string): Promise<void> {
  const lines = names.map((name) => `await import(${JSON.stringify(name)});`);
  const model = 'import { tinyZImage } from "@wick/tiny-zimage"; import { statSync } from "node:fs";';
  const files = "for (const url of Object.values(tinyZImage.files)) statSync(url);";
  writeFileSync(join(project, "node.mjs"), [model, ...lines, files].join("\n"));
  await run(process.execPath, ["node.mjs"], project);
  for (const { name, bin } of manifests) {
    for (const path of Object.values(bin ?? {})) await run(process.execPath, [join("node_modules", name, path), "--help"], project);
  }
}

/** Compiles a file that imports everything, with the declarations themselves checked: as a page's project and as Node's, which has no DOM. */
async function checkTypes(project: string): Promise<void> {
  for (const lib of [["DOM"], []]) await compileAll(project, ["ES2023", "ESNext.Disposable", ...lib]);
}

async function compileAll(project: string, lib: readonly string[]): Promise<void> {
  const options = { target: "ES2023", module: "ESNext", moduleResolution: "Bundler", lib, strict: true };
  const types = { types: ["node"], typeRoots: [join(root, "node_modules/@types")], noEmit: true };
  const lines = names.map((name, index) => `import * as package${index} from ${JSON.stringify(name)};\nvoid package${index};`);
  writeFileSync(join(project, "types.ts"), lines.join("\n"));
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions: { ...options, ...types }, files: ["types.ts"] }));
  await run(process.execPath, [join(root, "node_modules/@typescript/native/bin/tsc"), "-p", project], project);
}

/** Builds a page that uses every browser package and looks for the model's weights beside it. */
async function checkVite(project: string): Promise<void> {
  const lines = browserNames.map((name, index) => `import * as package${index} from ${JSON.stringify(name)};`);
  const use = `console.log(${browserNames.map((_, index) => `package${index}`).join(", ")}); document.title = "loaded";`;
  writeFileSync(join(project, "page.ts"), [...lines, use].join("\n"));
  writeFileSync(join(project, "index.html"), '<!doctype html><script type="module" src="./page.ts"></script>');
  const config = { root: project, logLevel: "warn", build: { target: "es2022", outDir: join(project, "site"), minify: false } };
  const script = `import { build } from ${JSON.stringify(new URL("../node_modules/vite/dist/node/index.js", import.meta.url).href)};\nawait build(${JSON.stringify(config)});`;
  writeFileSync(join(project, "vite.mjs"), script);
  const output = await run(process.execPath, ["vite.mjs"], project);
  if (output.trim() !== "") console.log(output.trim());
  const weights = readdirSync(join(project, "site/assets")).filter((name) => name.endsWith(".safetensors"));
  if (weights.length !== 3) throw new Error(`the page carries ${weights.length} weight files of tiny-zimage instead of 3`);
}

/** Opens the built page; throws what the page throws. */
async function checkBrowser(project: string, executablePath: string): Promise<void> {
  const server = await preview({ root: project, logLevel: "silent", build: { outDir: join(project, "site") }, preview: { port: 0 } });
  const browser = await chromium.launch({ executablePath, args: [...chromiumArgs] });
  try {
    const page = await browser.newPage();
    const thrown: Error[] = [];
    page.on("pageerror", (error) => thrown.push(error));
    await page.goto(server.resolvedUrls?.local[0] ?? "", { waitUntil: "load" });
    if (thrown[0]) throw thrown[0];
    await page.waitForFunction('document.title === "loaded"', undefined, { timeout: 10_000 });
  } finally {
    await browser.close();
    await server.close();
  }
}

async function main(): Promise<void> {
  const project = mkdtempSync(join(tmpdir(), "wick-packed-"));
  const started = Date.now();
  const done = (what: string) => console.log(`smoke-packed: ${what} ok, ${((Date.now() - started) / 1000).toFixed(0)} s`);
  try {
    mkdirSync(join(project, "tarballs"));
    const dependencies = await pack(join(project, "tarballs"));
    writeFileSync(join(project, "package.json"), JSON.stringify({ private: true, type: "module", dependencies }));
    await run("npm", ["install", "--omit=optional", "--prefer-offline", "--no-audit", "--no-fund", "--no-package-lock"], project);
    done(`packing and installing ${names.length} packages`);
    await checkNode(project);
    done("importing in Node");
    await checkTypes(project);
    done("declarations");
    await checkVite(project);
    done("building a page with Vite");
    const browser = findChromium();
    if (browser) await checkBrowser(project, browser);
    done(browser ? "opening it in Chromium" : "no Chromium, page not opened; the rest is");
  } finally {
    rmSync(project, { recursive: true, force: true });
  }
}

await main();
