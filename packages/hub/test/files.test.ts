// What is the same for repositories, folders and single files: patterns, opening, closing, small text; and the browser's way.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { matchGlob } from "../src/glob.ts";
import {
  AmbiguousPathError,
  EntryNotFoundError,
  huggingFace,
  localFolder,
  modelFiles,
  ReadRangeError,
  UnexpectedAnswerError,
  UnsafePathError,
  UnsupportedError,
} from "../src/index.ts";
import { eachInParallel, StoredFiles } from "../src/model-files.ts";
import type { ChunkStore } from "../src/remote/chunk-store.ts";
import { RangeStore } from "../src/remote/range-store.ts";
import { resolveSettings } from "../src/settings.ts";
import { against, big, errorOf, hub, repo, temporaryFolder, usualFiles, weights } from "./fixtures.ts";

async function folder(): Promise<string> {
  const root = await temporaryFolder();
  for (const [path, content] of Object.entries(usualFiles())) {
    await mkdir(join(root, path, ".."), { recursive: true });
    await writeFile(join(root, path), content);
  }
  return root;
}

describe("glob", () => {
  const paths = ["a.json", "a/b.json", "a/b/c.json", "a/x.bin", "a+b(1).txt"];
  test.each([
    ["*.json", ["a.json"]],
    ["**/*.json", ["a.json", "a/b.json", "a/b/c.json"]],
    ["a/**", ["a/b.json", "a/b/c.json", "a/x.bin"]],
    ["a/?.{json,bin}", ["a/b.json", "a/x.bin"]],
    ["a+b(1).*", ["a+b(1).txt"]],
    ["{", []],
  ])("%s", (pattern, expected) => expect(matchGlob(pattern, paths)).toEqual(expected));
});

describe.each(["repository", "folder"] as const)("a %s", (kind) => {
  async function open() {
    if (kind === "folder") return localFolder(await folder());
    return huggingFace(repo, against(await hub(), await temporaryFolder()));
  }

  test("lists, matches and has", async () => {
    const files = await open();
    expect((await files.list()).map((entry) => [entry.path, entry.sizeBytes])).toEqual(
      Object.entries(usualFiles()).map(([path, content]) => [path, content.length]),
    );
    expect(await files.match("transformer/*.safetensors")).toHaveLength(2);
    expect([await files.has("config.json"), await files.has("nope")]).toEqual([true, false]);
  });

  test("opens by path and by glob, and reads any range", async () => {
    const files = await open();
    const source = await files.open("transformer/*1-of*");
    expect(source.sizeBytes).toBe(weights.byteLength);
    expect(source.name).toContain(big);
    expect(await source.read(123, 456)).toEqual(weights.slice(123, 579));
    expect(await source.read(weights.byteLength, 0)).toHaveLength(0);
    expect((await errorOf(source.read(weights.byteLength - 1, 2))).message).toContain("are outside");
    expect(await errorOf(source.read(0, 1e12))).toBeInstanceOf(ReadRangeError);
    expect(await errorOf(source.read(-1, 1))).toBeInstanceOf(ReadRangeError);
    expect((await errorOf(source.read(0, 1, AbortSignal.abort()))).name).toBe("AbortError");
    await source.close();
    await source.close();
    expect((await errorOf(source.read(0, 1))).message).toContain("is closed");
  });

  test("openAll opens every match in order", async () => {
    const sources = await (await open()).openAll("**/*.safetensors");
    expect(sources.map((source) => source.sizeBytes)).toEqual([3_000_000, 400_000, 200_000]);
    for (const source of sources) await source.close();
  });

  test("a pattern must name one file, and some file", async () => {
    const files = await open();
    const error = await errorOf(files.open("transformer/*"));
    expect(error).toBeInstanceOf(AmbiguousPathError);
    expect(error.message).toContain("transformer/* names 2 files of");
    expect(error.message).toContain("; narrow the pattern, or use openAll");
    expect(await errorOf(files.openAll("*.gguf"))).toBeInstanceOf(EntryNotFoundError);
    expect((await errorOf(files.open("confg.json"))).message).toContain("no file confg.json in");
  });

  test("reads small text and JSON", async () => {
    const files = await open();
    expect(await files.readText("config.json")).toBe('{"width": 8}');
    expect(await files.readJson<{ width: number }>("config.json")).toEqual({ width: 8 });
    expect(await errorOf(files.readJson("vae/weights.safetensors"))).toBeInstanceOf(UnexpectedAnswerError);
  });
});

