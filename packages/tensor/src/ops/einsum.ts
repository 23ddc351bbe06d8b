// Einstein summation by products of matrices: every pair of operands is one batched matmul between permuted views.
import { ShapeError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";

interface Term {
  /** One letter per dimension, none twice. */
  readonly letters: string;
  readonly x: Tensor;
}

/**
 * As torch.einsum: one letter per dimension, operands between commas, the result after "->"; what the result leaves out is summed, and "..." stands
 * for dimensions without a letter, aligned at the last. Operands are combined from left to right. Refused: no "->", a letter twice in one operand.
 * Throws ShapeError when sizes of a letter differ; those under "..." do not broadcast.
 */
export function einsum(equation: string, ...tensors: readonly Tensor[]): Tensor {
  const [left = "", out, more] = spelledOut(equation.replaceAll(" ", ""), tensors).split("->");
  const letters = left.split(",");
  const refuse = (why: string): never => {
    throw new ShapeError("einsum", `${why}: "${equation}" of ${tensors.join(", ")}`);
  };
  if (out === undefined || more !== undefined) return refuse('the equation needs one "->"');
  if (!/^[A-Za-z,]*$/.test(left + out)) refuse("dimensions are letters");
  if (letters.length !== tensors.length || tensors.length === 0)
    refuse(`the equation has ${letters.length} operands, ${tensors.length} were given`);
  const terms = tensors.map((x, i): Term => ({ letters: letters[i]!, x }));
  for (const { letters: l, x } of [...terms, { letters: out, x: undefined }]) {
    if (new Set(l).size !== l.length) refuse(`${l} has a letter twice`);
    if (x && x.rank !== l.length) refuse(`${l} does not name the dimensions of ${x}`);
  }
  checkSizes(terms, out, refuse);
  const wantedAfter = (i: number): string => out + letters.slice(i + 1).join("");
  const combined = terms.slice(1).reduce((a, b, i) => pairProduct(a, b, wantedAfter(i + 1)), summed(terms[0]!, wantedAfter(0)));
  const { letters: have, x } = summed(combined, out);
  return x.permute(...[...out].map((l) => have.indexOf(l)));
}

/** The equation with "..." as letters that it does not use. */
function spelledOut(equation: string, tensors: readonly Tensor[]): string {
  if (!equation.includes("...")) return equation;
  const free = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"].filter((l) => !equation.includes(l));
  const [left = "", ...rest] = equation.split("->");
  const unnamed = left.split(",").map((term, i) => (term.includes("...") ? (tensors[i]?.rank ?? 0) - term.replace("...", "").length : 0));
  const letters = (count: number): string => (count > 0 ? free.slice(-count).join("") : "");
  const operands = left.split(",").map((term, i) => term.replace("...", letters(unnamed[i]!)));
  return [operands.join(","), ...rest.map((out) => out.replace("...", letters(Math.max(...unnamed))))].join("->");
}

function checkSizes(terms: readonly Term[], out: string, refuse: (why: string) => never): void {
  const sizes = new Map<string, number>();
  for (const { letters, x } of terms)
    for (const [i, l] of [...letters].entries()) {
      if ((sizes.get(l) ?? x.dim(i)) !== x.dim(i)) refuse(`${l} is ${sizes.get(l)} and ${x.dim(i)}`);
      sizes.set(l, x.dim(i));
    }
  for (const l of out) if (!sizes.has(l)) refuse(`no operand has ${l}`);
}

/** Without the dimensions that nothing wants any more. */
function summed({ letters, x }: Term, wanted: string): Term {
  const gone = [...letters].flatMap((l, i) => (wanted.includes(l) ? [] : [i]));
  return gone.length === 0 ? { letters, x } : { letters: [...letters].filter((l) => wanted.includes(l)).join(""), x: x.sum(gone) };
}

/** Both in one: shared letters that are wanted are batches, shared ones that are not are summed by the product. */
function pairProduct(first: Term, second: Term, wanted: string): Term {
  const a = summed(first, wanted + second.letters);
  const b = summed(second, wanted + first.letters);
  const shared = [...a.letters].filter((l) => b.letters.includes(l));
  const batch = shared.filter((l) => wanted.includes(l));
  const inner = shared.filter((l) => !wanted.includes(l));
  const rows = [...a.letters].filter((l) => !shared.includes(l));
  const columns = [...b.letters].filter((l) => !shared.includes(l));
  const size = ({ letters, x }: Term, of: readonly string[]) => of.map((l) => x.dim(letters.indexOf(l)));
  const product = (of: readonly number[]) => of.reduce((p, n) => p * n, 1);
  const ordered = ({ letters, x }: Term, groups: readonly (readonly string[])[], shape: readonly number[]) =>
    x.permute(...groups.flat().map((l) => letters.indexOf(l))).reshape(shape);
  const [k, m, n] = [product(size(a, inner)), product(size(a, rows)), product(size(b, columns))];
  const batches = size(a, batch);
  const left = ordered(a, [batch, rows, inner], [product(batches), m, k]);
  const right = ordered(b, [batch, inner, columns], [product(batches), k, n]);
  const x = left.matmul(right).reshape([...batches, ...size(a, rows), ...size(b, columns)]);
  return { letters: [...batch, ...rows, ...columns].join(""), x };
}
