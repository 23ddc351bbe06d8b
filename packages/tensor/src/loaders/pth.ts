// PyTorch checkpoints (.pth, .pt, .ckpt, .bin): the ZIP format of 1.6 and later, and the older stream of pickles. Nothing in the file is
// run: a restricted unpickler builds tensors and plain data. pytorch: torch/serialization.py (_save, _legacy_save).
import { dtypeInfo } from "../dtype.ts";
import { FormatError } from "../errors.ts";
import { isContiguous } from "../layout.ts";
import { PickleEnded, type Unpickled, unpickle } from "./pickle.ts";
import { type ByteSource, CHUNK_BYTES } from "./source.ts";
import { type StoredTensor, storedTensor, streamStored } from "./stored-weights.ts";
import { gatherStrided, spanOf } from "./strided.ts";
import { storageResolver, type TorchStorage, TorchTensor, torchGlobals } from "./torch-objects.ts";
import { entryOf, type StreamOptions, type WeightSource } from "./weight-source.ts";
import { looksLikeZip, openZip, readEntry, storedEntry, type ZipArchive } from "./zip.ts";

const OP = "openPth";
const MAX_PICKLE_BYTES = 256 * 1024 * 1024;
const MAX_DEPTH = 64;
const MAX_VISITS = 2_000_000;
/** An expanded view may be larger than its storage, but not absurdly so. */
const MAX_REPEATS = 65_536;

/** `at` picks a part of nested dicts by dotted path, e.g. "state_dict"; the names then start below it. */
export interface PthOptions {
  /** A part of nested dicts by dotted path, e.g. "state_dict"; the names then start below it. */
  readonly at?: string;
  /** Ends opening. */
  readonly signal?: AbortSignal;
}

interface PthTensor extends StoredTensor {
  readonly strides: readonly number[];
}

/** True if the first bytes of a file are those of PyTorch's format before 1.6. */
export function looksLikeLegacyPth(first: Uint8Array): boolean {
  // PROTO 2, LONG1 of 10 bytes, the magic number 0x1950a86a20f9469cfc6c.
  const magic = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
  return magic.every((byte, i) => first[i] === byte);
}

/**
 * Opens a PyTorch checkpoint: the pickle is read, tensors stream later. Names are dotted paths through dicts and lists; numbers and texts on
 * the way are in `metadata`; a lone tensor is called "data". Throws FormatError when the pickle refers to anything but tensors and plain data. Takes over the source.
 */
