// What this JavaScript engine's WebAssembly can do, probed with one-function modules.
import { Module, v128 } from "./encoder.ts";
import { wasm } from "./webassembly.ts";

/** Findings of the probes. */
export interface WasmFeatures {
  readonly simd: boolean;
  /** Relaxed SIMD with fused or unfused multiply-add, whichever the machine has. */
  readonly fma: boolean;
  /** Memory that worker threads can share. */
  readonly shared: boolean;
  /** The compiler orders vector operations by a rule of its own that costs the micro kernel a fifth: V8 before 12 on x64 (Node 20). */
  readonly reorders: boolean;
}

function validates(emit: (m: Module) => void, shared: boolean): boolean {
  if (!wasm) return false;
  const module = new Module(shared);
  emit(module);
  return wasm.validate(module.build());
}

function canShare(): boolean {
  if (typeof SharedArrayBuffer === "undefined") return false;
  const isolated = (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated;
  return isolated ?? true;
}

/** Probes the engine; cheap enough to be called once per device. */
export function probeWasm(): WasmFeatures {
  const simd = validates((m) => void m.func("f", [v128]).get(0).op("f32x4.abs").op("drop"), false);
  const fma = simd && validates((m) => void m.func("f", [v128]).get(0).get(0).get(0).op("f32x4.relaxed_madd").op("drop"), false);
  return { simd, fma, shared: canShare(), reorders: v8Major() < 12 && nodeProcess()?.arch === "x64" };
}

const nodeProcess = () => (globalThis as { process?: { arch?: string; versions?: { v8?: string } } }).process;

/** Version of V8 in Node; infinite elsewhere. */
const v8Major = (): number => Number(nodeProcess()?.versions?.v8?.split(".")[0] ?? Number.POSITIVE_INFINITY);

/** Turns on V8's experimental WebAssembly flags for this whole process (Node only); false where that is impossible. */
export function setV8Flags(level: "fma" | "wide"): boolean {
  const v8 = nodeModule<{ setFlagsFromString(flag: string): void }>("node:v8");
  if (!v8 || (level === "wide" && v8Major() < 13)) return false;
  // Relaxed SIMD is on by default from V8 11.4.
  if (!probeWasm().fma) v8.setFlagsFromString("--experimental-wasm-relaxed-simd");
  if (level === "wide") v8.setFlagsFromString("--experimental-wasm-revectorize");
  return true;
}

/** Compiles with V8's optimising compiler at once (Node only), so that what runs first is what will run later. */
export function compileOptimised(compile: () => void): void {
  const v8 = nodeModule<{ setFlagsFromString(flag: string): void }>("node:v8")!;
  for (const flag of ["--no-liftoff", "--no-wasm-lazy-compilation"]) v8.setFlagsFromString(flag);
  try {
    compile();
  } finally {
    for (const flag of ["--liftoff", "--wasm-lazy-compilation"]) v8.setFlagsFromString(flag);
  }
}

/** A built-in module of Node, or undefined elsewhere; no import statement, so that browser bundles stay clean. */
export function nodeModule<T>(name: string): T | undefined {
  const { process } = globalThis as { process?: { getBuiltinModule?: (name: string) => unknown } };
  return process?.getBuiltinModule?.(name) as T | undefined;
}
