// What other people call our tensors, as data. A rule says how one of our tensors is made of theirs; keys are our names, values theirs.
// `{i}`, `{j}`, … stand for a number, `{p}` for weight or bias; a placeholder means the same on both sides of a rule.
import { WeightsError } from "../errors.ts";

/** How to make one of our tensors out of theirs; a bare string is a rename. All parts are ranges of rows (the outermost dimension). */
export type Recipe =
  | string
  /** Rows of several tensors one after the other; `of` gives their relative row counts (default: equal), which only `invert` needs. */
  | {
      /** Their names, in order. */
      readonly cat: readonly string[];
      /** Relative row counts of the parts, or how many equal parts. */
      readonly of?: readonly number[];
    }
  /** Part `part` of a tensor whose rows are divided as `of` says: into so many equal parts, or by these proportions. */
  | {
      /** Their name. */
      readonly split: string;
      /** Which part, from 0. */
      readonly part: number;
      /** Relative row counts of the parts, or how many equal parts. */
      readonly of: number | readonly number[];
    }
  /** The second half of the rows first. */
  | {
      /** Their name. */
      readonly swapHalves: string;
    }
  /** [a, b] as [b, a]. Read as a whole into memory. */
  | {
      /** Their name. */
      readonly transpose: string;
    }
  /** The same values with dimensions of size 1 added or dropped at one end, from rank `from` (or already `to`) to rank `to`. */
  | {
      /** Their name. */
      readonly reshape: string;
      /** Rank of theirs. */
      readonly from: number;
      /** Rank of ours. */
      readonly to: number;
      /** Where the dimensions of size 1 are. */
      readonly ones: "before" | "after";
    };

/** Our names on the left, how to get them from theirs on the right. */
export type NameRules = Readonly<Record<string, Recipe>>;

/** A range of rows in relative units: rows start/total … end/total of the tensor. */
export interface RowRange {
  /** First row, in units of `total`. */
  readonly start: number;
  /** After the last row, in units of `total`. */
  readonly end: number;
  /** Units that the whole tensor has. */
  readonly total: number;
}

/** Their names in a recipe, in order. */
export function namesIn(recipe: Recipe): readonly string[] {
  if (typeof recipe === "string") return [recipe];
  if ("cat" in recipe) return recipe.cat;
  if ("split" in recipe) return [recipe.split];
  if ("swapHalves" in recipe) return [recipe.swapHalves];
  return ["transpose" in recipe ? recipe.transpose : recipe.reshape];
}

/** The recipe with every name passed through `fn`. */
export function mapNames(recipe: Recipe, fn: (name: string) => string): Recipe {
  if (typeof recipe === "string") return fn(recipe);
  if ("cat" in recipe) return { ...recipe, cat: recipe.cat.map(fn) };
  if ("split" in recipe) return { ...recipe, split: fn(recipe.split) };
  if ("swapHalves" in recipe) return { swapHalves: fn(recipe.swapHalves) };
  if ("transpose" in recipe) return { transpose: fn(recipe.transpose) };
  return { ...recipe, reshape: fn(recipe.reshape) };
}

/** Relative row counts of the parts. */
export const proportions = (of: number | readonly number[]): readonly number[] =>
  typeof of === "number" ? new Array<number>(of).fill(1) : of;

/** Rows of part `part` when a tensor is divided by `of`. */
export function partRange(of: number | readonly number[], part: number): RowRange {
  const sizes = proportions(of);
  const start = sizes.slice(0, part).reduce((a, b) => a + b, 0);
  return { start, end: start + (sizes[part] ?? 0), total: sizes.reduce((a, b) => a + b, 0) };
}

const escaped = (text: string): string => text.replace(/[\\^$.|?+*()[\]]/g, "\\$&");

