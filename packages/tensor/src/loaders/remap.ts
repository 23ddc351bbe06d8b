// A checkpoint under other names: rules decorate a source, nothing is read until a tensor is asked for, and tensors still stream.
import { bytesOf, dtypeInfo } from "../dtype.ts";
import { WeightsError } from "../errors.ts";
import { formatShape, type Shape, sizeOf } from "../shape.ts";
import { fillPattern, mapNames, type NameRules, namesIn, partRange, patternMatcher, type Recipe, type RowRange } from "./name-rules.ts";
import { entryOf, readTensorBytes, type StreamOptions, streamSlice, type WeightEntry, type WeightSource } from "./weight-source.ts";

/** What `remap` leaves out. */
export interface RemapOptions {
  /** Patterns of their names that have no counterpart and are left out, e.g. stray tensors of a training run. */
  readonly drop?: readonly string[];
}

/** One of our tensors: how it is made and what it looks like. */
interface Made {
  readonly recipe: Recipe;
  readonly entry: WeightEntry;
}

/**
 * `source` under our names. Names that no rule mentions pass through, so that `load` reports them. A tensor made of several is there
 * only when all its parts are. Throws WeightsError when parts do not fit together or two tensors would get one name.
 */
export function remap(source: WeightSource, rules: NameRules, { drop = [] }: RemapOptions = {}): WeightSource {
  const made = new Map<string, Made>();
  const used = new Set<string>();
  for (const [name, recipe] of expandRules(source, rules)) {
    if (made.has(name)) throw new WeightsError("remap", `two rules make the same tensor: ${name}`);
    made.set(name, { recipe, entry: madeEntry(source, name, recipe) });
    for (const theirs of namesIn(recipe)) used.add(theirs);
  }
  const dropped = drop.map(patternMatcher);
  for (const [name, entry] of source.entries) {
    if (used.has(name) || dropped.some((match) => match(name))) continue;
    if (made.has(name)) throw new WeightsError("remap", `a rule makes a tensor that the checkpoint has too: ${name} in ${entry.file}`);
    made.set(name, { recipe: name, entry });
  }
  const entries = new Map([...made].map(([name, { entry }]) => [name, entry]));
  const recipeOf = (name: string): Recipe => made.get(entryOf(entries, name, "the renamed checkpoint").name)!.recipe;
  const whole: WeightSource = {
    entries,
    metadata: source.metadata,
    stream: (name, options) => streamRecipe(source, recipeOf(name), entryOf(entries, name, "").byteLength, options),
    close: () => source.close(),
  };
  return {
    ...whole,
    streamSlice: (name, begin, end, options) => {
      const recipe = recipeOf(name);
      return typeof recipe === "string" ? streamSlice(source, recipe, begin, end, options) : streamSlice(whole, name, begin, end, options);
    },
  };
}

/** Every rule with its placeholders filled in for the tensors that are there. */
function* expandRules(source: WeightSource, rules: NameRules): Generator<[string, Recipe]> {
  for (const [ours, recipe] of Object.entries(rules)) {
    const match = patternMatcher(namesIn(recipe)[0]!);
    for (const name of source.entries.keys()) {
      const values = match(name);
      if (!values) continue;
      const filled = mapNames(recipe, (pattern) => fillPattern(pattern, values));
      if (namesIn(filled).every((n) => source.entries.has(n))) yield [fillPattern(ours, values), filled];
    }
  }
}

const describe = (e: WeightEntry): string => `${e.name} ${e.dtype} ${formatShape(e.shape)}`;

function madeEntry(source: WeightSource, name: string, recipe: Recipe): WeightEntry {
  const parts = namesIn(recipe).map((n) => source.entries.get(n)!);
  const first = parts[0]!;
  const shape = madeShape(name, recipe, parts);
  return { ...first, name, shape, byteLength: bytesOf(first.dtype, sizeOf(shape)) };
}

