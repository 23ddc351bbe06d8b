// Scaled dot-product attention without a score matrix: splitting, padding and choice of kernel. Kernels keep a running maximum and sum
// per query (Milakov and Gimelshein's online softmax) and rescale their partial output when the maximum grows.
import { isContiguous, narrowLayout } from "../../../layout.ts";
import { inputNode } from "../../../ops/expr.ts";
import type { Kernel } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import { elementBytes, type StoredDType } from "../wgsl/formats.ts";
import { alignedRows } from "../wgsl/offsets.ts";
import { recordAttention } from "./attention-kernels.ts";
import type { AttentionPiece } from "./attention-parts.ts";
import { fits, type KernelContext, scratchView, withContiguous } from "./context.ts";
import { runMap } from "./elementwise.ts";
import { isEmpty } from "./finish.ts";

/** softmax(q kᵀ · scale + mask) v: plans per tier and variant, in pieces that fit a binding. */
export function attentionKernel(ctx: KernelContext): Kernel<"attention"> {
  return (out, { q, k, v, mask, lengths }, { scale, causal }) => {
    if (isEmpty(out)) return;
    if (k.layout.shape[2] === 0) {
      ctx.kernels.fill(out, {}, { value: 0 });
      return;
    }
    padded(ctx, { out, q, k, v, mask, lengths, firstQuery: 0, scale, causal }, (piece) => split(ctx, piece));
  };
}

/** Pads head widths to multiples of 4 with zeros, and routes outputs whose words are shared between rows through f32 memory. */
function padded(ctx: KernelContext, piece: AttentionPiece, run: (piece: AttentionPiece) => void): void {
  const width = piece.q.layout.shape[3]!;
  const valueWidth = piece.v.layout.shape[3]!;
  const direct =
    valueWidth % 4 === 0 && (elementBytes[piece.out.dtype as StoredDType] === 4 || alignedRows(piece.out.layout, piece.out.layout.offset));
  const made: View[] = [];
  const pad = (view: View): View => {
    if (view.layout.shape[3]! % 4 === 0) return view;
    const copy = padCopy(ctx, view);
    made.push(copy);
    return copy;
  };
  let target = piece.out;
  if (!direct) {
    target = scratchView(ctx, "f32", [...piece.out.layout.shape.slice(0, 3), Math.ceil(valueWidth / 4) * 4], "attention result");
    made.push(target);
  }
  run({ ...piece, out: target, q: width % 4 ? pad(piece.q) : piece.q, k: pad(piece.k), v: pad(piece.v) });
  if (!direct)
    runMap(ctx, "attention", piece.out, [{ ...target, layout: narrowLayout(target.layout, 3, 0, valueWidth) }], inputNode(0, "f32"));
  for (const view of made) ctx.drop(view.buffer as never);
}

function padCopy(ctx: KernelContext, view: View): View {
  const { shape } = view.layout;
  const width = shape[3]!;
  const copy = scratchView(ctx, view.dtype, [...shape.slice(0, 3), Math.ceil(width / 4) * 4], "padded heads");
  ctx.kernels.fill(copy, {}, { value: 0 });
  ctx.kernels.copy({ ...copy, layout: narrowLayout(copy.layout, 3, 0, width) }, { x: view }, {});
  return copy;
}

/** Halves batches, then groups of heads, then queries, until bindings and the work of one dispatch allow a piece. */
function split(ctx: KernelContext, piece: AttentionPiece): void {
  const { out, q, k, v, mask } = piece;
  const [batch, , queries] = q.layout.shape as [number, number, number, number];
  const groups = k.layout.shape[1]!;
  const ok = [out, q, k, v, ...(mask ? [mask] : [])].every((x) => fits(ctx.traits, x));
  const keys = k.layout.shape[2]!;
  const work = 2 * batch * q.layout.shape[1]! * queries * keys * (q.layout.shape[3]! + v.layout.shape[3]!);
  if (ok && work <= ctx.traits.dispatchFlops) recordAttention(ctx, piece);
  else if (batch > 1) halve(batch, (start, n) => split(ctx, narrowPiece(piece, 0, start, n)));
  else if (groups > 1) halve(groups, (start, n) => split(ctx, narrowPiece(piece, 1, start, n)));
  else if (queries > 64 && (work > ctx.traits.dispatchFlops || ![out, q, ...(mask ? [mask] : [])].every((x) => fits(ctx.traits, x)))) {
    halve(queries, (start, n) => split(ctx, narrowPiece(piece, 2, start, n)));
  } else if (!isContiguous(k.layout)) withContiguous(ctx, k, (copy) => split(ctx, { ...piece, k: copy }));
  else if (!isContiguous(v.layout)) withContiguous(ctx, v, (copy) => split(ctx, { ...piece, v: copy }));
  else recordAttention(ctx, piece);
}

function halve(n: number, run: (start: number, length: number) => void): void {
  const half = n > 128 ? Math.ceil(n / 128) * 64 : Math.ceil(n / 2);
  run(0, half);
  run(half, n - half);
}

/** The piece's range along batch (0), key heads (1) or queries (2). */
function narrowPiece(piece: AttentionPiece, dim: 0 | 1 | 2, start: number, length: number): AttentionPiece {
  const { out, q, k, v, mask, lengths } = piece;
  const perGroup = dim === 1 ? q.layout.shape[1]! / k.layout.shape[1]! : 1;
  const cut = (view: View, d: number, s: number, n: number): View => ({ ...view, layout: narrowLayout(view.layout, d, s, n) });
  const queries = (view: View): View => cut(view, dim, start * perGroup, length * perGroup);
  const keys = (view: View): View => (dim === 2 ? view : cut(view, dim, start, length));
  return {
    ...piece,
    out: queries(out),
    q: queries(q),
    k: keys(k),
    v: keys(v),
    mask: mask && queries(mask),
    lengths: lengths && dim === 0 ? cut(lengths, 0, start, length) : lengths,
    firstQuery: piece.firstQuery + (dim === 2 ? start : 0),
  };
}
