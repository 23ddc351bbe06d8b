// Weights from a checkpoint into a model: everything is checked first and reported at once, then tensors stream to the device one by one.
import {
  bytesOf,
  ConversionThreads,
  canConvert,
  type Device,
  type DType,
  DTypeError,
  dtypeInfo,
  isSearched,
  type Shape,
  streamAs,
  type WeightEntry,
  type WeightSource,
  WeightsError,
} from "@wick/tensor";
import { type DTypePolicy, policyFor } from "./dtype-policy.ts";
import { foreignLayout } from "./foreign-formats.ts";
import { classOf, type Module, type ParameterSite, parameterSites } from "./module.ts";
import { anyGlob } from "./path-glob.ts";

/** How far a load has come; bytes are those of the checkpoint. */
export interface LoadProgress {
  /** Of the weight that a part was just loaded of. */
  readonly name: string;
  /** Of this weight, from 0. */
  readonly index: number;
  /** All weights of the plan. */
  readonly count: number;
  /** On the device so far, in the checkpoint's format. */
  readonly loadedBytes: number;
  /** Of all weights, in the checkpoint's format. */
  readonly totalBytes: number;
}

/** How weights get to the device. */
export interface LoadOptions {
  /**
   * Format on the device: as stored by default; a plain dtype for all float weights; a block format for the weights of Linear layers
   * (see `quantizeTo` for what stays); or a function that decides per weight.
   */
  readonly dtype?: DType | DTypePolicy | undefined;
  /** Tensors the checkpoint may have beyond the model: a pattern, or globs over names. */
  readonly allowUnused?: RegExp | readonly string[] | undefined;
  /** Threads that quantize to `q4_K` and its like beside the calling one: as many as there are cores by default, 0 for none. They end with the load. */
  readonly threads?: number | undefined;
  /** Stops loading; what was loaded is released. */
  readonly signal?: AbortSignal | undefined;
  /** Called after each part of a weight. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
}

/** A tensor whose shape is not the parameter's. */
export interface Misshapen {
  /** Path of the parameter, which is the tensor's name. */
  readonly name: string;
  /** Shape of the parameter. */
  readonly wanted: Shape;
  /** Shape in the checkpoint. */
  readonly found: Shape;
}

/** How a checkpoint and a model differ. */
export interface LoadReport {
  /** Parameters that the checkpoint does not have. */
  readonly missing: readonly string[];
  /** Tensors that no parameter takes. */
  readonly unused: readonly string[];
  /** Tensors of another shape than their parameter. */
  readonly misshapen: readonly Misshapen[];
}

/** A checkpoint whose names or shapes are not the model's; `report` has all of them, the message the first few. */
export class CheckpointMismatchError extends WeightsError {
  /** Every name that differs. */
  readonly report: LoadReport;
  constructor(detail: string, report: LoadReport) {
    super("load", detail);
    this.report = report;
  }
}

/** One parameter to fill and where its bytes are. */
export interface PlannedWeight {
  /** Where it goes. */
  readonly site: ParameterSite;
  /** Where it comes from. */
  readonly entry: WeightEntry;
  /** Format on the device. */
  readonly dtype: DType;
}

/**
 * Fills every parameter of `model` from the tensor of the same name. Throws CheckpointMismatchError, listing all missing, unused and
 * misshapen names, before any data is read. A model that was loaded before is unloaded first. When reading fails or `signal` aborts,
 * the model ends unloaded and nothing stays on the device.
 */
export async function load(model: Module, source: WeightSource, device: Device, options: LoadOptions = {}): Promise<void> {
  const plan = planLoad(model, source, options);
  model.unload();
  const threads = plan.some(isSearching) ? new ConversionThreads(options.threads) : undefined;
  try {
    await fillWeights(plan, source, device, { ...options, threads });
  } catch (error) {
    model.unload();
    throw error;
  } finally {
    threads?.close();
  }
}

/** Whether scales are searched for a weight while it loads: slow enough for threads. */
export const isSearching = ({ entry, dtype }: PlannedWeight): boolean => isSearched(dtype) && entry.dtype !== dtype;

/** How one weight is filled. */
interface FillOptions {
  /** Threads that quantize. */
  readonly threads?: ConversionThreads | undefined;
  /** Stops it. */
  readonly signal?: AbortSignal | undefined;
  /** Called with the bytes of the checkpoint whose values have just been given to the device. */
  readonly onBytes?: (bytes: number) => void;
}

/** How several weights are filled. */
export interface FillWeightsOptions extends Pick<LoadOptions, "signal" | "onProgress"> {
  /** Threads that quantize. */
  readonly threads?: ConversionThreads | undefined;
}

/**
 * Brings planned weights to the device: one after the other, two at a time where threads quantize, so that they go on while the last pieces of one
 * arrive. When reading fails or `signal` aborts, nothing is under way any more, and what came before stays: the caller unloads it.
 */
export async function fillWeights(
  plan: readonly PlannedWeight[],
  source: WeightSource,
  device: Device,
  { threads, signal, onProgress }: FillWeightsOptions = {},
): Promise<void> {
  const totalBytes = plan.reduce((sum, { entry }) => sum + entry.byteLength, 0);
  const stop = new AbortController();
  const either = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  const waiting = plan.entries();
  let loadedBytes = 0;
  const lane = async (): Promise<void> => {
    for (const [index, planned] of waiting) {
      either.throwIfAborted();
      const onBytes = (bytes: number) => {
        loadedBytes += bytes;
        onProgress?.({ name: planned.site.path, index, count: plan.length, loadedBytes, totalBytes });
      };
      await fillWeight(planned, source, device, { threads, signal: either, onBytes });
    }
  };
  // The other lane stops for the same reason, so that it does not matter whose error is thrown.
  const lanes = Array.from({ length: threads?.threads ? 2 : 1 }, () => lane().catch((error: unknown) => stop.abort(error)));
  await Promise.all(lanes);
  stop.signal.throwIfAborted();
  signal?.throwIfAborted();
}

/** Brings one planned weight to the device; when reading fails or `signal` aborts, nothing of it stays there. */
async function fillWeight(
  { site, entry, dtype }: PlannedWeight,
  source: WeightSource,
  device: Device,
  { threads, signal, onBytes }: FillOptions = {},
): Promise<void> {
  const pieces = streamAs(source, entry.name, dtype, { threads, ...(signal ? { signal } : {}) });
  const { blockSize, blockBytes } = dtypeInfo[dtype];
  const stored = (bytes: number) => bytesOf(entry.dtype, (bytes / blockBytes) * blockSize);
  const counted = onBytes ? counting(pieces, (n) => onBytes(stored(n))) : pieces;
  const tensor = await device.upload(site.parameter.shape, dtype, counted, site.path, signal);
  site.parameter.label = site.path;
  site.parameter.fill(tensor);
  tensor.dispose();
}

/** `pieces` with a call for each one that was used. */
async function* counting(pieces: AsyncIterable<Uint8Array>, passed: (bytes: number) => void): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of pieces) {
    yield piece;
    passed(piece.length);
  }
}

