// Reading from web servers by range: servers that ignore ranges, close early, answer with pages, change the file, or fail for a while.
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { httpSource } from "../src/loaders/http-source.ts";
import { openWeights } from "../src/loaders/open.ts";
import { readTensorBytes } from "../src/loaders/weight-source.ts";
import { readGolden } from "./golden-file.ts";

const file = Uint8Array.from(readFileSync(new URL("./goldens/formats/all.safetensors", import.meta.url)));
let server: Server | undefined;
afterEach(() => server?.closeAllConnections());
afterEach(() => new Promise<void>((done) => (server ? server.close(() => done()) : done())));

/** Serves the file by range; `spoil` sees the number of the request and may answer in its own way by returning true. */
async function serve(
  spoil: (request: number, response: ServerResponse, range: readonly [number, number]) => boolean = () => false,
): Promise<string> {
  let count = 0;
  server = createServer((incoming: IncomingMessage, response) => {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(incoming.headers.range ?? "")!;
    const range = [Number(from), Math.min(Number(to), file.length - 1)] as const;
    if (!spoil(count++, response, range)) answer(response, range);
  });
  await new Promise<void>((ready) => server!.listen(0, "127.0.0.1", ready));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/model.safetensors`;
}

function answer(response: ServerResponse, [from, to]: readonly [number, number], etag = '"v1"', total = file.length): true {
  response.writeHead(206, { "content-range": `bytes ${from}-${to}/${total}`, "content-length": to - from + 1, etag });
  response.end(file.subarray(from, to + 1));
  return true;
}

const quick = { retryDelayMs: 1 };
/** The outcome of opening and reading ten bytes, without the port. */
const outcome = async (url: string): Promise<string> => {
  try {
    const source = await httpSource(url, quick);
    return `read ${(await source.read(100, 10)).length} of ${source.sizeBytes}`;
  } catch (error) {
    return String(error).replace(/:\d+\//, ":PORT/");
  }
};

describe("httpSource", () => {
  it("reads a checkpoint by range", async () => {
    const weights = await openWeights(await serve());
    expect(await readTensorBytes(weights, "a.f32")).toEqual(readGolden("formats/expected.safetensors")("st/a.f32"));
  });

  it("tries again after server errors and broken connections", async () => {
    const url = await serve((request, response) => {
      if (request % 2 === 1) return false;
      if (request === 0) response.writeHead(503).end();
      else response.destroy();
      return true;
    });
    expect(await outcome(url)).toBe(`read 10 of ${file.length}`);
  });

  it.each<[string, (request: number, response: ServerResponse, range: readonly [number, number]) => boolean]>([
    ["ignores ranges", (_, r) => Boolean(r.writeHead(200, { "content-length": file.length }).end(file))],
    ["answers with a page", (_, r) => Boolean(r.writeHead(206, { "content-type": "text/html", "content-range": "bytes 0-0/5" }).end("<"))],
    ["answers with a page and 200", (_, r) => Boolean(r.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end("<html>"))],
    ["has no such file", (_, r) => Boolean(r.writeHead(404).end())],
    ["wants a token", (_, r) => Boolean(r.writeHead(401).end())],
    ["fails for good", (_, r) => Boolean(r.writeHead(500).end())],
    ["closes early for good", (n, r) => n > 0 && closeEarly(r)],
    [
      "sends less than it says, for good",
      (n, r, [from]) => n > 0 && Boolean(r.writeHead(206, { "content-range": `bytes ${from}-109/${file.length}` }).end("1234")),
    ],
    ["sends another range", (n, r) => n > 0 && answer(r, [0, 9])],
    ["sends no content-range", (_, r) => Boolean(r.writeHead(206).end("x"))],
    ["changes the file (ETag)", (n, r, range) => n > 0 && answer(r, range, '"v2"')],
    ["changes the file (size)", (n, r, range) => n > 0 && answer(r, range, '"v1"', file.length + 1)],
    ["has made the file shorter", (n, r) => n > 0 && Boolean(r.writeHead(416).end())],
  ])("names a server that %s", async (_, spoil) => {
    expect(await outcome(await serve(spoil))).toMatchSnapshot();
  });

  it("keeps no more than it asked for when a server sends too much", async () => {
    const url = await serve(
      (n, r) =>
        n > 0 && Boolean(r.writeHead(206, { "content-range": `bytes 100-109/${file.length}`, etag: '"v1"' }).end(new Uint8Array(1 << 20))),
    );
    expect(await outcome(url)).toBe(`read 10 of ${file.length}`);
  });

  it("stops when aborted, and checks ranges before asking", async () => {
    const source = await httpSource(await serve((n) => n > 0), quick);
    const abort = new AbortController();
    const read = source.read(0, 10, abort.signal);
    abort.abort(new Error("enough"));
    await expect(read).rejects.toThrow("enough");
    await expect(source.read(file.length, 1)).rejects.toThrow(/^read: 1 bytes at 1478 are outside of http/);
  });
});

function closeEarly(response: ServerResponse): boolean {
  response.writeHead(206, { "content-range": `bytes 100-109/${file.length}`, "content-length": 10, etag: '"v1"' });
  response.write("123", () => response.destroy());
  return true;
}
