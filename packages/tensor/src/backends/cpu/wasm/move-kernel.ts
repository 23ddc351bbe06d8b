// Moves between strided layouts: whole rows, transposes, and rows by index. Values are never interpreted.
import { i32, type Local, type Module } from "../../../wasm/encoder.ts";
import { loadWords, setEnd } from "./loops.ts";
import { emitTranspose } from "./transpose-kernel.ts";

/**
 * Words of a move job, strides in bytes; `transposed` (2 or 4, the bytes of an element) reads rows whose elements are `xColumn` apart and
 * neighbours in the next row, in tasks of `parts` parts of the columns.
 */
export const moveArgs = [
  ...(["transposed", "x", "xBatch", "xRow", "xColumn", "out", "outBatch", "outRow"] as const),
  ...(["rows", "rowsPerBatch", "columns", "rowsPerTask", "columnsPerTask", "parts"] as const),
] as const;

/** Emits the export `move`; `columns` are bytes of a row, or elements when transposed (then there is one batch). */
export function emitMove(module: Module): void {
  const transposes = ([4, 2] as const).map((bytes) => [bytes, emitTranspose(module, bytes)] as const);
  const c = module.func("move", [i32, i32, i32]);
  const w = loadWords(c, moveArgs);
  const [row, end, column, columnEnd] = c.locals(i32, 4) as [Local, Local, Local, Local];
  c.get(0).get(w.parts).op("i32.div_u").get(w.rowsPerTask).op("i32.mul").set(row);
  setEnd(c, row, w.rowsPerTask, w.rows, end);
  c.get(0).get(w.parts).op("i32.rem_u").get(w.columnsPerTask).op("i32.mul").set(column);
  setEnd(c, column, w.columnsPerTask, w.columns, columnEnd);
  for (const [bytes, transpose] of transposes) {
    c.get(w.transposed).int(bytes).op("i32.eq").if();
    c.get(w.x).get(row).int(bytes).op("i32.mul").op("i32.add");
    c.get(column).get(w.xColumn).op("i32.mul").op("i32.add").get(w.xColumn);
    c.get(w.out).get(row).get(w.outRow).op("i32.mul").op("i32.add");
    c.get(column).int(bytes).op("i32.mul").op("i32.add").get(w.outRow);
    c.get(end).get(row).op("i32.sub").get(columnEnd).get(column).op("i32.sub").get(2).call(transpose).op("return").end();
  }
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
}

/** Words of a select job: row i of a batch of out is the row of x that the index names, or zeros; `rows` are those of all batches. */
export const selectArgs = ["x", "xBatch", "out", "index", "size", "rows", "rowsPerBatch", "rowsPerTask", "bytes"] as const;
/** Longest row that vectors copy faster than the engine's own copy. */
const shortBytes = 256;

/** Emits the export `select`. */
export function emitSelect(module: Module): void {
  const c = module.func("select", [i32, i32, i32]);
  const w = loadWords(c, selectArgs);
  const [row, end, at, from, to, last, short] = c.locals(i32, 7) as [Local, Local, Local, Local, Local, Local, Local];
  c.get(0).get(w.rowsPerTask).op("i32.mul").set(row);
  setEnd(c, row, w.rowsPerTask, w.rows, end);
  c.get(w.bytes).int(shortBytes).op("i32.le_s").get(w.bytes).int(15).op("i32.and").op("i32.eqz").op("i32.and").set(short);
  const each = () => {
    c.get(w.out).get(row).get(w.bytes).op("i32.mul").op("i32.add").set(to);
    c.get(w.index).get(row).get(w.rowsPerBatch).op("i32.rem_u").int(2).op("i32.shl").op("i32.add").memory("i32.load").tee(at);
    c.get(w.size).op("i32.ge_u").if().get(to).int(0).get(w.bytes).fillBytes().else();
    c.get(w.x).get(row).get(w.rowsPerBatch).op("i32.div_u").get(w.xBatch).op("i32.mul").op("i32.add");
    c.get(at).get(w.bytes).op("i32.mul").op("i32.add").set(from).get(short).if();
    c.get(to).get(w.bytes).op("i32.add").set(last);
    c.forLess(to, last, 16, () => c.get(to).get(from).memory("v128.load").memory("v128.store").advance(from, 16), "here");
    c.else().get(to).get(from).get(w.bytes).copyBytes().end().end();
  };
  c.forLess(row, end, 1, each, "here");
}