/** How `source` fits `model`, without reading or throwing. */
export function compareWeights(model: Module, source: WeightSource, allowUnused?: LoadOptions["allowUnused"]): LoadReport {
  const allowed = unusedFilter(allowUnused);
  const sites = [...parameterSites(model)];
  const known = new Set(sites.map((s) => s.path));
  const found = new Map(sites.filter((s) => source.entries.has(s.path)).map((s) => [s.parameter, s.path]));
  const misshapen: Misshapen[] = [];
  for (const { path, parameter } of sites) {
    const entry = source.entries.get(path);
    if (entry && !sameDims(entry.shape, parameter.shape)) misshapen.push({ name: path, wanted: parameter.shape, found: entry.shape });
  }
  return {
    missing: sites.filter((s) => s.aliasOf === undefined && !found.has(s.parameter)).map((s) => s.path),
    unused: [...source.entries.keys()].filter((name) => !known.has(name) && !allowed(name)),
    misshapen,
  };
}

const sameDims = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((d, i) => d === b[i]);

function unusedFilter(allow: LoadOptions["allowUnused"]): (name: string) => boolean {
  if (allow === undefined) return () => false;
  if (allow instanceof RegExp) return (name) => name.search(allow) >= 0;
  return anyGlob(allow);
}

/**
 * What `load` would bring in, in order, a shared parameter once. Reads no data. Throws CheckpointMismatchError for names and shapes that
 * differ, DTypeError for formats that a weight cannot have.
 */
