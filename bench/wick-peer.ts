// Wick in the protocol of peers/protocol.mjs. Usage: wick-peer.ts cpu THREADS [fma|wide]  or  wick-peer.ts webgpu TIER|auto
import { readFileSync } from "node:fs";
import { cpu, type Device, scope, Tensor, webgpu } from "@wick/tensor";
import { peakMeter } from "./cpu-peak.ts";
import { values } from "./peers/data.mjs";
import { type Contestant, type Job, serve, Unsupported } from "./peers/protocol.mjs";
import { wickModules } from "./wick-modules.ts";
import { type Spec, wickOps } from "./wick-ops.ts";

const [kind, variant = "auto", v8] = process.argv.slice(2);

async function openDevice(): Promise<Device> {
  if (kind === "cpu") return cpu({ threads: Number(variant), ...(v8 === "fma" || v8 === "wide" ? { v8 } : {}) });
  // Tiers grow over time; an unknown one is the device's own error.
  return webgpu(variant === "auto" ? {} : { tier: variant as "plain" });
}

async function prepare(device: Device, spec: Spec & { readonly op: string }, inputs: Readonly<Record<string, Float32Array>>): Promise<Job> {
  const make = wickOps[spec.op];
  const makeModule = wickModules[spec.op];
  if (!make && !makeModule) throw new Unsupported(`no ${spec.op}`);
  device.resetPeak();
  const compute = make ? make(device, spec, inputs) : await makeModule!(device, spec);
  let last: Tensor | ArrayLike<number> | undefined;
  return {
    run: async () => {
      if (last instanceof Tensor) last.dispose();
      last = make || spec.op !== "tinyPicture" ? scope(() => (compute() as Tensor).compute()) : await compute();
      await device.idle();
    },
    output: async () =>
      last instanceof Tensor ? Float32Array.from((await last.toArray()) as Float32Array) : Array.from(last!, (v) => v / 255),
    deviceBytes: () => device.memory().peakBytes,
  };
}

/** What the machine can do at most, by the same threads: multiply-add in registers, and a copy of 16 MiB. */
function references(device: Device): () => Promise<Record<string, number>> {
  const peak = kind === "cpu" ? peakMeter(device.capabilities.tier !== "wasm") : undefined;
  const x = device.tensor(values(4 * 2 ** 20, 1));
  const copyMs = async (): Promise<number> => {
    const start = performance.now();
    using _ = x.copy();
    await device.idle();
    return performance.now() - start;
  };
  return async () => {
    const times: number[] = [];
    for (let i = 0; i < 9; i++) times.push(await copyMs());
    const best = times.slice(2).sort((a, b) => a - b)[3]!;
    return { copyGBs: (2 * x.byteLength) / best / 1e6, ...(peak ? { peakGflopsPerThread: peak() } : {}) };
  };
}

await serve(async (): Promise<Contestant> => {
  const device = await openDevice();
  const { version } = JSON.parse(readFileSync(new URL("../packages/tensor/package.json", import.meta.url), "utf8"));
  return {
    version,
    detail: device.description,
    prepare: (spec, inputs) => prepare(device, spec as Spec & { op: string }, inputs),
    reference: references(device),
  };
});
