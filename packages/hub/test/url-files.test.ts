// Files at known addresses, from a real server and from data: URLs; answers that are not the file.
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type ByteProgress, urlFiles } from "@wick/hub";
import { afterAll, beforeAll, expect, test } from "vitest";

let server: Server;
let base = "";
beforeAll(async () => {
  server = createServer((request, response) => {
    if (request.url === "/weights.bin") return response.end(Buffer.from([1, 2, 3, 4, 5]));
    if (request.url === "/page.json") return response.setHeader("content-type", "text/html").end("<html>");
    if (request.url === "/short.bin") {
      response.writeHead(200, { "content-length": "10" });
      response.write("half ");
      return response.socket?.end();
    }
    response.writeHead(request.url === "/broken.bin" ? 503 : 404);
    return response.end();
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => new Promise((closed) => server.close(closed)));

const files = () =>
  urlFiles(
    {
      "config.json": 'data:application/json,{"dim": 3840}',
      "transformer/weights.bin": `${base}/weights.bin`,
      "page.json": `${base}/page.json`,
      "gone.bin": new URL("/gone.bin", base),
      "broken.bin": `${base}/broken.bin`,
      "short.bin": `${base}/short.bin`,
    },
    { name: "the test model" },
  );

const failure = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "nothing was thrown",
    (error: unknown) => String(error).replaceAll(base, "BASE"),
  );

test("files are listed, matched and read by range, with progress", async () => {
  const seen: ByteProgress[] = [];
  expect((await files().list()).map((entry) => entry.path)).toContain("transformer/weights.bin");
  const [source] = await files().openAll("transformer/*.bin", { onProgress: (progress) => seen.push(progress) });
  expect(source!.sizeBytes).toBe(5);
  expect(Array.from(await source!.read(1, 3))).toEqual([2, 3, 4]);
  expect(seen.at(-1)).toEqual({ file: "transformer/weights.bin", loadedBytes: 5, totalBytes: 5 });
  expect(await failure(source!.read(3, 3))).toMatchInlineSnapshot(
    `"ReadRangeError: read: bytes 3 to 6 are outside transformer/weights.bin, which has 5 bytes"`,
  );
  expect(await files().readJson("config.json")).toEqual({ dim: 3840 });
});

test("answers that are not the file say what arrived", async () => {
  expect(await failure(files().readJson("page.json"))).toMatchInlineSnapshot(
    `"UnexpectedAnswerError: open: BASE/page.json answers with a web page instead of page.json; check that the file is deployed"`,
  );
  expect(await failure(files().open("gone.bin"))).toMatchInlineSnapshot(
    `"EntryNotFoundError: open: no file gone.bin at BASE/gone.bin (404)"`,
  );
  expect(await failure(files().open("broken.bin"))).toMatchInlineSnapshot(
    `"HttpStatusError: open: broken.bin at BASE/broken.bin: HTTP 503"`,
  );
  expect(await failure(files().open("short.bin"))).toMatch(/^(NetworkError|TruncatedError): open: short\.bin/);
  expect(await failure(files().open("other.bin"))).toMatchInlineSnapshot(
    `"EntryNotFoundError: open: no file other.bin in the test model; it has config.json, transformer/weights.bin, page.json, gone.bin, broken.bin, …"`,
  );
  expect(await failure(files().localPath("config.json"))).toMatchInlineSnapshot(
    `"UnsupportedError: localPath: config.json of the test model lies at an address, not on the local disk; use open()"`,
  );
});

test("addresses that fetch cannot read are refused at once", () => {
  expect(() => urlFiles({ "a.json": "file:///a.json" })).toThrowErrorMatchingInlineSnapshot(
    `[InvalidNameError: urlFiles: a.json lies at file:///a.json, which fetch cannot read; use localFolder for files on disk]`,
  );
  expect(() => urlFiles({ "../a.json": "http://x/a.json" })).toThrowErrorMatchingInlineSnapshot(
    `[UnsafePathError: urlFiles: file name "../a.json" would leave its folder or is no portable name]`,
  );
});

test("an abort rejects with the signal's reason", async () => {
  const stop = AbortSignal.abort(new Error("enough"));
  expect(await failure(files().open("transformer/weights.bin", { signal: stop }))).toBe("Error: enough");
});
