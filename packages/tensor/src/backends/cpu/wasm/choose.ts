// Which flavour of the generated code a device runs.

import type { WasmFeatures } from "../../../wasm/features.ts";
import type { ArenaSource } from "./arena.ts";
import { WasmEngine } from "./engine.ts";
import { wasmKernels } from "./kernels.ts";
import { kernelFault } from "./self-test.ts";

/** The generated code a device runs, in words and by name. */
export interface Chosen {
  readonly engine: WasmEngine;
  readonly tier: "wasm" | "wasm-fma" | "wasm-wide";
  readonly detail: string;
  /** Why a wanted tier was turned down. */
  readonly reason?: string;
}

/** The engine with the widest vectors that are wanted and compute the right numbers. */
export function chooseEngine({ fma, shared, reorders }: WasmFeatures, source: ArenaSource, threads: number, wide: boolean): Chosen {
  // Without fused multiply-add a tile needs a register for products: six rows would spill.
  const narrow = () => new WasmEngine({ fma, shared, pinned: reorders, tileRows: fma ? 6 : 5, tileVectors: 2 }, source, threads);
  const plain = { tier: fma ? "wasm-fma" : "wasm", detail: fma ? " with multiply-add" : "" } as const;
  if (!wide) return { engine: narrow(), ...plain };
  const engine = new WasmEngine({ fma, shared, pinned: false, tileRows: 4, tileVectors: 4 }, source, threads);
  engine.optimise();
  const fault = kernelFault(wasmKernels(engine, 0), source);
  if (!fault) return { engine, tier: "wasm-wide", detail: " with multiply-add, 256 bits" };
  return { engine: narrow(), ...plain, reason: `256-bit code is wrong here: ${fault}` };
}
