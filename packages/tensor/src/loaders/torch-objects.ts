// The Python objects of a PyTorch checkpoint that the unpickler may build: storages, tensors over them, ordered dicts, dtypes as names.
// pytorch: torch/_utils.py (_rebuild_*), torch/storage.py, torch/serialization.py (persistent ids). Tensors are descriptions; no data is read.
import { FormatError } from "../errors.ts";
import type { Shape } from "../shape.ts";
import { type StoredFormat, storedFormats } from "./edge-dtypes.ts";
import type { Callable, Unpickled } from "./pickle.ts";
import { spanOf } from "./strided.ts";

/** A storage by its key in the file. */
export class TorchStorage {
  readonly key: string;
  /** Of the elements; a byte for untyped storages. */
  readonly format: StoredFormat;
  readonly typeName: string;
  readonly elements: number;
  constructor(key: string, format: StoredFormat, typeName: string, elements: number) {
    this.key = key;
    this.format = format;
    this.typeName = typeName;
    this.elements = elements;
  }
}

/** A tensor: a strided view of a storage. Offset and strides in elements. */
export class TorchTensor {
  readonly storage: TorchStorage;
  readonly format: StoredFormat;
  readonly typeName: string;
  readonly offset: number;
  readonly shape: Shape;
  readonly strides: readonly number[];
  constructor(storage: TorchStorage, format: StoredFormat, typeName: string, offset: number, shape: Shape, strides: readonly number[]) {
    this.storage = storage;
    this.format = format;
    this.typeName = typeName;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }
}

type PythonFunction = (args: readonly Unpickled[]) => Unpickled;

interface ElementKind extends Callable {
  readonly format: StoredFormat;
}

const storageKinds: readonly (readonly [string, StoredFormat])[] = [
  ["Float", storedFormats.f32],
  ["Half", storedFormats.f16],
  ["BFloat16", storedFormats.bf16],
  ["Double", storedFormats.f64],
  ["Long", storedFormats.i64],
  ["Int", storedFormats.i32],
  ["Short", storedFormats.i16],
  ["Char", storedFormats.i8],
  ["Byte", storedFormats.u8],
  ["Bool", storedFormats.bool],
];

const dtypeKinds: readonly (readonly [string, StoredFormat])[] = [
  ["float32", storedFormats.f32],
  ["float16", storedFormats.f16],
  ["bfloat16", storedFormats.bf16],
  ["float64", storedFormats.f64],
  ["int64", storedFormats.i64],
  ["int32", storedFormats.i32],
  ["int16", storedFormats.i16],
  ["int8", storedFormats.i8],
  ["uint8", storedFormats.u8],
  ["uint16", storedFormats.u16],
  ["uint32", storedFormats.u32],
  ["uint64", storedFormats.u64],
  ["bool", storedFormats.bool],
  ["float8_e4m3fn", storedFormats.f8e4m3],
  ["float8_e5m2", storedFormats.f8e5m2],
  ["float8_e8m0fnu", storedFormats.f8e8m0],
];

const isKind = (value: Unpickled): value is ElementKind =>
  typeof value === "object" && value !== null && "format" in value && "pythonName" in value;

/** Reads arguments of Python calls with checks; every complaint names the file. */
class Arguments {
  readonly op: string;
  readonly where: string;
  constructor(op: string, where: string) {
    this.op = op;
    this.where = where;
  }

  fail(what: string): never {
    throw new FormatError(this.op, `${what}: ${this.where}`);
  }

  whole(value: Unpickled | undefined, what: string): number {
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
    return this.fail(`${what} is not a whole number: ${String(value)}`);
  }

  wholes(value: Unpickled | undefined, what: string): number[] {
    if (!Array.isArray(value) || value.length > 64) return this.fail(`${what} is not a tuple of whole numbers`);
    return value.map((v) => this.whole(v, what));
  }

  storage(value: Unpickled | undefined): TorchStorage {
    return value instanceof TorchStorage ? value : this.fail("a tensor is built over something that is no storage");
  }

  kind(value: Unpickled | undefined): ElementKind {
    return value !== undefined && isKind(value) ? value : this.fail("a storage or tensor has no known element type");
  }

