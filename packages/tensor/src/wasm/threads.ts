// Worker threads in Node and in browsers: how many there may be, and how one is started from a script's text.
import { nodeModule } from "./features.ts";

const maxThreads = 32;

/** Cores this process may use. */
export function availableThreads(): number {
  const os = nodeModule<{ availableParallelism(): number }>("node:os");
  const cores =
    os?.availableParallelism() ?? (globalThis as { navigator?: { hardwareConcurrency?: number } }).navigator?.hardwareConcurrency ?? 1;
  return Math.min(maxThreads, Math.max(1, cores));
}

/** What a thread tells. */
export interface ThreadEvents {
  /** It could not start, or an error ended it. */
  onError(error: unknown): void;
  /** It sent a message. */
  onMessage?(message: unknown): void;
}

/** A running thread. */
export interface Thread {
  /** Sends a message; the buffers in `transfer` move there. */
  send(message: object, transfer?: readonly ArrayBuffer[]): void;
  /** Whether the process (Node only) waits for this thread; at first it does not. */
  hold(on: boolean): void;
  /** Ends it at once. */
  stop(): void;
}

interface NodeWorker {
  ref(): void;
  unref(): void;
  on(event: "error" | "message", listener: (value: unknown) => void): void;
  postMessage(message: object, transfer?: readonly ArrayBuffer[]): void;
  terminate(): Promise<number>;
}

interface WebWorker {
  onerror: ((event: { readonly message?: string }) => void) | null;
  onmessage: ((event: { readonly data: unknown }) => void) | null;
  postMessage(message: object, transfer?: readonly ArrayBuffer[]): void;
  terminate(): void;
}

/** Calls the script's `main` with its data, a function that sets the listener for messages, and one that sends. */
const epilogue = `
if (typeof require === "function") {
  const { workerData, parentPort } = require("node:worker_threads");
  main(workerData, (listen) => parentPort.on("message", listen), (message, transfer) => parentPort.postMessage(message, transfer));
} else onmessage = ({ data }) => main(data, (listen) => (onmessage = (event) => listen(event.data)), (message, transfer) => postMessage(message, transfer));
`;

/** Starts a thread that runs `main(data, onMessage, send)` of `script`; throws where threads cannot be started at all. */
export function startThread(script: string, data: object, events: ThreadEvents): Thread {
  const source = `${script}${epilogue}`;
  const threads = nodeModule<{ Worker: new (source: string, options: object) => NodeWorker }>("node:worker_threads");
  if (!threads) return startWebWorker(source, data, events);
  const worker = new threads.Worker(source, { eval: true, workerData: data, execArgv: [], name: "wick" });
  worker.on("error", (error) => events.onError(error));
  worker.on("message", (message) => events.onMessage?.(message));
  worker.unref();
  return {
    send: (message, transfer) => worker.postMessage(message, transfer),
    hold: (on) => (on ? worker.ref() : worker.unref()),
    stop: () => void worker.terminate().catch((error: unknown) => events.onError(error)),
  };
}

function startWebWorker(source: string, data: object, events: ThreadEvents): Thread {
  const { Worker: WorkerClass } = globalThis as unknown as { Worker: new (url: string) => WebWorker };
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new WorkerClass(url);
  worker.onerror = ({ message }) => events.onError(new Error(message));
  worker.onmessage = ({ data: message }) => events.onMessage?.(message);
  worker.postMessage(data);
  return {
    send: (message, transfer) => worker.postMessage(message, transfer),
    hold: () => {},
    stop: () => {
      worker.terminate();
      URL.revokeObjectURL(url);
    },
  };
}
