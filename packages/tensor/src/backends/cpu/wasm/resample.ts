// Resampling of images on generated code; 16-bit floats are mixed in f32.
import { inputNode } from "../../../ops/expr.ts";
import type { OpTable } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import { linearSources, nearestSources } from "../kernels/resample.ts";
import type { CpuBuffer } from "../memory.ts";
import type { Arena } from "./arena.ts";
import { stretch } from "./blocking.ts";
import type { KernelName } from "./emitters.ts";
import type { WasmEngine } from "./engine.ts";
import { movedBytes } from "./indexing.ts";
import { fastMap } from "./map.ts";
import { addressOf, commonArena, elementBytes, floatBits, placesOf } from "./plan.ts";
import { resampleArgs } from "./resample-kernel.ts";
import { floatKind } from "./row-function.ts";
import { maxRowColumns } from "./row-kernels.ts";
import { withTemporary } from "./temporary.ts";

const place = placesOf(resampleArgs);
/** Results a task should have, and from which waking other threads pays. */
const [leastElements, threadedElements] = [16_384, 131_072];
const identity = inputNode(0, "f32");

type Attrs = OpTable["resample"]["attrs"];
/** Sizes of an image: planes, rows, columns. */
const sizesOf = ({ layout: { shape } }: View) => [shape[0]! * shape[1]!, shape[2]!, shape[3]!] as const;

/** Resamples images; false when the operands are not covered. */
export function fastResample(engine: WasmEngine, out: View, x: View, { mode, alignCorners }: Attrs): boolean {
  const arena = commonArena([out, x]);
  if (!arena || x.dtype !== out.dtype) return false;
  if (mode === "nearest") return resampleNearest(engine, arena, out, x);
  const kind = floatKind(x.dtype);
  if (!kind || x.layout.shape[3]! > maxRowColumns) return false;
  if (kind === "f32") return resampleLinear(engine, arena, out, x, alignCorners);
  return withTemporary(arena, x.layout.shape, "f32", (wide) =>
    withTemporary(
      arena,
      out.layout.shape,
      "f32",
      (mixed) =>
        fastMap(engine, wide, [x], identity) &&
        resampleLinear(engine, arena, mixed, wide, alignCorners) &&
        fastMap(engine, out, [mixed], identity),
    ),
  );
}

function resampleNearest(engine: WasmEngine, arena: Arena, out: View, x: View): boolean {
  const bytes = movedBytes(x);
  if (!bytes) return false;
  const [[, h, w], [, oh, ow]] = [sizesOf(x), sizesOf(out)];
  const rows = nearestSources(h, oh).map((y) => y * w * bytes);
  const columns = nearestSources(w, ow);
  const doubled = ow === 2 * w && columns.every((column, i) => column === i >> 1);
  return runPlanes(engine, arena, `nearest.${bytes}`, out, x, { rows, columns: columns.map((column) => column * bytes), doubled });
}

function resampleLinear(engine: WasmEngine, arena: Arena, out: View, x: View, alignCorners: boolean): boolean {
  const [[, h, w], [, oh, ow]] = [sizesOf(x), sizesOf(out)];
  const words = (size: number, to: number, bytes: number) =>
    linearSources(size, to, alignCorners).flatMap(({ low, high, weight }) => [
      ...[low * bytes, high * bytes],
      ...[floatBits(1 - weight), floatBits(weight)],
    ]);
  return runPlanes(engine, arena, "bilinear", out, x, { rows: words(h, oh, 4 * w), columns: words(w, ow, 4), doubled: false });
}

interface Tables {
  readonly rows: readonly number[];
  readonly columns: readonly number[];
  readonly doubled: boolean;
}

function runPlanes(engine: WasmEngine, arena: Arena, kernel: KernelName, out: View, x: View, { rows, columns, doubled }: Tables): boolean {
  const [[, height, width], [planes, oh, ow]] = [sizesOf(x), sizesOf(out)];
  const bytes = elementBytes(x);
  return withTemporary(arena, [rows.length + columns.length], "i32", (table) => {
    const at = addressOf(table);
    const words = (table.buffer as CpuBuffer).array("i32");
    words.set(rows);
    words.set(columns, rows.length);
    const rowsPerTask = Math.max(1, Math.floor(stretch(planes * oh * ow, leastElements) / ow));
    const w = engine.blankArgs();
    w[place.x] = addressOf(x);
    w[place.planeBytes] = height * width * bytes;
    w[place.rowBytes] = width * bytes;
    w[place.out] = addressOf(out);
    w[place.rows] = planes * oh;
    w[place.rowsPerPlane] = oh;
    w[place.columns] = ow;
    w[place.rowsPerTask] = rowsPerTask;
    w[place.rowTable] = at;
    w[place.columnTable] = at + 4 * rows.length;
    w[place.doubled] = doubled ? 1 : 0;
    engine.run(arena, kernel, w, Math.ceil((planes * oh) / rowsPerTask), engine.shares(planes * oh * ow, threadedElements));
    return true;
  });
}
