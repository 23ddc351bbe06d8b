// Text of a tensor's values as PyTorch prints them. Rules restated from pytorch/pytorch torch/_tensor_str.py.
import { isFloat, isQuantized } from "./dtype.ts";
import { sizeOf } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

/** How values are printed; PyTorch's set_printoptions. */
export interface PrintOptions {
  /** Decimals of floats (default 4). */
  readonly precision?: number;
  /** Tensors with more values are shortened (default 1000). */
  readonly threshold?: number;
  /** Entries shown at each end of a shortened dimension (default 3). */
  readonly edgeItems?: number;
  /** Characters per line (default 80). */
  readonly lineWidth?: number;
}
type Settings = Required<PrintOptions>;

/** `tensor([[1., 2.], …])`, with dtype and device where they are not f32 on the CPU. */
export async function formatTensor(x: Tensor, options: PrintOptions = {}): Promise<string> {
  const s: Settings = { precision: 4, threshold: 1000, edgeItems: 3, lineWidth: 80, ...options };
  if (isQuantized(x.dtype)) return `tensor(…, size=[${x.shape.join(", ")}], dtype=${x.dtype}, device=${x.device.kind})`;
  const notes: string[] = [];
  if (x.size === 0 && x.rank !== 1) notes.push(`size=[${x.shape.join(", ")}]`);
  if (x.dtype !== "f32") notes.push(`dtype=${x.dtype}`);
  if (x.device.kind !== "cpu") notes.push(`device=${x.device.kind}`);
  const body = x.size === 0 ? "[]" : nested(await shownValues(x, s), x.shape, s);
  return `tensor(${[body, ...notes].join(", ")})`;
}

interface Shown {
  readonly text: (flat: number) => string;
  readonly width: number;
  readonly summarize: boolean;
}

async function shownValues(x: Tensor, s: Settings): Promise<Shown> {
  const values = Array.from((await x.toArray()) as Iterable<number | bigint>, Number);
  const summarize = sizeOf(x.shape) > s.threshold;
  const visible = summarize ? visibleIndices(x.shape, s.edgeItems).map((i) => values[i]!) : values;
  const format = isFloat(x.dtype) ? floatFormat(visible, s.precision) : (v: number) => String(v);
  // Zeros and special values do not widen the columns of floats.
  const measured = isFloat(x.dtype) ? visible.filter((v) => Number.isFinite(v) && v !== 0) : visible;
  const width = measured.reduce((w, v) => Math.max(w, format(v).length), 1);
  return { text: (i) => format(values[i]!).padStart(width), width, summarize };
}

/** Row-major positions that a shortened print shows. */
function visibleIndices(shape: readonly number[], edge: number): number[] {
  return shape.reduce<number[]>(
    (flat, n) => {
      const along = Array.from({ length: n }, (_, i) => i).filter((i) => n <= 2 * edge || i < edge || i >= n - edge);
      return flat.flatMap((f) => along.map((i) => f * n + i));
    },
    [0],
  );
}

/** One format for all values: whole numbers as `3.`, scientific when the range is wide, else fixed decimals. */
function floatFormat(values: readonly number[], precision: number): (v: number) => string {
  const sizes = values.filter((v) => Number.isFinite(v) && v !== 0).map(Math.abs);
  const special = (v: number) => (Number.isNaN(v) ? "nan" : v > 0 ? "inf" : "-inf");
  const [low, high] = sizes.reduce<[number, number]>(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Number.POSITIVE_INFINITY, 0]);
  const whole = values.every((v) => !Number.isFinite(v) || Number.isInteger(v));
  const wide = sizes.length > 0 && (high / low > 1000 || high > 1e8 || (!whole && low < 1e-4));
  const finite = wide
    ? (v: number) => scientific(v, precision)
    : whole
      ? (v: number) => `${signed(v, 0)}.`
      : (v: number) => signed(v, precision);
  return (v) => (Number.isFinite(v) ? finite(v) : special(v));
}

const signed = (v: number, digits: number): string => (Object.is(v, -0) ? "-" : "") + v.toFixed(digits);

function scientific(v: number, precision: number): string {
  const [mantissa, exponent] = v.toExponential(precision).split("e") as [string, string];
  return `${mantissa}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
}

/** Brackets, line breaks and ellipses, indented under `tensor(`. */
function nested({ text, width, summarize }: Shown, shape: readonly number[], s: Settings): string {
  const shown = (n: number) =>
    summarize && n > 2 * s.edgeItems ? [...range(0, s.edgeItems), -1, ...range(n - s.edgeItems, n)] : range(0, n);
  const level = (dim: number, base: number): string => {
    if (dim === shape.length) return text(base);
    const n = shape[dim]!;
    const indent = " ".repeat("tensor(".length + dim + 1);
    const cells = shown(n).map((i) => (i < 0 ? (dim === shape.length - 1 ? " ..." : "...") : level(dim + 1, base * n + i)));
    if (dim < shape.length - 1) return `[${cells.join(`,${"\n".repeat(shape.length - 1 - dim)}${indent}`)}]`;
    const perLine = Math.max(1, Math.floor((s.lineWidth - indent.length + 1) / (width + 2)));
    const lines = range(0, Math.ceil(cells.length / perLine)).map((l) => cells.slice(l * perLine, (l + 1) * perLine).join(", "));
    return `[${lines.join(`,\n${indent}`)}]`;
  };
  return shape.length === 0 ? text(0).trim() : level(0, 0);
}

const range = (from: number, to: number): number[] => Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