export async function openPth(source: ByteSource, options: PthOptions = {}): Promise<WeightSource> {
  try {
    const first = await source.read(0, Math.min(16, source.sizeBytes), options.signal);
    if (looksLikeZip(first)) return await openZipCheckpoint(source, options);
    if (looksLikeLegacyPth(first)) return await openLegacy(source, options);
    throw new FormatError(
      OP,
      `neither a ZIP archive nor a PyTorch pickle: ${source.name}; re-save it with torch.save of PyTorch 1.6 or later`,
    );
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** Where the bytes of a storage lie. */
type Place = (storage: TorchStorage) => { readonly source: ByteSource; readonly offset: number };

async function openZipCheckpoint(source: ByteSource, options: PthOptions): Promise<WeightSource> {
  const zip = await openZip(OP, source, options.signal);
  const pickleName = [...zip.entries.keys()].find((name) => /^([^/]+\/)?data\.pkl$/.test(name));
  if (pickleName === undefined)
    throw new FormatError(OP, `the ZIP archive holds no data.pkl, so it is no PyTorch checkpoint: ${source.name}`);
  const folder = pickleName.slice(0, -"data.pkl".length);
  await checkByteOrder(zip, folder, options.signal);
  const bytes = await readEntry(zip, zip.entries.get(pickleName)!, MAX_PICKLE_BYTES, options.signal);
  const resolver = storageResolver(OP, source.name);
  const context = { op: OP, where: source.name, globals: torchGlobals(OP, source.name), persistent: resolver.resolve };
  const root = runPickle(() => unpickle(bytes, 0, context).value, source);
  const sources = new Map<string, ByteSource>();
  for (const storage of resolver.storages.values()) sources.set(storage.key, storageSource(zip, folder, storage));
  return checkpoint(source, root, (storage) => ({ source: sources.get(storage.key)!, offset: 0 }), options);
}

function runPickle<T>(run: () => T, source: ByteSource): T {
  try {
    return run();
  } catch (error) {
    if (error instanceof PickleEnded) throw new FormatError(OP, `the pickle ends early: ${source.name}`);
    throw error;
  }
}

async function checkByteOrder(zip: ZipArchive, folder: string, signal?: AbortSignal): Promise<void> {
  const entry = zip.entries.get(`${folder}byteorder`);
  if (!entry) return;
  const order = new TextDecoder().decode(await readEntry(zip, entry, 16, signal));
  if (order !== "little") throw new FormatError(OP, `byte order "${order}": ${zip.source.name}; re-save it on a little-endian machine`);
}

function storageSource(zip: ZipArchive, folder: string, storage: TorchStorage): ByteSource {
  const entry = zip.entries.get(`${folder}data/${storage.key}`);
  if (!entry) throw new FormatError(OP, `storage ${storage.key} is missing: ${zip.source.name}`);
  const bytes = storage.elements * storage.format.unitBytes;
  if (entry.sizeBytes !== bytes) {
    throw new FormatError(OP, `storage ${storage.key} has ${entry.sizeBytes} bytes, its description says ${bytes}: ${zip.source.name}`);
  }
  return storedEntry(zip, entry);
}

/** The format before 1.6: magic, version, system, object, storage keys as pickles in a row, then each storage with its length. */
async function openLegacy(source: ByteSource, options: PthOptions): Promise<WeightSource> {
  const resolver = storageResolver(OP, source.name);
  const context = { op: OP, where: source.name, globals: torchGlobals(OP, source.name), persistent: resolver.resolve };
  const parts = await readPickles(source, 5, (bytes, at) => unpickle(bytes, at, context), options.signal);
  const [, version, system, root, keys] = parts.values;
  if (version !== 1001)
    throw new FormatError(OP, `format version ${String(version)}: ${source.name}; re-save it with PyTorch 1.6 or later`);
  if (system instanceof Map && system.get("little_endian") === false) {
    throw new FormatError(OP, `byte order "big": ${source.name}; re-save it on a little-endian machine`);
  }
  if (!Array.isArray(keys)) throw new FormatError(OP, `no list of storages: ${source.name}`);
  const offsets = new Map<string, number>();
  let at = parts.end;
  for (const key of keys) {
    const storage = resolver.storages.get(String(key));
    if (!storage) throw new FormatError(OP, `storage ${String(key)} belongs to no tensor: ${source.name}`);
    await checkLegacyLength(source, at, storage, options.signal);
    offsets.set(storage.key, at + 8);
    at += 8 + storage.elements * storage.format.unitBytes;
  }
  const missing = [...resolver.storages.keys()].find((key) => !offsets.has(key));
  if (missing !== undefined) throw new FormatError(OP, `storage ${missing} is missing: ${source.name}`);
  return checkpoint(source, root!, (storage) => ({ source, offset: offsets.get(storage.key)! }), options);
}

async function checkLegacyLength(source: ByteSource, at: number, storage: TorchStorage, signal?: AbortSignal): Promise<void> {
  const end = at + 8 + storage.elements * storage.format.unitBytes;
  if (end > source.sizeBytes) {
    throw new FormatError(
      OP,
      `truncated: ${source.name} has ${source.sizeBytes} bytes, storage ${storage.key} ends at ${end}; download it again`,
    );
  }
  const prefix = await source.read(at, 8, signal);
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigInt64(0, true);
  if (length !== BigInt(storage.elements)) {
    throw new FormatError(OP, `storage ${storage.key} has ${length} elements, its description says ${storage.elements}: ${source.name}`);
  }
}

/** Runs `count` pickles from the start of a file whose extent is not known before: reads more until they end. */
async function readPickles(
  source: ByteSource,
  count: number,
  run: (bytes: Uint8Array, at: number) => { value: Unpickled; end: number },
  signal?: AbortSignal,
): Promise<{ values: Unpickled[]; end: number }> {
  for (let length = 1 << 20; ; length *= 4) {
    const bytes = await source.read(0, Math.min(length, source.sizeBytes, MAX_PICKLE_BYTES), signal);
    try {
      const values: Unpickled[] = [];
      let end = 0;
      for (let i = 0; i < count; i++) {
        const part = run(bytes, end);
        values.push(part.value);
        end = part.end;
      }
      return { values, end };
    } catch (error) {
      if (!(error instanceof PickleEnded)) throw error;
      if (length >= source.sizeBytes || length >= MAX_PICKLE_BYTES) throw new FormatError(OP, `the pickle ends early: ${source.name}`);
    }
  }
}

function checkpoint(source: ByteSource, root: Unpickled, place: Place, options: PthOptions): WeightSource {
  const tensors = new Map<string, PthTensor>();
  const metadata = new Map<string, unknown>();
  walk(descend(source, root, options.at), source, (path, value) => {
    if (!(value instanceof TorchTensor)) return void metadata.set(path, value);
    if (tensors.has(path)) throw new FormatError(OP, `two tensors have the path ${path}: ${source.name}`);
    tensors.set(path, describe(source, path, value, place));
  });
  return {
    entries: tensors,
    metadata,
    stream: (name, streaming) => streamView(entryOf(tensors, name, source.name), streaming),
    close: () => source.close(),
  };
}

function descend(source: ByteSource, root: Unpickled, path: string | undefined): Unpickled {
  if (path === undefined) return root;
  let value: Unpickled | undefined = root;
  for (const key of path.split(".")) value = value instanceof Map ? value.get(key) : undefined;
  if (value !== undefined) return value;
  const top = root instanceof Map ? [...root.keys()].slice(0, 8).map(String).join(", ") : typeof root;
  throw new FormatError(OP, `nothing at "${path}": ${source.name}; the top level has ${top}`);
}

/** Visits tensors and plain values by dotted path, in order; a limit stops cycles and sharing that multiplies. */
function walk(root: Unpickled, source: ByteSource, visit: (path: string, value: Unpickled) => void): void {
  let visits = 0;
  const go = (value: Unpickled, path: string, depth: number): void => {
    if (++visits > MAX_VISITS || depth > MAX_DEPTH)
      throw new FormatError(OP, `the pickle nests absurdly deep or wide at ${path.slice(0, 100)}: ${source.name}`);
    const under = (key: unknown): string => (path === "" ? String(key) : `${path}.${String(key)}`);
    if (value instanceof Map) for (const [key, item] of value) go(item, under(keyText(key)), depth + 1);
    else if (Array.isArray(value)) for (const [i, item] of value.entries()) go(item, under(i), depth + 1);
    else visit(path || "data", value);
  };
  go(root, "", 0);
}

const keyText = (key: Unpickled): string => (typeof key === "object" && key !== null ? "?" : String(key));

function describe(source: ByteSource, path: string, tensor: TorchTensor, place: Place): PthTensor {
  const { shape, strides, format } = tensor;
  const at = place(tensor.storage);
  const found = {
    name: path,
    shape,
    storedDtype: tensor.typeName,
    format,
    source: at.source,
    offset: at.offset + tensor.offset * format.unitBytes,
  };
  const stored = storedTensor(OP, found);
  const repeats = stored.storedBytes / Math.max(1, tensor.storage.elements * tensor.storage.format.unitBytes);
  if (repeats > MAX_REPEATS) throw new FormatError(OP, `a view repeats its storage ${repeats} times: ${path} in ${source.name}`);
  return { ...stored, file: source.name, strides };
}

async function* streamView(tensor: PthTensor, options: StreamOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
  const { shape, strides } = tensor;
  if (isContiguous({ shape, strides, offset: 0 })) return yield* streamStored(tensor, options);
  const { unitBytes, convert } = tensor.format;
  const span = await tensor.source.read(tensor.offset, spanOf(shape, strides) * unitBytes, options.signal);
  const growth = dtypeInfo[tensor.dtype].blockBytes / unitBytes;
  const chunkBytes = Math.floor((options.chunkBytes ?? CHUNK_BYTES) / Math.max(1, growth));
  for (const piece of gatherStrided(span, unitBytes, shape, strides, chunkBytes)) {
    options.signal?.throwIfAborted();
    yield convert ? convert(piece) : piece;
  }
}