  tensor(
    storage: TorchStorage,
    kind: { format: StoredFormat; name: string },
    offset: Unpickled | undefined,
    shape: number[],
    strides: number[],
  ) {
    const start = this.whole(offset, "a tensor's offset");
    const span = spanOf(shape, strides);
    const have = (storage.elements * storage.format.unitBytes) / kind.format.unitBytes;
    if (shape.length !== strides.length || !Number.isSafeInteger(span) || start + span > have) {
      const claim = `[${shape.join(", ")}] with strides [${strides.join(", ")}] at ${start}`;
      return this.fail(`a tensor reaches outside of its storage: ${claim}, storage ${storage.key} has ${have} elements`);
    }
    return new TorchTensor(storage, kind.format, kind.name, start, shape, strides);
  }
}

function rebuildTensor(a: Arguments): PythonFunction {
  return ([storageArg, offset, shape, strides]) => {
    const storage = a.storage(storageArg);
    const kind = { format: storage.format, name: storage.typeName };
    return a.tensor(storage, kind, offset, a.wholes(shape, "a shape"), a.wholes(strides, "strides"));
  };
}

/** `_rebuild_tensor_v3` carries the element type beside an untyped storage. */
function rebuildTyped(a: Arguments): PythonFunction {
  return ([storageArg, offset, shape, strides, , , dtype]) => {
    const kind = a.kind(dtype);
    const named = { format: kind.format, name: kind.pythonName };
    return a.tensor(a.storage(storageArg), named, offset, a.wholes(shape, "a shape"), a.wholes(strides, "strides"));
  };
}

function orderedDict(a: Arguments): PythonFunction {
  return ([pairs]) => {
    const out = new Map<Unpickled, Unpickled>();
    if (pairs === undefined) return out;
    if (!Array.isArray(pairs)) return a.fail("an OrderedDict is built from something that is no list");
    for (const pair of pairs) {
      if (!Array.isArray(pair) || pair.length !== 2) return a.fail("an OrderedDict is built from something that is no list of pairs");
      out.set(pair[0]!, pair[1]!);
    }
    return out;
  };
}

/** The globals a checkpoint may name, by "module name". */
export function torchGlobals(op: string, where: string): ReadonlyMap<string, Callable> {
  const a = new Arguments(op, where);
  const first: PythonFunction = ([value]) => value ?? null;
  const entries: [string, Callable | ElementKind][] = [];
  const add = (names: readonly string[], value: Omit<ElementKind, "pythonName" | "format"> & { format?: StoredFormat }): void => {
    for (const name of names) entries.push([name, { pythonName: name.replace(" ", "."), ...value }]);
  };
  add(["collections OrderedDict"], { call: orderedDict(a) });
  add(["torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2"], { call: rebuildTensor(a) });
  add(["torch._utils _rebuild_tensor_v3"], { call: rebuildTyped(a) });
  add(["torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state", "torch.nn.parameter Parameter"], { call: first });
  add(["torch Size"], { call: first });
  add(["torch device"], { call: ([type]) => String(type) });
  for (const [kind, format] of storageKinds) add([`torch ${kind}Storage`, `torch.cuda ${kind}Storage`], { format });
  add(["torch.storage UntypedStorage", "torch UntypedStorage"], { format: storedFormats.u8 });
  for (const [name, format] of dtypeKinds) add([`torch ${name}`], { format });
  return new Map(entries);
}

/** Resolves persistent ids ("storage", type, key, location, elements[, view]); the same key gives the same storage. */
export function storageResolver(
  op: string,
  where: string,
): { resolve: (id: Unpickled) => TorchStorage; storages: Map<string, TorchStorage> } {
  const a = new Arguments(op, where);
  const storages = new Map<string, TorchStorage>();
  const resolve = (id: Unpickled): TorchStorage => {
    if (!Array.isArray(id) || id[0] !== "storage") return a.fail("a persistent id is not that of a storage");
    const kind = a.kind(id[1]);
    const elements = a.whole(id[4], "a storage's length");
    if (id[5] !== undefined && id[5] !== null) return a.fail("a storage is a view of another one; re-save the file with a recent PyTorch");
    const key = String(id[2]);
    const known = storages.get(key);
    if (known && known.format === kind.format && known.elements === elements) return known;
    if (known) return a.fail(`storage ${key} is described twice and differently`);
    const storage = new TorchStorage(key, kind.format, kind.pythonName, elements);
    storages.set(key, storage);
    return storage;
  };
  return { resolve, storages };
}
