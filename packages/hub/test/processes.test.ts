// Several processes and one cache: a killed download resumes, two at once do not harm each other, a dead owner's lock is taken over.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { huggingFace } from "../src/index.ts";
import { against, big, hub, repo, settled, temporaryFolder, weights } from "./fixtures.ts";

const program = fileURLToPath(new URL("download-file.ts", import.meta.url));

function start(endpoint: string, cacheDir: string): ChildProcess {
  const args = ["--conditions=@wick/source", "--import", "tsx", program, endpoint, cacheDir, repo, big];
  return spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, HF_TOKEN: "", HF_HUB_OFFLINE: "" } });
}

function ended(child: ChildProcess): Promise<{ code: number | null; signal: string | null; output: string }> {
  let output = "";
  child.stdout?.on("data", (data: Buffer) => (output += data.toString()));
  child.stderr?.on("data", (data: Buffer) => (output += data.toString()));
  return new Promise((resolve) => child.on("close", (code, signal) => resolve({ code, signal, output })));
}

function untilLoaded(child: ChildProcess, bytes: number): Promise<void> {
  return new Promise((resolve) => {
    child.stdout?.on("data", (data: Buffer) => {
      for (const match of data.toString().matchAll(/loaded (\d+)/g)) if (Number(match[1]) >= bytes) resolve();
    });
  });
}

test("a download killed with SIGKILL resumes and ends byte-identical", async () => {
  const server = await hub();
  const cacheDir = await temporaryFolder();
  server.misbehave({ match: "/cdn/", kind: "slow", bytes: 20_000 });
  const child = start(server.endpoint, cacheDir);
  const end = ended(child);
  await untilLoaded(child, 400_000);
  child.kill("SIGKILL");
  expect((await end).signal).toBe("SIGKILL");
  const blobs = join(cacheDir, "models--org--model", "blobs");
  const [part] = await readdir(blobs);
  expect(part).toMatch(/^[0-9a-f]{64}\.incomplete$/);
  const partBytes = (await stat(join(blobs, part!))).size;
  expect(partBytes).toBeGreaterThanOrEqual(400_000);
  expect(await readdir(join(cacheDir, ".locks", "models--org--model"))).toHaveLength(1);

  server.behave();
  await settled();
  const before = server.sentBytes();
  const again = await ended(start(server.endpoint, cacheDir));
  expect(again.output).toContain("path ");
  expect(server.sentBytes() - before).toBe(weights.byteLength - partBytes);
  expect(await readdir(blobs)).toEqual([part!.replace(".incomplete", "")]);
  expect((await readFile(join(blobs, part!.replace(".incomplete", "")))).equals(weights)).toBe(true);
});

test("two processes downloading the same file at once share one transfer", async () => {
  const server = await hub();
  const cacheDir = await temporaryFolder();
  server.misbehave({ match: "/cdn/", kind: "slow", bytes: 30_000 });
  const both = await Promise.all([start(server.endpoint, cacheDir), start(server.endpoint, cacheDir)].map(ended));
  expect(both.map((one) => one.code)).toEqual([0, 0]);
  const local = join(cacheDir, "models--org--model", "snapshots", server.commit(repo), big);
  expect((await readFile(local)).equals(weights)).toBe(true);
  expect(server.requests.filter((request) => request.path.startsWith("/cdn/"))).toHaveLength(1);
  expect(await readdir(join(cacheDir, ".locks", "models--org--model"))).toEqual([]);
});

test.each([
  ["a dead process of this machine", { pid: 2 ** 22 + 12345, host: hostname(), id: "x" }, 0],
  ["a silent process of another machine", { pid: 1, host: "elsewhere", id: "x" }, 60_000],
])("the lock of %s is taken over", async (_, owner, ageMs) => {
  const server = await hub();
  const cacheDir = await temporaryFolder();
  const files = huggingFace(repo, against(server, cacheDir));
  const { etag } = (await files.list()).find((entry) => entry.path === big)!;
  const locks = join(cacheDir, ".locks", "models--org--model");
  await mkdir(locks, { recursive: true });
  const lock = join(locks, `${etag}.wick.lock`);
  await writeFile(lock, JSON.stringify(owner));
  const { utimes } = await import("node:fs/promises");
  const then = new Date(Date.now() - ageMs);
  await utimes(lock, then, then);
  expect((await readFile(await files.localPath(big))).equals(weights)).toBe(true);
  expect(await readdir(locks)).toEqual([]);
});

test("a living process' lock is waited for", async () => {
  const server = await hub();
  const cacheDir = await temporaryFolder();
  const files = huggingFace(repo, against(server, cacheDir));
  const { etag } = (await files.list()).find((entry) => entry.path === big)!;
  const locks = join(cacheDir, ".locks", "models--org--model");
  await mkdir(locks, { recursive: true });
  await writeFile(join(locks, `${etag}.wick.lock`), JSON.stringify({ pid: process.pid, host: hostname(), id: "other" }));
  const outcome = await files.localPath(big, { signal: AbortSignal.timeout(500) }).catch((error: Error) => error.name);
  expect(outcome).toBe("TimeoutError");
  expect(server.requests.filter((request) => request.path.startsWith("/cdn/"))).toEqual([]);
});
