// One HTTP request with retries, back-off and a stall limit, and the mapping from a refusal to a typed error with its remedy.
import {
  AccessDeniedError,
  EntryNotFoundError,
  GatedRepoError,
  HttpStatusError,
  type HubError,
  NetworkError,
  RepoNotFoundError,
  RevisionNotFoundError,
  UnexpectedAnswerError,
} from "../errors.ts";

export type Fetch = (url: string, init?: RequestInit) => Promise<Response>;

/** How a hub is spoken to; every field is resolved (no environment lookups below this point). */
export interface HttpSettings {
  readonly fetch: Fetch;
  /** Server root without a trailing slash, such as `https://huggingface.co`. */
  readonly endpoint: string;
  readonly token: string | undefined;
  /** Attempts in a row that may fail without progress before giving up. */
  readonly retries: number;
  /** First back-off; doubles with every attempt up to `longestDelayMs`. */
  readonly retryDelayMs: number;
  /** A connection that delivers nothing for this long counts as failed. */
  readonly stallTimeoutMs: number;
}

/** What a request is about, for error messages. */
export interface RequestContext {
  readonly op: string;
  readonly repo: string;
  readonly revision: string;
  readonly path?: string;
}

const longestDelayMs = 30_000;
const jsonLimitBytes = 64 * 2 ** 20;
const retriedStatus = new Set([408, 425, 429, 500, 502, 503, 504]);

/** An attempt's abort signal: fires on the caller's abort, or when `touch` was not called for `stallTimeoutMs`. */
export class StallGuard {
  readonly signal: AbortSignal;
  readonly #stalled = new AbortController();
  readonly #limitMs: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(limitMs: number, outer: AbortSignal | undefined) {
    this.#limitMs = limitMs;
    this.signal = outer ? AbortSignal.any([outer, this.#stalled.signal]) : this.#stalled.signal;
    this.touch();
  }

  touch(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#stalled.abort(new Error(`nothing arrived for ${this.#limitMs} ms`)), this.#limitMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

/** A failure after which the same request may succeed. */
export class TransientFailure extends Error {
  readonly failure: HubError;
  readonly waitMs: number | undefined;
  constructor(failure: HubError, waitMs?: number) {
    super(failure.message, { cause: failure });
    this.failure = failure;
    this.waitMs = waitMs;
  }
}

/** Runs `attempt` until it returns, throws a final error, or failed `retries + 1` times in a row; `attempt` is given a reset function. */
export async function withRetries<T>(
  http: HttpSettings,
  signal: AbortSignal | undefined,
  attempt: (progressed: () => void) => Promise<T>,
): Promise<T> {
  for (let failures = 0; ; failures++) {
    signal?.throwIfAborted();
    try {
      return await attempt(() => {
        failures = 0;
      });
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof TransientFailure)) throw error;
      if (failures >= http.retries) throw error.failure;
      const backOffMs = Math.min(longestDelayMs, http.retryDelayMs * 2 ** failures) * (0.75 + 0.5 * Math.random());
      await delay(Math.min(longestDelayMs, error.waitMs ?? backOffMs), signal);
    }
  }
}

/** Sends one request; resolves to a 2xx (or 416) answer, throws `TransientFailure` or a final `HubError` otherwise. */
export async function send(http: HttpSettings, url: string, init: RequestInit, context: RequestContext): Promise<Response> {
  let response: Response;
  try {
    response = await http.fetch(url, { ...init, headers: { ...authorization(http, url), ...(init.headers as Record<string, string>) } });
  } catch (cause) {
    throw new TransientFailure(unreachable(http, context, cause));
  }
  if (response.ok || response.status === 416) return response;
  void response.body?.cancel().catch(() => undefined);
  const failure = refusal(http, response, context);
  if (retriedStatus.has(response.status)) throw new TransientFailure(failure, retryAfterMs(response));
  throw failure;
}

/** GETs JSON (at most 64 MiB), with retries; a web page or broken JSON is an `UnexpectedAnswerError`. */
export async function getJson(http: HttpSettings, url: string, context: RequestContext, outer?: AbortSignal): Promise<unknown> {
  return withRetries(http, outer, async () => {
    const guard = new StallGuard(http.stallTimeoutMs, outer);
    try {
      const response = await send(http, url, { signal: guard.signal }, context);
      refuseHtml(response, url, context);
      return parseJson(await readText(response, url, context, guard), url, context);
    } finally {
      guard.stop();
    }
  });
}

/** Throws `UnexpectedAnswerError` when the answer is a web page (a login or proxy page, mostly). */
export function refuseHtml(response: Response, url: string, context: RequestContext): void {
  const type = response.headers.get("content-type") ?? "";
  if (!/^\s*(text\/html|application\/xhtml)/i.test(type) || /\.x?html?$/i.test(context.path ?? "")) return;
  void response.body?.cancel().catch(() => undefined);
  const remedy = "a proxy, login page or wrong endpoint is in the way; check HF_ENDPOINT and open the address in a browser";
  throw new UnexpectedAnswerError(context.op, `${subject(context)}: the server sent a web page instead of the data: ${url}; ${remedy}`);
}

/** `org/name@revision path`, as error messages say it. */
export function subject(context: RequestContext): string {
  return `${context.repo}@${context.revision}${context.path === undefined ? "" : ` ${context.path}`}`;
}

/** A `NetworkError` for a request that never got an answer. */
function unreachable(http: HttpSettings, context: RequestContext, cause: unknown): NetworkError {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  const why = inner instanceof Error ? inner.message || inner.name : String(inner);
  const detail = `${subject(context)}: no answer from ${http.endpoint}: ${why}`;
  return new NetworkError(context.op, `${detail}; check the connection and HF_ENDPOINT, or set offline: true to use the cache only`, {
    cause,
  });
}

/** Resolves after `ms`; rejects with the signal's reason when it aborts first. */
export function delay(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

// The token goes to the hub itself only; fetch drops the header on a redirect to another host.
function authorization(http: HttpSettings, url: string): Record<string, string> {
  return http.token !== undefined && url.startsWith(`${http.endpoint}/`) ? { authorization: `Bearer ${http.token}` } : {};
}

async function readText(response: Response, url: string, context: RequestContext, guard: StallGuard): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let sizeBytes = 0;
  try {
    for await (const chunk of chunksOf(response)) {
      guard.touch();
      sizeBytes += chunk.byteLength;
      if (sizeBytes > jsonLimitBytes) break;
      text += decoder.decode(chunk, { stream: true });
    }
  } catch (cause) {
    throw new TransientFailure(new NetworkError(context.op, `${subject(context)}: the answer broke off: ${url}; try again`, { cause }));
  }
  if (sizeBytes <= jsonLimitBytes) return text + decoder.decode();
  throw new UnexpectedAnswerError(context.op, `${subject(context)}: the answer is longer than ${jsonLimitBytes} bytes: ${url}`);
}

function parseJson(text: string, url: string, context: RequestContext): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    const detail = `${subject(context)}: the server's answer is not JSON: ${url}; check HF_ENDPOINT`;
    throw new UnexpectedAnswerError(context.op, detail, { cause });
  }
}

