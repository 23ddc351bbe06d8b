// conv as an implicit matrix product: weights are the left operand, image patches the right one, packed on the fly.
import type { OpTable } from "../../../ops/table.ts";
import type { View } from "../../backend.ts";
import { operandModes, taskBlocks, threadedProducts } from "./blocking.ts";
import type { WasmEngine } from "./engine.ts";
import { gemmArgs } from "./gemm.ts";
import { imageArgs, patchMode } from "./patches.ts";
import { addressOf, commonArena, elementBytes, type Grid, planFinish, wordsOf } from "./plan.ts";
import { floatKind } from "./row-function.ts";

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
  const [b, c, h, w] = x.layout.shape as [number, number, number, number];
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
  const image = {
    ...{ height: h, width: w, outWidth, kernelY, kernelX, strideY: attrs.stride[0], strideX: attrs.stride[1] },
    ...{ paddingY: attrs.padding[0], paddingX: attrs.padding[1], dilationY: attrs.dilation[0], dilationX: attrs.dilation[1] },
  };
  const threaded = o * n * k >= threadedProducts;
  const blocks = taskBlocks({ m: rows, n, k, batch: groups, threads: threaded ? engine.threads : 1, unit: 4, staged });
  for (let i = 0; i < b; i++) {
    const views = [out, ...operands].map((v) => imageView(v, i));
    const grid = direct ? [] : planeStrides(views, groups);
    if (!grid) return false;
    const finish = direct ? undefined : planFinish(engine, arena, attrs.epilogue, views, grid, true);
    if (!direct && !finish) return false;
    const imageAt = engine.writeTable(arena, wordsOf(imageArgs, image), imageWordsAt);
    const words = wordsOf(gemmArgs as readonly string[], {
      ...{ m: rows, n, k, a: addressOf(weight), aBatch: rows * k * elementBytes(weight), aStep: k * elementBytes(weight) },
      ...{ aMode: operandModes[weightKind], b: addressOf(x) + i * c * h * w * elementBytes(x), bMode: patchMode(kind) },
      ...{ bBatch: (c / groups) * h * w * elementBytes(x), c: addressOf(out) + 4 * i * o * n, cBatch: 4 * rows * n, cStep: 4 * n },
      ...{ ...blocks, image: imageAt, ...finish, staged: staged ? 1 : 0 },
    });
    engine.run(arena, "gemm", words, groups * blocks.mTiles * blocks.nTiles, threaded);
  }
  return true;
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
