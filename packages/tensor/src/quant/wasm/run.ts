// Runs conversion modules on the calling thread, compiled and given memory at first use; they are kept, since compiling a search takes
// longer than converting a small weight.
import { bytesOf, type DType } from "../../dtype.ts";
import { probeWasm } from "../../wasm/features.ts";
import { type WasmMemory, wasm } from "../../wasm/webassembly.ts";
import { conversionLayout, conversionModule, isGenerated } from "./conversion.ts";

/** Values a module converts at a time: whole blocks of every format. */
export const jobValues: number = 2 ** 18;

/** A generated conversion, for whatever thread instantiates it. */
export interface Conversion {
  /** Names it. */
  readonly key: string;
  /** Binary of the module; its export convert(count, outputAt) returns 1 where values do not fit. */
  readonly bytes: Uint8Array;
  /** Address of the input. */
  readonly inputAt: number;
  /** Address of the output. */
  readonly outputAt: number;
  /** Memory it needs. */
  readonly pages: number;
}

const conversions = new Map<string, Conversion>();
let hasSimd: boolean | undefined;

/** The conversion of up to `jobValues` values; undefined where there is no generated code for it. */
export function conversionOf(from: DType, to: DType): Conversion | undefined {
  hasSimd ??= probeWasm().simd;
  if (!hasSimd || !isGenerated(from, to)) return undefined;
  const key = `${from} ${to}`;
  let found = conversions.get(key);
  if (!found) {
    found = { key, bytes: conversionModule(from, to), ...conversionLayout(from, to, jobValues) };
    conversions.set(key, found);
  }
  return found;
}

interface Instance {
  readonly memory: WasmMemory;
  readonly convert: (count: number, outputAt: number) => number;
}

const instances = new Map<string, Instance>();

function instanceOf({ key, bytes, pages }: Conversion): Instance {
  let found = instances.get(key);
  if (!found) {
    const memory = new wasm!.Memory({ initial: pages, maximum: pages, shared: false });
    found = { memory, convert: new wasm!.Instance(new wasm!.Module(bytes), { env: { memory } }).exports["convert"]! };
    instances.set(key, found);
  }
  return found;
}

/**
 * Converts `count` values from `input` into `out`, whole blocks of both formats. False where there is no generated code, and where values do not fit
 * `to`; `out` is then partly written, and the plain loops know what is wrong.
 */
export function runConversion(from: DType, to: DType, input: Uint8Array, count: number, out: Uint8Array): boolean {
  const conversion = conversionOf(from, to);
  if (!conversion) return false;
  const { inputAt, outputAt } = conversion;
  const { memory, convert } = instanceOf(conversion);
  const bytes = new Uint8Array(memory.buffer);
  for (let at = 0; at < count; at += jobValues) {
    const n = Math.min(jobValues, count - at);
    bytes.set(input.subarray(bytesOf(from, at), bytesOf(from, at + n)), inputAt);
    if (convert(n, outputAt) !== 0) return false;
    out.set(bytes.subarray(outputAt, outputAt + bytesOf(to, n)), bytesOf(to, at));
  }
  return true;
}
