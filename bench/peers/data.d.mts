// Types of data.mjs.

export function values(count: number, seed: number): Float32Array;
export function inputsOf(spec: Readonly<Record<string, unknown>>): Readonly<Record<string, Float32Array>>;
export function swapped(x: Float32Array, shape: readonly [number, number, number]): Float32Array;
export function transposed(x: Float32Array, rows: number, columns: number): Float32Array;