function madeShape(name: string, recipe: Recipe, parts: readonly WeightEntry[]): Shape {
  const first = parts[0]!;
  if (typeof recipe === "string") return first.shape;
  if ("cat" in recipe) return catShape(name, parts);
  if ("split" in recipe) return splitShape(name, first, partRange(recipe.of, recipe.part));
  if ("swapHalves" in recipe) return splitShape(name, first, { start: 0, end: 2, total: 2 });
  if ("transpose" in recipe) return transposedShape(name, first);
  return reshaped(name, first, recipe);
}

function catShape(name: string, parts: readonly WeightEntry[]): Shape {
  const first = parts[0]!;
  const fits = parts.every((p) => p.dtype === first.dtype && p.shape.length > 0 && `${p.shape.slice(1)}` === `${first.shape.slice(1)}`);
  if (!fits) throw new WeightsError("remap", `parts of ${name} differ in dtype or width: ${parts.map(describe).join(", ")}`);
  for (const part of parts) splitShape(name, part, { start: 0, end: 1, total: 1 });
  return [parts.reduce((rows, p) => rows + p.shape[0]!, 0), ...first.shape.slice(1)];
}

/** Shape of a range of rows, checked to be whole rows and whole blocks. */
function splitShape(name: string, entry: WeightEntry, { start, end, total }: RowRange): Shape {
  const rows = entry.shape[0] ?? 0;
  if (entry.shape.length === 0 || total === 0 || rows % total !== 0) {
    throw new WeightsError("remap", `the rows do not divide into ${total} parts for ${name}: ${describe(entry)}`);
  }
  const unit = rows / total;
  const { blockSize } = dtypeInfo[entry.dtype];
  if (entry.shape.length === 1 && ((unit * start) % blockSize !== 0 || (unit * end) % blockSize !== 0)) {
    throw new WeightsError("remap", `a cut would divide a block of ${blockSize} for ${name}: ${describe(entry)}`);
  }
  return [unit * (end - start), ...entry.shape.slice(1)];
}

function transposedShape(name: string, entry: WeightEntry): Shape {
  if (entry.shape.length !== 2 || dtypeInfo[entry.dtype].blockSize !== 1) {
    throw new WeightsError("remap", `only matrices of plain formats are transposed, for ${name}: ${describe(entry)}`);
  }
  return [entry.shape[1]!, entry.shape[0]!];
}

function reshaped(name: string, entry: WeightEntry, { from, to, ones }: Extract<Recipe, { reshape: string }>): Shape {
  const { shape } = entry;
  if (shape.length === to) return shape;
  const added = new Array<number>(Math.max(0, to - from)).fill(1);
  const cut = Math.max(0, from - to);
  const kept = ones === "before" ? shape.slice(cut) : shape.slice(0, shape.length - cut);
  const lost = ones === "before" ? shape.slice(0, cut) : shape.slice(shape.length - cut);
  if (shape.length !== from || lost.some((d) => d !== 1)) {
    throw new WeightsError("remap", `cannot see ${describe(entry)} with ${to} dimensions, for ${name}`);
  }
  return ones === "before" ? [...added, ...kept] : [...kept, ...added];
}

async function* streamRecipe(
  source: WeightSource,
  recipe: Recipe,
  byteLength: number,
  options?: StreamOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const [first] = namesIn(recipe) as [string];
  if (typeof recipe === "string" || "reshape" in recipe) yield* source.stream(first, options);
  else if ("cat" in recipe) for (const name of recipe.cat) yield* source.stream(name, options);
  else if ("split" in recipe) {
    const { start, total } = partRange(recipe.of, recipe.part);
    const begin = (source.entries.get(first)!.byteLength / total) * start;
    yield* streamSlice(source, first, begin, begin + byteLength, options);
  } else if ("swapHalves" in recipe) {
    yield* streamSlice(source, first, byteLength / 2, byteLength, options);
    yield* streamSlice(source, first, 0, byteLength / 2, options);
  } else yield transposedBytes(source.entries.get(first)!, await readTensorBytes(source, first, options));
}

