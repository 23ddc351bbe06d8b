// einops-style patterns: "b l (n k) -> b n l k". Parsing is memoised; applying is reshape, permute, reshape.
import { ShapeError } from "./errors.ts";
import { permuteLayout, reshapeLayout } from "./layout.ts";
import { sameShape } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

/** Dimensions of one side; a name is its place in `names`, a written 1 is left out. */
type Groups = readonly (readonly number[])[];
interface Pattern {
  readonly text: string;
  /** Names in the order of the left side. */
  readonly names: readonly string[];
  readonly left: Groups;
  readonly right: Groups;
  /** The right side's names without groups. */
  readonly order: readonly number[];
}

const parsed = new Map<string, Pattern>();

function parseSide(pattern: string, side: string): string[][] {
  const groups = side.trim().match(/\([^()]*\)|[^\s()]+/g) ?? [];
  const names = groups.map((g) =>
    g
      .replace(/[()]/g, " ")
      .trim()
      .split(/\s+/)
      .filter((n) => n !== ""),
  );
  for (const n of names.flat()) {
    if (!/^([A-Za-z_]\w*|1)$/.test(n)) throw new ShapeError("rearrange", `"${pattern}": "${n}" is not a name or 1`);
  }
  return names;
}

function parse(pattern: string): Pattern {
  const found = parsed.get(pattern);
  if (found) return found;
  const sides = pattern.split("->");
  if (sides.length !== 2) throw new ShapeError("rearrange", `"${pattern}" must have one "->"`);
  const [left, right] = sides.map((s) => parseSide(pattern, s)) as [string[][], string[][]];
  const named = (side: string[][]) => side.flat().filter((n) => n !== "1");
  const [l, r] = [named(left), named(right)];
  if (new Set(l).size !== l.length || l.length !== r.length || r.some((n) => !l.includes(n))) {
    throw new ShapeError("rearrange", `"${pattern}": both sides must name the same dimensions, each once`);
  }
  const numbered = (side: string[][]) => side.map((group) => group.filter((n) => n !== "1").map((n) => l.indexOf(n)));
  const result = { text: pattern, names: l, left: numbered(left), right: numbered(right), order: numbered(right).flat() };
  parsed.set(pattern, result);
  return result;
}

const groupText = ({ names }: Pattern, group: readonly number[]): string => `(${group.map((n) => names[n]).join(" ") || "1"})`;

/** Sizes of all names, from the tensor's shape and the sizes given. */
function solve(p: Pattern, x: Tensor, given: Readonly<Record<string, number>>): number[] {
  if (p.left.length !== x.rank) throw new ShapeError("rearrange", `"${p.text}" names ${p.left.length} dimensions, got ${x}`);
  const sizes = p.names.map((n) => given[n] ?? -1);
  for (let i = 0; i < p.left.length; i++) {
    const group = p.left[i]!;
    const unknown = unknownName(p, group, sizes);
    if (unknown >= 0) sizes[unknown] = x.shape[i]! / product(group, sizes, unknown);
    if (product(group, sizes) !== x.shape[i] || group.some((n) => !Number.isInteger(sizes[n]))) {
      throw new ShapeError("rearrange", `"${p.text}": ${groupText(p, group)} does not divide dimension ${i} of ${x}`);
    }
  }
  return sizes;
}

/** The one name of a group without a size, or -1. */
function unknownName(p: Pattern, group: readonly number[], sizes: readonly number[]): number {
  let unknown = -1;
  for (const n of group) {
    if (sizes[n]! >= 0) continue;
    if (unknown >= 0) throw new ShapeError("rearrange", `"${p.text}": give the size of all but one of ${groupText(p, group)}`);
    unknown = n;
  }
  return unknown;
}

function product(group: readonly number[], sizes: readonly number[], except = -1): number {
  let total = 1;
  for (const n of group) if (n !== except) total *= sizes[n]!;
  return total;
}

/** Splits, reorders and merges dimensions, e.g. `rearrange(x, "b l (k n h) -> k b n l h", { k: 3, n: 24 })`. Copies only if the strides force it. */
export function rearrange(x: Tensor, pattern: string, given: Readonly<Record<string, number>> = {}): Tensor {
  const p = parse(pattern);
  const sizes = solve(p, x, given);
  const to = p.right.map((group) => product(group, sizes));
  const layout = reshapeLayout(x.layout, sizes);
  const parts = layout ? x.viewAs(permuteLayout(layout, p.order)) : x.reshape(sizes).permute(...p.order);
  return sameShape(parts.shape, to) ? parts : parts.reshape(to);
}
