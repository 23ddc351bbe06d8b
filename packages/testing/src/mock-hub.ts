// A Hugging Face hub on localhost for tests: listing, resolve with range, LFS redirects to a second host, tokens, and misbehaviour on demand.
// Only Node's own modules. Answers as the real hub does: /api/models/{repo}/revision/{rev}, HEAD and GET /{repo}/resolve/{rev}/{path}.
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as wait } from "node:timers/promises";

/** A repository: its files, and who may read it. Files over `lfsFromBytes` are LFS files (sha256 etag, redirect). */
export interface MockRepo {
  files: Record<string, Uint8Array | string>;
  /** Token that is needed; without one the repository is public. */
  token?: string;
  /** Answers GatedRepo to everyone who has no token, or the wrong one. */
  gated?: boolean;
  /** Further branches or tags beside `main`, all at the same commit. */
  revisions?: string[];
  /** 100 by default, so that tests need no large files. */
  lfsFromBytes?: number;
  /** The commit; made from the file contents by default, so it moves when a file is replaced. */
  commit?: string;
  /** Leaves sizes and hashes out of the listing, as some mirrors do. */
  bareListing?: boolean;
}

/** How the server misbehaves. Applies to requests whose path contains `match`, `times` times (default: always). */
export interface Fault {
  match: string;
  times?: number;
  /** Number of matching requests to let pass first. */
  after?: number;
  kind:
    | "ignoreRange" // 200 and the whole file
    | "closeEarly" // breaks the connection after `bytes`
    | "shortAnswer" // ends cleanly after `bytes` of a chunked answer
    | "html" // 200 with a login page
    | "status" // `status` with `headers`
    | "stall" // sends `bytes` and then nothing
    | "slow" // `bytes` every 10 ms
    | "corrupt" // flips a bit of every 1000th byte
    | "notJson"; // a listing that does not parse
  bytes?: number;
  status?: number;
  headers?: Record<string, string>;
  /** Called when `closeEarly` has broken the connection: the moment to change the file. */
  onBreak?: () => void;
}

/** One request the server saw. */
export interface MockRequest {
  method: string;
  path: string;
  range: string | undefined;
  authorization: string | undefined;
}

/** A running mock hub. */
export interface MockHub {
  /** What HF_ENDPOINT is set to. */
  readonly endpoint: string;
  /** Every request so far, oldest first. */
  readonly requests: MockRequest[];
  /** Bytes of file content sent so far. */
  sentBytes(): number;
  /** The commit a repository is at now. */
  commit(repo: string): string;
  addRepo(repo: string, content: MockRepo): void;
  /** Replaces or adds a file; the commit moves with it, old commits keep answering with the new bytes. */
  setFile(repo: string, path: string, content: Uint8Array | string): void;
  misbehave(fault: Fault): void;
  /** Ends all misbehaviour. */
  behave(): void;
  close(): Promise<void>;
}

interface ServedFile {
  readonly bytes: Uint8Array;
  readonly isLfs: boolean;
  readonly etag: string;
}

/** Starts a mock hub on a free port of 127.0.0.1; LFS bytes come from the host name `localhost`, another origin. */
export async function startMockHub(repos: Record<string, MockRepo> = {}): Promise<MockHub> {
  const hub = new Hub();
  for (const [name, repo] of Object.entries(repos)) hub.addRepo(name, repo);
  await hub.start();
  return hub;
}

