// jax-js in the protocol. Usage: node jax.mjs wasm|webgpu THREADS
import { readFileSync } from "node:fs";
import { swapped } from "./data.mjs";
import { installGpu } from "./dawn.mjs";
import { serve, Unsupported } from "./protocol.mjs";
import { installBrowser } from "./web-worker.mjs";

const [device, threadsText] = process.argv.slice(2);
const threads = Number(threadsText);

/** A jitted function and its arguments; jax-js consumes an argument unless it is passed as a new reference. */
function cases({ numpy: np, nn, lax }, { array }) {
  const rows = ({ rows, columns }, { x }) => array(x, [rows, columns]);
  const heads = (x, s) => array(swapped(x, [s.heads, s.tokens, s.width]), [1, s.tokens, s.heads, s.width]);
  const meanSquare = (x) => np.mean(np.square(x), -1, { keepdims: true });
  const normalised = (x) => {
    const centred = x.ref.sub(np.mean(x, -1, { keepdims: true }));
    return centred.ref.div(np.sqrt(meanSquare(centred).add(1e-6)));
  };
  /** jax-js's own needs the iterator helpers of Node 22; before, the same products, heads first. */
  const attend = globalThis.Iterator?.prototype?.map
    ? (q, k, v) => nn.dotProductAttention(q, k, v)
    : (q, k, v) => {
        const [width, first] = [q.shape[3], (x) => x.transpose([0, 2, 1, 3])];
        const scores = np.matmul(first(q), k.transpose([0, 2, 3, 1])).mul(1 / Math.sqrt(width));
        return first(np.matmul(nn.softmax(scores, -1), first(v)));
      };
  return {
    matmul: (s, { a, b }) => [(x, y) => np.matmul(x, y), array(a, [s.m, s.k]), array(b, [s.k, s.n])],
    linear: (s, { x, weight }) => {
      if (s.dtype !== "f32") throw new Unsupported(`no product with ${s.dtype} weights`);
      return [(y, w) => np.matmul(y, w.transpose()), array(x, [s.m, s.k]), array(weight, [s.n, s.k])];
    },
    conv: (s, { x, weight }) => [(y, w) => lax.conv(y, w, [1, 1], "SAME"), array(x, [1, s.c, s.h, s.w]), array(weight, [s.o, s.c, 3, 3])],
    attention: (s, { q, k, v }) => [attend, heads(q, s), heads(k, s), heads(v, s)],
    softmax: (s, i) => [(x) => nn.softmax(x, -1), rows(s, i)],
    gelu: (s, i) => [(x) => nn.gelu(x, { approximate: true }), rows(s, i)],
    add: (s, i) => [(x, y) => x.add(y), rows(s, i), array(i.y, [s.rows, s.columns])],
    rmsNorm: (s, i) => [(x, w) => x.ref.div(np.sqrt(meanSquare(x).add(1e-6))).mul(w), rows(s, i), array(i.weight, [s.columns])],
    layerNorm: (s, i) => [(x, w) => normalised(x).mul(w), rows(s, i), array(i.weight, [s.columns])],
    modulate: (s, i) => [
      (x, scale, shift) => normalised(x).mul(scale.add(1)).add(shift),
      rows(s, i),
      array(i.scale, [s.columns]),
      array(i.shift, [s.columns]),
    ],
    groupNormSilu: (s, { x, weight, bias }) => [
      (y, w, b) =>
        nn.silu(
          normalised(y)
            .reshape([s.c, s.h * s.w])
            .mul(w)
            .add(b),
        ),
      array(x, [32, (s.c * s.h * s.w) / 32]),
      array(weight, [s.c, 1]),
      array(bias, [s.c, 1]),
    ],
  };
}

async function prepare(jax, spec, inputs) {
  const array = (data, shape) => jax.numpy.array(data, { shape });
  const make = cases(jax, { array })[spec.op];
  if (!make) throw new Unsupported(`no ${spec.op}`);
  const [f, ...args] = make(spec, inputs);
  const jitted = jax.jit(f);
  let result;
  return {
    run: async () => {
      result?.dispose();
      result = jitted(...args.map((a) => a.ref));
      await result.blockUntilReady();
    },
    output: () => result.ref.data(),
  };
}

await serve(async () => {
  const detail = device === "webgpu" ? await installGpu() : `${threads} thread${threads > 1 ? "s" : ""}`;
  if (device === "wasm") installBrowser(threads);
  const jax = await import("@jax-js/jax");
  const found = await jax.init();
  if (!found.includes(device)) throw new Error(`no ${device} backend here, only ${found.join(", ")}`);
  jax.defaultDevice(device);
  const manifest = new URL("node_modules/@jax-js/jax/package.json", import.meta.url);
  return { version: JSON.parse(readFileSync(manifest, "utf8")).version, detail, prepare: (s, i) => prepare(jax, s, i) };
});
