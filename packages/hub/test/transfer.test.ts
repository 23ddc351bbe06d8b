// Bytes over an unreliable network: resume, retries, servers that misbehave, aborts; each refusal with its type and remedy.
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { mockBytes } from "@wick/testing/mock-hub";
import { describe, expect, test, vi } from "vitest";
import {
  AccessDeniedError,
  type ByteProgress,
  CacheAccessError,
  DiskFullError,
  EntryNotFoundError,
  GatedRepoError,
  HashMismatchError,
  HttpStatusError,
  huggingFace,
  NetworkError,
  RangeIgnoredError,
  RemoteChangedError,
  RepoNotFoundError,
  RevisionNotFoundError,
  TruncatedError,
  UnexpectedAnswerError,
} from "../src/index.ts";
import { fs } from "../src/node/builtins.ts";
import { against, big, errorOf, hub, repo, settled, temporaryFolder, weights } from "./fixtures.ts";

async function leavePart(cacheDir: string, etag: string, part: Uint8Array): Promise<void> {
  const blobs = join(cacheDir, "models--org--model", "blobs");
  await mkdir(blobs, { recursive: true });
  await writeFile(join(blobs, `${etag}.incomplete`), part);
}

async function etagOf(server: Awaited<ReturnType<typeof hub>>, cacheDir: string): Promise<string> {
  const entries = await huggingFace(repo, against(server, cacheDir)).list();
  return entries.find((entry) => entry.path === big)!.etag!;
}

describe("resume", () => {
  test("a part left behind is completed by range and progress starts there", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    await leavePart(cacheDir, await etagOf(server, cacheDir), weights.subarray(0, 1_200_000));
    const events: ByteProgress[] = [];
    const local = await huggingFace(repo, against(server, cacheDir, { onProgress: (event) => events.push(event) })).localPath(big);
    expect((await readFile(local)).equals(weights)).toBe(true);
    expect(server.sentBytes()).toBe(1_800_000);
    expect(server.requests.at(-1)?.range).toBe("bytes=1200000-");
    expect(events[0]).toEqual({ file: big, loadedBytes: 1_200_000, totalBytes: 3_000_000 });
    expect(events.at(-1)).toEqual({ file: big, loadedBytes: 3_000_000, totalBytes: 3_000_000 });
  });

  test("a damaged part is thrown away once its hash is wrong", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    await leavePart(cacheDir, await etagOf(server, cacheDir), new Uint8Array(1_200_000));
    const local = await huggingFace(repo, against(server, cacheDir)).localPath(big);
    expect((await readFile(local)).equals(weights)).toBe(true);
    expect(server.sentBytes()).toBe(1_800_000 + 3_000_000);
  });

  test("a part longer than the file starts over; a complete part needs no byte", async () => {
    const server = await hub();
    const [one, two] = [await temporaryFolder(), await temporaryFolder()];
    const etag = await etagOf(server, one);
    await leavePart(one, etag, mockBytes(4_000_000, 9));
    expect((await readFile(await huggingFace(repo, against(server, one)).localPath(big))).equals(weights)).toBe(true);
    await leavePart(two, etag, weights);
    const before = server.sentBytes();
    expect((await readFile(await huggingFace(repo, against(server, two)).localPath(big))).equals(weights)).toBe(true);
    expect(server.sentBytes()).toBe(before);
  });

  test("connections that break are continued where they stopped", async () => {
    const server = await hub();
    server.misbehave({ match: "/cdn/", kind: "closeEarly", bytes: 700_000, times: 3 });
    const local = await huggingFace(repo, against(server, await temporaryFolder())).localPath(big);
    expect((await readFile(local)).equals(weights)).toBe(true);
    expect(server.requests.filter((request) => request.path.startsWith("/cdn/"))).toHaveLength(4);
    // Breaking off may lose what was on the way, but nothing is asked for twice that had arrived.
    expect(server.requests.at(-1)?.range).toMatch(/^bytes=\d{6,7}-$/);
    expect(server.sentBytes()).toBeLessThan(3 * 700_000 + weights.byteLength);
  });

  test("a server that ignores ranges is read from the start", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    await leavePart(cacheDir, await etagOf(server, cacheDir), weights.subarray(0, 1_200_000));
    server.misbehave({ match: "/cdn/", kind: "ignoreRange" });
    const local = await huggingFace(repo, against(server, cacheDir)).localPath(big);
    expect((await readFile(local)).equals(weights)).toBe(true);
    expect(server.sentBytes()).toBe(3_000_000);
  });

  test("a file that changes between two requests is fetched as it is now", async () => {
    const server = await hub();
    const changed = mockBytes(2_500_000, 77);
    const onBreak = () => server.setFile(repo, big, changed);
    server.misbehave({ match: "/cdn/", kind: "closeEarly", bytes: 900_000, times: 1, onBreak });
    const local = await huggingFace(repo, against(server, await temporaryFolder())).localPath(big);
    expect((await readFile(local)).equals(changed)).toBe(true);
    expect(server.requests.filter((request) => request.path.startsWith("/api/"))).toHaveLength(2);
  });

  test("a change of content with the same size is noticed by the etag", async () => {
    const server = await hub();
    const changed = mockBytes(3_000_000, 78);
    const onBreak = () => server.setFile(repo, big, changed);
    server.misbehave({ match: "/cdn/", kind: "closeEarly", bytes: 900_000, times: 1, onBreak });
    const local = await huggingFace(repo, against(server, await temporaryFolder())).localPath(big);
    expect((await readFile(local)).equals(changed)).toBe(true);
    expect(server.requests.filter((request) => request.path.startsWith("/api/"))).toHaveLength(2);
  });
});

