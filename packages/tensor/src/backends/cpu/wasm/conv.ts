// conv as an implicit matrix product: weights are the left operand, image patches the right one, packed on the fly.
import type { OpTable } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import { operandModes, placeBlocks, taskBlocks, threadedProducts } from "./blocking.ts";
import type { WasmEngine } from "./engine.ts";
import { gemmArgs } from "./gemm.ts";
import { imageArgs, patchMode } from "./patches.ts";
import { addressOf, commonArena, elementBytes, type Grid, placesOf, planFinish } from "./plan.ts";
import { floatKind } from "./row-function.ts";

const place = placesOf(gemmArgs);
/** Operand tables may take this many words; the image words follow. */
const imageWordsAt = 128;

/** Computes a convolution with epilogue; false when the operands are not covered. */
export function fastConv(
  engine: WasmEngine,
  out: View,
  { x, weight, operands = [] }: OpTable["conv"]["in"],
  attrs: OpTable["conv"]["attrs"],
): boolean {
  const { groups } = attrs;
  const [b, c, height, width] = x.layout.shape as [number, number, number, number];
  const [, o, outHeight, outWidth] = out.layout.shape as [number, number, number, number];
  const [kernelY, kernelX] = weight.layout.shape.slice(2) as [number, number];
  const arena = commonArena([out, x, weight, ...operands]);
  const [kind, weightKind] = [floatKind(x.dtype), floatKind(weight.dtype)];
  if (!arena || !kind || !weightKind) return false;
  const k = (c / groups) * kernelY * kernelX;
  const n = outHeight * outWidth;
  const direct = out.dtype === "f32" && !attrs.epilogue;
  const staged = out.dtype !== "f32" || operands.some((v) => v.buffer === out.buffer);
  const rows = o / groups;
  const image = imageWords(attrs, { height, width, outWidth, kernelY, kernelX });
  const threaded = o * n * k >= threadedProducts;
  const blocks = taskBlocks({ m: rows, n, k, batch: groups, threads: threaded ? engine.threads : 1, unit: 4, staged });
  for (let i = 0; i < b; i++) {
    const views = [out, ...operands].map((v) => imageView(v, i));
    const grid = direct ? [] : planeStrides(views, groups);
    if (!grid) return false;
    const finish = direct ? undefined : planFinish(engine, arena, attrs.epilogue, views, grid, true);
    if (!direct && !finish) return false;
    const w = engine.blankArgs();
    w[place.m] = rows;
    w[place.n] = n;
    w[place.k] = k;
    w[place.a] = addressOf(weight);
    w[place.aBatch] = rows * k * elementBytes(weight);
    w[place.aStep] = k * elementBytes(weight);
    w[place.aMode] = operandModes[weightKind];
    w[place.b] = addressOf(x) + i * c * height * width * elementBytes(x);
    w[place.bMode] = patchMode(kind);
    w[place.bBatch] = (c / groups) * height * width * elementBytes(x);
    w[place.c] = addressOf(out) + 4 * i * o * n;
    w[place.cBatch] = 4 * rows * n;
    w[place.cStep] = 4 * n;
    w[place.image] = engine.writeTable(arena, image, imageWordsAt);
    w[place.slot] = finish?.slot ?? 0;
    w[place.table] = finish?.table ?? 0;
    w[place.staged] = staged ? 1 : 0;
    placeBlocks(w, place, blocks);
    engine.run(arena, "gemm", w, blocks.tasks, engine.shares(o * n * k, threadedProducts));
  }
  return true;
}

/** What describes image and filter, in the order of `imageArgs`. */
function imageWords(
  { stride, padding, dilation }: OpTable["conv"]["attrs"],
  sizes: Readonly<Record<"height" | "width" | "outWidth" | "kernelY" | "kernelX", number>>,
): number[] {
  const [strideY, strideX] = stride;
  const [paddingY, paddingX] = padding;
  const [dilationY, dilationX] = dilation;
  const all = { ...sizes, strideY, strideX, paddingY, paddingX, dilationY, dilationX };
  return imageArgs.map((name) => all[name]);
}

/** The i-th image of a [b, c, h, w] view. */
function imageView(view: View, i: number): View {
  const { shape, strides, offset } = view.layout;
  return { ...view, layout: { shape: shape.slice(1), strides: strides.slice(1), offset: offset + i * strides[0]! } };
}

/** Strides of group, channel in the group, and pixel; undefined when rows of pixels do not run into each other. */
function planeStrides(views: readonly View[], groups: number): Grid["strides"] | undefined {
  const out: [number, number, number][] = [];
  for (const { layout } of views) {
    const [channels, height, width] = layout.shape as [number, number, number];
    const [sc, sy, sx] = layout.strides as [number, number, number];
    const pixel = width === 1 ? sy : sx;
    if (height > 1 && width > 1 && sy !== sx * width) return undefined;
    out.push([sc * (channels / groups), sc, height * width === 1 ? 0 : pixel]);
  }
  if (out[0]) out[0][2] = 1;
  return out;
}