function transposedBytes({ shape, dtype }: WeightEntry, bytes: Uint8Array): Uint8Array {
  const [rows, columns] = shape as readonly [number, number];
  const width = dtypeInfo[dtype].blockBytes;
  const out = new Uint8Array(bytes.length);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const from = (r * columns + c) * width;
      const to = (c * rows + r) * width;
      for (let b = 0; b < width; b++) out[to + b] = bytes[from + b]!;
    }
  }
  return out;
}

/**
 * The part of a checkpoint under the first of these prefixes that it uses, without it: "model.diffusion_model." in all-in-one files.
 * Tensors outside of the prefix are left out. A checkpoint that uses none of them is returned as it is.
 */
export function stripPrefix(source: WeightSource, ...prefixes: readonly string[]): WeightSource {
  const prefix = prefixes.find((p) => [...source.entries.keys()].some((name) => name.startsWith(p)));
  return prefix === undefined ? source : renameAll(source, (name) => (name.startsWith(prefix) ? name.slice(prefix.length) : undefined));
}

/** `source` with every name passed through `fn`; undefined leaves the tensor out. Throws WeightsError when two get one name. */
export function renameAll(source: WeightSource, fn: (name: string) => string | undefined): WeightSource {
  const theirs = new Map<string, string>();
  const entries = new Map<string, WeightEntry>();
  for (const [name, entry] of source.entries) {
    const ours = fn(name);
    if (ours === undefined) continue;
    if (entries.has(ours)) throw new WeightsError("renameAll", `two tensors get the same name: ${theirs.get(ours)} and ${name} as ${ours}`);
    theirs.set(ours, name);
    entries.set(ours, { ...entry, name: ours });
  }
  const nameOf = (name: string): string => theirs.get(entryOf(entries, name, "the renamed checkpoint").name)!;
  return {
    entries,
    metadata: source.metadata,
    stream: (name, options) => source.stream(nameOf(name), options),
    streamSlice: (name, begin, end, options) => streamSlice(source, nameOf(name), begin, end, options),
    close: () => source.close(),
  };
}

/** A way of naming a model's tensors: how to recognise it, and how to get from it to our names. */
export interface Dialect {
  /** For messages: "diffusers". */
  readonly name: string;
  /** True if a checkpoint (without prefix) is of this dialect. */
  readonly matches: (entries: ReadonlyMap<string, Pick<WeightEntry, "shape">>) => boolean;
  /** How our tensors are made of its tensors. */
  readonly rules: NameRules;
  /** Patterns of its names that are left out. */
  readonly drop?: readonly string[];
}

/** The first dialect that a checkpoint (without prefix) is of. */
export const detectDialect = (source: WeightSource, dialects: readonly Dialect[]): Dialect | undefined =>
  dialects.find((d) => d.matches(source.entries));

/** All ways in which a model's checkpoints are published. */
export interface NameFamily {
  /** For messages: "FLUX.1". */
  readonly model: string;
  /** Prefixes that single files put before every name. */
  readonly prefixes: readonly string[];
  /** Our own names are one of them, with no rules. */
  readonly dialects: readonly Dialect[];
}

/**
 * A checkpoint of any published layout under our names. Throws WeightsError, with the first names it found, when no dialect matches.
 */
export function translate(
  source: WeightSource,
  family: NameFamily,
): WeightSource & {
  /** Name of the layout that was found. */
  readonly dialect: string;
} {
  const bare = stripPrefix(source, ...family.prefixes);
  const dialect = detectDialect(bare, family.dialects);
  if (!dialect) {
    const known = family.dialects.map((d) => d.name).join(", ");
    const first = [...source.entries.keys()].slice(0, 3).join(", ") || "nothing";
    throw new WeightsError("translate", `not a ${family.model} checkpoint in a known layout (${known}): it has ${first}, …`);
  }
  return { ...remap(bare, dialect.rules, dialect.drop ? { drop: dialect.drop } : {}), dialect: dialect.name };
}
