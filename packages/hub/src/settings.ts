// What a caller may set about a repository, and the same with every default filled in.
import type { ByteProgress } from "./model-files.ts";
import type { Fetch, HttpSettings } from "./remote/http.ts";

/** Options of `huggingFace`; what is absent comes from the environment of the Python library, where there is one. */
export interface HubOptions {
  /** Branch, tag or commit; `main` by default. A full commit hash never changes and needs no network once cached. */
  revision?: string;
  /** Access token; by default HF_TOKEN or the token file of the Python library. `false` sends none. */
  token?: string | false;
  /** Server root; by default HF_ENDPOINT or https://huggingface.co. */
  endpoint?: string;
  /** Cache folder; by default HF_HUB_CACHE, or `hub` in HF_HOME, or ~/.cache/huggingface/hub. */
  cacheDir?: string;
  /** Use the cache only; by default HF_HUB_OFFLINE. */
  offline?: boolean;
  /** Replaces the global `fetch`. */
  fetch?: Fetch;
  /** Files downloaded at once by `openAll` and `download`; 4 by default. */
  parallelFiles?: number;
  /** Failures in a row, without progress, after which a transfer gives up; 5 by default. */
  retries?: number;
  /** First wait before a retry, doubled each time up to 30 s; 500 by default. */
  retryDelayMs?: number;
  /** Silence after which a connection counts as broken; 30,000 by default. */
  stallTimeoutMs?: number;
  /** Aborts everything these files do. */
  signal?: AbortSignal;
  /** Called for every file as bytes arrive. */
  onProgress?: (progress: ByteProgress) => void;
  /** Called with a sentence when something worth telling happened, such as falling back to the cache without a network. */
  onNotice?: (text: string) => void;
}

/** `HubOptions` with every default filled in. */
export interface HubSettings {
  readonly repo: string;
  readonly revision: string;
  readonly http: HttpSettings;
  readonly cacheDir: string;
  readonly offline: boolean;
  readonly parallelFiles: number;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((progress: ByteProgress) => void) | undefined;
  readonly onNotice: (text: string) => void;
}

/** What the environment contributes where an option is absent. */
export interface HubDefaults {
  /** Access token. */
  readonly token?: string | undefined;
  /** Server root. */
  readonly endpoint: string;
  /** Cache folder. */
  readonly cacheDir: string;
  /** Use the cache only. */
  readonly offline: boolean;
}

/** The hub that everybody uses. */
export const publicEndpoint = "https://huggingface.co";

/** Fills in the options of `repo` from `defaults` and constants. */
export function resolveSettings(repo: string, options: HubOptions, defaults: Partial<HubDefaults>): HubSettings {
  const token = options.token === false ? undefined : options.token || defaults.token;
  const endpoint = (options.endpoint || defaults.endpoint || publicEndpoint).replace(/\/+$/, "");
  const { retries = 5, retryDelayMs = 500, stallTimeoutMs = 30_000 } = options;
  return {
    repo,
    revision: options.revision ?? "main",
    http: { fetch: options.fetch ?? ((url, init) => fetch(url, init)), endpoint, token, retries, retryDelayMs, stallTimeoutMs },
    cacheDir: options.cacheDir ?? defaults.cacheDir ?? "",
    offline: options.offline ?? defaults.offline ?? false,
    parallelFiles: options.parallelFiles ?? 4,
    signal: options.signal,
    onProgress: options.onProgress,
    onNotice: options.onNotice ?? (() => undefined),
  };
}
