// The innermost loop of a matrix product: a register tile over packed panels.
// V8 before 12 (Node 20) orders vector operations by its own rule: last uses first, breadth first, from the end of the loop. Left alone it puts
// every product beside its addition, which on Zen cores feeds one of the two schedulers with products only, and loads all rows of an
// unrolled loop ahead, which spills. A shuffle that picks all of its first operand costs it no instruction but counts as a use of
// the second: such ties hold every operation where it is written.
import { type Code, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import type { Flavour } from "./flavour.ts";

/** Steps of k in the main loop of a pinned kernel: counters, index conversions and the stack check are a fifth of a single step. */
const pinnedSteps = 4;
/** Ties that keep the loads of a step behind the one before. */
const loadTies = 4;

interface Tile {
  readonly c: Code;
  readonly flavour: Flavour;
  readonly sums: readonly Local[];
  readonly columns: readonly Local[];
  readonly products: readonly Local[];
  readonly row: Local;
  /** Address of the step's rows. */
  readonly at: Local;
  readonly a: Local;
  readonly b: Local;
}

/** micro(kc, a, b, c, bytes per row of c, accumulate): one register tile. */
export function emitMicroKernel(module: Module, flavour: Flavour): Code {
  const { tileRows, tileVectors, pinned } = flavour;
  const c = module.func(undefined, [i32, i32, i32, i32, i32, i32]);
  const [kc, a, b, to, step, accumulate] = [0, 1, 2, 3, 4, 5];
  const sums = c.locals(v128, tileRows * tileVectors);
  const [columns, products] = [c.locals(v128, tileVectors), c.locals(v128, tileVectors)];
  const [row, p, at] = [c.local(v128), c.local(i32), c.local(i32)];
  const tile: Tile = { c, flavour, sums, columns, products, row, at, a, b };
  const eachSum = (visit: (offset: number, sum: Local) => void) => {
    c.get(to).set(p);
    for (let i = 0; i < tileRows; i++) {
      for (let v = 0; v < tileVectors; v++) visit(16 * v, sums[i * tileVectors + v]!);
      if (i < tileRows - 1) c.get(p).get(step).op("i32.add").set(p);
    }
  };
  c.get(accumulate).if();
  eachSum((offset, sum) => void c.get(p).memory("v128.load", offset).set(sum));
  c.end();
  for (const steps of pinned ? [pinnedSteps, 1] : [1]) {
    c.get(kc).int(steps).op("i32.ge_s").if().loop();
    for (let k = 0, last: Local | undefined; k < steps; k++) last = emitStep(tile, k, last);
    c.advance(a, 4 * tileRows * steps).advance(b, 16 * tileVectors * steps);
    c.get(kc).int(steps).op("i32.sub").tee(kc);
    if (steps > 1) c.int(steps).op("i32.ge_s");
    c.branchIf(0).end().end();
  }
  eachSum((offset, sum) => void c.get(p).get(sum).memory("v128.store", offset));
  return c;
}

/** One step of k: sums += row · column. Returns the sum that was finished last; `after` is that of the step before. */
function emitStep(tile: Tile, k: number, after: Local | undefined): Local {
  const { c, sums, columns, row, at, a, b } = tile;
  const { fma, tileRows, tileVectors, pinned } = tile.flavour;
  // Addresses of later steps are one addition each; offsets would take an integer register each.
  if (k > 0)
    c.get(a)
      .int(4 * tileRows * k)
      .op("i32.add")
      .set(at);
  columns.forEach(
    (x, v) =>
      void c
        .get(b)
        .memory("v128.load", 16 * (tileVectors * k + v))
        .set(x),
  );
  let last = after;
  for (let i = 0; i < tileRows; i++) {
    c.get(k > 0 ? at : a)
      .memory("v128.load32_splat", 4 * i)
      .set(row);
    if (pinned && last !== undefined) {
      c.get(row).get(last);
      for (let n = 0; i === 0 && n < loadTies; n++) c.get(last).shuffle(0, 1, 2, 3);
      c.shuffle(0, 1, 2, 3).set(row);
    }
    const rowSums = sums.slice(i * tileVectors, (i + 1) * tileVectors);
    if (fma) addFused(tile, rowSums);
    else addProducts(tile, rowSums);
    last = rowSums.at(-1)!;
  }
  return last!;
}

/** Pushes x; a pinned kernel computes it after `earlier`. */
function pushAfter({ c, flavour }: Tile, x: Local, earlier: Local): void {
  c.get(x);
  if (flavour.pinned && x !== earlier) c.get(earlier).shuffle(0, 1, 2, 3);
}

function addFused(tile: Tile, sums: readonly Local[]): void {
  const { c, row, columns } = tile;
  for (const [v, sum] of sums.entries()) {
    c.get(row).get(columns[v]!);
    pushAfter(tile, sum, sums[Math.max(0, v - 1)]!);
    c.op("f32x4.relaxed_madd").set(sum);
  }
}

/** All products of a row before their additions. */
function addProducts(tile: Tile, sums: readonly Local[]): void {
  const { c, row, columns, products } = tile;
  for (const [v, product] of products.entries()) c.get(row).get(columns[v]!).op("f32x4.mul").set(product);
  for (const [v, sum] of sums.entries()) {
    pushAfter(tile, sum, v === 0 ? products.at(-1)! : sums[v - 1]!);
    c.get(products[v]!).op("f32x4.add").set(sum);
  }
}
