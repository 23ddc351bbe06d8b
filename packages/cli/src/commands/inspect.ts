// wick inspect: what a checkpoint, a folder or a repository holds, from headers alone, and the memory it needs.
import { stat } from "node:fs/promises";
import type { ModelFiles } from "@wick/hub";
import { flux1LoraNames } from "@wick/models-flux";
import { zImageLoraNames } from "@wick/models-zimage";
import { fitsBlocks } from "@wick/nn";
import { bytesOf, type DType, isQuantized, openSafetensors, type WeightEntry, type WeightSource } from "@wick/tensor";
import { CliError } from "../cli-error.ts";
import { type AdapterFacts, adapterFacts } from "../models/adapter-facts.ts";
import { findFiles, type HubOptions } from "../models/find-files.ts";
import { type Checkpoint, openCheckpoint } from "../models/open-checkpoint.ts";
import { adapterName, recognise } from "../models/recognise.ts";
import { type CommonOptions, Reporter } from "../reporter.ts";
import { formatBytes, formatCount, formatTable } from "../units.ts";

export interface InspectOptions extends CommonOptions, HubOptions {
  readonly tensors?: string | true;
  readonly revision?: string;
}

/** Formats that the memory plan tells about. */
const plannedFormats = ["bf16", "q8_0", "q4_K"] as const;

/** What one set of weights is. */
export interface WeightsFacts {
  readonly format: string;
  readonly tensors: number;
  readonly parameters: number;
  readonly bytes: number;
  /** Tensors by stored format. */
  readonly dtypes: Readonly<Record<string, number>>;
  readonly architecture: string | undefined;
  readonly dialect: string | undefined;
  /** Bytes on a device by format; norms, biases and small weights stay as stored. */
  readonly memory: Readonly<Record<string, number>>;
  /** Of an adapter: what kind it is and what it is for. */
  readonly adapter?: AdapterFacts;
}

/** Prints what `target` is: a local file or folder, or a repository. */
export async function inspect(target: string, options: InspectOptions, signal: AbortSignal): Promise<void> {
  const reporter = new Reporter(options);
  const place = await stat(target).catch(() => undefined);
  const looksLocal = /^(\.{0,2}[/\\]|[A-Za-z]:[/\\])/.test(target) || /\.(safetensors|gguf|pth?|ckpt|bin|npz|npy|json)$/i.test(target);
  if (!place && looksLocal) throw new CliError(`${target}: no such file or folder; check the path`);
  if (place?.isDirectory() && !(await stat(`${target}/model_index.json`).catch(() => undefined)))
    return inspectWeights(target, options, reporter, signal);
  if (place?.isFile()) return inspectWeights(target, options, reporter, signal);
  const files = await findFiles(target, { ...options, signal, onNotice: (text) => reporter.note(text) });
  await inspectRepository(target, files, reporter, signal);
}

async function inspectWeights(path: string, options: InspectOptions, reporter: Reporter, signal: AbortSignal): Promise<void> {
  const checkpoint = await openCheckpoint(path, signal);
  try {
    const facts = factsOf(checkpoint);
    const listed = options.tensors === undefined ? undefined : listTensors(checkpoint.source, options.tensors);
    const metadata = Object.fromEntries(
      [...checkpoint.source.metadata].filter(([, v]) => typeof v !== "object").map(([k, v]) => [k, String(v)]),
    );
    const table = formatTable([
      ["file", path],
      ...factRows(facts),
      ...Object.entries(metadata)
        .slice(0, 8)
        .map(([k, v]) => [k, shortened(v)]),
    ]);
    const tensors = listed ? `\n\n${formatTable(listed.map((t) => [t.name, t.storedDtype, `[${t.shape.join(", ")}]`]))}` : "";
    reporter.result(`${table}${tensors}`, {
      file: path,
      ...facts,
      metadata,
      ...(listed ? { tensorList: listed.map(({ name, storedDtype, shape }) => ({ name, dtype: storedDtype, shape })) } : {}),
    });
  } finally {
    await checkpoint.source.close();
  }
}

const shortened = (text: string): string => (text.length > 100 ? `${text.slice(0, 97)}…` : text);

function listTensors(source: WeightSource, pattern: string | true): WeightEntry[] {
  const all = [...source.entries.values()];
  if (pattern === true) return all;
  const expression = new RegExp(
    `^${pattern
      .split("*")
      .map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"))
      .join(".*")}$`,
  );
  return all.filter((entry) => expression.test(entry.name));
}

function factsOf({ source, format }: Pick<Checkpoint, "source" | "format">): WeightsFacts {
  const entries = [...source.entries.values()];
  const dtypes: Record<string, number> = {};
  for (const { storedDtype } of entries) dtypes[storedDtype] = (dtypes[storedDtype] ?? 0) + 1;
  const found = recognise(source);
  return {
    format,
    tensors: entries.length,
    parameters: entries.reduce((sum, e) => sum + sizeOf(e), 0),
    bytes: entries.reduce((sum, e) => sum + e.byteLength, 0),
    dtypes,
    architecture: found?.architecture,
    dialect: found?.dialect,
    ...(found?.architecture === adapterName ? { adapter: adapterFacts(source, { flux: flux1LoraNames, zImage: zImageLoraNames }) } : {}),
    memory: Object.fromEntries(plannedFormats.map((dtype) => [dtype, entries.reduce((sum, e) => sum + plannedBytes(e, dtype), 0)])),
  };
}

