// Reads a module golden (tools/reference/README.md): inputs, weights under the reference's names, and the output of every module by path.
import { readFileSync } from "node:fs";
import { memorySource, openSafetensors, readTensorBytes, renameAll, type WeightSource } from "@wick/tensor";

/** One stored tensor. */
export interface GoldenTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array | Float64Array | Int32Array | Uint8Array;
}

/** A golden file, open. */
export interface ModuleGolden {
  /** File name, for messages. */
  readonly name: string;
  /** Config of the reference model. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Names of the end results among the outputs. */
  readonly end: readonly string[];
  /** Relative L2 that the end results must meet. */
  readonly tolerance: number;
  /** All notes of the file. */
  readonly metadata: ReadonlyMap<string, string>;
  readonly inputs: ReadonlyMap<string, GoldenTensor>;
  /** By module path as the reference spells it, `path#1` for a second call, `path:0` for a part of a tuple. */
  readonly outputs: ReadonlyMap<string, GoldenTensor>;
  /** A checkpoint of the reference's weights under its own names. */
  readonly weights: WeightSource;
}

/** Reads `url` and the weights file it shares, if any. Throws on dtypes goldens do not use. */
export async function readModuleGolden(url: URL): Promise<ModuleGolden> {
  const source = await openFile(url);
  const metadata = source.metadata as ReadonlyMap<string, string>;
  const shared = metadata.get("weights");
  const own = weightsOf(source);
  return {
    name: nameOf(url),
    config: JSON.parse(metadata.get("config") ?? "{}") as Record<string, unknown>,
    end: JSON.parse(metadata.get("end") ?? "[]") as string[],
    tolerance: Number(metadata.get("tolerance")),
    metadata,
    inputs: await tensorsUnder(source, "in."),
    outputs: await tensorsUnder(source, "out."),
    weights: shared === undefined ? own : overlaid(weightsOf(await openFile(new URL(shared, url))), own),
  };
}

/** The input called `name`; throws with the names there are when it is missing. */
export function goldenInput(golden: ModuleGolden, name: string): GoldenTensor {
  const found = golden.inputs.get(name);
  if (!found) throw new Error(`${golden.name} has no input ${name}; it has ${[...golden.inputs.keys()].join(", ")}`);
  return found;
}

/** A matrix of integers [rows, columns] as lists: token ids. */
export function rowsOfInput(golden: ModuleGolden, name: string): number[][] {
  const { shape, values } = goldenInput(golden, name);
  const [rows = 0, columns = 0] = shape;
  return Array.from({ length: rows }, (_, r) => Array.from(values.subarray(r * columns, (r + 1) * columns)));
}

const nameOf = (url: URL): string => url.pathname.slice(url.pathname.lastIndexOf("/") + 1);

function openFile(url: URL): Promise<WeightSource> {
  return openSafetensors(memorySource(readFileSync(url), nameOf(url)));
}

const weightsOf = (source: WeightSource): WeightSource => renameAll(source, (name) => (name.startsWith("w.") ? name.slice(2) : undefined));

/** `base` with the tensors of `own` in place of its own of the same names. */
function overlaid(base: WeightSource, own: WeightSource): WeightSource {
  return {
    entries: new Map([...base.entries, ...own.entries]),
    metadata: base.metadata,
    stream: (name, options) => (own.entries.has(name) ? own : base).stream(name, options),
    async close() {
      await base.close();
      await own.close();
    },
  };
}

async function tensorsUnder(source: WeightSource, prefix: string): Promise<ReadonlyMap<string, GoldenTensor>> {
  const out = new Map<string, GoldenTensor>();
  for (const [name, { dtype, shape }] of source.entries) {
    if (name.startsWith(prefix)) out.set(name.slice(prefix.length), { shape, values: decode(dtype, await readTensorBytes(source, name)) });
  }
  return out;
}

function decode(dtype: string, { buffer }: Uint8Array<ArrayBuffer>): GoldenTensor["values"] {
  if (dtype === "f32") return new Float32Array(buffer);
  if (dtype === "i32") return new Int32Array(buffer);
  if (dtype === "i64") return Int32Array.from(new BigInt64Array(buffer), Number);
  if (dtype === "u8") return new Uint8Array(buffer);
  throw new Error(`goldens hold no ${dtype}`);
}
