// Sums of neighbouring values that tables name and weigh: columns of rows by windows of four values, and whole rows.
import { type Code, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import { loadWords, setEnd, whileLeft } from "./loops.ts";
import { emitPlaneRows } from "./resample-kernel.ts";

/**
 * Words of a job of `windows`: `columns` results of each of `rows` sources that are `sourceBytes` apart. Each result is the sum of `vectors` windows of
 * its source; `table` has `windowBytes` for each: four weights, four masks of the values that count, and the window's first byte.
 */
export const windowArgs = [
  ...(["x", "sourceBytes", "out", "rows", "columns", "rowsPerTask", "columnsPerTask", "columnTasks", "table", "vectors"] as const),
] as const;
/** Bytes of a window's entry, and where its parts lie. */
export const windowBytes = 48;
export const maskAt = 16;
export const firstAt = 32;

/** Words of a job of `weighRows`; `table` has `taps` times first byte and weight of a source row for each row of a plane. */
export const weighRowsArgs = [
  ...(["x", "planeBytes", "out", "rows", "rowsPerPlane", "columns", "rowsPerTask", "table", "taps"] as const),
] as const;

/** The emitter of the export `windows.<vectors>`; 0 takes any number of windows. */
export const emitWindows =
  (vectors: 0 | 1 | 2) =>
  (module: Module): void => {
    const c = module.func(`windows.${vectors}`, [i32, i32, i32]);
    const w = loadWords(c, windowArgs);
    const [row, end, first, count] = c.locals(i32, 4) as [Local, Local, Local, Local];
    const [left, from, to, entry] = c.locals(i32, 4) as [Local, Local, Local, Local];
    c.get(0).get(w.columnTasks).op("i32.div_u").get(w.rowsPerTask).op("i32.mul").set(row);
    setEnd(c, row, w.rowsPerTask, w.rows, end);
    c.get(0).get(w.columnTasks).op("i32.rem_u").get(w.columnsPerTask).op("i32.mul").set(first);
    setEnd(c, first, w.columnsPerTask, w.columns, count);
    c.get(count).get(first).op("i32.sub").set(count);
    c.forLess(
      row,
      end,
      1,
      () => {
        c.get(w.x).get(row).get(w.sourceBytes).op("i32.mul").op("i32.add").set(from);
        c.get(w.out).get(row).get(w.columns).op("i32.mul").get(first).op("i32.add").int(2).op("i32.shl").op("i32.add").set(to);
        c.get(w.table).get(first).get(w.vectors).op("i32.mul").int(windowBytes).op("i32.mul").op("i32.add").set(entry);
        c.get(count).set(left);
        emitResults(c, { from, to, left, entry, vectors: w.vectors }, vectors);
      },
      "here",
    );
  };

interface Windows {
  readonly from: Local;
  readonly to: Local;
  /** Results to come. */
  readonly left: Local;
  readonly entry: Local;
  /** Windows of a result, where code is for any number. */
  readonly vectors: Local;
}

/** Writes `left` results from `to` on, by entries from `entry` on, `known` for each (0: as many as the local says). */
export function emitResults(c: Code, windows: Windows, known: number): void {
  const { to, left } = windows;
  const sums = c.locals(v128, 4) as [Local, Local, Local, Local];
  whileLeft(c, left, 4, () => {
    for (const into of sums) emitSum(c, windows, known, into);
    c.get(to);
    addedLanes(c, sums);
    c.memory("v128.store").advance(to, 16);
  });
  const [first] = sums;
  whileLeft(c, left, 1, () => {
    emitSum(c, windows, known, first);
    c.get(to);
    addedLanes(c, [first, first, first, first]);
    c.storeLane("v128.store32_lane", 0).advance(to, 4);
  });
}

/** Sums the windows of the next result lane by lane, and goes to the following one's. */
function emitSum(c: Code, { from, entry, vectors }: Windows, known: number, into: Local): void {
  const weighed = (at: number) => {
    c.get(from)
      .get(entry)
      .memory("i32.load", at + firstAt)
      .op("i32.add")
      .memory("v128.load");
    c.get(entry)
      .memory("v128.load", at + maskAt)
      .op("v128.and");
    c.get(entry).memory("v128.load", at).op("f32x4.mul");
  };
  weighed(0);
  for (let v = 1; v < known; v++) {
    weighed(v * windowBytes);
    c.op("f32x4.add");
  }
  c.set(into).advance(entry, windowBytes * Math.max(1, known));
  if (known !== 0) return;
  const window = c.local(i32);
  c.get(vectors).int(1).op("i32.sub").set(window);
  whileLeft(c, window, 1, () => {
    c.get(into);
    weighed(0);
    c.op("f32x4.add").set(into).advance(entry, windowBytes);
  });
}

/** Pushes a vector of the sums of four vectors' lanes. */
function addedLanes(c: Code, [a, b, d, e]: readonly [Local, Local, Local, Local]): void {
  const pairs = (x: Local, y: Local) => {
    c.get(x).get(y).shuffle(0, 2, 4, 6).get(x).get(y).shuffle(1, 3, 5, 7).op("f32x4.add");
  };
  const [low, high] = c.locals(v128, 2) as [Local, Local];
  pairs(a, b);
  c.set(low);
  pairs(d, e);
  c.set(high);
  pairs(low, high);
}

/** Emits the export `weighRows`: each row of results is a sum of source rows. */
export function emitWeighRows(module: Module): void {
  const c = module.func("weighRows", [i32, i32, i32]);
  const w = loadWords(c, weighRowsArgs);
  const [first, entry, at, left, tap, from] = c.locals(i32, 6) as [Local, Local, Local, Local, Local, Local];
  const [weight, ...sums] = c.locals(v128, 5) as [Local, Local, Local, Local, Local];
  emitPlaneRows(
    c,
    w,
    (plane, y, to) => {
      c.get(w.table).get(y).get(w.taps).op("i32.mul").int(3).op("i32.shl").op("i32.add").set(first);
      c.get(w.columns).set(left).get(plane).set(at);
      for (const values of [16, 4, 1] as const) {
        const [mine, load] = [sums.slice(0, Math.ceil(values / 4)), values === 1 ? "v128.load32_zero" : "v128.load"] as const;
        whileLeft(c, left, values, () => {
          for (const sum of mine) c.floats(0).set(sum);
          c.get(first).set(entry).get(w.taps).set(tap);
          whileLeft(c, tap, 1, () => {
            c.get(at).get(entry).memory("i32.load").op("i32.add").set(from).get(entry).memory("v128.load32_splat", 4).set(weight);
            for (const [i, sum] of mine.entries())
              c.get(sum)
                .get(from)
                .memory(load, 16 * i)
                .get(weight)
                .op("f32x4.mul")
                .op("f32x4.add")
                .set(sum);
            c.advance(entry, 8);
          });
          for (const [i, sum] of mine.entries()) {
            c.get(to).get(sum);
            if (values === 1) c.storeLane("v128.store32_lane", 0);
            else c.memory("v128.store", 16 * i);
          }
          c.advance(to, 4 * values).advance(at, 4 * values);
        });
      }
    },
    4,
  );
}