describe("misbehaving servers", () => {
  const options = { retries: 1, stallTimeoutMs: 700 };

  test.each([
    ["closeEarly", NetworkError, "the connection broke after"],
    ["shortAnswer", TruncatedError, "the connection closed after"],
    ["stall", NetworkError, "the connection broke after"],
  ] as const)("%s without end", async (kind, type, text) => {
    const server = await hub();
    server.misbehave({ match: "/cdn/", kind, bytes: 1000 });
    const cacheDir = await temporaryFolder();
    const error = await errorOf(huggingFace(repo, against(server, cacheDir, options)).localPath(big));
    expect(error).toBeInstanceOf(type);
    expect(error.message).toContain(`open: org/model@main ${big}: ${text}`);
    expect(error.message).toContain("; run again to resume");
    server.behave();
    const local = await huggingFace(repo, against(server, cacheDir)).localPath(big);
    expect((await readFile(local)).equals(weights)).toBe(true);
  });

  test("a login page instead of the file", async () => {
    const server = await hub();
    server.misbehave({ match: "/cdn/", kind: "html" });
    const error = await errorOf(huggingFace(repo, against(server, await temporaryFolder())).localPath(big));
    expect(error).toBeInstanceOf(UnexpectedAnswerError);
    expect(error.message).toContain("the server sent a web page instead of the data");
    expect(error.message).toContain("check HF_ENDPOINT");
  });

  test.each(["html", "notJson"] as const)("%s instead of the listing", async (kind) => {
    const server = await hub();
    server.misbehave({ match: "/api/", kind });
    const error = await errorOf(huggingFace(repo, against(server, await temporaryFolder())).list());
    expect(error).toBeInstanceOf(UnexpectedAnswerError);
  });

  test.each([{}, null, { sha: "main", siblings: [] }, { sha: "0".repeat(40) }, { sha: "0".repeat(40), siblings: [{}] }])(
    "listing %j",
    async (answer) => {
      const fetch = async () => new Response(JSON.stringify(answer), { headers: { "content-type": "application/json" } });
      const error = await errorOf(huggingFace(repo, { fetch, token: false, cacheDir: await temporaryFolder() }).list());
      expect(error).toBeInstanceOf(UnexpectedAnswerError);
    },
  );

  test("bytes with a wrong hash are never kept", async () => {
    const server = await hub();
    server.misbehave({ match: "/cdn/", kind: "corrupt" });
    const cacheDir = await temporaryFolder();
    const error = await errorOf(huggingFace(repo, against(server, cacheDir)).localPath(big));
    expect(error).toBeInstanceOf(HashMismatchError);
    expect(error.message).toMatch(
      /downloaded twice and the bytes do not have the hash [0-9a-f]{64}; the server or a proxy changes the file/,
    );
    expect(await readdir(join(cacheDir, "models--org--model", "blobs"))).toEqual([]);
  });

  test("one corrupted transfer is repaired", async () => {
    const server = await hub();
    server.misbehave({ match: "/cdn/", kind: "corrupt", times: 1 });
    const local = await huggingFace(repo, against(server, await temporaryFolder())).localPath(big);
    expect((await readFile(local)).equals(weights)).toBe(true);
  });

  test("busy servers are asked again, and the final status is reported", async () => {
    const server = await hub();
    server.misbehave({ match: "/api/", kind: "status", status: 503, times: 2 });
    server.misbehave({ match: "/cdn/", kind: "status", status: 429, headers: { "retry-after": "0" }, times: 1 });
    const cacheDir = await temporaryFolder();
    await huggingFace(repo, against(server, cacheDir)).localPath(big);
    server.misbehave({ match: "/api/", kind: "status", status: 500 });
    const error = await errorOf(huggingFace(repo, against(server, cacheDir, { retries: 1 })).list());
    expect(error).toBeInstanceOf(HttpStatusError);
    expect((error as HttpStatusError).status).toBe(500);
  });

  test("no server at all", async () => {
    const error = await errorOf(
      huggingFace(repo, { endpoint: "http://127.0.0.1:9", token: false, retries: 0, cacheDir: await temporaryFolder() }).list(),
    );
    expect(error).toBeInstanceOf(NetworkError);
    expect(error.message).toContain("org/model@main: no answer from http://127.0.0.1:9: ");
    expect(error.message).toContain("; check the connection and HF_ENDPOINT, or set offline: true to use the cache only");
  });

  test("a listing without sizes and hashes is completed by HEAD requests", async () => {
    const server = await hub({ bareListing: true });
    const cacheDir = await temporaryFolder();
    const files = huggingFace(repo, against(server, cacheDir));
    expect((await readFile(await files.localPath(big))).equals(weights)).toBe(true);
    expect(await files.readJson("config.json")).toEqual({ width: 8 });
    const blobs = await readdir(join(cacheDir, "models--org--model", "blobs"));
    expect(blobs.map((name) => name.length).sort()).toEqual([40, 64]);
  });
});

