// wick compare: two sets of tensors, name by name, with the first one that diverges.
import { isFloat, isQuantized, streamAs, translate, type WeightEntry, type WeightSource } from "@wick/tensor";
import { CliError, type ExitCode, exitCodes } from "../cli-error.ts";
import { withCheckpoints } from "../models/open-checkpoint.ts";
import { recognise } from "../models/recognise.ts";
import { type CommonOptions, Reporter } from "../reporter.ts";
import { formatTable, printable } from "../units.ts";

export interface CompareOptions extends CommonOptions {
  readonly tolerance: number;
  readonly all?: boolean;
}

/** How one tensor differs from its reference. */
export interface TensorDifference {
  readonly name: string;
  /** |a - b| / |b| over all elements; 0 for equal tensors. */
  readonly relativeL2: number;
  readonly maxAbs: number;
  /** Flat index of `maxAbs`. */
  readonly maxAt: number;
  /** Set when there is nothing to measure. */
  readonly problem?: string;
}

/** Compares every tensor of `a` with the same of `b`, the reference; resolves with `differs` when any is off by more than the tolerance. */
export async function compare(a: string, b: string, options: CompareOptions, signal: AbortSignal): Promise<ExitCode> {
  const reporter = new Reporter(options);
  return withCheckpoints(signal, async (open) => {
    const [ours, theirs] = [await open(a), await open(b)];
    const [left, right] = alignNames(ours.source, theirs.source);
    const shared = [...left.entries.keys()].filter((name) => right.entries.has(name));
    if (shared.length === 0)
      throw new CliError(
        `${a} and ${b} have no tensor name in common: ${first(left)} against ${first(right)}; rename one with wick convert --layout`,
      );
    const onlyLeft = [...left.entries.keys()].filter((name) => !right.entries.has(name));
    const onlyRight = [...right.entries.keys()].filter((name) => !left.entries.has(name));
    const differences: TensorDifference[] = [];
    for (const name of shared) differences.push(await compareTensor(left, right, name, signal));
    const off = differences.filter((d) => d.problem !== undefined || !(d.relativeL2 <= options.tolerance));
    const document = { tolerance: options.tolerance, compared: shared.length, onlyLeft, onlyRight, firstDivergence: off[0], differences };
    reporter.result(describe(options, differences, off, onlyLeft, onlyRight), document);
    return off.length + onlyLeft.length + onlyRight.length === 0 ? exitCodes.ok : exitCodes.differs;
  });
}

const first = (source: WeightSource): string => source.entries.keys().next().value ?? "nothing";

/** Two layouts of one model are compared under the model's own names. */
function alignNames(a: WeightSource, b: WeightSource): [WeightSource, WeightSource] {
  const [ours, theirs] = [recognise(a), recognise(b)];
  if (!ours?.family || ours.family !== theirs?.family || ours.dialect === theirs.dialect) return [a, b];
  return [translate(a, ours.family.names), translate(b, ours.family.names)];
}

async function compareTensor(left: WeightSource, right: WeightSource, name: string, signal: AbortSignal): Promise<TensorDifference> {
  const [a, b] = [left.entries.get(name)!, right.entries.get(name)!];
  const nothing = { name, relativeL2: Number.NaN, maxAbs: Number.NaN, maxAt: -1 };
  if (`${a.shape}` !== `${b.shape}`) return { ...nothing, problem: `shapes [${a.shape.join(", ")}] and [${b.shape.join(", ")}]` };
  let [at, errors, total, maxAbs, maxAt] = [0, 0, 0, 0, -1];
  for await (const [x, y] of inStep(numbers(left, a, signal), numbers(right, b, signal))) {
    for (let i = 0; i < x.length; i++, at++) {
      const [p, q] = [Number(x[i]), Number(y[i])];
      const d = p === q || (Number.isNaN(p) && Number.isNaN(q)) ? 0 : Math.abs(p - q);
      errors += d * d;
      total += Number.isNaN(q) ? 0 : q * q;
      if (d > maxAbs || (Number.isNaN(d) && !Number.isNaN(maxAbs))) [maxAbs, maxAt] = [d, at];
    }
  }
  return { name, relativeL2: errors === 0 ? 0 : Math.sqrt(errors / total), maxAbs, maxAt };
}

type Numbers = Float32Array | Int32Array | Uint32Array | Uint8Array | BigInt64Array;

/** A tensor's values: floats and blocks as f32, whole numbers as they are. */
async function* numbers(source: WeightSource, entry: WeightEntry, signal: AbortSignal): AsyncGenerator<Numbers, void, undefined> {
  const isReal = isFloat(entry.dtype) || isQuantized(entry.dtype);
  const pieces = isReal ? streamAs(source, entry.name, "f32", { signal }) : source.stream(entry.name, { signal });
  const View = isReal
    ? Float32Array
    : { i64: BigInt64Array, i32: Int32Array, u32: Uint32Array, u8: Uint8Array }[entry.dtype as "i64" | "i32" | "u32" | "u8"];
  for await (const piece of pieces) yield new View(piece.slice().buffer as ArrayBuffer);
}

/** Both streams in pieces of equal length. */
async function* inStep(a: AsyncIterator<Numbers>, b: AsyncIterator<Numbers>): AsyncGenerator<[Numbers, Numbers], void, undefined> {
  let [x, y] = [await a.next(), await b.next()];
  let [i, j] = [0, 0];
  while (!x.done && !y.done) {
    const count = Math.min(x.value.length - i, y.value.length - j);
    yield [x.value.subarray(i, i + count), y.value.subarray(j, j + count)];
    i += count;
    j += count;
    if (i === x.value.length) [x, i] = [await a.next(), 0];
    if (j === y.value.length) [y, j] = [await b.next(), 0];
  }
}

function describe(
  { tolerance, all = false }: CompareOptions,
  differences: readonly TensorDifference[],
  off: readonly TensorDifference[],
  onlyLeft: readonly string[],
  onlyRight: readonly string[],
): string {
  const worst = [...off].sort((a, b) => b.relativeL2 - a.relativeL2).slice(0, 10);
  const shown = all ? differences : worst;
  const rows = shown.map((d) => [
    d.name,
    d.problem ?? d.relativeL2.toExponential(2),
    d.problem ? "" : d.maxAbs.toExponential(2),
    d.problem ? "" : `at ${d.maxAt}`,
  ]);
  const table = rows.length > 0 ? [formatTable([["tensor", "relative L2", "max abs", "where"], ...rows])] : [];
  const missing = [...listed("only in the first", onlyLeft), ...listed("only in the second", onlyRight)];
  const verdict =
    off.length === 0
      ? `${differences.length} tensors agree within ${tolerance} (relative L2)`
      : `${off.length} of ${differences.length} tensors differ by more than ${tolerance} (relative L2); the first is ${printable(off[0]!.name)}`;
  return [...table, ...missing, verdict].join("\n");
}

function listed(what: string, names: readonly string[]): string[] {
  if (names.length === 0) return [];
  return [`${what}: ${names.slice(0, 5).join(", ")}${names.length > 5 ? `, … (${names.length})` : ""}`];
}
