// The cache on disk: its layout, reuse without a network, damage found and repaired, names that must not escape.
import { lstat, mkdir, readdir, readFile, readlink, rm, stat, symlink, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { EntryNotFoundError, HashMismatchError, huggingFace, InvalidNameError, OfflineError, UnsafePathError } from "../src/index.ts";
import { readEnvironment } from "../src/node/environment.ts";
import { against, big, errorOf, hub, repo, temporaryFolder, weights } from "./fixtures.ts";

describe("layout", () => {
  test("a file lands in blobs under its etag, with a relative link in the snapshot and a ref", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    const local = await huggingFace(repo, against(server, cacheDir)).localPath(big);
    const commit = server.commit(repo);
    expect(local).toBe(join(cacheDir, "models--org--model", "snapshots", commit, big));
    expect(await readlink(local)).toMatch(/^\.\.\/\.\.\/\.\.\/blobs\/[0-9a-f]{64}$/);
    expect((await readFile(local)).equals(weights)).toBe(true);
    expect(await readFile(join(cacheDir, "models--org--model", "refs", "main"), "utf8")).toBe(commit);
    expect(await readdir(join(cacheDir, "models--org--model", "blobs"))).toHaveLength(1);
  });

  test("a small file is named by its git sha1", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    const files = huggingFace(repo, against(server, cacheDir));
    expect(await files.readJson("config.json")).toEqual({ width: 8 });
    const [blob] = await readdir(join(cacheDir, "models--org--model", "blobs"));
    expect(blob).toMatch(/^[0-9a-f]{40}$/);
  });

  test("no locks or parts are left behind", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    await huggingFace(repo, against(server, cacheDir)).download();
    expect(await readdir(join(cacheDir, ".locks", "models--org--model"))).toEqual([]);
    expect((await readdir(join(cacheDir, "models--org--model", "blobs"))).filter((name) => name.includes("incomplete"))).toEqual([]);
  });

  test("the environment of the Python library decides the defaults", async () => {
    const home = await temporaryFolder();
    await writeFile(join(home, "token"), "hf_file\n");
    const env = { HF_HOME: home, HF_ENDPOINT: "http://mirror", HF_HUB_OFFLINE: "1" };
    expect(await readEnvironment(env)).toEqual({ endpoint: "http://mirror", cacheDir: join(home, "hub"), offline: true, token: "hf_file" });
    expect((await readEnvironment({ ...env, HF_TOKEN: " hf_env " })).token).toBe("hf_env");
    expect((await readEnvironment({ HF_HUB_CACHE: "/elsewhere" })).cacheDir).toBe("/elsewhere");
  });
});

describe("reuse", () => {
  test("a second use sends no byte of content", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    await huggingFace(repo, against(server, cacheDir)).download();
    const before = server.sentBytes();
    await huggingFace(repo, against(server, cacheDir)).download();
    expect(server.sentBytes()).toBe(before);
  });

  test("offline works from the cache and asks no server", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    await huggingFace(repo, against(server, cacheDir)).download();
    const asked = server.requests.length;
    const files = huggingFace(repo, against(server, cacheDir, { offline: true }));
    expect((await files.list()).map((entry) => entry.path)).toContain(big);
    const source = await files.open(big);
    expect(await source.read(10, 5)).toEqual(weights.slice(10, 15));
    await source.close();
    expect(await files.revision()).toBe(server.commit(repo));
    expect(server.requests.length).toBe(asked);
  });

  test("offline without a cache says how to get one", async () => {
    const server = await hub();
    const error = await errorOf(huggingFace(repo, against(server, "nowhere", { offline: true })).list());
    expect(error).toBeInstanceOf(OfflineError);
    expect(error.message).toMatchInlineSnapshot(
      `"huggingFace: org/model@main is not in the cache nowhere; download it once while online, or point HF_HOME or cacheDir at a cache that has it"`,
    );
  });

  test("offline names the file that is missing from a partly filled cache", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    await huggingFace(repo, against(server, cacheDir)).localPath("config.json");
    const error = await errorOf(huggingFace(repo, against(server, cacheDir, { offline: true })).localPath(big));
    expect(error).toBeInstanceOf(OfflineError);
    expect(error.message).toContain(`${big} is not in the cache`);
  });

  test("with the network down the cache is used, and a notice says so", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    await huggingFace(repo, against(server, cacheDir)).download();
    await server.close().catch(() => undefined);
    const onNotice = vi.fn();
    const files = huggingFace(repo, against(server, cacheDir, { onNotice, retries: 1 }));
    expect((await readFile(await files.localPath(big))).equals(weights)).toBe(true);
    expect(onNotice.mock.calls[0]?.[0]).toContain("using the cache, because huggingFace: org/model@main: no answer from");
    server.close = async () => undefined;
  });

  test("a commit hash that is cached needs no request", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    const revision = server.commit(repo);
    await huggingFace(repo, against(server, cacheDir, { revision })).localPath(big);
    const asked = server.requests.length;
    await huggingFace(repo, against(server, cacheDir, { revision })).localPath(big);
    expect(server.requests.length).toBe(asked);
  });

  test("a cache written by the Python library is read", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    const commit = "0123456789abcdef0123456789abcdef01234567";
    const base = join(cacheDir, "models--org--model");
    for (const folder of ["blobs", "refs", `snapshots/${commit}/sub`]) await mkdir(join(base, folder), { recursive: true });
    await writeFile(join(base, "blobs", "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"), "hello");
    await symlink("../../../blobs/b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0", join(base, `snapshots/${commit}/sub/a.txt`));
    await writeFile(join(base, "refs", "main"), commit);
    expect(await huggingFace(repo, against(server, cacheDir, { offline: true })).readText("sub/a.txt")).toBe("hello");
  });

  test("a moved branch downloads only what changed", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    await huggingFace(repo, against(server, cacheDir)).download();
    server.setFile(repo, "config.json", '{"width": 16}');
    const before = server.sentBytes();
    const files = huggingFace(repo, against(server, cacheDir));
    await files.download();
    expect(await files.readJson("config.json")).toEqual({ width: 16 });
    expect(server.sentBytes() - before).toBe(13);
  });
});

