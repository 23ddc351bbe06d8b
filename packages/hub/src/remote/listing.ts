// The hub's answer to "which files are there": GET /api/models/{repo}/revision/{revision}?blobs=true.
import { UnexpectedAnswerError } from "../errors.ts";
import type { FileEntry } from "../model-files.ts";
import { checkEtag, checkFilePath, isCommit, plainEtag } from "../names.ts";
import { getJson, type HttpSettings, type RequestContext, StallGuard, send, subject, withRetries } from "./http.ts";

/** The files of one commit of a repository. */
export interface Listing {
  readonly commit: string;
  readonly entries: ReadonlyMap<string, FileEntry>;
}

const fileLimit = 100_000;

/**
 * Asks the hub for a revision's commit and files; every name and hash in the answer is checked before use.
 * Throws UnexpectedAnswerError for any other answer.
 */
export async function fetchListing(http: HttpSettings, repo: string, revision: string, signal?: AbortSignal): Promise<Listing> {
  const context: RequestContext = { op: "huggingFace", repo, revision };
  const url = `${http.endpoint}/api/models/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`;
  const answer = (await getJson(http, url, context, signal)) as { sha?: unknown; siblings?: unknown } | null;
  const { sha, siblings } = answer ?? {};
  if (typeof sha !== "string" || !isCommit(sha) || !Array.isArray(siblings) || siblings.length > fileLimit) {
    const detail = `${subject(context)}: the listing has no commit and file list: ${url}; check HF_ENDPOINT`;
    throw new UnexpectedAnswerError(context.op, detail);
  }
  const entries = new Map<string, FileEntry>();
  for (const sibling of siblings) {
    const entry = readEntry(sibling, context);
    entries.set(entry.path, entry);
  }
  return { commit: sha, entries };
}

/**
 * Fills in size and etag with a HEAD request where a server's listing does not carry them.
 * Throws UnexpectedAnswerError when the server says neither.
 */
export async function withMetadata(
  http: HttpSettings,
  entry: FileEntry,
  context: RequestContext,
  commit: string,
  outer?: AbortSignal,
): Promise<Required<FileEntry>> {
  if (entry.sizeBytes !== undefined && entry.etag !== undefined) return entry as Required<FileEntry>;
  const headers = await headOf(http, fileUrl(http, context.repo, commit, entry.path), context, outer);
  const etag = headers.get("x-linked-etag") ?? headers.get("etag");
  const sizeBytes = Number(headers.get("x-linked-size") ?? headers.get("content-length") ?? Number.NaN);
  if (etag === null || !Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
    throw new UnexpectedAnswerError(context.op, `${subject(context)}: the server states no size and etag; check HF_ENDPOINT`);
  }
  return { path: entry.path, sizeBytes, etag: checkEtag(context.op, plainEtag(etag)) };
}

/** The address a file's bytes are read from, pinned to a commit. */
export function fileUrl(http: HttpSettings, repo: string, commit: string, path: string): string {
  return `${http.endpoint}/${repo}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`;
}

// The first answer carries the file's own size and etag; where it redirects to depends on the host, so the redirect is not followed.
async function headOf(http: HttpSettings, url: string, context: RequestContext, outer?: AbortSignal): Promise<Headers> {
  return withRetries(http, outer, async () => {
    const guard = new StallGuard(http.stallTimeoutMs, outer);
    const acceptRedirect: HttpSettings = { ...http, fetch: async (address, init) => asOk(await http.fetch(address, init)) };
    try {
      const init = { method: "HEAD", redirect: "manual", signal: guard.signal, headers: { "accept-encoding": "identity" } } as const;
      return (await send(acceptRedirect, url, init, context)).headers;
    } finally {
      guard.stop();
    }
  });
}

function asOk(response: Response): Response {
  if (response.status < 300 || response.status >= 400) return response;
  return new Response(null, { status: 200, headers: response.headers });
}

function readEntry(value: unknown, context: RequestContext): FileEntry {
  const { rfilename, size, blobId, lfs } = (value ?? {}) as Record<string, unknown>;
  if (typeof rfilename !== "string") {
    throw new UnexpectedAnswerError(context.op, `${subject(context)}: the listing has a file without a name; check HF_ENDPOINT`);
  }
  const path = checkFilePath(context.op, rfilename);
  const large = (lfs ?? {}) as Record<string, unknown>;
  const sizeBytes = wholeNumber(large["size"]) ?? wholeNumber(size);
  const etag = textOf(large["sha256"]) ?? textOf(large["oid"]) ?? textOf(blobId);
  return {
    path,
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
    ...(etag === undefined ? {} : { etag: checkEtag(context.op, etag.replace(/^sha256:/, "")) }),
  };
}

function wholeNumber(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