/** Deterministic bytes for a test file. */
export function mockBytes(sizeBytes: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < sizeBytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

class Hub implements MockHub {
  readonly requests: MockRequest[] = [];
  endpoint = "";
  readonly #repos = new Map<string, MockRepo>();
  readonly #server: Server;
  #faults: Fault[] = [];
  #sentBytes = 0;

  constructor() {
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch(() => response.destroy());
    });
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.endpoint = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  sentBytes(): number {
    return this.#sentBytes;
  }

  commit(repo: string): string {
    const content = this.#repos.get(repo)!;
    const hash = createHash("sha1");
    for (const path of Object.keys(content.files).sort()) hash.update(`${path} ${served(content, path)?.etag}\n`);
    return content.commit ?? hash.digest("hex");
  }

  addRepo(repo: string, content: MockRepo): void {
    this.#repos.set(repo, { ...content, files: { ...content.files } });
  }

  setFile(repo: string, path: string, content: Uint8Array | string): void {
    this.#repos.get(repo)!.files[path] = content;
  }

  misbehave(fault: Fault): void {
    this.#faults.push({ ...fault });
  }

  behave(): void {
    this.#faults = [];
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "GET", headers } = request;
    const path = decodeURIComponent(new URL(request.url ?? "/", this.endpoint).pathname);
    this.requests.push({ method, path, range: headers.range, authorization: headers.authorization });
    const fault = this.#faultFor(path);
    if (fault?.kind === "html") return end(response, 200, { "content-type": "text/html; charset=utf-8" }, "<html>please log in</html>");
    if (fault?.kind === "status") return end(response, fault.status ?? 500, fault.headers ?? {}, "");
    if (fault?.kind === "notJson") return end(response, 200, { "content-type": "application/json" }, '{"sha": ');
    const api = /^\/api\/models\/(.+?)\/revision\/(.+)$/.exec(path);
    const resolve = /^\/(.+?)\/resolve\/([^/]+|refs\/pr\/\d+)\/(.+)$/.exec(path);
    const cdn = /^\/cdn\/([^/]+\/[^/]+|[^/]+)\/-\/(.+)$/.exec(path);
    const [, name = "", rest = "", file = ""] = api ?? resolve ?? cdn ?? [];
    const repo = this.#repos.get(name);
    const refused = repo === undefined ? "RepoNotFound" : cdn ? undefined : this.#refusal(name, repo, rest, headers.authorization);
    if (repo === undefined || refused !== undefined) return refuse(response, refused ?? "RepoNotFound");
    if (api) return end(response, 200, { "content-type": "application/json" }, JSON.stringify(this.#listing(name, repo)));
    const found = served(repo, cdn ? rest : file);
    if (found === undefined) return refuse(response, "EntryNotFound");
    if (resolve && found.isLfs) return this.#redirect(response, name, file, found);
    await this.#sendFile(request, response, found, { "x-repo-commit": this.commit(name) }, fault);
  }

  #faultFor(path: string): Fault | undefined {
    for (const fault of this.#faults) {
      if (!path.includes(fault.match) || fault.times === 0) continue;
      if ((fault.after ?? 0) > 0) {
        fault.after!--;
        continue;
      }
      if (fault.times !== undefined) fault.times--;
      return fault;
    }
    return undefined;
  }

  #refusal(name: string, repo: MockRepo, revision: string, authorization: string | undefined): string | undefined {
    const hasToken = repo.token !== undefined && authorization === `Bearer ${repo.token}`;
    if (repo.gated && !hasToken) return "GatedRepo";
    if (repo.token !== undefined && !hasToken) return authorization === undefined ? "RepoNotFound401" : "BadToken";
    const known = revision === "main" || /^[0-9a-f]{40}$/.test(revision) || revision === this.commit(name);
    return known || repo.revisions?.includes(revision) ? undefined : "RevisionNotFound";
  }

  #listing(name: string, repo: MockRepo): unknown {
    const siblings = Object.keys(repo.files).map((path) => {
      const { bytes, isLfs, etag } = served(repo, path)!;
      if (repo.bareListing) return { rfilename: path };
      const blobId = hashesOf(bytes).sha1;
      const lfs = isLfs ? { lfs: { sha256: etag, size: bytes.byteLength, pointerSize: 134 } } : {};
      return { rfilename: path, size: bytes.byteLength, blobId, ...lfs };
    });
    return { id: name, sha: this.commit(name), private: false, siblings };
  }

  #redirect(response: ServerResponse, name: string, file: string, found: ServedFile): void {
    const host = this.endpoint.replace("127.0.0.1", "localhost");
    end(response, 302, {
      location: `${host}/cdn/${name}/-/${file.split("/").map(encodeURIComponent).join("/")}`,
      "x-repo-commit": this.commit(name),
      "x-linked-size": String(found.bytes.byteLength),
      "x-linked-etag": `"${found.etag}"`,
    });
  }

  async #sendFile(
    request: IncomingMessage,
    response: ServerResponse,
    file: ServedFile,
    extra: Record<string, string>,
    fault: Fault | undefined,
  ) {
    const total = file.bytes.byteLength;
    const range = fault?.kind === "ignoreRange" ? undefined : /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const start = Number(range?.[1] ?? 0);
    const last = Math.min(total - 1, range?.[2] ? Number(range[2]) : total - 1);
    const headers: Record<string, string> = { ...extra, etag: `"${file.etag}"`, "content-type": "application/octet-stream" };
    if (range && start >= total) return end(response, 416, { ...headers, "content-range": `bytes */${total}` });
    if (range) headers["content-range"] = `bytes ${start}-${last}/${total}`;
    if (fault?.kind !== "shortAnswer") headers["content-length"] = String(last - start + 1);
    response.writeHead(range ? 206 : 200, headers);
    if (request.method === "HEAD") return void response.end();
    await this.#sendBody(response, file.bytes.subarray(start, last + 1), fault);
  }

  async #sendBody(response: ServerResponse, body: Uint8Array, fault: Fault | undefined): Promise<void> {
    const limit = fault?.bytes ?? 1000;
    if (fault?.kind === "slow") return this.#sendSlowly(response, body, limit);
    const cut = fault && ["closeEarly", "shortAnswer", "stall"].includes(fault.kind);
    const sent = fault?.kind === "corrupt" ? corrupted(body) : cut ? body.subarray(0, limit) : body;
    this.#sentBytes += sent.byteLength;
    if (fault?.kind === "closeEarly") return breakAfter(response, sent, fault);
    if (fault?.kind === "stall") return void response.write(sent);
    response.end(sent);
  }

  async #sendSlowly(response: ServerResponse, body: Uint8Array, pieceBytes: number): Promise<void> {
    for (let at = 0; at < body.byteLength && !response.destroyed; at += pieceBytes) {
      const piece = body.subarray(at, at + pieceBytes);
      this.#sentBytes += piece.byteLength;
      response.write(piece);
      await wait(10);
    }
    response.end();
  }
}

