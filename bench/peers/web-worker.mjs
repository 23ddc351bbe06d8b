// The browser's Worker on Node's threads: as much of it as jax-js needs for its pool.
import { resolveObjectURL } from "node:buffer";
import { Worker as Thread } from "node:worker_threads";

const prelude = `
const { parentPort } = require("node:worker_threads");
globalThis.self = globalThis;
globalThis.postMessage = (message) => parentPort.postMessage(message);
parentPort.on("message", (data) => globalThis.onmessage({ data }));
`;

class WebWorker {
  onmessage = () => {};
  onerror = () => {};
  constructor(url) {
    this.thread = resolveObjectURL(url)
      .text()
      .then((code) => this.start(code));
  }
  start(code) {
    const thread = new Thread(prelude + code, { eval: true });
    thread.on("message", (data) => this.onmessage({ data }));
    thread.on("error", (error) => this.onerror(error));
    return thread;
  }
  postMessage(message) {
    this.thread.then((thread) => thread.postMessage(message));
  }
  terminate() {
    this.thread.then((thread) => thread.terminate());
  }
}

/** Defines navigator.hardwareConcurrency, and for more than one thread Worker, as a browser with `threads` cores has them. */
export function installBrowser(threads) {
  if (threads > 1) globalThis.Worker = WebWorker;
  Object.defineProperty(globalThis, "navigator", { value: { hardwareConcurrency: threads }, configurable: true });
}
