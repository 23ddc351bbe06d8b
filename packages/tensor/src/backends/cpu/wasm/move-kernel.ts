// Moves between strided layouts: whole rows, and transposes of 4-byte elements by tiles of 4 x 4. Values are never interpreted.
import { type Code, i32, type Local, type Module, v128 } from "./encoder.ts";
import { loadWords, setEnd } from "./loops.ts";

/** Words of a move job, strides in bytes; `transposed` reads rows whose elements are `xColumn` apart and neighbours in the next row. */
export const moveArgs = [
  ...(["transposed", "x", "xBatch", "xRow", "xColumn", "out", "outBatch", "outRow"] as const),
  ...(["rows", "rowsPerBatch", "columns", "rowsPerTask"] as const),
] as const;

/** Emits the export `move`; `columns` are bytes of a row, or elements when transposed (then there is one batch). */
export function emitMove(module: Module): void {
  const c = module.func("move", [i32, i32, i32]);
  const w = loadWords(c, moveArgs);
  const [row, end] = c.locals(i32, 2) as [Local, Local];
  c.get(0).get(w.rowsPerTask).op("i32.mul").set(row);
  setEnd(c, row, w.rowsPerTask, w.rows, end);
  c.get(w.transposed).if();
  emitTranspose(c, w, row, end);
  c.else();
  const place = (base: Local, perBatch: Local, perRow: Local) => {
    c.get(base).get(row).get(w.rowsPerBatch).op("i32.div_u").get(perBatch).op("i32.mul").op("i32.add");
    c.get(row).get(w.rowsPerBatch).op("i32.rem_u").get(perRow).op("i32.mul").op("i32.add");
  };
  const each = () => {
    place(w.out, w.outBatch, w.outRow);
    place(w.x, w.xBatch, w.xRow);
    c.get(w.columns).copyBytes();
  };
  c.forLess(row, end, 1, each, "here");
  c.end();
}

/** Rows row … end - 1 of the output, all columns: tiles column by column, so that a cache line of x serves all its rows. */
function emitTranspose(c: Code, w: Record<(typeof moveArgs)[number], Local>, row: Local, end: Local): void {
  const [i, j, r, k, from, to] = c.locals(i32, 6) as [Local, Local, Local, Local, Local, Local];
  const at = (base: Local, outer: Local, step: Local, inner: Local) =>
    c.get(base).get(outer).get(step).op("i32.mul").op("i32.add").get(inner).int(2).op("i32.shl").op("i32.add");
  const rest = (n: Local, total: Local) => c.get(n).int(4).op("i32.add").get(total).op("i32.le_s");
  c.forLess(j, w.columns, 4, () => {
    const tile = () => {
      rest(j, w.columns);
      rest(i, end).op("i32.and").if();
      at(w.x, j, w.xColumn, i).set(from);
      at(w.out, i, w.outRow, j).set(to);
      emitTile(c, from, w.xColumn, to, w.outRow);
      c.else();
      const single = () => {
        c.get(r).get(end).op("i32.lt_s").get(k).get(w.columns).op("i32.lt_s").op("i32.and").if();
        at(w.out, r, w.outRow, k);
        at(w.x, k, w.xColumn, r).memory("i32.load").memory("i32.store").end();
      };
      c.get(i).set(r).get(i).int(4).op("i32.add").set(from).get(j).int(4).op("i32.add").set(to);
      const rowOfSingles = () => {
        c.get(j).set(k);
        c.forLess(k, to, 1, single, "here");
      };
      c.forLess(r, from, 1, rowOfSingles, "here");
      c.end();
    };
    c.get(row).set(i);
    c.forLess(i, end, 4, tile, "here");
  });
}

function emitTile(c: Code, from: Local, fromStep: Local, to: Local, toStep: Local): void {
  const lines = c.locals(v128, 4) as [Local, Local, Local, Local];
  for (const line of lines) c.get(from).memory("v128.load").set(line).get(from).get(fromStep).op("i32.add").set(from);
  const [a, b, d, e] = lines;
  const halves = (x: Local, y: Local, low: boolean) => (low ? c.get(x).get(y).shuffle(0, 4, 1, 5) : c.get(x).get(y).shuffle(2, 6, 3, 7));
  const [low1, low2, high1, high2] = c.locals(v128, 4) as [Local, Local, Local, Local];
  halves(a, b, true).set(low1);
  halves(d, e, true).set(low2);
  halves(a, b, false).set(high1);
  halves(d, e, false).set(high2);
  for (const [x, y] of [
    [low1, low2],
    [high1, high2],
  ] as const) {
    c.get(to).get(x).get(y).shuffle(0, 1, 4, 5).memory("v128.store").get(to).get(toStep).op("i32.add").set(to);
    c.get(to).get(x).get(y).shuffle(2, 3, 6, 7).memory("v128.store").get(to).get(toStep).op("i32.add").set(to);
  }
}
