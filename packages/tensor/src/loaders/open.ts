// One way in for every checkpoint format: what a file is, is decided by its first bytes, never by its name.

import { FormatError } from "../errors.ts";
import { type ScaledF8Options, withScaledF8 } from "./f8-scaled.ts";
import { looksLikeGguf, openGguf } from "./gguf.ts";
import { httpSource } from "./http-source.ts";
import { nodeModule } from "./node-module.ts";
import { looksLikeNpy, openNpy, openNpz } from "./npy.ts";
import { looksLikeLegacyPth, openPth } from "./pth.ts";
import { looksLikeSafetensors, openSafetensors, openSafetensorsIndex } from "./safetensors.ts";
import { type ByteSource, blobSource, fileSource } from "./source.ts";
import type { WeightSource } from "./weight-source.ts";
import { looksLikeZip, openZip } from "./zip.ts";

const OP = "openWeights";

/** A file: a local path, an http(s) address, a Blob or File, or a source of bytes. */
export type WeightFile = string | URL | Blob | ByteSource;

/** How `openWeights` reads what it finds. */
export interface OpenOptions extends ScaledF8Options {
  /** PyTorch files only: the part to open, by dotted path, e.g. "state_dict". */
  readonly at?: string;
  /** Ends opening and every later read. */
  readonly signal?: AbortSignal;
}

/**
 * Opens a checkpoint of any known format: safetensors (one file, several shards, or a `.safetensors.index.json` beside its shards), GGUF,
 * PyTorch, .npz, .npy. Reads headers only. Scaled-f8 files come out as plain weights in `options.scaledF8` (default bf16).
 * Throws FormatError naming the file and what it looks like, SourceError when bytes cannot be had.
 */
export async function openWeights(files: WeightFile | readonly WeightFile[], options: OpenOptions = {}): Promise<WeightSource> {
  const list = Array.isArray(files) ? (files as readonly WeightFile[]) : [files as WeightFile];
  if (list.length === 0) throw new FormatError(OP, "no files were given");
  const sources: ByteSource[] = [];
  try {
    for (const file of list) sources.push(await toSource(file, options.signal));
  } catch (error) {
    for (const source of sources) await source.close();
    throw error;
  }
  const [first] = list;
  const weights = list.length === 1 ? await openOne(first!, sources[0]!, options) : await openSafetensors(sources, options);
  return withScaledF8(weights, options);
}

const isHttp = (file: WeightFile): boolean => /^https?:/.test(String(file));

async function toSource(file: WeightFile, signal?: AbortSignal): Promise<ByteSource> {
  if (typeof file === "object" && "read" in file) return localSource(file);
  if (typeof file === "object" && "slice" in file) return blobSource(file);
  if (isHttp(file)) return httpSource(file, signal ? { signal } : {});
  return fileSource(toPath(file));
}

/** A source that says where its bytes lie on disk (as the hub's do) is read from there, without a copy in between. */
async function localSource(source: ByteSource): Promise<ByteSource> {
  const { localPath } = source as { localPath?: unknown };
  if (source.readInto || typeof localPath !== "string") return source;
  const local = { ...(await fileSource(localPath)), name: source.name };
  await source.close();
  return local;
}

function toPath(file: string | URL): string {
  if (typeof file === "string" && !file.startsWith("file:")) return file;
  const { fileURLToPath } = nodeModule("openWeights", "node:url");
  return fileURLToPath(file);
}

async function openOne(file: WeightFile, source: ByteSource, options: OpenOptions): Promise<WeightSource> {
  const first = await firstBytes(source, options.signal);
  if (looksLikeGguf(first)) return openGguf(source, options);
  if (looksLikeNpy(first)) return openNpy(source, options);
  if (looksLikeLegacyPth(first)) return openPth(source, options);
  if (looksLikeZip(first)) return (await isPthArchive(source, options.signal)) ? openPth(source, options) : openNpz(source, options);
  if (looksLikeSafetensors(first)) return openSafetensors(source, options);
  if (looksLikeIndex(first)) return openIndex(file, source, options);
  await source.close();
  throw new FormatError(OP, `${describe(first)}: ${source.name}; known formats are safetensors, GGUF, PyTorch, .npz and .npy`);
}

async function firstBytes(source: ByteSource, signal?: AbortSignal): Promise<Uint8Array> {
  try {
    return await source.read(0, Math.min(512, source.sizeBytes), signal);
  } catch (error) {
    await source.close();
    throw error;
  }
}

async function isPthArchive(source: ByteSource, signal?: AbortSignal): Promise<boolean> {
  try {
    const zip = await openZip(OP, source, signal);
    return [...zip.entries.keys()].some((name) => /^([^/]+\/)?data\.pkl$/.test(name));
  } catch (error) {
    await source.close();
    throw error;
  }
}

const looksLikeIndex = (first: Uint8Array): boolean => /^\s*\{/.test(new TextDecoder().decode(first.subarray(0, 64)));

/** Opens the shards that lie beside an index file. */
async function openIndex(file: WeightFile, index: ByteSource, options: OpenOptions): Promise<WeightSource> {
  if (typeof file === "object" && !(file instanceof URL)) {
    await index.close();
    throw new FormatError(OP, `an index file cannot find its shards: ${index.name}; pass the shards themselves, or openSafetensorsIndex`);
  }
  const beside = isHttp(file)
    ? async (name: string) => toSource(new URL(encodeURIComponent(name), String(file)), options.signal)
    : async (name: string) => fileSource(`${(toPath(file)).replace(/[^/\\]*$/, "")}${name}`);
  try {
    return await openSafetensorsIndex(index, beside, options);
  } finally {
    await index.close();
  }
}

/** What an unknown file seems to be, for the error. */
function describe(first: Uint8Array): string {
  const text = new TextDecoder().decode(first).trimStart();
  if (first.length === 0) return "an empty file";
  if (/^(<!doctype|<html)/i.test(text)) return "a web page, not a checkpoint (a failed download?)";
  if (text.startsWith("version https://git-lfs")) return "a Git LFS pointer, not the file itself (run git lfs pull)";
  if (first[0] === 0x80 && first[1]! <= 5) return "a bare Python pickle, which is not a checkpoint of tensors";
  if (first[0] === 0x1f && first[1] === 0x8b) return "a gzip file (decompress it first)";
  return "not a checkpoint of a known format";
}
