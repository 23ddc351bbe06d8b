// Values by index along one dimension: gather, scatter and indexAdd. Tasks never share a result, and values meet in the order of the index.
import { type Code, i32, type Local, type Module } from "../../../wasm/encoder.ts";
import { loadWords, setEnd, whileLeft } from "./loops.ts";

/** Words of a gather job, strides in bytes; `step` is x's along the dimension of `size`. Results lie in rows. */
export const gatherArgs = [
  ...(["x", "xBatch", "xRow", "xColumn", "index", "indexBatch", "indexRow", "indexColumn", "out"] as const),
  ...(["size", "step", "rows", "rowsPerBatch", "columns", "rowsPerTask"] as const),
] as const;

/**
 * Words of a scatter or indexAdd job, strides in bytes: `count` lines of `columns` values go to lines `at · step` of out. Tasks are some columns of
 * some batches; columns of index are 0 apart where one index serves a line.
 */
export const scatterArgs = [
  ...(["out", "outBatch", "step", "size", "index", "indexBatch", "indexLine", "indexColumn", "x", "xBatch", "xLine"] as const),
  ...(["count", "columns", "columnsPerTask", "parts", "batches", "batchesPerTask"] as const),
] as const;

/** Bytes of the elements that are moved. */
export type MovedBytes = 2 | 4;

/** Pushes base + batch · per batch + inner · per row. */
const placed = (c: Code, base: Local, batch: Local, perBatch: Local, inner: Local, perRow: Local): Code =>
  c.get(base).get(batch).get(perBatch).op("i32.mul").op("i32.add").get(inner).get(perRow).op("i32.mul").op("i32.add");

const loadValue = (c: Code, bytes: MovedBytes): Code => c.memory(bytes === 4 ? "i32.load" : "i32.load16_u");
const storeValue = (c: Code, bytes: MovedBytes): Code => c.memory(bytes === 4 ? "i32.store" : "i32.store16");

/** The emitter of the export `gather.<bytes>`. */
export const emitGather =
  (bytes: MovedBytes) =>
  (module: Module): void => {
    const c = module.func(`gather.${bytes}`, [i32, i32, i32]);
    const w = loadWords(c, gatherArgs);
    const [row, end, batch, inner, to, from, place, left, at] = c.locals(i32, 9) as [
      ...[Local, Local, Local, Local, Local],
      ...[Local, Local, Local, Local],
    ];
    c.get(0).get(w.rowsPerTask).op("i32.mul").set(row);
    setEnd(c, row, w.rowsPerTask, w.rows, end);
    c.get(w.out).get(row).get(w.columns).op("i32.mul").int(bytes).op("i32.mul").op("i32.add").set(to);
    const value = () => {
      c.get(to).get(from);
      // What is out of range reads the first value, and gives 0.
      c.get(place)
        .memory("i32.load")
        .tee(at)
        .int(0)
        .get(at)
        .get(w.size)
        .op("i32.lt_u")
        .op("select")
        .get(w.step)
        .op("i32.mul")
        .op("i32.add");
      loadValue(c, bytes).int(0).get(at).get(w.size).op("i32.lt_u").op("select");
      storeValue(c, bytes);
      c.get(from).get(w.xColumn).op("i32.add").set(from).get(place).get(w.indexColumn).op("i32.add").set(place).advance(to, bytes);
    };
    const each = () => {
      c.get(row).get(w.rowsPerBatch).op("i32.div_u").set(batch).get(row).get(w.rowsPerBatch).op("i32.rem_u").set(inner);
      placed(c, w.x, batch, w.xBatch, inner, w.xRow).set(from);
      placed(c, w.index, batch, w.indexBatch, inner, w.indexRow).set(place);
      c.get(w.columns).set(left);
      whileLeft(c, left, 1, value);
    };
    c.forLess(row, end, 1, each, "here");
  };

/** How a scatter treats what it meets: moves of raw values, or sums. */
export type ScatterKind = "put.2" | "put.4" | "add.f32" | "add.i32";

