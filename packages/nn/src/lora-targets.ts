// Which weights of a model an adapter file changes, and how: names are resolved through the same rules as checkpoints of other layouts.
import {
  invert,
  type NameRules,
  type RowRange,
  type Shape,
  type Trace,
  traceName,
  type WeightEntry,
  type WeightSource,
  WeightsError,
} from "@wick/tensor";
import { flatName, isForOtherNetwork, type LoraKey, type LoraRole, parseLoraKey } from "./lora-keys.ts";

/** How much of an adapter file found its place. */
export interface LoraCoverage {
  /** Weights of the model that change. */
  readonly targets: readonly string[];
  /** Tensors of the file that are used. */
  readonly matched: number;
  /** Names in the file that no weight of this model answers to. */
  readonly unmatched: readonly string[];
  /** Tensors for other networks, e.g. text encoders. */
  readonly otherNetworks: readonly string[];
  /** Fused tensors whose parts the file has too: left out. */
  readonly redundant: readonly string[];
  /** Kinds of adapters that are not read: DoRA, LoHa, LoKr; for attached adapters also changes to anything but Linear layers. */
  readonly unsupported: readonly string[];
}

/** One change to rows of one weight. */
export interface LoraPart {
  readonly kind: "lowRank" | "diff" | "replace";
  /** Names in the adapter file; `down` is absent for biases and whole differences. */
  readonly down?: WeightEntry;
  readonly up: WeightEntry;
  readonly alpha?: WeightEntry;
  readonly trace: Trace;
}

/** All changes by weight, in our names. */
export interface LoraPlan {
  /** Changes of each weight, by its path. */
  readonly parts: ReadonlyMap<string, readonly LoraPart[]>;
  /** What of the file is in use, and what is not. */
  readonly coverage: LoraCoverage;
}

/** The tensors of one module of the file. */
type ModuleKeys = Partial<Record<LoraRole | "replace", WeightEntry>> & { readonly all: readonly WeightEntry[] };

/**
 * Resolves an adapter file against weights (name and shape, our names). `names` are rules of the other layouts that adapters are written
 * in. Throws WeightsError when nothing matches or shapes do not fit, naming the tensors.
 */
export function planLora(weights: ReadonlyMap<string, Shape>, lora: WeightSource, names: readonly NameRules[] = []): LoraPlan {
  const otherNetworks = [...lora.entries.keys()].filter(isForOtherNetwork);
  const modules = groupByModule(lora, new Set(otherNetworks));
  const index = indexNames(weights, names);
  const found = new Map<string, LoraPart[]>();
  const rest = { unmatched: [] as string[], unsupported: [] as string[], redundant: [] as string[] };
  const used = new Set<string>();
  for (const [module, keys] of modules) {
    if (keys.unsupported) {
      rest.unsupported.push(...keys.all.map((e) => e.name));
      continue;
    }
    for (const [name, parts] of changesOf(module, keys, index)) {
      found.set(name, [...(found.get(name) ?? []), ...parts]);
      for (const p of parts) for (const e of [p.down, p.up, p.alpha]) if (e) used.add(e.name);
    }
    rest.unmatched.push(...keys.all.filter((e) => !used.has(e.name)).map((e) => e.name));
  }
  const parts = new Map([...found].map(([name, list]) => [name, withoutRedundant(list, rest.redundant)]));
  checkShapes(weights, parts);
  const redundant = [...new Set(rest.redundant)];
  const coverage = { targets: [...parts.keys()], matched: used.size - redundant.length, otherNetworks, ...rest, redundant };
  checkIsAdapter(modules, parts);
  if (parts.size === 0) throw new WeightsError("lora", describeNothing(coverage, lora));
  return { parts, coverage };
}

/** Throws for a checkpoint, whose vectors would take the place of the model's: whole matrices, and no change to any. */
function checkIsAdapter(modules: ReadonlyMap<string, ModuleKeys>, parts: ReadonlyMap<string, readonly LoraPart[]>): void {
  if ([...parts.values()].some((list) => list.some((p) => p.kind !== "replace"))) return;
  const whole = [...modules.values()].find((keys) => keys.replace && keys.replace.shape.length > 1)?.replace;
  if (parts.size > 0 && whole)
    throw new WeightsError(
      "lora",
      `the file holds whole weights and no changes to them: ${whole.name} [${whole.shape.join(", ")}]; it is a checkpoint, not an adapter`,
    );
}

function groupByModule(lora: WeightSource, skip: ReadonlySet<string>): Map<string, ModuleKeys> {
  const modules = new Map<string, ModuleKeys>();
  for (const [name, entry] of lora.entries) {
    if (skip.has(name)) continue;
    const { module, role }: LoraKey = parseLoraKey(name);
    const known: ModuleKeys = modules.get(module) ?? { all: [] };
    modules.set(module, { [role]: entry, ...known, all: [...known.all, entry] });
  }
  return modules;
}