/** The pieces of a response body, in every environment (not all browsers iterate streams); stops the transfer when left early. */
export async function* chunksOf(response: Response): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader() as ReadableStreamDefaultReader<Uint8Array> | undefined;
  if (reader === undefined) return;
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) yield piece.value;
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function retryAfterMs(response: Response): number | undefined {
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined;
}

function refusal(http: HttpSettings, response: Response, context: RequestContext): HubError {
  const code = response.headers.get("x-error-code") ?? "";
  const said = response.headers.get("x-error-message") ?? "";
  const { op } = context;
  const at = subject(context);
  const page = `${http.endpoint}/${context.repo}`;
  if (code === "GatedRepo" || (response.status === 403 && /gated|restricted/i.test(said))) {
    return new GatedRepoError(op, `${at}: the licence must be accepted first; accept it at ${page} and pass a token (HF_TOKEN)`);
  }
  if (code === "RevisionNotFound") {
    return new RevisionNotFoundError(op, `${at}: no such branch, tag or commit; see ${page}/commits/main`);
  }
  if (code === "EntryNotFound") return new EntryNotFoundError(op, `${at}: no such file; see ${page}/tree/${context.revision}`);
  if (code === "RepoNotFound" || (response.status === 404 && context.path === undefined)) {
    return new RepoNotFoundError(
      op,
      `${at}: no such repository, or it is private; check the spelling at ${page}, or pass a token (HF_TOKEN)`,
    );
  }
  if (response.status === 404) return new EntryNotFoundError(op, `${at}: no such file; see ${page}/tree/${context.revision}`);
  if (response.status === 401 || response.status === 403) return denied(http, response.status, said, context);
  const detail = `${at}: the server answered ${response.status}${said ? ` (${said})` : ""}`;
  return new HttpStatusError(op, `${detail}; try again later, or check HF_ENDPOINT (${http.endpoint})`, response.status);
}

function denied(http: HttpSettings, status: number, said: string, context: RequestContext): AccessDeniedError {
  const remedy =
    http.token === undefined
      ? "pass a token (HF_TOKEN) that may read this repository"
      : "the token is invalid or may not read this repository; make a new one with read access";
  return new AccessDeniedError(context.op, `${subject(context)}: access refused (${status}${said ? `, ${said}` : ""}); ${remedy}`);
}