/** Walks a job: `line` moves `left` values of a line, given the address of its index, of x and of the same columns of out's first line. */
function emitLines(
  c: Code,
  bytes: MovedBytes,
  line: (w: Record<(typeof scatterArgs)[number], Local>, at: Record<"place" | "from" | "to" | "left", Local>) => void,
): void {
  const w = loadWords(c, scatterArgs);
  const [batch, batchEnd, column, columnEnd, i] = c.locals(i32, 5) as [Local, Local, Local, Local, Local];
  const at = { place: c.local(i32), from: c.local(i32), to: c.local(i32), left: c.local(i32) };
  const [index, source, target, count] = c.locals(i32, 4) as [Local, Local, Local, Local];
  c.get(0).get(w.parts).op("i32.div_u").get(w.batchesPerTask).op("i32.mul").set(batch);
  setEnd(c, batch, w.batchesPerTask, w.batches, batchEnd);
  c.get(0).get(w.parts).op("i32.rem_u").get(w.columnsPerTask).op("i32.mul").set(column);
  setEnd(c, column, w.columnsPerTask, w.columns, columnEnd).get(columnEnd).get(column).op("i32.sub").set(count);
  const first = (base: Local, perBatch: Local) => c.get(base).get(batch).get(perBatch).op("i32.mul").op("i32.add").get(column);
  const each = () => {
    first(w.index, w.indexBatch).get(w.indexColumn).op("i32.mul").op("i32.add").set(index);
    first(w.x, w.xBatch).int(bytes).op("i32.mul").op("i32.add").set(source);
    first(w.out, w.outBatch).int(bytes).op("i32.mul").op("i32.add").set(target);
    c.forLess(i, w.count, 1, () => {
      c.get(index).set(at.place).get(source).set(at.from).get(target).set(at.to).get(count).set(at.left);
      line(w, at);
      c.get(index).get(w.indexLine).op("i32.add").set(index).get(source).get(w.xLine).op("i32.add").set(source);
    });
  };
  c.forLess(batch, batchEnd, 1, each, "here");
}

/** The emitter of the export `scatter.<kind>`. */
export const emitScatter =
  (kind: ScatterKind) =>
  (module: Module): void => {
    const c = module.func(`scatter.${kind}`, [i32, i32, i32]);
    const [at, to] = c.locals(i32, 2) as [Local, Local];
    const bytes = kind === "put.2" ? 2 : 4;
    emitLines(c, bytes, (w, { place, from, to: column, left }) => {
      whileLeft(c, left, 1, () => {
        c.get(place).memory("i32.load").tee(at).get(w.size).op("i32.lt_u").if();
        c.get(column).get(at).get(w.step).op("i32.mul").op("i32.add").tee(to);
        if (kind === "add.f32") c.get(to).memory("f32.load").get(from).memory("f32.load").op("f32.add").memory("f32.store");
        else if (kind === "add.i32") c.get(to).memory("i32.load").get(from).memory("i32.load").op("i32.add").memory("i32.store");
        else {
          c.get(from);
          storeValue(loadValue(c, bytes), bytes);
        }
        c.end().get(place).get(w.indexColumn).op("i32.add").set(place).advance(from, bytes).advance(column, bytes);
      });
    });
  };

/** Emits the export `indexAdd`: lines of f32 added to the lines their index names. */
export function emitIndexAdd(module: Module): void {
  const c = module.func("indexAdd", [i32, i32, i32]);
  const at = c.local(i32);
  emitLines(c, 4, (w, { place, from, to, left }) => {
    c.get(place).memory("i32.load").tee(at).get(w.size).op("i32.lt_u").if();
    c.get(to).get(at).get(w.step).op("i32.mul").op("i32.add").set(to);
    for (const lanes of [4, 1] as const) {
      whileLeft(c, left, lanes, () => {
        const [load, add, store] =
          lanes === 4 ? (["v128.load", "f32x4.add", "v128.store"] as const) : (["f32.load", "f32.add", "f32.store"] as const);
        c.get(to).get(to).memory(load).get(from).memory(load).op(add).memory(store);
        c.advance(to, 4 * lanes).advance(from, 4 * lanes);
      });
    }
    c.end();
  });
}