/** Flat names of every layout to the weights they stand for. */
function indexNames(weights: ReadonlyMap<string, Shape>, names: readonly NameRules[]): ReadonlyMap<string, readonly Trace[]> {
  const index = new Map<string, Trace[]>();
  for (const rules of names) {
    const reverse = invert(rules);
    for (const name of weights.keys()) {
      for (const { ours: theirs } of traceName(reverse, name)) {
        const traces = traceName(rules, theirs).filter((t) => weights.has(t.ours));
        if (traces.length > 0) index.set(flatName(theirs), traces);
      }
    }
  }
  for (const name of weights.keys()) index.set(flatName(name), [{ ours: name }]);
  return index;
}

/** The changes one module of the file makes, by weight. */
function* changesOf(module: string, keys: ModuleKeys, index: ReadonlyMap<string, readonly Trace[]>): Generator<[string, LoraPart[]]> {
  const alpha = keys.alpha ? { alpha: keys.alpha } : {};
  const at = (suffix: string): readonly Trace[] => index.get(flatName(module + suffix)) ?? [];
  if (keys.down && keys.up) {
    for (const trace of at(".weight")) yield [trace.ours, [{ kind: "lowRank", down: keys.down, up: keys.up, trace, ...alpha }]];
    if (keys.upBias) for (const trace of at(".bias")) yield [trace.ours, [{ kind: "lowRank", up: keys.upBias, trace, ...alpha }]];
  }
  if (keys.diff) for (const trace of at(".weight")) yield [trace.ours, [{ kind: "diff", up: keys.diff, trace }]];
  if (keys.diffBias) for (const trace of at(".bias")) yield [trace.ours, [{ kind: "diff", up: keys.diffBias, trace }]];
  // Only vectors (norm scales, biases) are replaced: a file of whole weights is a checkpoint, not an adapter.
  if (keys.replace && keys.replace.shape.length <= 1)
    for (const trace of at("")) yield [trace.ours, [{ kind: "replace", up: keys.replace, trace }]];
}

/** Drops parts cut out of a fused tensor when the file has the weight's own tensor too. */
function withoutRedundant(parts: readonly LoraPart[], redundant: string[]): LoraPart[] {
  const own = parts.filter((p) => p.trace.theirRows === undefined);
  if (own.length === 0 || own.length === parts.length) return [...parts];
  for (const p of parts) if (p.trace.theirRows) for (const e of [p.down, p.up, p.alpha]) if (e) redundant.push(e.name);
  return own;
}

const unitRows = (r: RowRange | undefined): { parts: number; of: number } =>
  r ? { parts: r.end - r.start, of: r.total } : { parts: 1, of: 1 };

/** Rows that `up` must have for a weight of `rows` rows. */
function upRowsFor(rows: number, { theirRows, ourRows }: Trace): number {
  const [ours, theirs] = [unitRows(ourRows), unitRows(theirRows)];
  return (rows * ours.parts * theirs.of) / (ours.of * theirs.parts);
}

const product = (shape: Shape): number => shape.reduce((a, b) => a * b, 1);

function checkShapes(weights: ReadonlyMap<string, Shape>, parts: ReadonlyMap<string, readonly LoraPart[]>): void {
  const wrong: string[] = [];
  for (const [name, list] of parts) {
    const shape = weights.get(name)!;
    for (const part of list) if (!fits(shape, part)) wrong.push(describeMisfit(name, shape, part));
  }
  if (wrong.length === 0) return;
  const more = wrong.length > 3 ? `, and ${wrong.length - 3} more` : "";
  throw new WeightsError(
    "lora",
    `${wrong.length === 1 ? "a change has" : `${wrong.length} changes have`} another shape than the weight: ${wrong.slice(0, 3).join("; ")}${more}`,
  );
}

function describeMisfit(name: string, shape: Shape, { down, up }: LoraPart): string {
  const file = [down, up].flatMap((e) => (e ? [`${e.name} [${e.shape.join(", ")}]`] : [])).join(", ");
  return `${file} for ${name} [${shape.join(", ")}]`;
}

/** A low-rank part may have more inputs than the weight: the weight is widened (control adapters). */
function fits(shape: Shape, { kind, down, up, trace }: LoraPart): boolean {
  const [rows, columns] = [shape[0] ?? 1, product(shape.slice(1))];
  if (kind !== "lowRank") return product(up.shape) === upRowsFor(rows, trace) * columns;
  if (up.shape[0] !== upRowsFor(rows, trace)) return false;
  if (!down) return product(up.shape) === up.shape[0];
  const rank = down.shape[0] ?? 0;
  const inputs = product(down.shape.slice(1));
  return rank > 0 && product(up.shape.slice(1)) === rank && (inputs === columns || (shape.length === 2 && inputs > columns));
}

function describeNothing(coverage: LoraCoverage, lora: WeightSource): string {
  const found = [...lora.entries.keys()].slice(0, 3).join(", ") || "nothing";
  const why =
    coverage.unsupported.length > 0 ? `${coverage.unsupported.length} tensors are of kinds that are not read (DoRA, LoHa, LoKr)` : "";
  const other = coverage.otherNetworks.length > 0 ? `${coverage.otherNetworks.length} tensors are for text encoders` : "";
  const detail = [`none of ${lora.entries.size} tensors changes a weight of this model`, why, other].filter(Boolean).join(", ");
  return `${detail}: ${found}, …; is it for another model, or are its name rules missing?`;
}
