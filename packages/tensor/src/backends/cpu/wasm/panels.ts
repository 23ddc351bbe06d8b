// The loops of a matrix product over the tiles of a block.
import { type Code, i32, type Local, type Module } from "./encoder.ts";

/** to = min(block, total - start) */
export function pushRest(c: Code, total: Local, start: Local, block: Local, to: Local): void {
  c.get(total).get(start).op("i32.sub").tee(to).get(block).get(to).get(block).op("i32.lt_s").op("select").set(to);
}

/**
 * panels(mc, nc, kc, packed a, packed b, c, bytes per row of c, accumulate, scratch tile, depth): all tiles of a block; edges pass through the
 * scratch tile. `depth` is what a was packed with, of which the first kc are used.
 */
export function emitPanels(module: Module, micro: Code, mr: number, nr: number): Code {
  const c = module.func(undefined, new Array(10).fill(i32));
  const [mc, nc, kc, packedA, packedB, to, step, accumulate, tile, depth] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
  const [i, j, a, b, ci, cj, height, width] = c.locals(i32, 8) as [Local, Local, Local, Local, Local, Local, Local, Local];
  const corner = emitCorner(module);
  const [tileRows, tileColumns] = c.locals(i32, 2) as [Local, Local];
  c.int(mr).set(tileRows).int(nr).set(tileColumns);
  c.get(packedB).set(b).get(to).set(cj);
  c.forLess(j, nc, nr, () => {
    c.get(packedA).set(a).get(cj).set(ci);
    pushRest(c, nc, j, tileColumns, width);
    c.forLess(i, mc, mr, () => {
      pushRest(c, mc, i, tileRows, height);
      c.get(height).int(mr).op("i32.eq").get(width).int(nr).op("i32.eq").op("i32.and").if();
      c.get(kc).get(a).get(b).get(ci).get(step).get(accumulate).call(micro);
      c.else();
      c.get(kc)
        .get(a)
        .get(b)
        .get(tile)
        .int(4 * nr)
        .int(0)
        .call(micro);
      c.get(tile)
        .int(4 * nr)
        .get(ci)
        .get(step)
        .get(height)
        .get(width)
        .get(accumulate)
        .call(corner);
      c.end();
      c.get(a)
        .get(depth)
        .int(4 * mr)
        .op("i32.mul")
        .op("i32.add")
        .set(a);
      c.get(ci).get(step).int(mr).op("i32.mul").op("i32.add").set(ci);
    });
    c.get(b)
      .get(kc)
      .int(4 * nr)
      .op("i32.mul")
      .op("i32.add")
      .set(b);
    c.advance(cj, 4 * nr);
  });
  return c;
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