describe("who may read", () => {
  test("a gated repository", async () => {
    const server = await hub({ gated: true, token: "hf_good" });
    const error = await errorOf(huggingFace(repo, against(server, await temporaryFolder())).list());
    expect(error).toBeInstanceOf(GatedRepoError);
    expect(error.message.replace(server.endpoint, "HUB")).toMatchInlineSnapshot(
      `"huggingFace: org/model@main: the licence must be accepted first; accept it at HUB/org/model and pass a token (HF_TOKEN)"`,
    );
  });

  test("a private repository: no token, a wrong token, the right token", async () => {
    const server = await hub({ token: "hf_good" });
    const cacheDir = await temporaryFolder();
    const list = (token: string | false) => huggingFace(repo, against(server, cacheDir, { token })).list();
    expect(await errorOf(list(false))).toBeInstanceOf(RepoNotFoundError);
    const denied = await errorOf(list("hf_bad"));
    expect(denied).toBeInstanceOf(AccessDeniedError);
    expect(denied.message).toContain("the token is invalid or may not read this repository");
    expect(await list("hf_good")).toHaveLength(5);
  });

  test("the token goes to the hub and not to the host it redirects to", async () => {
    const server = await hub({ token: "hf_good" });
    await huggingFace(repo, against(server, await temporaryFolder(), { token: "hf_good" })).localPath(big);
    const sent = server.requests.map((request) => [request.path.split("/")[1], request.authorization]);
    expect(sent).toEqual([
      ["api", "Bearer hf_good"],
      ["org", "Bearer hf_good"],
      ["cdn", undefined],
    ]);
  });

  test("unknown repository, revision and file", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    const unknown = await errorOf(huggingFace("org/other", against(server, cacheDir)).list());
    expect(unknown).toBeInstanceOf(RepoNotFoundError);
    expect(unknown.message).toContain("org/other@main: no such repository, or it is private; check the spelling");
    expect(await errorOf(huggingFace(repo, against(server, cacheDir, { revision: "v9" })).list())).toBeInstanceOf(RevisionNotFoundError);
    expect(await errorOf(huggingFace(repo, against(server, cacheDir)).open("nope.bin"))).toBeInstanceOf(EntryNotFoundError);
  });
});

