// The matrix product: micro kernel, panel loops, and the task that computes one tile of the output.
// Blocking follows Goto and van de Geijn (2008); tile sizes fit the 15 vector registers V8 uses.
import { across, columnBlock, depthBlock, operandModes, patches, rowBlock, scratch } from "./blocking.ts";
import { type Code, i32, type Local, type Module, v128 } from "./encoder.ts";
import { emitExpand } from "./expand.ts";
import { emitPackAcross, emitPackAlong } from "./pack.ts";
import { emitPackPatches } from "./patches.ts";
import { rowParams } from "./row-function.ts";

/** A flavour of the generated kernels. */
export interface Flavour {
  /** Relaxed multiply-add. */
  readonly fma: boolean;
  /** Register tile: rows, and vectors of four columns. */
  readonly tileRows: number;
  readonly tileVectors: number;
  /** The memory is shared between threads. */
  readonly shared: boolean;
}

/** Words of a gemm job's arguments, in order. */
export const gemmArgs = [
  ...["m", "n", "k"],
  ...["a", "aBatch", "aStep", "aMode"],
  ...["b", "bBatch", "bStep", "bMode"],
  ...["c", "cBatch"],
  ...["mBlock", "nBlock", "mTiles", "nTiles"],
  ...["slot", "table", "image", "n0", "cStep"],
] as const;

/** Functions other kernels build on. */
export interface MatrixParts {
  /** panels(mc, nc, kc, packedA, packedB, c, bytes per row of c, accumulate, tile): c = or += a · b. */
  readonly panels: Code;
  /** Packs a row operand: (mode, address, step, first line, lines, first k, kc, wide, to). */
  readonly packRows: Code;
  /** The same for a column operand. */
  readonly packColumns: Code;
  /** expand(mode, from, to, count). */
  readonly expand: Code;
}

/** Emits everything a matrix product needs, with the task exported as `gemm(task, args, scratch)`. */
export function emitGemm(module: Module, flavour: Flavour): MatrixParts {
  const { tileRows, tileVectors, fma } = flavour;
  const micro = emitMicroKernel(module, flavour);
  const panels = emitPanels(module, micro, tileRows, 4 * tileVectors);
  const expand = emitExpand(module, fma);
  const packRows = emitPackOperand(module, expand, tileRows);
  const packColumns = emitPackOperand(module, expand, 4 * tileVectors);
  const parts = { panels, packRows, packColumns, expand };
  emitTask(module, parts, emitPackPatches(module, 4 * tileVectors));
  return parts;
}

/** micro(kc, a, b, c, bytes per row of c, accumulate): one register tile. */
function emitMicroKernel(module: Module, { fma, tileRows, tileVectors }: Flavour): Code {
  const c = module.func(undefined, [i32, i32, i32, i32, i32, i32]);
  const [kc, a, b, to, step, accumulate] = [0, 1, 2, 3, 4, 5];
  const sums = c.locals(v128, tileRows * tileVectors);
  const columns = c.locals(v128, tileVectors);
  const [row, p] = [c.local(v128), c.local(i32)];
  // The unfused form is written out here: a scratch local per sum would cost registers.
  const eachRow = (visit: (v: number, sum: Local) => void) => {
    c.get(to).set(p);
    for (let i = 0; i < tileRows; i++) {
      for (let v = 0; v < tileVectors; v++) visit(v, sums[i * tileVectors + v]!);
      if (i < tileRows - 1) c.get(p).get(step).op("i32.add").set(p);
    }
  };
  c.get(accumulate).if();
  eachRow(
    (v, sum) =>
      void c
        .get(p)
        .memory("v128.load", 16 * v)
        .set(sum),
  );
  c.end().get(kc).if().loop();
  columns.forEach(
    (x, v) =>
      void c
        .get(b)
        .memory("v128.load", 16 * v)
        .set(x),
  );
  for (let i = 0; i < tileRows; i++) {
    c.get(a)
      .memory("v128.load32_splat", 4 * i)
      .set(row);
    for (let v = 0; v < tileVectors; v++) {
      const sum = sums[i * tileVectors + v]!;
      if (fma) c.get(row).get(columns[v]!).get(sum).op("f32x4.relaxed_madd").set(sum);
      else c.get(row).get(columns[v]!).op("f32x4.mul").get(sum).op("f32x4.add").set(sum);
    }
  }
  c.advance(a, 4 * tileRows).advance(b, 16 * tileVectors);
  c.get(kc).int(1).op("i32.sub").tee(kc).branchIf(0).end().end();
  eachRow(
    (v, sum) =>
      void c
        .get(p)
        .get(sum)
        .memory("v128.store", 16 * v),
  );
  return c;
}

