// Which dtype each weight gets on the device. A policy is a function, so that one line can except a layer.
import {
  checkDType,
  type DType,
  dtypeInfo,
  isFloat,
  isInt,
  isQuantized,
  type PlainDType,
  type QuantDType,
  type Shape,
  sizeOf,
} from "@wick/tensor";
import { Embedding } from "./embedding.ts";
import { Linear } from "./linear.ts";
import { type Module, namedModules, type ParameterSite } from "./module.ts";
import { anyGlob } from "./path-glob.ts";

/** A weight about to be loaded. */
export interface WeightSite extends ParameterSite {
  /** What the checkpoint holds. */
  readonly stored: DType;
}

/** Decides the dtype of one weight on the device. */
export type DTypePolicy = (site: WeightSite) => DType;

/** Smaller weights are not worth quantizing (city96/ComfyUI-GGUF tools/convert.py keeps up to 1024 values in f32). */
const SMALLEST_QUANTIZED = 1024;

/** Whether weights of `shape` can be stored in blocks of `dtype`, and are worth it: matrices of whole blocks, above 1,024 values. */
export const fitsBlocks = (shape: Shape, dtype: DType): boolean =>
  shape.length === 2 && sizeOf(shape) > SMALLEST_QUANTIZED && shape[1]! % dtypeInfo[dtype].blockSize === 0;

const isLinearWeight = ({ owner, parameter }: ParameterSite): boolean => owner instanceof Linear && owner.weight === parameter;
const isStorageOnly = (dtype: DType): boolean => isQuantized(dtype) || (isFloat(dtype) && dtype.startsWith("f8"));

/**
 * As the checkpoint has it. Only the products and look-ups of Linear and Embedding read block and f8 formats; anywhere else
 * (norms, biases, convolutions) such weights are expanded: vectors to f32, the rest to bf16 if it holds the values exactly.
 */
export const asStored: DTypePolicy = (site) => {
  if (!isStorageOnly(site.stored) || isLinearWeight(site) || site.owner instanceof Embedding) return site.stored;
  return isQuantized(site.stored) || site.parameter.rank < 2 ? "f32" : "bf16";
};

/** Every float weight in one format, as torch's `model.to(dtype)`; integers stay. */
export const castTo = (dtype: Exclude<PlainDType, "f8e4m3" | "f8e5m2">): DTypePolicy => {
  return (site) => (isInt(site.stored) ? site.stored : dtype);
};

/**
 * Weights of Linear layers in a block (or f8) format; norms, biases, embeddings, convolutions and what `keep` or the model's `highPrecision`
 * names stay as stored, and so do rows that are not whole blocks.
 */
export const quantizeTo = (dtype: QuantDType | "f8e4m3" | "f8e5m2", keep: (path: string) => boolean = () => false): DTypePolicy => {
  return (site) => {
    const fits = fitsBlocks(site.parameter.shape, dtype);
    return fits && isLinearWeight(site) && !isInt(site.stored) && !keep(site.path) ? dtype : asStored(site);
  };
};

/** The policy that a plain dtype stands for in `load`; undefined is `asStored`. */
export function policyFor(model: Module, dtype: DType | DTypePolicy | undefined): DTypePolicy {
  if (typeof dtype === "function") return dtype;
  if (dtype === undefined) return asStored;
  checkDType("load", dtype);
  if (isQuantized(dtype) || dtype === "f8e4m3" || dtype === "f8e5m2") return quantizeTo(dtype, anyGlob(highPrecisionPaths(model)));
  return castTo(dtype);
}

/** Globs of `highPrecision` of every module in the tree, from the root. */
export function highPrecisionPaths(model: Module): string[] {
  return [...namedModules(model)].flatMap(([path, m]) => m.highPrecision.map((glob) => (path ? `${path}.${glob}` : glob)));
}
