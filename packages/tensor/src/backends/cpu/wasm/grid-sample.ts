// gridSample on generated code: bilinear and bicubic, of rows that hold a window of four pixels.

import { inputNode } from "../../../ops/expr.ts";
import type { OpTable } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import type { Arena } from "./arena.ts";
import type { WasmEngine } from "./engine.ts";
import { asFloats } from "./filter.ts";
import { gridSampleArgs, placeBlock } from "./grid-sample-kernel.ts";
import { fastMap } from "./map.ts";
import { addressOf, commonArena, floatBits, placesOf } from "./plan.ts";
import { floatKind } from "./row-function.ts";
import { withTemporary } from "./temporary.ts";

type Attrs = OpTable["gridSample"]["attrs"];

const place = placesOf(gridSampleArgs);
/** Values a task should read, and from which waking other threads pays. */
const [taskElements, threadedElements] = [16_384, 65_536];
const paddings = { zeros: 0, border: 1, reflection: 2 } as const;

/** Reads images at places; false when the operands are not covered. */
export function fastGridSample(engine: WasmEngine, out: View, { x, grid }: OpTable["gridSample"]["in"], attrs: Attrs): boolean {
  const arena = commonArena([out, x, grid]);
  const covered = attrs.mode !== "nearest" && x.layout.shape[3]! >= 4 && grid.dtype === "f32";
  if (!arena || !covered || !floatKind(x.dtype) || !floatKind(out.dtype)) return false;
  return asFloats(engine, arena, x, (wide) =>
    out.dtype === "f32"
      ? readImages(engine, arena, out, wide, grid, attrs)
      : withTemporary(
          arena,
          out.layout.shape,
          "f32",
          (read) => readImages(engine, arena, read, wide, grid, attrs) && fastMap(engine, out, [read], inputNode(0, "f32")),
        ),
  );
}

function readImages(engine: WasmEngine, arena: Arena, out: View, x: View, grid: View, attrs: Attrs): boolean {
  const [images, channels, h, w] = x.layout.shape as [number, number, number, number];
  const places = grid.layout.shape[1]! * grid.layout.shape[2]!;
  const placesPerTask = Math.max(placeBlock, Math.floor(taskElements / channels / placeBlock) * placeBlock);
  const kernel = attrs.mode === "bicubic" ? "gridSample.4" : "gridSample.2";
  for (let image = 0; image < images; image++) {
    const words = engine.blankArgs();
    words[place.x] = addressOf(x) + 4 * image * channels * h * w;
    words[place.planeBytes] = 4 * h * w;
    words[place.rowBytes] = 4 * w;
    words[place.grid] = addressOf(grid) + 8 * image * places;
    words[place.out] = addressOf(out) + 4 * image * channels * places;
    words[place.channels] = channels;
    words[place.places] = places;
    words[place.placesPerTask] = placesPerTask;
    words[place.padding] = paddings[attrs.paddingMode];
    words[place.lastStart] = w - 4;
    words[place.lastRow] = h - 1;
    writeAxes(words, [w, h], attrs.alignCorners);
    engine.run(arena, kernel, words, Math.ceil(places / placesPerTask), engine.shares(channels * places, threadedElements));
  }
  return true;
}

/** Words of pairs for x and y: pixels are (place + 1) · scale - shift, and mirrors are span apart from low on. */
function writeAxes(words: Int32Array, sizes: readonly [number, number], alignCorners: boolean): void {
  for (const [axis, size] of sizes.entries()) {
    words[place.scaleX + axis] = floatBits((alignCorners ? size - 1 : size) / 2);
    words[place.shiftX + axis] = floatBits(alignCorners ? 0 : 0.5);
    words[place.lowX + axis] = floatBits(alignCorners ? 0 : -0.5);
    words[place.spanX + axis] = floatBits(alignCorners ? size - 1 : size);
    words[place.mostX + axis] = floatBits(size - 1);
  }
}
