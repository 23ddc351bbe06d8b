// attention on generated code: operands, strides and masks in words.
import type { OpTable } from "../../../ops/table.ts";
import type { View } from "../../backend.ts";
import { attentionArgs, attentionBlocks, maxHeadWidth } from "./attention-kernel.ts";
import { operandModes, threadedProducts } from "./blocking.ts";
import type { WasmEngine } from "./engine.ts";
import { addressOf, commonArena, elementBytes, planFinish, wordsOf } from "./plan.ts";
import { floatKind } from "./row-function.ts";

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
  const threaded = b * heads * l * s * width >= threadedProducts;
  const sizes = attentionBlocks(l, Math.max(width, valueWidth), b * heads, threaded ? engine.threads : 1);
  const blocks = Math.ceil(l / sizes.queryBlock);
  const words = wordsOf(attentionArgs as readonly string[], {
    ...{
      slot: finish.slot,
      blocks,
      ...sizes,
      heads,
      group: heads / kvHeads,
      l,
      s,
      width,
      valueWidth,
      scale: bitsOf(scale),
      causal: causal ? 1 : 0,
    },
    ...{ ...strideWords("q", q), ...strideWords("k", k), ...strideWords("v", v), ...strideWords("o", out) },
    ...(mask
      ? { ...strideWords("mask", mask), maskStep: mask.layout.strides[3]! * elementBytes(mask), maskBytes: elementBytes(mask) }
      : {}),
    ...(lengths ? { lengths: addressOf(lengths), lengthStep: 4 * lengths.layout.strides[0]! } : {}),
  });
  engine.run(arena, "attention", words, b * heads * blocks, threaded);
  return true;
}

/** Whether all are float rows: a last stride of 1. */
const isRows = (views: readonly View[]): boolean =>
  views.every((v) => floatKind(v.dtype) && (v.layout.strides[3] === 1 || v.layout.shape[3] === 1));

function strideWords(name: string, view: View): Record<string, number> {
  const bytes = elementBytes(view);
  const [batch, head, row] = view.layout.strides as [number, number, number];
  const mode = floatKind(view.dtype) ? operandModes[floatKind(view.dtype)!] : 0;
  return {
    [name]: addressOf(view),
    [`${name}Batch`]: batch * bytes,
    [`${name}Head`]: head * bytes,
    [`${name}Row`]: row * bytes,
    [`${name}Mode`]: mode,
  };
}

const bitsOf = (x: number): number => new Int32Array(Float32Array.of(x).buffer)[0]!;
