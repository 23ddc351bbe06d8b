// Finds a Vulkan driver with which Dawn gives an adapter, for tests, benchmarks and CI on Linux.
// Order: what the system offers (a GPU, or Mesa's lavapipe), else the SwiftShader that the npm package
// @sparticuz/chromium carries (Linux x64), unpacked once under node_modules/.cache. Elsewhere Dawn uses Metal or D3D12.
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { brotliDecompressSync } from "node:zlib";
import { readTar } from "./tar.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const cache = join(root, "node_modules/.cache/wick");

/** What Dawn said about the adapter it found. */
export interface AdapterReport {
  readonly vendor: string;
  readonly device: string;
  readonly description: string;
  readonly f16: boolean;
}

/** A driver that works: the variables a child process needs to use it, where it comes from, and its adapter. */
export interface Driver {
  readonly origin: "system" | "swiftshader from npm";
  readonly env: Readonly<Record<string, string>>;
  readonly adapter: AdapterReport;
}

/** Asks for an adapter in a child process with `env` added; null when Dawn finds none or cannot be loaded. */
export type Probe = (env: Readonly<Record<string, string>>) => Promise<AdapterReport | null>;

const probeScript = `
const { create } = await import("webgpu");
const gpu = create([]);
const adapter = await gpu.requestAdapter();
if (!adapter) console.log("null");
else {
  const { vendor, device, description } = adapter.info;
  console.log(JSON.stringify({ vendor, device, description, f16: adapter.features.has("shader-f16") }));
  (await adapter.requestDevice()).destroy();
}`;

/** The real {@link Probe}: `node -e` with the `webgpu` package of @wick/tensor, at most 30 seconds. */
export const probeWithDawn: Probe = async (env) => {
  const args = ["--input-type=module", "-e", probeScript];
  const options = { cwd: join(root, "packages/tensor"), env: { ...process.env, ...env }, timeout: 30_000 };
  try {
    const { stdout } = await promisify(execFile)(process.execPath, args, options);
    return JSON.parse(stdout.trim().split("\n").at(-1) ?? "null") as AdapterReport | null;
  } catch {
    return null; // no Dawn for this platform, a crash in the driver, or a time-out: all mean "not this one"
  }
};

/**
 * Unpacks SwiftShader, its driver manifest and the Vulkan loader from @sparticuz/chromium.
 * Returns their folder, or null where that package has none (not Linux x64, or not installed).
 */
export function unpackSwiftShader(): string | null {
  const packed = join(root, "node_modules/@sparticuz/chromium/bin/swiftshader.tar.br");
  if (process.platform !== "linux" || process.arch !== "x64" || !existsSync(packed)) return null;
  const folder = join(cache, "swiftshader");
  if (existsSync(folder)) return folder;
  const partial = `${folder}.${process.pid}`;
  mkdirSync(partial, { recursive: true });
  const wanted = new Set(["libvk_swiftshader.so", "libvulkan.so.1", "vk_swiftshader_icd.json"]);
  for (const entry of readTar(brotliDecompressSync(readFileSync(packed)))) {
    if (wanted.has(entry.name)) writeFileSync(join(partial, entry.name), entry.data, { mode: 0o755 });
  }
  try {
    renameSync(partial, folder);
  } catch (error) {
    if (!existsSync(folder)) throw error; // otherwise another process unpacked it meanwhile
  }
  return folder;
}

/** Environments to try, best first. */
function* candidates(swiftShaderFolder: () => string | null): Generator<Pick<Driver, "origin" | "env">> {
  const mesaCache = { MESA_SHADER_CACHE_DIR: join(cache, "mesa-shaders") };
  yield { origin: "system", env: mesaCache };
  const folder = swiftShaderFolder();
  if (folder === null) return;
  const driver = { VK_DRIVER_FILES: join(folder, "vk_swiftshader_icd.json") };
  yield { origin: "swiftshader from npm", env: driver };
  const libraries = [folder, process.env["LD_LIBRARY_PATH"]].filter(Boolean).join(":");
  yield { origin: "swiftshader from npm", env: { ...driver, LD_LIBRARY_PATH: libraries } };
}

/**
 * Finds the first driver that gives Dawn an adapter, or null. The returned `env` must be set before the process
 * that uses Dawn starts: the dynamic linker reads LD_LIBRARY_PATH only once.
 */
export async function findDriver(probe: Probe = probeWithDawn, swiftShaderFolder = unpackSwiftShader): Promise<Driver | null> {
  for (const candidate of candidates(swiftShaderFolder)) {
    const adapter = await probe(candidate.env);
    if (adapter) return { ...candidate, adapter };
  }
  return null;
}

/** One line for logs: adapter, f16 or not, and where the driver comes from. */
export function describeDriver({ adapter, origin }: Driver): string {
  const name = adapter.description || adapter.device || adapter.vendor || "unnamed adapter";
  return `${name}${adapter.f16 ? ", f16" : ", no f16"} (${origin})`;
}

/** What to tell a person whose machine has no adapter. */
export const noDriverAdvice =
  "Dawn finds no GPU adapter. On Debian or Ubuntu install mesa-vulkan-drivers 23 or newer (Debian 12: from bookworm-backports); " +
  "on Linux x64 the npm package @sparticuz/chromium of `npm ci` is enough.";
