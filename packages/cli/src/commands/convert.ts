// wick convert: a checkpoint in another layout, format or number format, with adapters merged in. Tensors stream: nothing is held whole.
import { stat } from "node:fs/promises";
import { extname } from "node:path";
import { fitsBlocks, withLora } from "@wick/nn";
import {
  type ByteSink,
  ConversionThreads,
  canConvert,
  type DType,
  invert,
  isQuantized,
  remap,
  translate,
  type WeightEntry,
  type WeightSource,
  writableTensors,
  writeFileAtomically,
  writeGguf,
  writeNpz,
  writeSafetensors,
} from "@wick/tensor";
import { CliError, UsageError } from "../cli-error.ts";
import { type Checkpoint, withCheckpoints } from "../models/open-checkpoint.ts";
import { recognise } from "../models/recognise.ts";
import type { ScaledFile } from "../option-types.ts";
import { checkWritable, named } from "../output-file.ts";
import { type CommonOptions, Reporter } from "../reporter.ts";
import { formatBytes, formatDuration } from "../units.ts";

export interface ConvertOptions extends CommonOptions {
  readonly dtype?: DType;
  readonly layout?: string;
  readonly lora?: readonly ScaledFile[];
}

const writers = [".safetensors", ".gguf", ".npz"];

/** Writes `input` as `output`, whose ending names the format. */
export async function convert(input: string, output: string, options: ConvertOptions, signal: AbortSignal): Promise<void> {
  const reporter = new Reporter(options);
  const ending = extname(output).toLowerCase();
  if (!writers.includes(ending)) throw new UsageError(`${output}: the ending names the format; use one of ${writers.join(", ")}`);
  if (options.dtype && isQuantized(options.dtype) && ending !== ".gguf")
    throw new UsageError(`${ending} cannot hold ${options.dtype} blocks; write a .gguf`);
  await checkWritable(output, "output");
  if (await isSameFile(input, output)) throw new UsageError(`the output is the input: ${output}; choose another output`);
  const started = performance.now();
  await withCheckpoints(signal, async (open) => {
    const adapted = await withAdapters((await open(input)).source, options.lora ?? [], open);
    const source = options.layout === undefined ? adapted : inLayout(adapted, options.layout, input);
    const blocks = [...source.entries.values()].find((e) => isQuantized(e.dtype));
    if (blocks && options.dtype === undefined && ending !== ".gguf")
      throw new UsageError(
        `${input} holds ${blocks.dtype} blocks, which ${ending} cannot; add --dtype ${ending === ".npz" ? "f32" : "bf16"}, or write a .gguf`,
      );
    const written = await writeFile(output, ending, source, options.dtype, (done) => showProgress(reporter, done, source), signal);
    const elapsedMillis = performance.now() - started;
    const document = { file: output, tensors: source.entries.size, bytes: written, elapsedMillis };
    reporter.result(`${output}\n${source.entries.size} tensors, ${formatBytes(written)}, ${formatDuration(elapsedMillis)}`, document);
  });
}

/** By whatever names the two go. */
async function isSameFile(a: string, b: string): Promise<boolean> {
  const [one, other] = await Promise.all([a, b].map((path) => stat(path, { bigint: true }).catch(() => undefined)));
  return one !== undefined && other !== undefined && one.ino === other.ino && one.dev === other.dev;
}

/** Adapters are merged under the model's own names, or under the checkpoint's when it is not recognised. */
async function withAdapters(
  base: WeightSource,
  loras: readonly ScaledFile[],
  open: (path: string) => Promise<Checkpoint>,
): Promise<WeightSource> {
  if (loras.length === 0) return base;
  const family = recognise(base)?.family;
  let source: WeightSource = family ? translate(base, family.names) : base;
  for (const { path, scale } of loras) {
    const lora = await open(path);
    source = withLora(source, lora.source, scale, family ? { names: family.loraNames } : {});
  }
  return source;
}

/** The checkpoint under the names of another published layout. */
function inLayout(source: WeightSource, layout: string, where: string): WeightSource {
  const found = recognise(source);
  if (!found?.family) throw new CliError(`${where} is not a model whose layouts are known; leave out --layout to keep its names`);
  const { names } = found.family;
  const dialect = names.dialects.find((d) => d.name === layout);
  if (!dialect) throw new UsageError(`${names.model} has no layout ${layout}; known are ${names.dialects.map((d) => d.name).join(", ")}`);
  if (found.dialect === layout) return source;
  return remap(translate(source, names), invert(dialect.rules));
}

async function writeFile(
  output: string,
  ending: string,
  source: WeightSource,
  dtype: DType | undefined,
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): Promise<number> {
  let written = 0;
  using threads = new ConversionThreads();
  await writeFileAtomically(output, async (sink) => {
    const counted: ByteSink = {
      async write(bytes) {
        signal.throwIfAborted();
        await sink.write(bytes);
        onBytes((written += bytes.length));
      },
    };
    const tensors = writableTensors(source, (entry) => dtypeFor(entry, dtype), { threads, signal });
    if (ending === ".gguf") await writeGguf(counted, tensors);
    else if (ending === ".npz") await writeNpz(counted, tensors);
    else await writeSafetensors(counted, tensors);
  }).catch((error: unknown) => {
    throw named(error, output);
  });
  return written;
}

/** Block formats are for matrices whose rows are whole blocks, as in `load`; integers stay. */
function dtypeFor(entry: Pick<WeightEntry, "dtype" | "shape">, dtype: DType | undefined): DType {
  if (dtype === undefined || !canConvert(entry.dtype, dtype)) return entry.dtype;
  return !isQuantized(dtype) || fitsBlocks(entry.shape, dtype) ? dtype : entry.dtype;
}

let lastShown = 0;

function showProgress(reporter: Reporter, bytes: number, source: WeightSource): void {
  if (!reporter.isInteractive || performance.now() - lastShown < 100) return;
  lastShown = performance.now();
  reporter.live(`writing ${source.entries.size} tensors: ${formatBytes(bytes)}`);
}
