// The self-test of attention: every query points at one key so strongly that the result is that key's value exactly. Values have 12 digits and more, one
// more than f16, so that subgroup matrices must split them.
import { contiguousLayout } from "../../layout.ts";
import type { View } from "../../view.ts";
import type { Backend } from "../backend.ts";

const [heads, queries, keys, width] = [2, 40, 48, 64];
const target = (head: number, i: number): number => (i * 7 + head * 11) % keys;
const value = (j: number, c: number): number => ((j * 5 + c * 3) % 11) - 5;

function upload(backend: Backend, count: number, at: (i: number) => number, made: View[]): View {
  const data = Float32Array.from({ length: count }, (_, i) => at(i));
  const view: View = { buffer: backend.allocate(data.byteLength, "self-test"), dtype: "f32", layout: contiguousLayout([count]) };
  made.push(view);
  backend.write(view.buffer, 0, new Uint8Array(data.buffer));
  return view;
}

/** What attention of this backend gets wrong, or undefined. */
export async function attentionFailure(backend: Backend, made: View[]): Promise<string | undefined> {
  const factor = backend.capabilities.float32MatmulPrecision === "high" ? 1 : 2049;
  const shaped = (view: View, shape: readonly number[]): View => ({ ...view, layout: contiguousLayout(shape) });
  const oneHot = (at: (row: number) => number) => (i: number) => (i % width === at(Math.floor(i / width)) ? 32 : 0);
  const q = upload(
    backend,
    heads * queries * width,
    oneHot((r) => target(Math.floor(r / queries), r % queries)),
    made,
  );
  const k = upload(
    backend,
    keys * width,
    oneHot((r) => r),
    made,
  );
  const v = upload(backend, keys * width, (i) => value(Math.floor(i / width), i % width) * factor, made);
  const bytes = heads * queries * width * 4;
  const out: View = { buffer: backend.allocate(bytes, "self-test"), dtype: "f32", layout: contiguousLayout([1, heads, queries, width]) };
  made.push(out);
  const inputs = { q: shaped(q, [1, heads, queries, width]), k: shaped(k, [1, 1, keys, width]), v: shaped(v, [1, 1, keys, width]) };
  backend.kernels.attention?.(out, inputs, { scale: 1, causal: false });
  const got = new Float32Array((await backend.read(out.buffer, 0, bytes)).buffer);
  const wrong = got.findIndex((x, i) => {
    const row = Math.floor(i / width);
    return x !== value(target(Math.floor(row / queries), row % queries), i % width) * factor;
  });
  return wrong < 0 ? undefined : `gave ${got[wrong]} at element ${wrong} instead of one key's value`;
}
