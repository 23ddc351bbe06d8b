// Compares every module of a model with the output the reference's module of the same path gave, and names the first that diverges.
import { type Module, namedModules, namedParameters, pathMatcher } from "@wick/nn";
import { type Held, hold, type Tensor, tensorsIn } from "@wick/tensor";
import { explainDifference, type Numbers, relativeL2 } from "./metrics.ts";
import type { GoldenTensor, ModuleGolden } from "./module-golden.ts";

/** Results of a run under the golden's names: `{ last_hidden_state: x }`. */
export type RunResults = Readonly<Record<string, Tensor>>;

/** By glob over the golden's paths. */
type ByPath<T> = Readonly<Record<string, T>>;

export interface ParityOptions {
  /** What the golden has before all our module paths, such as "model.". */
  readonly prefix?: string;
  /** The golden's path of one of our modules, where a prefix does not say it; undefined when the golden has none. */
  readonly rename?: (path: string) => string | undefined;
  /** How our output becomes the golden's shape: heads and tokens swapped, for example. */
  readonly view?: ByPath<(ours: Tensor) => Tensor>;
  /** What our module gives when that is not what the reference's gives (a fused activation), made of the golden's outputs. */
  readonly expected?: ByPath<(output: (path: string) => GoldenTensor, path: string) => Numbers>;
  /** Outputs of the golden that have no counterpart here, with the reason. */
  readonly absent?: ByPath<string>;
  /** Relative L2 of every module's output. Default 1e-5. */
  readonly tolerance?: number;
  /** Relative L2 of the results. Default: the golden's own. */
  readonly endTolerance?: number;
}

/** One compared output. */
export interface Comparison {
  /** The golden's path. */
  readonly path: string;
  /** Relative L2. */
  readonly error: number;
  /** Null when within tolerance. */
  readonly problem: string | null;
}

interface Recorded {
  readonly path: string;
  readonly tensor: Held<Tensor>;
}

/**
 * Runs `run` twice, plainly and with every module's output recorded, and compares the results and all outputs of the golden.
 * Throws an Error that names the first module (in order of execution) that diverges; also when an output of the golden was not
 * compared and `absent` does not say why, and when device memory is not as it was. Returns all comparisons in order of execution.
 */
export async function expectModuleParity(
  model: Module,
  golden: ModuleGolden,
  run: () => RunResults | Promise<RunResults>,
  options: ParityOptions = {},
): Promise<readonly Comparison[]> {
  const device = [...namedParameters(model)][0]![1].device;
  const before = device.liveBytes;
  const plain = await compareResults(golden, await run(), options);
  const recorded: Recorded[] = [];
  const restore = tapModules(model, options, recorded);
  let results: RunResults;
  try {
    results = await run();
  } finally {
    restore();
  }
  const modules = await compareModules(golden, recorded, options);
  const compared = [...modules, ...(await compareResults(golden, results, options))];
  refuseFailures(golden, compared);
  refuseFailures(golden, plain);
  refuseUncompared(golden, compared, options);
  if (device.liveBytes !== before) throw new Error(`${golden.name}: ${device.liveBytes - before} bytes were not released`);
  return compared;
}

/** Wraps `forward` of all modules below `model`; returns how to undo it. */
function tapModules(model: Module, { prefix = "", rename }: ParityOptions, into: Recorded[]): () => void {
  const calls = new Map<string, number>();
  const undo: (() => void)[] = [];
  for (const [path, module] of namedModules(model)) {
    const forward = (module as { forward?: unknown }).forward;
    const theirs = rename ? rename(path) : prefix + path;
    if (path === "" || theirs === undefined || typeof forward !== "function") continue;
    const tapped = (...args: unknown[]): unknown => {
      const result: unknown = Reflect.apply(forward, module, args);
      const call = calls.get(theirs) ?? 0;
      calls.set(theirs, call + 1);
      record(call === 0 ? theirs : `${theirs}#${call}`, [...tensorsIn(result)], into);
      return result;
    };
    Object.defineProperty(module, "forward", { value: tapped, configurable: true, enumerable: false });
    undo.push(() => Reflect.deleteProperty(module, "forward"));
  }
  return () => {
    for (const step of undo) step();
  };
}

