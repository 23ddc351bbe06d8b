// The loops of a matrix product over the tiles of a block: strips of columns, panels of rows, panels of columns. Rows of c are then
// written from end to end; a loop over rows inside touched half a cache line of each, which powers of two between rows put in one set.
import { type Code, i32, type Local, type Module } from "../../../wasm/encoder.ts";

/** to = min(block, total - start) */
export function pushRest(c: Code, total: Local, start: Local, block: Local, to: Local): void {
  c.get(total).get(start).op("i32.sub").tee(to).get(block).get(to).get(block).op("i32.lt_s").op("select").set(to);
}

/**
 * Columns that are multiplied by a panel of rows before the next: few enough to stay in the second-level cache for all rows. Panels of 16
 * columns would come from there faster than it gives; they stay in place while the rows change.
 */
const stripOf = (columns: number): number => (columns > 8 ? columns : 128);

/**
 * panels(mc, nc, kc, packed a, packed b, c, bytes per row of c, accumulate, scratch tile, depth): all tiles of a block; edges pass through the
 * scratch tile. `depth` is what a was packed with, of which the first kc are used.
 */
export function emitPanels(module: Module, micro: Code, mr: number, nr: number): Code {
  const corner = emitCorner(module);
  const c = module.func("panels", new Array(10).fill(i32));
  const [mc, nc, kc, packedA, packedB, to, step, accumulate, tile, depth] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
  const [i, j, a, b, ci, cij, height, tileRows] = c.locals(i32, 8) as [Local, Local, Local, Local, Local, Local, Local, Local];
  const [first, end, part] = c.locals(i32, 3) as [Local, Local, Local];
  const strip = stripOf(nr);
  const emitTile = emitTiles(c, { micro, corner, mr, nr }, { nc, kc, a, b, cij, step, accumulate, tile, j, height });
  const plus = (x: Local, y: Local, scale: number, by: Local) => c.get(x).get(by).int(scale).op("i32.mul").op("i32.add").set(y);
  c.int(mr).set(tileRows).int(0).set(part);
  plus(part, part, 4 * nr, kc);
  c.forLess(first, nc, strip, () => {
    c.get(first).int(strip).op("i32.add").tee(end).get(nc).get(end).get(nc).op("i32.lt_s").op("select").set(end);
    c.get(packedA).set(a).get(to).set(ci);
    c.forLess(i, mc, mr, () => {
      pushRest(c, mc, i, tileRows, height);
      c.get(packedB).set(b).get(ci).set(cij).get(first).set(j);
      const visit = () => {
        emitTile();
        c.get(b).get(part).op("i32.add").set(b);
        c.advance(cij, 4 * nr);
      };
      c.forLess(j, end, nr, visit, "here");
      plus(a, a, 4 * mr, depth);
      plus(ci, ci, mr, step);
    });
    // `b` stands behind the strip.
    c.get(b).set(packedB);
    c.advance(to, 4 * strip);
  });
  return c;
}

/** Code of one tile: straight into c, or through the scratch tile at an edge. */
function emitTiles(
  c: Code,
  { micro, corner, mr, nr }: { micro: Code; corner: Code; mr: number; nr: number },
  at: Record<"nc" | "kc" | "a" | "b" | "cij" | "step" | "accumulate" | "tile" | "j" | "height", Local>,
): () => void {
  const [tileColumns, width] = c.locals(i32, 2) as [Local, Local];
  const tileStep = 4 * nr;
  return () => {
    c.get(at.height).int(mr).op("i32.eq").get(at.j).int(nr).op("i32.add").get(at.nc).op("i32.le_s").op("i32.and").if();
    c.get(at.kc).get(at.a).get(at.b).get(at.cij).get(at.step).get(at.accumulate).call(micro).else();
    c.int(nr).set(tileColumns);
    pushRest(c, at.nc, at.j, tileColumns, width);
    c.get(at.kc).get(at.a).get(at.b).get(at.tile).int(tileStep).int(0).call(micro);
    c.get(at.tile).int(tileStep).get(at.cij).get(at.step).get(at.height).get(width).get(at.accumulate).call(corner).end();
  };
}

/** corner(from, from step, to, to step, rows, columns, accumulate): copies or adds part of a tile. */
function emitCorner(module: Module): Code {
  const c = module.func(undefined, new Array(7).fill(i32));
  const [from, fromStep, to, toStep, rows, columns, accumulate] = [0, 1, 2, 3, 4, 5, 6];
  const [y, x, s, d] = c.locals(i32, 4) as [Local, Local, Local, Local];
  c.forLess(y, rows, 1, () => {
    c.get(from).get(y).get(fromStep).op("i32.mul").op("i32.add").set(s).get(to).get(y).get(toStep).op("i32.mul").op("i32.add").set(d);
    c.forLess(x, columns, 1, () => {
      c.get(accumulate).if().get(d).get(s).memory("f32.load").get(d).memory("f32.load").op("f32.add").memory("f32.store");
      c.else().get(d).get(s).memory("f32.load").memory("f32.store").end().advance(s, 4).advance(d, 4);
    });
  });
  return c;
}
