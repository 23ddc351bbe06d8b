// Products with parts of a Linear layer whose input or output is several things side by side (FLUX's single blocks), so that the wide tensor
// never exists. Adapters take part as in Linear itself.
import { cat, chainEpilogues, type Epilogue, epilogue, isQuantized, ShapeError, scope, type Tensor } from "@wick/tensor";
import { adapterChange, type Linear } from "./linear.ts";

/** Tokens that are joined at a time when a packed weight cannot be cut by columns. */
const joinedTokens = 512;

/** Outputs start…start+count of `layer`: x [..., in] → [..., count]; `then` sees the biased result. */
export function linearRows(layer: Linear, x: Tensor, start: number, count: number, then?: Epilogue): Tensor {
  return scope(() => {
    const rows = (t: Tensor) => t.narrow(0, start, count);
    const change = adapterChange(layer.adapters, ({ down, up, bias }) => ({
      low: x.matmul(down.t()),
      up: rows(up),
      bias: bias && rows(bias),
    }));
    const adapted = change && epilogue((y, c) => y.add(c), change);
    return x.linear(rows(layer.weight), layer.bias && rows(layer.bias), chainEpilogues(adapted, then));
  });
}

/**
 * `layer` applied to `parts` joined along the last dimension, without joining them: parts [b, l, in_i] with widths adding up to in → [b, l, out].
 * One accumulating product per part, over its columns of the weight. Packed weights (quantized, f8) are whole rows of blocks that
 * a product cannot cut, so their parts are joined for 512 tokens at a time. Operands of `then` are [b or 1, l or 1, out].
 * Throws ShapeError for parts that do not fit the layer.
 */
export function linearJoined(layer: Linear, parts: readonly Tensor[], then?: Epilogue): Tensor {
  const widths = parts.map((p) => p.dim(-1));
  if (widths.reduce((a, b) => a + b, 0) !== layer.weight.dim(1))
    throw new ShapeError("linearJoined", `widths do not add up to ${layer.weight.dim(1)}: ${parts.join(", ")}, weight ${layer.weight}`);
  const packed = isQuantized(layer.weight.dtype) || layer.weight.dtype.startsWith("f8");
  return scope(() => (packed ? byTokens(layer, parts, then) : byColumns(layer, parts, then)));
}

function byColumns(layer: Linear, parts: readonly Tensor[], then: Epilogue | undefined): Tensor {
  const columns = partColumns(parts);
  const change = adapterChange(layer.adapters, ({ down, up, bias }) => {
    const lows = parts.map((p, i) => p.matmul(columns(down, i).t()));
    return { low: lows.reduce((a, b) => a.add(b)), up, bias };
  });
  return parts.reduce<Tensor | undefined>((sum, part, i) => {
    const last = i === parts.length - 1;
    const summed = sum && epilogue((y, s) => y.add(s), sum);
    const adapted = last && change ? epilogue((y, c) => y.add(c), change) : undefined;
    const after = chainEpilogues(chainEpilogues(summed, adapted), last ? then : undefined);
    return part.linear(columns(layer.weight, i), last ? layer.bias : undefined, after);
  }, undefined)!;
}

/** The columns of a matrix that belong to part i; a view. */
function partColumns(parts: readonly Tensor[]): (matrix: Tensor, i: number) => Tensor {
  const widths = parts.map((p) => p.dim(-1));
  const starts = widths.map((_, i) => widths.slice(0, i).reduce((a, b) => a + b, 0));
  return (matrix, i) => matrix.narrow(1, starts[i]!, widths[i]!);
}

function byTokens(layer: Linear, parts: readonly Tensor[], then: Epilogue | undefined): Tensor {
  const tokens = parts[0]!.dim(-2);
  const done: Tensor[] = [];
  for (let start = 0; start < tokens; start += joinedTokens) {
    const count = Math.min(joinedTokens, tokens - start);
    const rows = (t: Tensor) => (t.rank > 1 && t.dim(-2) === tokens && tokens > 1 ? t.narrow(-2, start, count) : t);
    const after = then && { expr: then.expr, operands: then.operands.map(rows) };
    done.push(scope(() => layer.forward(cat(parts.map(rows), -1), after)));
  }
  return done.length === 1 ? done[0]! : cat(done, -2);
}