function record(path: string, tensors: readonly Tensor[], into: Recorded[]): void {
  tensors.forEach((t, i) => {
    into.push({ path: tensors.length === 1 ? path : `${path}:${i}`, tensor: hold(t.copy()) });
  });
}

/** The value of the first glob that describes `path`. */
function atPath<T>(byPath: ByPath<T> | undefined, path: string): T | undefined {
  return Object.entries(byPath ?? {}).find(([glob]) => pathMatcher(glob)(path))?.[1];
}

async function compareModules(golden: ModuleGolden, recorded: readonly Recorded[], options: ParityOptions): Promise<Comparison[]> {
  const out: Comparison[] = [];
  for (const { path, tensor } of recorded) {
    // A module of the reference that returns a tuple is recorded part by part; ours may return its first part alone.
    const found = golden.outputs.has(path) ? path : `${path}:0`;
    if (golden.outputs.has(found)) out.push(await compareOne(golden, found, tensor.value, options, options.tolerance ?? 1e-5));
    tensor[Symbol.dispose]();
  }
  return out;
}

async function compareResults(golden: ModuleGolden, results: RunResults, options: ParityOptions): Promise<Comparison[]> {
  const out: Comparison[] = [];
  for (const [path, tensor] of Object.entries(results)) {
    if (!golden.outputs.has(path)) throw new Error(`${golden.name} has no output ${path}`);
    out.push(await compareOne(golden, path, tensor, options, options.endTolerance ?? golden.tolerance));
  }
  for (const t of tensorsIn(results)) t.dispose();
  return out;
}

async function compareOne(golden: ModuleGolden, path: string, ours: Tensor, options: ParityOptions, tolerance: number) {
  const output = (name: string): GoldenTensor => golden.outputs.get(name) ?? missing(golden, name);
  const derived = atPath(options.expected, path)?.(output, path);
  const viewed = atPath(options.view, path)?.(ours) ?? ours;
  const actual = (await viewed.toArray()) as Numbers;
  const shape = [...viewed.shape];
  if (viewed !== ours) viewed.dispose();
  const { shape: wanted, values } = output(path);
  if (!derived && `${shape}` !== `${wanted}`) {
    return { path, error: Number.NaN, problem: `the shape is [${shape.join(", ")}] instead of [${wanted.join(", ")}]` };
  }
  const expected = derived ?? values;
  return { path, error: relativeL2(actual, expected), problem: explainDifference(actual, expected, tolerance) };
}

function missing(golden: ModuleGolden, name: string): never {
  throw new Error(`${golden.name} has no output ${name}`);
}

function refuseFailures(golden: ModuleGolden, compared: readonly Comparison[]): void {
  const first = compared.findIndex((c) => c.problem !== null);
  if (first < 0) return;
  const { path, problem } = compared[first]!;
  const failed = compared.filter((c) => c.problem !== null).length;
  const agreed = first > 0 ? `; the last that agrees is ${compared[first - 1]!.path} (${compared[first - 1]!.error.toExponential(1)})` : "";
  throw new Error(`${golden.name}: the first to diverge is ${path}: ${problem}${agreed}; ${failed} of ${compared.length} outputs diverge`);
}

function refuseUncompared(golden: ModuleGolden, compared: readonly Comparison[], { absent }: ParityOptions): void {
  const seen = new Set(compared.map((c) => c.path));
  const left = [...golden.outputs.keys()].filter((path) => !seen.has(path) && atPath(absent, path) === undefined);
  if (left.length > 0) throw new Error(`${golden.name}: no module or result was compared with ${left.join(", ")}`);
}