describe("the disk", () => {
  test("a file that cannot fit is refused before it is downloaded", async () => {
    const server = await hub();
    const statfs = vi.spyOn(fs, "statfs").mockResolvedValue({ bavail: 10, bsize: 4096 } as Awaited<ReturnType<typeof fs.statfs>>);
    const error = await errorOf(huggingFace(repo, against(server, await temporaryFolder())).localPath(big)).finally(() =>
      statfs.mockRestore(),
    );
    expect(error).toBeInstanceOf(DiskFullError);
    expect(error.message).toContain("open: 3000000 bytes are still to be downloaded, 40960 are free: ");
    expect(error.message).toContain("; free some space, or set HF_HOME or cacheDir to another disk");
    expect(server.sentBytes()).toBe(0);
  });

  test("a disk that fills up while downloading keeps the part", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC", syscall: "write" });
    const { open } = fs;
    const spy = vi.spyOn(fs, "open").mockImplementation(async (...args) => {
      const handle = await open(...args);
      if (!String(args[0]).endsWith(".incomplete")) return handle;
      const write = handle.write.bind(handle) as (...given: unknown[]) => Promise<unknown>;
      handle.write = (async (...given: unknown[]) =>
        Number(given[3]) > 1_000_000 ? Promise.reject(full) : write(...given)) as typeof handle.write;
      return handle;
    });
    const error = await errorOf(huggingFace(repo, against(server, cacheDir)).localPath(big)).finally(() => spy.mockRestore());
    expect(error).toBeInstanceOf(DiskFullError);
    expect(error.message).toContain("no room left");
    expect(await readdir(join(cacheDir, ".locks", "models--org--model"))).toEqual([]);
    const local = await huggingFace(repo, against(server, cacheDir)).localPath(big);
    expect((await readFile(local)).equals(weights)).toBe(true);
    expect(server.requests.at(-1)?.range).toMatch(/^bytes=\d{7}-$/);
  });

  test("a cache folder that cannot be made", async () => {
    const server = await hub();
    const file = join(await temporaryFolder(), "file");
    await writeFile(file, "");
    const error = await errorOf(huggingFace(repo, against(server, join(file, "cache"))).localPath(big));
    expect(error).toBeInstanceOf(CacheAccessError);
    expect(error.message).toContain("ENOTDIR");
    expect(error.message).toContain("; check the permissions, or set HF_HOME or cacheDir to a folder you can write");
  });
});