describe("local paths", () => {
  test("a single file is a folder with one file", async () => {
    const root = await folder();
    const files = localFolder(join(root, "config.json"));
    expect(await files.list()).toEqual([{ path: "config.json", sizeBytes: 12 }]);
    expect(await files.readText("config.json")).toBe('{"width": 8}');
    expect(await errorOf(files.open("model_index.json"))).toBeInstanceOf(EntryNotFoundError);
  });

  test("nothing there, and paths that leave the folder", async () => {
    const error = await errorOf(localFolder("/no/such/folder").list());
    expect(error).toBeInstanceOf(EntryNotFoundError);
    expect(error.message).toMatchInlineSnapshot(`"localFolder: no such file or folder: /no/such/folder; check the path"`);
    expect(await errorOf(localFolder(await folder()).open("../x"))).toBeInstanceOf(UnsafePathError);
  });

  test("a string names what exists, what looks like a path, or a repository", async () => {
    const root = await folder();
    expect((await modelFiles(root)).name).toBe(root);
    expect((await modelFiles("./nothing-here")).name).toBe("./nothing-here");
    expect((await modelFiles("org/name")).name).toBe("org/name@main");
    expect((await modelFiles("org/name@v1.0")).name).toBe("org/name@v1.0");
    expect((await modelFiles("packages/hub")).name).toBe("packages/hub");
  });
});

test("a failed openAll closes what it had opened", async () => {
  const closed: string[] = [];
  const source = (name: string) => ({ name, sizeBytes: 0, read: async () => new Uint8Array(0), close: async () => void closed.push(name) });
  const files = new StoredFiles({
    name: "test",
    parallelFiles: 1,
    list: async () => ["a", "b", "c"].map((path) => ({ path })),
    open: async (path) => {
      if (path === "b") throw new Error("broken");
      return source(path);
    },
    localPath: async (path) => path,
    revision: async () => undefined,
  });
  expect((await errorOf(files.openAll("*"))).message).toBe("broken");
  expect(closed).toEqual(["a"]);
});

test("parallel work keeps its limit and its order", async () => {
  let now = 0;
  let most = 0;
  const results = await eachInParallel([30, 10, 20, 5, 1], 2, async (ms) => {
    most = Math.max(most, ++now);
    await new Promise((resolve) => setTimeout(resolve, ms));
    now--;
    return ms * 2;
  });
  expect(results).toEqual([60, 20, 40, 10, 2]);
  expect(most).toBe(2);
});

describe("the browser's way", () => {
  /** What the browser's Cache Storage does. */
  function chunksInMemory(): ChunkStore {
    const kept = new Map<string, Uint8Array>();
    return { get: async (key) => kept.get(key), put: async (key, bytes) => void kept.set(key, bytes.slice()) };
  }

  test("reads through a chunk store: each piece travels once", async () => {
    const server = await hub();
    const settings = resolveSettings(repo, against(server, ""), {});
    const chunks = chunksInMemory();
    const read = async (offset: number, length: number) => {
      const source = await new RangeStore(settings, chunks).open(big, {});
      return source.read(offset, length);
    };
    expect(await read(5, 100)).toEqual(weights.slice(5, 105));
    const sent = server.sentBytes();
    expect(Buffer.from(weights.slice(2_000_000)).equals(await read(2_000_000, 1_000_000))).toBe(true);
    expect(server.sentBytes()).toBe(sent);
  });

  test("chunks of other sizes, partly kept", async () => {
    const server = await hub();
    const { RangeSource } = await import("../src/remote/range-source.ts");
    const { http } = resolveSettings(repo, against(server, ""), {});
    const url = `${server.endpoint}/${repo}/resolve/main/${big}`;
    const kept = chunksInMemory();
    const options = {
      http,
      url,
      sizeBytes: weights.byteLength,
      etag: "e",
      context: { op: "open", repo, revision: "main" },
      chunks: kept,
      chunkBytes: 1000,
    };
    const source = new RangeSource(options);
    expect(await source.read(2500, 10)).toEqual(weights.slice(2500, 2510));
    expect(server.sentBytes()).toBe(1000);
    expect(await source.read(900, 4200)).toEqual(weights.slice(900, 5100));
    expect(server.sentBytes()).toBe(6000);
    expect(await source.read(2_999_000, 1000)).toEqual(weights.slice(2_999_000));
  });

  test("there is no local path and no offline", async () => {
    const server = await hub();
    const store = new RangeStore(resolveSettings(repo, against(server, ""), {}), undefined);
    expect(await errorOf(store.localPath("config.json"))).toBeInstanceOf(UnsupportedError);
    expect(() => new RangeStore(resolveSettings(repo, { offline: true }, {}), undefined)).toThrow(UnsupportedError);
  });
});