function breakAfter(response: ServerResponse, sent: Uint8Array, fault: Fault): void {
  const breakOff = () => {
    response.destroy();
    fault.onBreak?.();
  };
  response.write(sent, () => setTimeout(breakOff, 20));
}

// Large files are hashed once.
const hashed = new WeakMap<Uint8Array, { sha256: string; sha1: string }>();

function hashesOf(bytes: Uint8Array): { sha256: string; sha1: string } {
  const known = hashed.get(bytes) ?? { sha256: createHash("sha256").update(bytes).digest("hex"), sha1: gitSha1(bytes) };
  hashed.set(bytes, known);
  return known;
}

function served(repo: MockRepo, path: string): ServedFile | undefined {
  const content = Object.hasOwn(repo.files, path) ? repo.files[path] : undefined;
  if (content === undefined) return undefined;
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  const isLfs = bytes.byteLength >= (repo.lfsFromBytes ?? 100) && !/\.(json|txt|md)$/.test(path);
  const { sha256, sha1 } = hashesOf(bytes);
  return { bytes, isLfs, etag: isLfs ? sha256 : sha1 };
}

function gitSha1(bytes: Uint8Array): string {
  return createHash("sha1").update(`blob ${bytes.byteLength}\0`).update(bytes).digest("hex");
}

function corrupted(bytes: Uint8Array): Uint8Array {
  return bytes.map((value, i) => (i % 1000 === 0 ? value ^ 1 : value));
}

function refuse(response: ServerResponse, code: string): void {
  const status = { GatedRepo: 403, RepoNotFound401: 401, BadToken: 401 }[code] ?? 404;
  const headers: Record<string, string> = code === "BadToken" ? {} : { "x-error-code": code.replace("401", "") };
  end(response, status, headers, JSON.stringify({ error: code }));
}

function end(response: ServerResponse, status: number, headers: Record<string, string>, body = ""): void {
  response.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body) });
  response.end(body);
}