describe("damage", () => {
  test("a flipped byte in a blob is found and the file fetched again", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    const local = await huggingFace(repo, against(server, cacheDir)).localPath(big);
    const bytes = await readFile(local);
    bytes[1_000_000]! ^= 1;
    await writeFile(local, bytes);
    const again = await huggingFace(repo, against(server, cacheDir)).localPath(big);
    expect((await readFile(again)).equals(weights)).toBe(true);
  });

  test("a cut blob is found and the file fetched again", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    const local = await huggingFace(repo, against(server, cacheDir)).localPath(big);
    await writeFile(local, weights.subarray(0, 500));
    await huggingFace(repo, against(server, cacheDir)).localPath(big);
    expect((await stat(local)).size).toBe(weights.byteLength);
  });

  test("offline, damage is an error with the remedy", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    const local = await huggingFace(repo, against(server, cacheDir)).localPath("config.json");
    await writeFile(local, '{"width": 9}');
    const error = await errorOf(huggingFace(repo, against(server, cacheDir, { offline: true })).readJson("config.json"));
    expect(error).toBeInstanceOf(HashMismatchError);
    expect(error.message).toContain("the cached file is damaged");
    expect(error.message).toContain("; go online to fetch it again");
  });

  test("a missing blob behind a link, and a missing link, are repaired", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    const local = await huggingFace(repo, against(server, cacheDir)).localPath(big);
    await rm(join(cacheDir, "models--org--model", "blobs"), { recursive: true });
    await huggingFace(repo, against(server, cacheDir)).localPath(big);
    await unlink(local);
    const before = server.sentBytes();
    await huggingFace(repo, against(server, cacheDir)).localPath(big);
    expect((await lstat(local)).isSymbolicLink()).toBe(true);
    expect(server.sentBytes()).toBe(before);
  });
});

describe("names", () => {
  test.each(["../../etc/passwd", "/etc/passwd", "a/../../b", "a\\..\\b", "C:/x", "a//b", "a/./b", "nul\0byte"])(
    "a listing with %j is refused",
    async (path) => {
      const server = await hub({ files: { [path]: "x" } });
      const cacheDir = await temporaryFolder();
      expect(await errorOf(huggingFace(repo, against(server, cacheDir)).download())).toBeInstanceOf(UnsafePathError);
      expect(await readdir(cacheDir)).toEqual([]);
    },
  );

  test("an etag that is a path is refused", async () => {
    const cacheDir = await temporaryFolder();
    const listing = { sha: "0".repeat(40), siblings: [{ rfilename: "a", size: 1, lfs: { sha256: "../../../evil", size: 1 } }] };
    const fetch = async () => new Response(JSON.stringify(listing), { headers: { "content-type": "application/json" } });
    const error = await errorOf(huggingFace(repo, { cacheDir, fetch, token: false }).list());
    expect(error).toBeInstanceOf(UnsafePathError);
  });

  test.each(["", "a/b/c", "../x", "org/..", "a b", "-x/y", "http://x"])("repository id %j is refused", (id) => {
    expect(() => huggingFace(id)).toThrow(InvalidNameError);
  });

  test.each(["../main", "a b", "refs//x", "..", ""])("revision %j is refused", (revision) => {
    expect(() => huggingFace(repo, { revision })).toThrow(InvalidNameError);
  });

  test("asking for a path outside is refused, a wrong one names the nearest", async () => {
    const server = await hub();
    const files = huggingFace(repo, against(server, await temporaryFolder()));
    expect(await errorOf(files.localPath("../secret"))).toBeInstanceOf(EntryNotFoundError);
    const error = await errorOf(files.open("weights.safetensors"));
    expect(error.message).toMatchInlineSnapshot(`"open: no file weights.safetensors in org/model@main; it has vae/weights.safetensors, …"`);
  });
});
