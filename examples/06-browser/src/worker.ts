// The computing half: opens a device and the model, draws and verifies, one order at a time, while the page stays alive.
import type { PipelineProgress } from "@wick/diffusion";
import { urlFiles } from "@wick/hub";
import { type ZImagePipeline, zImage } from "@wick/models-zimage";
import { type Device, memorySource } from "@wick/tensor";
import { tinyZImage } from "@wick/tiny-zimage";
import { deviceFacts, formatBytes, openDevice } from "./devices.ts";
import type { Order, Report } from "./messages.ts";
import { verify } from "./verify.ts";

const referenceUrl = new URL("../../../packages/tiny-zimage/test/reference-outputs/fox_seed1_g0.safetensors", import.meta.url);

interface Port {
  postMessage(report: Report): void;
  onmessage: ((event: MessageEvent<Order>) => void) | null;
}
const port = globalThis as unknown as Port;

interface Open {
  readonly device: Device;
  readonly pipe: ZImagePipeline;
}
let open: Open | undefined;
let stop = new AbortController();
/** Orders wait for the one before. */
let last: Promise<void> = Promise.resolve();

port.onmessage = ({ data }) => {
  if (data.type === "stop") return stop.abort();
  last = last.then(() => obey(data));
};

async function obey(order: Order): Promise<void> {
  stop = new AbortController();
  const { signal } = stop;
  try {
    if (order.type === "open") await openModel(order);
    else if (!open) throw new Error("no device is open");
    else if (order.type === "draw") await draw(open, order, signal);
    else await verifyAll(open, signal);
  } catch (error) {
    port.postMessage(signal.aborted ? { type: "stopped" } : { type: "failed", message: (error as Error).message });
  }
}

async function openModel({ device: choice }: Extract<Order, { type: "open" }>): Promise<void> {
  open?.pipe[Symbol.dispose]();
  open?.device.destroy();
  open = undefined;
  const { device, note } = await openDevice(choice);
  const { widthPixels: width, heightPixels: height, steps, guidance } = tinyZImage.defaults;
  const pipe = await zImage(device, {
    files: urlFiles(tinyZImage.files, { name: "the embedded model" }),
    defaults: { width, height, steps, guidance },
    onDownload: ({ file, loadedBytes, totalBytes }) =>
      port.postMessage({ type: "progress", text: `Fetching ${file}`, fraction: loadedBytes / totalBytes }),
  });
  open = { device, pipe };
  port.postMessage({ type: "ready", facts: deviceFacts(device), note });
}

async function draw({ device, pipe }: Open, order: Extract<Order, { type: "draw" }>, signal: AbortSignal): Promise<void> {
  const { prompt, seed, steps, guidance } = order;
  const started = performance.now();
  device.resetPeak();
  const times: number[] = [];
  const onProgress = (p: PipelineProgress) => {
    const isPreview = p.stage === "decode" && times.length < steps;
    if (!isPreview) port.postMessage({ type: "progress", ...progressText(p, device) });
  };
  const run = pipe.steps({ prompt, seed, steps, guidance, signal, onProgress });
  for (;;) {
    const step = await run.next();
    if (step.done) {
      using latents = step.value;
      const [picture] = await pipe.decode(latents, { signal });
      const facts = runFacts(device, performance.now() - started, times);
      return port.postMessage({ type: "done", picture: picture!, facts });
    }
    const { index, count, elapsedMs } = step.value;
    times.push(elapsedMs);
    const [picture] = await step.value.preview();
    port.postMessage({ type: "step", step: index + 1, steps: count, picture: picture!, elapsedMs });
  }
}

/** Devices that have drawn: the first picture on a GPU waits for its kernels to be compiled. */
const warm = new WeakSet<Device>();

function progressText(p: PipelineProgress, device: Device): { text: string; fraction: number } {
  if (p.stage === "load")
    return { text: `Loading the ${p.model.replace("_", " ")}`, fraction: p.progress.loadedBytes / p.progress.totalBytes };
  if (p.stage === "encode") return { text: "Reading the prompt", fraction: 0 };
  if (p.stage === "decode") return { text: "Decoding the picture", fraction: 1 };
  if (p.stage === "step") {
    warm.add(device);
    return { text: `Step ${p.step} of ${p.steps}`, fraction: p.step / p.steps };
  }
  const compiling = device.kind === "webgpu" && !warm.has(device) ? "; the first one waits for kernels to be compiled" : "";
  const text = `Step ${p.step + 1} of ${p.steps}, block ${p.block} of ${p.blocks}${compiling}`;
  return { text, fraction: (p.step + p.block / p.blocks) / p.steps };
}

function runFacts(device: Device, totalMs: number, times: readonly number[]): [string, string][] {
  const median = [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0;
  const { pooledBytes } = device.memory();
  return [
    ["Total, with previews", `${(totalMs / 1000).toFixed(2)} s`],
    ["One step (median)", `${median.toFixed(0)} ms`],
    ["Weights in memory", formatBytes(device.liveBytes)],
    ["Peak of tensors", formatBytes(device.peakBytes)],
    ["Kept for reuse", formatBytes(pooledBytes)],
  ];
}

async function verifyAll({ pipe }: Open, signal: AbortSignal): Promise<void> {
  const started = performance.now();
  const bytes = new Uint8Array(await (await fetch(referenceUrl, { signal })).arrayBuffer());
  let isPassed = true;
  for await (const check of verify(pipe, memorySource(bytes, "the PyTorch reference"), signal)) {
    isPassed &&= check.isPassed;
    port.postMessage({ type: "check", check });
  }
  port.postMessage({ type: "verified", isPassed, totalMs: performance.now() - started });
}
