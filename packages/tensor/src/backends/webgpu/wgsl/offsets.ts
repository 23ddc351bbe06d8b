// WGSL functions from a linear index to an element offset over collapsed dimensions, with their parameters.
import { collapse, type Layout } from "../../../layout.ts";

export interface OffsetFunction {
  /** `fn name(i: u32) -> u32`. */
  readonly text: string;
  readonly params: readonly string[];
  readonly values: readonly number[];
  /** Differs when the text does. */
  readonly key: string;
}

/** The function for dimensions `from`…`to` of a layout; the layout's own offset is not included. */
export function offsetFunction(name: string, layout: Layout, from: number, to: number): OffsetFunction {
  const part = { shape: layout.shape.slice(from, to), strides: layout.strides.slice(from, to), offset: 0 };
  const { shape, strides } = collapse([part]);
  const steps = strides[0]!;
  const rank = shape.length;
  if (rank === 0) return { text: `fn ${name}(i: u32) -> u32 { return 0u; }`, params: [], values: [], key: "0" };
  if (rank === 1 && steps[0] === 1) return { text: `fn ${name}(i: u32) -> u32 { return i; }`, params: [], values: [], key: "1" };
  const values: number[] = [];
  for (let d = 0; d < rank; d++) {
    if (d > 0) values.push(shape[d]!);
    values.push(steps[d]!);
  }
  return {
    values,
    key: `r${rank}`,
    // Text is only needed when a program is new.
    get text() {
      return walkText(name, rank);
    },
    get params() {
      return Array.from({ length: rank }, (_, d) => (d > 0 ? [`${name}_n${d}`, `${name}_s${d}`] : [`${name}_s0`])).flat();
    },
  };
}

function walkText(name: string, rank: number): string {
  const lines = ["var r = i;", "var o = 0u;"];
  for (let d = rank - 1; d > 0; d--) lines.push(`o += (r % p.${name}_n${d}) * p.${name}_s${d}; r = r / p.${name}_n${d};`);
  lines.push(`return o + r * p.${name}_s0;`);
  return `fn ${name}(i: u32) -> u32 { ${lines.join(" ")} }`;
}

/** Whether all offsets of the leading dimensions are multiples of 4, so that rows can be read as vectors. */
export const alignedRows = (layout: Layout, offset: number): boolean =>
  offset % 4 === 0 && layout.strides.every((s, i) => i === layout.strides.length - 1 || layout.shape[i] === 1 || s % 4 === 0);