const sizeOf = ({ shape }: WeightEntry): number => shape.reduce((a, b) => a * b, 1);

/** Bytes of a tensor when a model is loaded as `dtype`: block formats only for matrices whose rows are whole blocks. */
function plannedBytes(entry: WeightEntry, dtype: DType): number {
  return !isQuantized(dtype) || fitsBlocks(entry.shape, dtype) ? bytesOf(dtype, sizeOf(entry)) : entry.byteLength;
}

function factRows(facts: WeightsFacts): string[][] {
  const layout = facts.dialect === undefined ? "" : ` (${facts.dialect} layout)`;
  const formats = facts.adapter ? [] : plannedFormats;
  const memory = formats.map((dtype) => `${formatBytes(facts.memory[dtype]!)} as ${dtype}`);
  return [
    ["format", facts.format],
    ["model", facts.architecture === undefined ? "not recognised" : `${facts.architecture}${layout}`],
    [
      "tensors",
      `${facts.tensors} (${Object.entries(facts.dtypes)
        .map(([dtype, n]) => `${n} ${dtype}`)
        .join(", ")})`,
    ],
    ...(facts.adapter ? adapterRows(facts.adapter) : []),
    ["parameters", formatCount(facts.parameters)],
    ["memory", [`${formatBytes(facts.bytes)} as stored`, ...memory].join(", ")],
  ];
}

function adapterRows({ kinds, ranks, model, targets, unused }: AdapterFacts): string[][] {
  const unread = kinds.filter((kind) => kind !== "LoRA");
  const kind = `${kinds.join(" and ")}${ranks.length > 0 ? `, rank ${ranks.join(", ")}` : ""}${unread.length > 0 ? `; ${unread.join(" and ")} is not read` : ""}`;
  const place = model
    ? `${model}: ${targets} weights${unused > 0 ? `, ${unused} tensors without a place` : ""}`
    : "no model that is known here at its released size";
  return [
    ["kind", kind],
    ["made for", place],
  ];
}

async function inspectRepository(target: string, files: ModelFiles, reporter: Reporter, signal: AbortSignal): Promise<void> {
  const entries = await files.list({ signal });
  const revision = await files.revision({ signal });
  const index = (await files.has("model_index.json", { signal }))
    ? await files.readJson<Record<string, unknown>>("model_index.json", { signal })
    : undefined;
  const folders = new Set(entries.filter((e) => /^[^/]+\/[^/]+\.safetensors$/.test(e.path)).map((e) => e.path.split("/")[0]!));
  const parts: Record<string, WeightsFacts> = {};
  for (const folder of folders) parts[folder] = await partFacts(files, folder, signal);
  const top = entries.filter((e) => /^[^/]+\.(safetensors|gguf|pth?|ckpt)$/.test(e.path));
  if (Object.keys(parts).length === 0 && top.length === 0)
    throw new CliError(
      `${target} has no weights; it has ${
        entries
          .slice(0, 5)
          .map((e) => e.path)
          .join(", ") || "no files"
      }`,
    );
  const pipeline = typeof index?.["_class_name"] === "string" ? index["_class_name"] : undefined;
  const total = (key: "parameters" | "bytes") => Object.values(parts).reduce((sum, part) => sum + part[key], 0);
  const rows = Object.entries(parts).map(([name, p]) => [
    name,
    p.architecture ?? "not recognised",
    formatCount(p.parameters),
    formatBytes(p.bytes),
    ...plannedFormats.map((dtype) => formatBytes(p.memory[dtype]!)),
  ]);
  const head = formatTable([
    ["model", target],
    ["pipeline", pipeline ?? "none"],
    ["revision", revision ?? "local"],
    ["parameters", formatCount(total("parameters"))],
  ]);
  const table = rows.length > 0 ? `\n\n${formatTable([["part", "model", "parameters", "as stored", ...plannedFormats], ...rows])}` : "";
  const others = top.length > 0 ? `\n\n${formatTable(top.map((e) => [e.path, formatBytes(e.sizeBytes ?? 0)]))}` : "";
  const document = { model: target, pipeline, revision, parameters: total("parameters"), bytes: total("bytes"), parts, otherWeights: top };
  reporter.result(`${head}${table}${others}`, document);
}

/** Reads only the headers of a part's files, by range. */
async function partFacts(files: ModelFiles, folder: string, signal: AbortSignal): Promise<WeightsFacts> {
  const sources = await files.openAll(`${folder}/*.safetensors`, { via: "ranges", signal });
  const source = await openSafetensors(sources, { signal });
  try {
    return factsOf({ source, format: sources.length === 1 ? "safetensors" : `safetensors, ${sources.length} files` });
  } finally {
    await source.close();
  }
}
