// The part of the WebAssembly JavaScript interface used here, typed; no DOM library is assumed.

export interface WasmMemory {
  readonly buffer: ArrayBufferLike;
  grow(pages: number): number;
}

export interface WasmTable {
  set(index: number, value: unknown): void;
}

/** Exported functions take and return numbers. */
export type WasmExports = Readonly<Record<string, (...args: number[]) => number>>;

export interface WasmApi {
  validate(bytes: Uint8Array): boolean;
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { readonly exports: WasmExports };
  Memory: new (descriptor: { initial: number; maximum: number; shared: boolean }) => WasmMemory;
  Table: new (descriptor: { element: "anyfunc"; initial: number }) => WasmTable;
}

/** WebAssembly, where the engine has it. */
export const wasm = (globalThis as unknown as { readonly WebAssembly?: WasmApi }).WebAssembly;
