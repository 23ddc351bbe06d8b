// Resampling of image planes, row by row of the result: tables name the source rows and columns.

import { type Code, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import { scratch } from "./blocking.ts";
import { loadWords, setEnd, whileLeft } from "./loops.ts";

/**
 * Words of a job: `rows` rows of `columns` results in planes of `rowsPerPlane`, from planes of `planeBytes` with rows of `rowBytes`. `rowTable` has
 * the first byte of the source row of each row of a plane, `columnTable` that of each column; bilinear tables have four words each: the first
 * bytes of both neighbours and their weights. `doubled` columns are the source's, each twice.
 */
export const resampleArgs = [
  ...([
    "x",
    "planeBytes",
    "rowBytes",
    "out",
    "rows",
    "rowsPerPlane",
    "columns",
    "rowsPerTask",
    "rowTable",
    "columnTable",
    "doubled",
  ] as const),
] as const;
/** Where the mixed source row lies in scratch. */
const bilinearRow = scratch.wide;
type Words = Record<(typeof resampleArgs)[number], Local>;
type RowWords = Pick<Words, "x" | "planeBytes" | "out" | "rows" | "rowsPerPlane" | "columns" | "rowsPerTask">;

/** Walks the rows of a task: `each` is given the address of the plane, the number of the row in it and the address of its results. */
export function emitPlaneRows(c: Code, w: RowWords, each: (plane: Local, y: Local, to: Local) => void, bytes: 2 | 4): void {
  const [row, end, plane, y, to] = c.locals(i32, 5) as [Local, Local, Local, Local, Local];
  c.get(0).get(w.rowsPerTask).op("i32.mul").set(row);
  setEnd(c, row, w.rowsPerTask, w.rows, end);
  c.forLess(
    row,
    end,
    1,
    () => {
      c.get(w.x).get(row).get(w.rowsPerPlane).op("i32.div_u").get(w.planeBytes).op("i32.mul").op("i32.add").set(plane);
      c.get(row).get(w.rowsPerPlane).op("i32.rem_u").set(y);
      c.get(w.out).get(row).get(w.columns).op("i32.mul").int(bytes).op("i32.mul").op("i32.add").set(to);
      each(plane, y, to);
    },
    "here",
  );
}

/** The emitter of the export `nearest.<bytes>`, for elements of so many bytes. */
export const emitNearest =
  (bytes: 2 | 4) =>
  (module: Module): void => {
    const c = module.func(`nearest.${bytes}`, [i32, i32, i32]);
    const w = loadWords(c, resampleArgs);
    const [from, next, left, place] = c.locals(i32, 4) as [Local, Local, Local, Local];
    emitPlaneRows(
      c,
      w,
      (plane, y, to) => {
        c.get(plane).get(w.rowTable).get(y).int(2).op("i32.shl").op("i32.add").memory("i32.load").op("i32.add").tee(from).set(next);
        c.get(w.columns).set(left).get(w.doubled).if();
        emitDoubled(c, bytes, next, to, left);
        c.end().get(w.columns).get(left).op("i32.sub").int(2).op("i32.shl").get(w.columnTable).op("i32.add").set(place);
        whileLeft(c, left, 1, () => {
          c.get(to).get(from).get(place).memory("i32.load").op("i32.add");
          if (bytes === 4) c.memory("i32.load").memory("i32.store");
          else c.memory("i32.load16_u").memory("i32.store16");
          c.advance(to, bytes).advance(place, 4);
        });
      },
      bytes,
    );
  };

/** Whole vectors of a row, each element twice. */
function emitDoubled(c: Code, bytes: 2 | 4, from: Local, to: Local, left: Local): void {
  const x = c.local(v128);
  whileLeft(c, left, 32 / bytes, () => {
    c.get(from).memory("v128.load").set(x);
    for (const half of [0, 1]) {
      c.get(to).get(x).get(x);
      if (bytes === 4) c.shuffle(...((half === 0 ? [0, 0, 1, 1] : [2, 2, 3, 3]) as [number, number, number, number]));
      else c.shuffleHalves([0, 0, 1, 1, 2, 2, 3, 3].map((lane) => lane + 4 * half));
      c.memory("v128.store", 16 * half);
    }
    c.advance(from, 16).advance(to, 32);
  });
}

/** Emits the export `bilinear`, of f32: neighbouring rows are mixed into scratch first, whose columns are mixed then. */
export function emitBilinear(module: Module): void {
  const c = module.func("bilinear", [i32, i32, i32]);
  const w = loadWords(c, resampleArgs);
  const [entry, low, high, left, mixed, sources] = c.locals(i32, 6) as [Local, Local, Local, Local, Local, Local];
  const [lowWeight, highWeight] = c.locals(v128, 2) as [Local, Local];
  c.get(w.rowBytes).int(2).op("i32.shr_u").set(sources);
  emitPlaneRows(
    c,
    w,
    (plane, y, to) => {
      c.get(w.rowTable).get(y).int(4).op("i32.shl").op("i32.add").set(entry);
      c.get(plane).get(entry).memory("i32.load").op("i32.add").set(low);
      c.get(plane).get(entry).memory("i32.load", 4).op("i32.add").set(high);
      c.get(entry).memory("v128.load32_splat", 8).set(lowWeight).get(entry).memory("v128.load32_splat", 12).set(highWeight);
      c.get(sources).set(left).get(2).int(bilinearRow).op("i32.add").set(mixed);
      for (const lanes of [4, 1] as const) {
        const load = lanes === 4 ? "v128.load" : "v128.load32_zero";
        whileLeft(c, left, lanes, () => {
          c.get(mixed).get(low).memory(load).get(lowWeight).op("f32x4.mul");
          c.get(high).memory(load).get(highWeight).op("f32x4.mul").op("f32x4.add");
          if (lanes === 4) c.memory("v128.store");
          else c.storeLane("v128.store32_lane", 0);
          c.advance(mixed, 4 * lanes)
            .advance(low, 4 * lanes)
            .advance(high, 4 * lanes);
        });
      }
      emitMixedColumns(c, w, to);
    },
    4,
  );
}

/** Results of a row from the mixed source row in scratch. */
function emitMixedColumns(c: Code, w: Words, to: Local): void {
  const [entry, left, mixed] = c.locals(i32, 3) as [Local, Local, Local];
  c.get(w.columns).set(left).get(w.columnTable).set(entry).get(2).int(bilinearRow).op("i32.add").set(mixed);
  whileLeft(c, left, 1, () => {
    const share = (at: 0 | 4) => {
      c.get(mixed).get(entry).memory("i32.load", at).op("i32.add").memory("f32.load");
      c.get(entry)
        .memory("f32.load", 8 + at)
        .op("f32.mul");
    };
    c.get(to);
    share(0);
    share(4);
    c.op("f32.add").memory("f32.store");
    c.advance(entry, 16).advance(to, 4);
  });
}
