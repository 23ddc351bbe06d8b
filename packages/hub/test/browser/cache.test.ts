// In a real browser: a repository is read by range, pieces are kept in Cache Storage, and a second read needs no network.
import { expect, test } from "vitest";
import { cacheName, huggingFace, UnsupportedError } from "../../src/index.ts";

const content = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7) & 255);
const commit = "0123456789abcdef0123456789abcdef01234567";

function server() {
  const ranges: (string | null)[] = [];
  const fetch = async (url: string, init?: RequestInit): Promise<Response> => {
    if (url.includes("/api/models/")) {
      const siblings = [{ rfilename: "w.bin", size: content.length, lfs: { sha256: "ab".repeat(32), size: content.length } }];
      return new Response(JSON.stringify({ sha: commit, siblings }), { headers: { "content-type": "application/json" } });
    }
    const range = new Headers(init?.headers).get("range");
    ranges.push(range);
    const [start = 0, last = 0] = (range ?? "").replace("bytes=", "").split("-").map(Number);
    const headers = { "content-range": `bytes ${start}-${last}/${content.length}`, etag: '"x"' };
    return new Response(content.slice(start, last + 1), { status: 206, headers });
  };
  return { fetch, ranges };
}

test("pieces are kept in the browser's cache", async () => {
  const storage = (globalThis as unknown as { caches: { delete(name: string): Promise<boolean> } }).caches;
  await storage.delete(cacheName);
  const first = server();
  const source = await huggingFace("org/model", { fetch: first.fetch }).open("*.bin");
  expect(await source.read(50, 1000)).toEqual(content.slice(50, 1050));
  expect(first.ranges).toEqual(["bytes=0-99999"]);
  const second = server();
  const again = await huggingFace("org/model", { fetch: second.fetch }).open("w.bin");
  expect(await again.read(99_000, 1000)).toEqual(content.slice(99_000));
  expect(second.ranges).toEqual([]);
  expect(await storage.delete(cacheName)).toBe(true);
});

test("what needs a disk says so", async () => {
  const files = huggingFace("org/model", { fetch: server().fetch });
  await expect(files.localPath("w.bin")).rejects.toBeInstanceOf(UnsupportedError);
  await expect(files.download()).rejects.toBeInstanceOf(UnsupportedError);
  await expect(huggingFace("org/model", { offline: true }).list()).rejects.toBeInstanceOf(UnsupportedError);
});
