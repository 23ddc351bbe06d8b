// Running sums and products along rows, in f64: four values' own sums first, so that the carry from one four to the next is one addition.
import { type Code, f64, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import { loadWords, setEnd, whileLeft } from "./loops.ts";

/** Words of a scan job over rows of f32; `product` for products, `xRow` in bytes; results lie in a row. */
export const scanArgs = ["product", "x", "xBatch", "xRow", "out", "rows", "rowsPerBatch", "rowsPerTask", "length"] as const;

/** Emits the export `scan`. */
export function emitScan(module: Module): void {
  const c = module.func("scan", [i32, i32, i32]).keepConstants();
  const w = loadWords(c, scanArgs);
  const [row, end, from, to, left] = c.locals(i32, 5) as [Local, Local, Local, Local, Local];
  c.get(0).get(w.rowsPerTask).op("i32.mul").set(row);
  setEnd(c, row, w.rowsPerTask, w.rows, end);
  const each = () => {
    c.get(w.x).get(row).get(w.rowsPerBatch).op("i32.div_u").get(w.xBatch).op("i32.mul").op("i32.add");
    c.get(row).get(w.rowsPerBatch).op("i32.rem_u").get(w.xRow).op("i32.mul").op("i32.add").set(from);
    c.get(w.out).get(row).get(w.length).op("i32.mul").int(2).op("i32.shl").op("i32.add").set(to);
    c.get(w.length).set(left).get(w.product).if();
    emitRow(c, "mul", from, to, left);
    c.else();
    emitRow(c, "add", from, to, left);
    c.end();
  };
  c.forLess(row, end, 1, each, "here");
}

/** One row of `left` values. */
function emitRow(c: Code, op: "add" | "mul", from: Local, to: Local, left: Local): void {
  const [carry, one] = [c.local(v128), c.local(f64)];
  const [x, low, high] = c.locals(v128, 3) as [Local, Local, Local];
  const identity = op === "add" ? 0 : 1;
  c.doubles(identity).set(carry);
  // [a, b] → [a, a + b]
  const inner = (to: Local) => c.tee(to).doubles(identity).get(to).shuffle(0, 1, 4, 5).op(`f64x2.${op}`).set(to);
  const last = (v: Local) => c.get(v).get(v).shuffle(2, 3, 2, 3);
  whileLeft(c, left, 4, () => {
    c.get(from).memory("v128.load").tee(x).op("f64x2.promote_low_f32x4");
    inner(low);
    c.get(x).get(x).shuffle(2, 3, 0, 1).op("f64x2.promote_low_f32x4");
    inner(high);
    c.get(high);
    last(low).op(`f64x2.${op}`).set(high);
    c.get(to).get(low).get(carry).op(`f64x2.${op}`).op("f32x4.demote_f64x2_zero");
    c.get(high).get(carry).op(`f64x2.${op}`).op("f32x4.demote_f64x2_zero").shuffle(0, 1, 4, 5).memory("v128.store");
    last(high).get(carry).op(`f64x2.${op}`).set(carry);
    c.advance(from, 16).advance(to, 16);
  });
  c.get(carry).extract("f64x2.extract_lane", 0).set(one);
  whileLeft(c, left, 1, () => {
    c.get(to).get(one).get(from).memory("f32.load").op("f64.promote_f32").op(`f64.${op}`).tee(one).op("f32.demote_f64").memory("f32.store");
    c.advance(from, 4).advance(to, 4);
  });
}
