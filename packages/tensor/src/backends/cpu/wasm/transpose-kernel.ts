// Transposes of matrices of 2-byte and 4-byte elements by tiles of a cache line squared: every line of the source is read once and every line
// of the target is written whole, however far apart rows lie.

import { type Code, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import { scratch } from "./blocking.ts";

/** Bytes of a cache line: a tile has a line's elements each way. */
const line = 64;

/** Emits transpose(x, x's bytes between columns of out, out, out's bytes per row, rows, columns, scratch) for elements of `bytes`, and returns it. */
export function emitTranspose(module: Module, bytes: 2 | 4): Code {
  const c = module.func(undefined, [i32, i32, i32, i32, i32, i32, i32]);
  const [x, xStep, out, outStep, rows, columns] = [0, 1, 2, 3, 4, 5];
  const side = line / bytes;
  const [i, j, from, to] = c.locals(i32, 4) as [Local, Local, Local, Local];
  const tile = tileEmitter(c, bytes, from, to);
  const block = () => {
    c.get(x).get(j).get(xStep).op("i32.mul").op("i32.add").get(i).int(bytes).op("i32.mul").op("i32.add").set(from);
    c.get(out).get(i).get(outStep).op("i32.mul").op("i32.add").get(j).int(bytes).op("i32.mul").op("i32.add").set(to);
    c.get(i).int(side).op("i32.add").get(rows).op("i32.le_s");
    c.get(j).int(side).op("i32.add").get(columns).op("i32.le_s").op("i32.and").if();
    tile();
    c.else();
    emitEdge(c, bytes, { from, to, i, j }, side);
    c.end();
  };
  c.forLess(j, columns, side, () => c.forLess(i, rows, side, block));
  return c;
}

interface Place {
  readonly from: Local;
  readonly to: Local;
  readonly i: Local;
  readonly j: Local;
}

/** Element by element, what a tile at the edge holds. */
function emitEdge(c: Code, bytes: 2 | 4, { from, to, i, j }: Place, side: number): void {
  const [xStep, outStep, rows, columns] = [1, 3, 4, 5];
  const [r, k, rowEnd, columnEnd, source, target] = c.locals(i32, 6) as [Local, Local, Local, Local, Local, Local];
  const endOf = (start: Local, total: Local, end: Local) =>
    c.get(start).int(side).op("i32.add").tee(end).get(total).get(end).get(total).op("i32.lt_s").op("select").set(end);
  endOf(i, rows, rowEnd);
  endOf(j, columns, columnEnd);
  c.get(i).set(r);
  const row = () => {
    c.get(from).set(source).get(to).set(target).get(j).set(k);
    const element = () => {
      c.get(target).get(source);
      if (bytes === 4) c.memory("i32.load").memory("i32.store");
      else c.memory("i32.load16_u").memory("i32.store16");
      c.get(source).get(xStep).op("i32.add").set(source).advance(target, bytes);
    };
    c.forLess(k, columnEnd, 1, element, "here");
    c.advance(from, bytes).get(to).get(outStep).op("i32.add").set(to);
  };
  c.forLess(r, rowEnd, 1, row, "here");
}

/** Gives the emitter of a whole tile: squares of vectors are turned into scratch, whose lines then go out. */
function tileEmitter(c: Code, bytes: 2 | 4, from: Local, to: Local): () => void {
  const [xStep, outStep, base] = [1, 3, 6];
  const size = 16 / bytes;
  const pointers = c.locals(i32, size);
  const vectors = c.locals(v128, size);
  const [part, end, at, lineEnd] = c.locals(i32, 4) as [Local, Local, Local, Local];
  const square = (column: number) => {
    pointers.forEach(
      (p, n) =>
        void c
          .get(p)
          .memory("v128.load", 16 * column)
          .set(vectors[n]!),
    );
    const turned = bytes === 4 ? turnWords(c, vectors) : turnHalves(c, vectors);
    turned.forEach((v, n) => {
      c.get(part)
        .get(v)
        .memory("v128.store", scratch.wide + line * (size * column + n));
    });
  };
  return () => {
    c.get(base).tee(part).int(line).op("i32.add").set(end);
    c.loop();
    for (const p of pointers) c.get(from).set(p).get(from).get(xStep).op("i32.add").set(from);
    for (const column of [0, 1, 2, 3]) square(column);
    c.advance(part, 16).get(part).get(end).op("i32.lt_u").branchIf(0).end();
    c.get(base)
      .tee(at)
      .int((line * line) / bytes)
      .op("i32.add")
      .set(lineEnd);
    c.loop();
    for (const n of [0, 16, 32, 48])
      c.get(to)
        .get(at)
        .memory("v128.load", scratch.wide + n)
        .memory("v128.store", n);
    c.get(to).get(outStep).op("i32.add").set(to).advance(at, line).get(at).get(lineEnd).op("i32.lt_u").branchIf(0).end();
  };
}

type Pick = readonly [number, number, number, number];
const [lowWords, highWords]: [Pick, Pick] = [
  [0, 4, 1, 5],
  [2, 6, 3, 7],
];
const [lowPairs, highPairs]: [Pick, Pick] = [
  [0, 1, 4, 5],
  [2, 3, 6, 7],
];
const [lowHalves, highHalves] = [
  [0, 8, 1, 9, 2, 10, 3, 11],
  [4, 12, 5, 13, 6, 14, 7, 15],
] as const;

/** Four vectors of four words, turned. */
function turnWords(c: Code, [a, b, d, e]: readonly Local[]): readonly Local[] {
  const [low1, low2, high1, high2] = [0, 1, 2, 3].map(() => c.local(v128)) as [Local, Local, Local, Local];
  c.get(a!)
    .get(b!)
    .shuffle(...lowWords)
    .set(low1)
    .get(d!)
    .get(e!)
    .shuffle(...lowWords)
    .set(low2);
  c.get(a!)
    .get(b!)
    .shuffle(...highWords)
    .set(high1)
    .get(d!)
    .get(e!)
    .shuffle(...highWords)
    .set(high2);
  return pairs(c, [
    [low1, low2],
    [high1, high2],
  ]);
}

/** Low and high halves of pairs of vectors, joined. */
function pairs(c: Code, list: readonly (readonly [Local, Local])[]): readonly Local[] {
  return list.flatMap(([x, y]) =>
    [lowPairs, highPairs].map((pick) => {
      const joined = c.local(v128);
      c.get(x)
        .get(y)
        .shuffle(...pick)
        .set(joined);
      return joined;
    }),
  );
}

/** Eight vectors of eight 16-bit values, turned. */
function turnHalves(c: Code, rows: readonly Local[]): readonly Local[] {
  const mix = (x: Local, y: Local, emit: () => unknown): Local => {
    const mixed = c.local(v128);
    c.get(x).get(y);
    emit();
    c.set(mixed);
    return mixed;
  };
  return [lowHalves, highHalves].flatMap((halves) => {
    const [t0, t1, t2, t3] = [0, 2, 4, 6].map((n) => mix(rows[n]!, rows[n + 1]!, () => c.shuffleHalves(halves))) as [
      Local,
      Local,
      Local,
      Local,
    ];
    return [lowWords, highWords].flatMap((words) => {
      const first = mix(t0, t1, () => c.shuffle(...words));
      const second = mix(t2, t3, () => c.shuffle(...words));
      return pairs(c, [[first, second]]);
    });
  });
}