describe("abort", () => {
  test("stops at once, leaves a part, and a later call resumes it", async () => {
    const server = await hub();
    server.misbehave({ match: "/cdn/", kind: "slow", bytes: 50_000 });
    const cacheDir = await temporaryFolder();
    const controller = new AbortController();
    const reason = new Error("enough");
    const onProgress = ({ loadedBytes }: ByteProgress) => {
      if (loadedBytes > 200_000) controller.abort(reason);
    };
    const files = huggingFace(repo, against(server, cacheDir));
    expect(await errorOf(files.localPath(big, { signal: controller.signal, onProgress }))).toBe(reason);
    expect(await readdir(join(cacheDir, ".locks", "models--org--model"))).toEqual([]);
    const part = join(cacheDir, "models--org--model", "blobs", `${await etagOf(server, cacheDir)}.incomplete`);
    const partBytes = (await stat(part)).size;
    expect(partBytes).toBeGreaterThan(200_000);
    server.behave();
    await settled();
    const before = server.sentBytes();
    expect((await readFile(await files.localPath(big))).equals(weights)).toBe(true);
    expect(server.sentBytes() - before).toBe(weights.byteLength - partBytes);
  });

  test("one caller leaving does not stop another caller of the same file", async () => {
    const server = await hub();
    server.misbehave({ match: "/cdn/", kind: "slow", bytes: 200_000 });
    const files = huggingFace(repo, against(server, await temporaryFolder()));
    const controller = new AbortController();
    const leaving = files.localPath(big, { signal: controller.signal });
    const staying = files.localPath(big);
    setTimeout(() => controller.abort(), 30);
    expect((await errorOf(leaving)).name).toBe("AbortError");
    expect((await readFile(await staying)).equals(weights)).toBe(true);
    expect(server.requests.filter((request) => request.path.startsWith("/cdn/"))).toHaveLength(1);
  });

  test("an abort during the wait before a retry", async () => {
    const server = await hub();
    server.misbehave({ match: "/api/", kind: "status", status: 503, headers: { "retry-after": "20" } });
    const files = huggingFace(repo, against(server, await temporaryFolder(), { signal: AbortSignal.timeout(100) }));
    expect((await errorOf(files.list())).name).toBe("TimeoutError");
  });
});

describe("reading by range without downloading", () => {
  test("only the asked bytes travel and nothing is cached", async () => {
    const server = await hub();
    const cacheDir = await temporaryFolder();
    const source = await huggingFace(repo, against(server, cacheDir)).open(big, { via: "ranges" });
    expect(source.sizeBytes).toBe(weights.byteLength);
    expect(await source.read(8, 1000)).toEqual(weights.slice(8, 1008));
    expect(await source.read(2_999_990, 10)).toEqual(weights.slice(-10));
    expect(server.sentBytes()).toBe(1010);
    await source.close();
    expect(await readdir(join(cacheDir, "models--org--model"))).toEqual(["refs"]);
  });

  test("a server that ignores ranges is refused instead of read whole", async () => {
    const server = await hub();
    server.misbehave({ match: "/cdn/", kind: "ignoreRange" });
    const source = await huggingFace(repo, against(server, await temporaryFolder())).open(big, { via: "ranges" });
    const error = await errorOf(source.read(8, 1000));
    expect(error).toBeInstanceOf(RangeIgnoredError);
    expect(error.message).toContain('; download the file instead (via: "download"), or use a server that supports ranges');
  });

  test("a change between two reads is an error", async () => {
    const server = await hub();
    const source = await huggingFace(repo, against(server, await temporaryFolder())).open(big, { via: "ranges" });
    await source.read(0, 10);
    server.setFile(repo, big, mockBytes(3_000_000, 5));
    expect(await errorOf(source.read(10, 10))).toBeInstanceOf(RemoteChangedError);
  });

  test("a connection that breaks is asked again", async () => {
    const server = await hub();
    const source = await huggingFace(repo, against(server, await temporaryFolder())).open(big, { via: "ranges" });
    server.misbehave({ match: "/cdn/", kind: "closeEarly", bytes: 100, times: 2 });
    expect(await source.read(0, 5000)).toEqual(weights.slice(0, 5000));
  });
});
