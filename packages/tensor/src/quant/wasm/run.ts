// Runs conversion modules on the calling thread, compiled and given memory at first use; both are kept, since compiling a search takes
// longer than converting a small weight.
import { bytesOf, type DType } from "../../dtype.ts";
import { probeWasm } from "../../wasm/features.ts";
import { type WasmMemory, wasm } from "../../wasm/webassembly.ts";
import { type Convertible, conversionLayout, conversionModule, isGenerated } from "./conversion.ts";

/** Values a module converts at a time: whole blocks of every format. */
export const jobValues: number = 2 ** 18;

/** A compiled conversion, for whatever thread instantiates it. */
export interface Compiled {
  /** Names it. */
  readonly key: string;
  /** A WebAssembly.Module; its export convert(count, outputAt) returns 1 where values do not fit. */
  readonly module: object;
  /** Address of the input. */
  readonly inputAt: number;
  /** Address of the output. */
  readonly outputAt: number;
  /** Memory it needs. */
  readonly pages: number;
}

const compiled = new Map<string, Compiled>();
let hasSimd: boolean | undefined;

/** The compiled conversion of up to `jobValues` values; undefined where there is no generated code for it. */
export function compiledConversion(from: DType, to: DType): Compiled | undefined {
  hasSimd ??= probeWasm().simd;
  if (!hasSimd || !isGenerated(from, to)) return undefined;
  const key = `${from} ${to}`;
  let found = compiled.get(key);
  if (!found) {
    found = { key, module: new wasm!.Module(conversionModule(from, to)), ...conversionLayout(from, to, jobValues) };
    compiled.set(key, found);
  }
  return found;
}

interface Instance {
  readonly memory: WasmMemory;
  readonly convert: (count: number, outputAt: number) => number;
}

const instances = new Map<string, Instance>();

function instanceOf({ key, module, pages }: Compiled): Instance {
  let found = instances.get(key);
  if (!found) {
    const memory = new wasm!.Memory({ initial: pages, maximum: pages, shared: false });
    found = { memory, convert: new wasm!.Instance(module, { env: { memory } }).exports["convert"]! };
    instances.set(key, found);
  }
  return found;
}

/**
 * Converts `count` values from `input` into `out`, whole blocks of both formats. False where there is no generated code, and where values do not fit
 * `to`; `out` is then partly written, and the plain loops know what is wrong.
 */
export function runConversion(from: DType, to: DType, input: Uint8Array, count: number, out: Uint8Array): boolean {
  const conversion = compiledConversion(from, to);
  if (!conversion) return false;
  const { inputAt, outputAt } = conversion;
  const { memory, convert } = instanceOf(conversion);
  const bytes = new Uint8Array(memory.buffer);
  for (let at = 0; at < count; at += jobValues) {
    const n = Math.min(jobValues, count - at);
    bytes.set(input.subarray(bytesOf(from as Convertible, at), bytesOf(from, at + n)), inputAt);
    if (convert(n, outputAt) !== 0) return false;
    out.set(bytes.subarray(outputAt, outputAt + bytesOf(to, n)), bytesOf(to, at));
  }
  return true;
}
