// A checkpoint for a model that has more parts than it: a variant whose new weights begin as initialization makes them.
import { streamSlice, type TorchCpuGenerator, type WeightEntry, type WeightSource, WeightsError } from "@wick/tensor";
import { defaultValues, type ParameterInit } from "./init.ts";
import { classOf, type Module, type ParameterSite, parameterSites } from "./module.ts";
import { anyGlob } from "./path-glob.ts";

/** Which weights are new, and what they begin as. */
export interface InitialOptions {
  /** Globs over the paths that the checkpoint may lack: "layers.*.attention.to_gate.**". Whatever else is missing stays an error of `load`. */
  readonly paths: readonly string[];
  /** What PyTorch's default initialization is drawn from, in the order of the tree. */
  readonly generator: TorchCpuGenerator;
  /** Values that go before the defaults: zeros for a gate that begins closed. */
  readonly values?: ParameterInit;
}

/** A checkpoint with initial values for what it lacks. */
export interface InitialWeightSource extends WeightSource {
  /** The paths that got initial values. */
  readonly added: readonly string[];
}

/**
 * `base` (under the model's names) and f32 values for the parameters of `model` that it lacks and `paths` name; they are made now and kept in
 * host memory. What `base` has is taken from it, so that a trained variant loads through the same call. Throws WeightsError when a glob names
 * no parameter of the model, or when nothing says what a parameter begins as.
 */
export function withInitial(base: WeightSource, model: Module, { paths, generator, values }: InitialOptions): InitialWeightSource {
  const sites = [...parameterSites(model)].filter((s) => s.aliasOf === undefined);
  for (const glob of paths)
    if (!sites.some((s) => anyGlob([glob])(s.path))) throw new WeightsError("withInitial", noParameter(model, glob));
  const isNew = anyGlob(paths);
  const made = new Map<string, Uint8Array>();
  const entries = new Map<string, WeightEntry>(base.entries);
  const without: string[] = [];
  for (const site of sites) {
    if (base.entries.has(site.path) || !isNew(site.path)) continue;
    const data = initialValues(site, generator, values);
    if (!data) {
      without.push(`${site.path} ${site.parameter}`);
      continue;
    }
    made.set(site.path, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    entries.set(site.path, initialEntry(site, data.byteLength));
  }
  if (without.length > 0)
    throw new WeightsError("withInitial", `no rule of initialization for ${without.join(", ")}; give their values in the option values`);
  return {
    entries,
    metadata: base.metadata,
    added: [...made.keys()],
    stream: (name, options) => pieceOf(made.get(name)) ?? base.stream(name, options),
    streamSlice: (name, begin, end, options) =>
      pieceOf(made.get(name)?.subarray(begin, end)) ?? streamSlice(base, name, begin, end, options),
    close: () => base.close(),
  };
}

const pieceOf = (bytes: Uint8Array | undefined): AsyncIterable<Uint8Array> | undefined =>
  bytes &&
  (async function* () {
    yield bytes;
  })();

const noParameter = (model: Module, glob: string): string => `no parameter of ${classOf(model)} matches ${glob}`;

const initialEntry = ({ path, parameter }: ParameterSite, byteLength: number): WeightEntry => ({
  name: path,
  dtype: "f32",
  shape: parameter.shape,
  byteLength,
  storedDtype: "F32",
  file: "initial values",
});

/** Undefined where neither `values` nor PyTorch's defaults say anything. */
function initialValues(site: ParameterSite, generator: TorchCpuGenerator, values: ParameterInit | undefined): Float32Array | undefined {
  const data = values?.(site, generator) ?? defaultValues(site, generator);
  if (data && data.length !== site.parameter.size)
    throw new WeightsError("withInitial", `${site.path} ${site.parameter} takes ${site.parameter.size} values, got ${data.length}`);
  return data;
}