/** dst = min(block, total - start) */
export function pushRest(c: Code, total: Local, start: Local, block: number, to: Local): void {
  c.get(total).get(start).op("i32.sub").tee(to).int(block).get(to).int(block).op("i32.lt_s").op("select").set(to);
}

function emitPanels(module: Module, micro: Code, mr: number, nr: number): Code {
  const c = module.func(undefined, new Array(9).fill(i32));
  const [mc, nc, kc, packedA, packedB, to, step, accumulate, tile] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const [i, j, a, b, ci, cj, height, width] = c.locals(i32, 8) as [Local, Local, Local, Local, Local, Local, Local, Local];
  const corner = emitCorner(module);
  c.get(packedB).set(b).get(to).set(cj);
  c.forLess(j, nc, nr, () => {
    c.get(packedA).set(a).get(cj).set(ci);
    pushRest(c, nc, j, nr, width);
    c.forLess(i, mc, mr, () => {
      pushRest(c, mc, i, mr, height);
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
        .get(kc)
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

/** Pushes the bytes that `k` values of a mode take. */
function pushBytes(c: Code, mode: Local, k: Local): void {
  c.get(k).int(2).op("i32.shl");
  for (const [kind, block, bytes] of [
    ["f16", 1, 2],
    ["bf16", 1, 2],
    ["q8_0", 32, 34],
    ["q4_0", 32, 18],
    ["q4_K", 256, 144],
  ] as const) {
    c.get(k)
      .int(block)
      .op("i32.div_u")
      .int(bytes)
      .op("i32.mul")
      .get(mode)
      .int(across - 1)
      .op("i32.and");
    c.int(operandModes[kind]).op("i32.ne").op("select");
  }
}

function emitPackOperand(module: Module, expand: Code, r: number): Code {
  const [packAcross, packAlong] = [emitPackAcross(module, r), emitPackAlong(module, r)];
  const c = module.func(undefined, new Array(9).fill(i32));
  const [mode, address, step, first, lines, k0, kc, wide, to] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const [kind, from, i, d] = c.locals(i32, 4) as [Local, Local, Local, Local];
  const expandLines = (count: Local, length: Local) => {
    c.get(wide).set(d);
    c.forLess(i, count, 1, () => {
      c.get(kind).get(from).get(d).get(length).call(expand);
      c.get(from).get(step).op("i32.add").set(from).get(d).get(length).int(2).op("i32.shl").op("i32.add").set(d);
    });
  };
  c.get(mode)
    .int(across - 1)
    .op("i32.and")
    .set(kind);
  c.get(mode).int(across).op("i32.and").if();
  c.get(address).get(k0).get(step).op("i32.mul").op("i32.add");
  pushBytes(c, mode, first);
  c.op("i32.add").set(from);
  c.get(kind).op("i32.eqz").if().get(from).get(step).get(lines).get(kc).get(to).call(packAcross).else();
  expandLines(kc, lines);
  c.get(wide).get(lines).int(2).op("i32.shl").get(lines).get(kc).get(to).call(packAcross).end();
  c.else();
  c.get(address).get(first).get(step).op("i32.mul").op("i32.add");
  pushBytes(c, mode, k0);
  c.op("i32.add").set(from);
  c.get(kind).op("i32.eqz").if().get(from).get(step).get(lines).get(kc).get(to).call(packAlong).else();
  expandLines(lines, kc);
  c.get(wide).get(kc).int(2).op("i32.shl").get(lines).get(kc).get(to).call(packAlong).end();
  c.end();
  return c;
}

/** Adds a constant to an address local and leaves it on the stack. */
const at = (c: Code, base: Local, offset: number): Code => c.get(base).int(offset).op("i32.add");

function emitTask(module: Module, parts: MatrixParts, packPatches: Code): void {
  const c = module.func("gemm", [i32, i32, i32]);
  const [task, args, base] = [0, 1, 2];
  const word = (name: string) => c.get(args).memory("i32.load", 4 * (gemmArgs as readonly string[]).indexOf(name));
  const local = Object.fromEntries(gemmArgs.map((name) => [name, c.local(i32)])) as Record<string, Local>;
  for (const name of gemmArgs) word(name).set(local[name]!);
  const { m, n, k, slot, table } = local as { m: Local; n: Local; k: Local; slot: Local; table: Local };
  const [batch, i0, j0, rows, columns, to, step, pc, kc, ic, mc] = c.locals(i32, 11) as Local[] as [
    ...[Local, Local, Local, Local, Local, Local],
    ...[Local, Local, Local, Local, Local],
  ];
  const blockRest = (total: Local, start: Local, block: Local, into: Local) =>
    c.get(total).get(start).op("i32.sub").tee(into).get(block).get(into).get(block).op("i32.lt_s").op("select").set(into);
  c.get(task).get(local["nTiles"]!).op("i32.rem_u").get(local["nBlock"]!).op("i32.mul").get(local["n0"]!).op("i32.add").set(j0);
  c.get(task).get(local["nTiles"]!).op("i32.div_u").set(task);
  c.get(task).get(local["mTiles"]!).op("i32.rem_u").get(local["mBlock"]!).op("i32.mul").set(i0);
  c.get(task).get(local["mTiles"]!).op("i32.div_u").set(batch);
  blockRest(m, i0, local["mBlock"]!, rows);
  blockRest(n, j0, local["nBlock"]!, columns);
  for (const x of ["a", "b", "c"]) c.get(local[x]!).get(batch).get(local[`${x}Batch`]!).op("i32.mul").op("i32.add").set(local[x]!);
  c.get(slot).if();
  at(c, base, scratch.result).set(to).get(columns).int(2).op("i32.shl").set(step);
  c.else();
  c.get(local["cStep"]!)
    .tee(step)
    .get(i0)
    .op("i32.mul")
    .get(local["c"]!)
    .op("i32.add")
    .get(j0)
    .int(2)
    .op("i32.shl")
    .op("i32.add")
    .set(to)
    .end();
  c.int(0).set(pc).block().loop().get(pc).get(k).op("i32.ge_s").branchIf(1);
  pushRest(c, k, pc, depthBlock, kc);
  c.get(local["bMode"]!).int(patches).op("i32.ge_s").if();
  c.get(local["bMode"]!).get(local["b"]!).get(local["image"]!).get(j0).get(columns).get(pc).get(kc);
  at(c, base, scratch.packedB);
  at(c, base, scratch.lanes).call(packPatches);
  c.else();
  c.get(local["bMode"]!).get(local["b"]!).get(local["bStep"]!).get(j0).get(columns).get(pc).get(kc);
  at(c, base, scratch.wide);
  at(c, base, scratch.packedB).call(parts.packColumns).end();
  c.forLess(ic, rows, rowBlock, () => {
    pushRest(c, rows, ic, rowBlock, mc);
    c.get(local["aMode"]!).get(local["a"]!).get(local["aStep"]!).get(i0).get(ic).op("i32.add").get(mc).get(pc).get(kc);
    at(c, base, scratch.wide);
    at(c, base, scratch.packedA).call(parts.packRows);
    c.get(mc).get(columns).get(kc);
    at(c, base, scratch.packedA);
    at(c, base, scratch.packedB);
    c.get(to).get(ic).get(step).op("i32.mul").op("i32.add").get(step).get(pc).int(0).op("i32.gt_s");
    at(c, base, scratch.tile).call(parts.panels);
  });
  c.advance(pc, depthBlock).branch(0).end().end();
  const finish = module.signature(rowParams, []);
  c.get(slot).if();
  c.forLess(ic, rows, 1, () => {
    c.get(table).get(batch).get(i0).get(ic).op("i32.add").get(j0).get(columns).get(to).get(slot).callIndirect(finish);
    c.get(to).get(step).op("i32.add").set(to);
  });
  c.end();
}

/** Most columns a task may take: what the packed panel and the result area hold. */
export const maxColumns = columnBlock;
