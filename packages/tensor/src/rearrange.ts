// einops-style patterns: "b l (n k) -> b n l k". Parsing is memoised; applying is reshape, permute, reshape.
import { ShapeError } from "./errors.ts";
import type { Tensor } from "./tensor.ts";

interface Pattern {
  readonly left: readonly (readonly string[])[];
  readonly right: readonly (readonly string[])[];
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
  const result = { left, right };
  parsed.set(pattern, result);
  return result;
}

/** Sizes of all names, from the tensor's shape and the sizes given. */
function solve(pattern: string, { left }: Pattern, x: Tensor, given: Readonly<Record<string, number>>): Record<string, number> {
  if (left.length !== x.rank) throw new ShapeError("rearrange", `"${pattern}" names ${left.length} dimensions, got ${x}`);
  const sizes: Record<string, number> = { ...given, "1": 1 };
  left.forEach((group, i) => {
    const unknown = group.filter((n) => sizes[n] === undefined);
    const known = group.reduce((p, n) => p * (sizes[n] ?? 1), 1);
    if (unknown.length > 1) throw new ShapeError("rearrange", `"${pattern}": give the size of all but one of (${group.join(" ")})`);
    if (unknown[0]) sizes[unknown[0]] = x.shape[i]! / known;
    const product = group.reduce((p, n) => p * sizes[n]!, 1);
    if (product !== x.shape[i] || group.some((n) => !Number.isInteger(sizes[n]))) {
      throw new ShapeError("rearrange", `"${pattern}": (${group.join(" ")}) does not divide dimension ${i} of ${x}`);
    }
  });
  return sizes;
}

/** Splits, reorders and merges dimensions, e.g. `rearrange(x, "b l (k n h) -> k b n l h", { k: 3, n: 24 })`. */
export function rearrange(x: Tensor, pattern: string, given: Readonly<Record<string, number>> = {}): Tensor {
  const p = parse(pattern);
  const sizes = solve(pattern, p, x, given);
  const from = p.left.flat().filter((n) => n !== "1");
  const order = p.right.flat().filter((n) => n !== "1");
  return x
    .reshape(from.map((n) => sizes[n]!))
    .permute(...order.map((n) => from.indexOf(n)))
    .reshape(p.right.map((g) => g.reduce((s, n) => s * sizes[n]!, 1)));
}