export function planLoad(model: Module, source: WeightSource, options: LoadOptions = {}): PlannedWeight[] {
  const report = compareWeights(model, source, options.allowUnused);
  if (report.missing.length + report.unused.length + report.misshapen.length > 0) {
    throw new CheckpointMismatchError(describeReport(classOf(model), report), report);
  }
  const policy = policyFor(model, options.dtype);
  const planned = new Map<unknown, PlannedWeight>();
  for (const site of parameterSites(model)) {
    const entry = source.entries.get(site.path);
    if (!entry || planned.has(site.parameter)) continue;
    planned.set(site.parameter, { site, entry, dtype: policy({ ...site, stored: entry.dtype }) });
  }
  for (const { site, entry, dtype } of planned.values()) checkConversion(site, entry, dtype);
  return [...planned.values()];
}

function checkConversion({ path, parameter }: ParameterSite, entry: WeightEntry, dtype: DType): void {
  const detail = `${path} ${entry.dtype} [${parameter.shape.join(", ")}] as ${dtype}`;
  if (!canConvert(entry.dtype, dtype)) throw new DTypeError("load", `integers and floats do not convert on load: ${detail}`);
  const { blockSize } = dtypeInfo[dtype];
  if ((parameter.shape.at(-1) ?? 1) % blockSize !== 0) throw new DTypeError("load", `rows are not whole blocks of ${blockSize}: ${detail}`);
}

/** Names listed per kind of difference. */
const LISTED = 5;

function describeReport(model: string, report: LoadReport): string {
  const { missing, unused, misshapen } = report;
  const shapes = misshapen.map((m) => `${m.name}: the model has [${m.wanted.join(", ")}], the checkpoint [${m.found.join(", ")}]`);
  return [
    `the checkpoint does not fit ${model}: ${missing.length} missing, ${unused.length} unused, ${misshapen.length} misshapen`,
    ...section("missing from the checkpoint", missing),
    ...section("in the checkpoint but not in the model", unused),
    ...section("of another shape", shapes),
    ...remedy(report),
  ].join("\n");
}

function remedy({ missing, unused, misshapen }: LoadReport): string[] {
  const layout = foreignLayout(unused);
  if (layout) return [`  the file is quantized as ${layout}, which is not read; take a bf16, fp8 or GGUF file of the model`];
  if (missing.length > 0 && unused.length > 0)
    return [
      "  if the names follow another layout, rename them: remap(source, rules)",
      "  what is new in the model gets initial values, what it does without is allowed: withInitial(source, model, …), allowUnused",
    ];
  // Where shapes differ too, the model is of another size: initial values would not help.
  if (missing.length > 0 && misshapen.length === 0)
    return ["  if the model has these and its checkpoint has not, give them initial values: withInitial(source, model, …)"];
  if (unused.length > 0) return ["  if the model does without them, name them in allowUnused"];
  return [];
}

function section(what: string, lines: readonly string[]): string[] {
  if (lines.length === 0) return [];
  const more = lines.length > LISTED ? [`    … and ${lines.length - LISTED} more`] : [];
  return [`  ${lines.length} ${what}:`, ...lines.slice(0, LISTED).map((line) => `    ${line}`), ...more];
}