/** Reads the placeholders' values out of names that follow `pattern`; undefined for all other names. */
export function patternMatcher(pattern: string): (name: string) => Readonly<Record<string, string>> | undefined {
  const seen = new Set<string>();
  const source = escaped(pattern).replace(/\{(\w+)\}/g, (_, key: string) => {
    if (seen.has(key)) return `\\k<${key}>`;
    seen.add(key);
    return key === "p" ? `(?<${key}>weight|bias)` : `(?<${key}>\\d+)`;
  });
  const re = new RegExp(`^${source}$`);
  return (name) => {
    const match = re.exec(name);
    return match ? (match.groups ?? {}) : undefined;
  };
}

/** `pattern` with its placeholders filled in. */
export const fillPattern = (pattern: string, values: Readonly<Record<string, string>>): string =>
  pattern.replace(/\{(\w+)\}/g, (whole, key: string) => values[key] ?? whole);

/** The rules of the opposite direction: makes their tensors out of ours. Throws WeightsError when a split does not name all its parts. */
export function invert(rules: NameRules): NameRules {
  const out: Record<string, Recipe> = {};
  const splits = new Map<string, { of: number | readonly number[]; parts: string[] }>();
  for (const [ours, recipe] of Object.entries(rules)) {
    if (typeof recipe === "string") out[recipe] = ours;
    else if ("cat" in recipe) {
      const of = recipe.of ?? recipe.cat.length;
      for (const [part, theirs] of recipe.cat.entries()) out[theirs] = { split: ours, part, of };
    } else if ("split" in recipe) {
      const known = splits.get(recipe.split) ?? { of: recipe.of, parts: [] };
      known.parts[recipe.part] = ours;
      splits.set(recipe.split, known);
    } else if ("swapHalves" in recipe) out[recipe.swapHalves] = { swapHalves: ours };
    else if ("transpose" in recipe) out[recipe.transpose] = { transpose: ours };
    else out[recipe.reshape] = { reshape: ours, from: recipe.to, to: recipe.from, ones: recipe.ones };
  }
  for (const [theirs, { of, parts }] of splits) out[theirs] = catOf(theirs, of, parts);
  return out;
}

function catOf(theirs: string, of: number | readonly number[], parts: readonly string[]): Recipe {
  const sizes = proportions(of);
  if (parts.length !== sizes.length || sizes.some((_, i) => parts[i] === undefined)) {
    throw new WeightsError("invert", `not every part of a split has a rule: ${theirs} has ${sizes.length} parts`);
  }
  return typeof of === "number" ? { cat: parts } : { cat: parts, of };
}

/** Where rows of one of their tensors end up in ours. */
export interface Trace {
  /** Our name. */
  readonly ours: string;
  /** Rows of theirs that ours takes; all when absent. */
  readonly theirRows?: RowRange;
  /** Rows of ours they become; all when absent. */
  readonly ourRows?: RowRange;
  /** The halves of the rows change places. */
  readonly swapHalves?: boolean;
  /** [a, b] becomes [b, a]. */
  readonly transpose?: boolean;
}

/** Rule tables are fixed data and are asked about thousands of names: their patterns are compiled once. */
const compiled = new Map<string, ReturnType<typeof patternMatcher>>();

function matcherOf(pattern: string): ReturnType<typeof patternMatcher> {
  const known = compiled.get(pattern) ?? patternMatcher(pattern);
  compiled.set(pattern, known);
  return known;
}

/** Every place where their tensor `name` goes by these rules; empty when no rule names it. */
export function traceName(rules: NameRules, name: string): Trace[] {
  const traces: Trace[] = [];
  for (const [ours, recipe] of Object.entries(rules)) {
    for (const [part, theirs] of namesIn(recipe).entries()) {
      const values = matcherOf(theirs)(name);
      if (values) traces.push({ ours: fillPattern(ours, values), ...rowsOf(recipe, part) });
    }
  }
  return traces;
}

function rowsOf(recipe: Recipe, part: number): Omit<Trace, "ours"> {
  if (typeof recipe === "string") return {};
  if ("cat" in recipe) return { ourRows: partRange(recipe.of ?? recipe.cat.length, part) };
  if ("split" in recipe) return { theirRows: partRange(recipe.of, recipe.part) };
  if ("swapHalves" in recipe) return { swapHalves: true };
  return "transpose" in recipe ? { transpose: true } : {};
}
