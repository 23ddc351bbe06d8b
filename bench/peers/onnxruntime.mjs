// onnxruntime in the protocol. Usage: node onnxruntime.mjs web|node cpu|webgpu THREADS
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { graphOf } from "./onnx-graphs.mjs";
import { onnxModel } from "./onnx-model.mjs";
import { serve } from "./protocol.mjs";

const [kind, device, threadsText] = process.argv.slice(2);
const threads = Number(threadsText);

async function library() {
  const name = `onnxruntime-${kind}`;
  const ort = await import(name);
  const manifest = createRequire(import.meta.url)
    .resolve(name)
    .replace(/\/dist\/.*$/, "/package.json");
  return { ort: ort.default?.InferenceSession ? ort.default : ort, version: JSON.parse(readFileSync(manifest, "utf8")).version };
}

/** Inputs fed from JavaScript and the output fetched whole: right for a CPU, whose memory is the same. */
function onCpu(graph) {
  const { nodes, data, constants, output } = graph;
  return onnxModel({ nodes, constants, inputs: data, outputs: [{ name: "out", shape: output }] });
}

/** Everything stays on the GPU: inputs are constants, and only 16 values of the output come back, which also waits for the work. */
function onGpu({ nodes, data, constants, output }) {
  const size = output.reduce((a, b) => a * b, 1);
  const at = BigInt64Array.from({ length: 16 }, (_, i) => BigInt(Math.floor((i * (size - 1)) / 15)));
  const flat = [
    { op: "Reshape", inputs: ["out", "all"], outputs: ["flat"] },
    { op: "Gather", inputs: ["flat", "at"], outputs: ["few"], attributes: { axis: 0 } },
  ];
  const extra = [
    { name: "all", type: "i64", shape: [1], data: BigInt64Array.of(BigInt(size)) },
    { name: "at", type: "i64", shape: [16], data: at },
  ];
  return onnxModel({
    nodes: [...nodes, ...flat],
    constants: [...constants, ...data, ...extra],
    inputs: [],
    outputs: [{ name: "few", shape: [16] }],
  });
}

async function prepare(ort, spec, inputs) {
  const graph = graphOf(spec, inputs);
  const gpu = device === "webgpu";
  const model = gpu ? onGpu(graph) : onCpu(graph);
  const start = performance.now();
  const session = await ort.InferenceSession.create(model, {
    executionProviders: [gpu ? "webgpu" : kind === "web" ? "wasm" : "cpu"],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    // Constant inputs would be folded away with optimizations on; a graph of one operator has nothing else to gain.
    graphOptimizationLevel: gpu ? "disabled" : "all",
    logSeverityLevel: 3,
  });
  const setupMs = performance.now() - start;
  const feeds = gpu ? {} : Object.fromEntries(graph.data.map(({ name, shape, data }) => [name, new ort.Tensor("float32", data, shape)]));
  let result;
  return {
    note: graph.note,
    setupMs,
    run: async () => {
      result = await session.run(feeds);
    },
    output: () => result[gpu ? "few" : "out"].data,
  };
}

await serve(async () => {
  const { ort, version } = await library();
  if (kind === "web") ort.env.wasm.numThreads = threads;
  return {
    version,
    detail: device === "webgpu" ? "WebGPU provider" : `${threads} thread${threads > 1 ? "s" : ""}`,
    prepare: (s, i) => prepare(ort, s, i),
  };
});
