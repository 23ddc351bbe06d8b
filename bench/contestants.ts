// Who takes part in a comparison and how each is started. The peers live in bench/peers with a lockfile of their own.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { commandOutput } from "./machine.ts";

/** One library on one runtime with one number of threads. */
export interface Contestant {
  readonly name: string;
  readonly library: string;
  readonly runtime: string;
  readonly threads: number | undefined;
  /** What sets it apart from another entry of the same library, such as a tier or a flag. */
  readonly variant: string | undefined;
  readonly command: string;
  readonly args: readonly string[];
  /** Why it cannot even be started. */
  readonly absent?: string | undefined;
}

export interface ContestantOptions {
  readonly device: "cpu" | "webgpu";
  /** Paths of the Node binaries to use. */
  readonly nodes: readonly string[];
  readonly threads: readonly number[];
  /** Also Wick with V8's experimental flags (CPU) or each kernel tier (WebGPU). */
  readonly variants: readonly string[];
}

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

function contestant(
  library: string,
  [runtime, command, ...args]: readonly [string, string, ...string[]],
  { threads, variant }: { threads?: number; variant?: string } = {},
): Contestant {
  const size = threads === undefined ? [] : [`${threads} thread${threads > 1 ? "s" : ""}`];
  const name = [library, runtime, ...size, ...(variant ? [variant] : [])].join(", ");
  const needsPeers = args.some((arg) => /peers\/.*\.mjs$/.test(arg));
  return { name, library, runtime, threads, variant, command, args, absent: needsPeers ? peersMissing() : undefined };
}

const nodeName = (node: string): string => `Node ${commandOutput(node, ["--version"])?.replace(/^v(\d+)\..*/, "$1") ?? "?"}`;
/** In a folder made by pack.sh the sources are bundled; elsewhere they run as they are. */
const wickScript = import.meta.url.endsWith(".mjs")
  ? [here("wick-peer.mjs")]
  : ["--conditions=@wick/source", "--import", "tsx", here("wick-peer.ts")];
const wick = (node: string, ...args: string[]): [string, string, ...string[]] => [nodeName(node), node, ...wickScript, ...args];
const peer = (node: string, file: string, ...args: string[]): [string, string, ...string[]] => [
  nodeName(node),
  node,
  here(`peers/${file}`),
  ...args,
];

/** Python with PyTorch: WICK_PYTHON, or python3. */
export const python = (): string => process.env["WICK_PYTHON"] ?? "python3";

/** Multiply-add is a flag before Node 22 and the default after; 256-bit vectors are a flag from Node 24 on. */
function takes(node: string, v8: string): boolean {
  const major = Number(nodeName(node).replace(/\D/g, ""));
  return v8 === "wide" ? major >= 24 : v8 === "fma" ? major < 22 : true;
}

function cpuContestants({ nodes, threads, variants }: ContestantOptions): Contestant[] {
  const perNode = nodes.flatMap((node) => [
    ...threads.flatMap((n) => [
      contestant("wick", wick(node, "cpu", `${n}`), { threads: n }),
      ...variants
        .filter((v8) => takes(node, v8))
        .map((v8) => contestant("wick", wick(node, "cpu", `${n}`, v8), { threads: n, variant: v8 })),
      contestant("onnxruntime-web", peer(node, "onnxruntime.mjs", "web", "cpu", `${n}`), { threads: n }),
      contestant("jax-js", peer(node, "jax.mjs", "wasm", `${n}`), { threads: n }),
    ]),
    contestant("tfjs-wasm", peer(node, "tfjs.mjs"), { threads: 1 }),
  ]);
  const native = threads.flatMap((n) => [
    contestant("onnxruntime-node", ["native", nodes[0]!, here("peers/onnxruntime.mjs"), "node", "cpu", `${n}`], { threads: n }),
    contestant("PyTorch", ["native", python(), here("peers/torch_peer.py"), "cpu", `${n}`], { threads: n }),
  ]);
  return [...perNode, ...native];
}

function webgpuContestants({ nodes, variants }: ContestantOptions): Contestant[] {
  const node = nodes[0]!;
  return [
    contestant("wick", wick(node, "webgpu", "auto")),
    ...variants.map((tier) => contestant("wick", wick(node, "webgpu", tier), { variant: tier })),
    contestant("onnxruntime-node", peer(node, "onnxruntime.mjs", "node", "webgpu", "1"), { variant: "WebGPU provider" }),
    contestant("jax-js", peer(node, "jax.mjs", "webgpu", "1")),
    contestant("PyTorch", ["CUDA", python(), here("peers/torch_peer.py"), "cuda", "1"]),
  ];
}

/** All contestants in the order of the table; whether one can run is found out by starting it. */
export const contestants = (options: ContestantOptions): Contestant[] =>
  options.device === "cpu" ? cpuContestants(options) : webgpuContestants(options);

/** Why peers would be missing, or undefined. */
export const peersMissing = (): string | undefined =>
  existsSync(here("peers/node_modules/onnxruntime-web"))
    ? undefined
    : "the JavaScript peers are not installed: npm ci --prefix bench/peers";
