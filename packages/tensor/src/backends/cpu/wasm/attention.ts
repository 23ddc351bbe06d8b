// attention on generated code: operands, strides and masks in words.
import type { OpTable } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import { attentionArgs, attentionBlocks, maxHeadWidth } from "./attention-kernel.ts";
import { operandModes, threadedProducts } from "./blocking.ts";
import type { WasmEngine } from "./engine.ts";
import { addressOf, commonArena, elementBytes, floatBits, placesOf, planFinish } from "./plan.ts";
import { floatKind } from "./row-function.ts";

const place = placesOf(attentionArgs);
type Inputs = OpTable["attention"]["in"];

/** Computes attention; false when the operands are not covered. */
export function fastAttention(engine: WasmEngine, out: View, inputs: Inputs, { scale, causal }: OpTable["attention"]["attrs"]): boolean {
  const { q, k, v, mask, lengths } = inputs;
  const [b, heads, l, width] = q.layout.shape as [number, number, number, number];
  const [, kvHeads, s] = k.layout.shape as [number, number, number];
  const valueWidth = v.layout.shape[3]!;
  const arena = commonArena([out, q, k, v, mask, lengths]);
  if (!arena || Math.max(width, valueWidth) > maxHeadWidth || width * valueWidth * s === 0 || !isRows([out, q, k, v])) return false;
  // Scores hidden as -inf are scaled later, which only a positive scale survives.
  if (!(scale > 0)) return false;
  if (mask && mask.dtype !== "u8" && mask.dtype !== "f32") return false;
  const finish = planFinish(engine, arena, undefined, [out], [[0, 0, 1]], true);
  if (!finish) return false;
  const products = b * heads * l * s * width;
  const threaded = products >= threadedProducts;
  const sizes = attentionBlocks(l, Math.max(width, valueWidth), b * heads, threaded ? engine.threads : 1);
  const blocks = Math.ceil(l / sizes.queryBlock);
  const w = engine.blankArgs();
  w[place.slot] = finish.slot;
  w[place.blocks] = blocks;
  w[place.queryBlock] = sizes.queryBlock;
  w[place.keyBlock] = sizes.keyBlock;
  w[place.heads] = heads;
  w[place.group] = heads / kvHeads;
  w[place.l] = l;
  w[place.s] = s;
  w[place.width] = width;
  w[place.valueWidth] = valueWidth;
  w[place.scale] = floatBits(scale);
  w[place.causal] = causal ? 1 : 0;
  placeRows(w, place.q, q);
  placeRows(w, place.k, k);
  placeRows(w, place.v, v);
  placeRows(w, place.o, out);
  if (mask) placeMask(w, mask);
  if (lengths) {
    w[place.lengths] = addressOf(lengths);
    w[place.lengthStep] = 4 * lengths.layout.strides[0]!;
  }
  engine.run(arena, "attention", w, b * heads * blocks, engine.shares(products, threadedProducts));
  return true;
}

/** Whether all are float rows: a last stride of 1. */
const isRows = (views: readonly View[]): boolean =>
  views.every((v) => floatKind(v.dtype) && (v.layout.strides[3] === 1 || v.layout.shape[3] === 1));

/** Writes address, strides in bytes and mode of a [b, n, l, k] operand, in the order of the words; the output has no mode word. */
function placeRows(w: Int32Array, at: number, view: View): void {
  const bytes = elementBytes(view);
  const { strides } = view.layout;
  w[at] = addressOf(view);
  for (let i = 0; i < 3; i++) w[at + 1 + i] = strides[i]! * bytes;
  if (at !== place.o) w[at + 4] = operandModes[floatKind(view.dtype)!];
}

function placeMask(w: Int32Array, mask: View): void {
  const bytes = elementBytes(mask);
  w[place.mask] = addressOf(mask);
  for (let i = 0; i < 4; i++) w[place.maskBatch + i] = mask.layout.strides[i]! * bytes;
  w[place.maskBytes] = bytes;
}
