// TensorFlow.js on WebAssembly in the protocol. It uses no threads in Node. Usage: node tfjs.mjs
import { createRequire } from "node:module";
import { transposed } from "./data.mjs";
import { serve, Unsupported } from "./protocol.mjs";

const require = createRequire(import.meta.url);
const tf = require("@tensorflow/tfjs-core");
const wasm = require("@tensorflow/tfjs-backend-wasm");

const rows = ({ rows, columns }, { x }) => tf.tensor2d(x, [rows, columns]);
const normalised = (x) => {
  const { mean, variance } = tf.moments(x, -1, true);
  return tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, 1e-6)));
};

/** Filters [o, c, 3, 3] as tfjs wants them, [3, 3, c, o]. */
function filters(weight, { c, o }) {
  const out = new Float32Array(weight.length);
  for (let i = 0; i < o; i++)
    for (let j = 0; j < c; j++) for (let t = 0; t < 9; t++) out[(t * c + j) * o + i] = weight[(i * c + j) * 9 + t];
  return tf.tensor4d(out, [3, 3, c, o]);
}

/** 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
const gelu = (x) => tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(tf.mul(0.7978845608028654, tf.add(x, tf.mul(0.044715, tf.pow(x, 3))))), 1));

const cases = {
  matmul: (s, { a, b }) => {
    const [x, y] = [tf.tensor2d(a, [s.m, s.k]), tf.tensor2d(b, [s.k, s.n])];
    return () => tf.matMul(x, y);
  },
  linear: (s, { x, weight }) => {
    if (s.dtype !== "f32") throw new Unsupported(`no product with ${s.dtype} weights`);
    const [y, w] = [tf.tensor2d(x, [s.m, s.k]), tf.tensor2d(weight, [s.n, s.k])];
    return () => tf.matMul(y, w, false, true);
  },
  conv: (s, { x, weight }) => {
    const y = tf.tensor4d(transposed(x, s.c, s.h * s.w), [1, s.h, s.w, s.c]);
    const w = filters(weight, s);
    return () => tf.conv2d(y, w, 1, "same");
  },
  attention: (s, inputs) => {
    const [q, k, v] = ["q", "k", "v"].map((name) => tf.tensor3d(inputs[name], [s.heads, s.tokens, s.width]));
    const scale = 1 / Math.sqrt(s.width);
    return () => tf.transpose(tf.matMul(tf.softmax(tf.mul(tf.matMul(q, k, false, true), scale)), v), [1, 0, 2]);
  },
  softmax: (s, i) => {
    const x = rows(s, i);
    return () => tf.softmax(x);
  },
  gelu: (s, i) => {
    const x = rows(s, i);
    return () => gelu(x);
  },
  add: (s, i) => {
    const [x, y] = [rows(s, i), tf.tensor2d(i.y, [s.rows, s.columns])];
    return () => tf.add(x, y);
  },
  rmsNorm: (s, i) => {
    const [x, w] = [rows(s, i), tf.tensor1d(i.weight)];
    return () => tf.mul(tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), 1e-6))), w);
  },
  layerNorm: (s, i) => {
    const [x, w] = [rows(s, i), tf.tensor1d(i.weight)];
    return () => tf.mul(normalised(x), w);
  },
  modulate: (s, i) => {
    const [x, scale, shift] = [rows(s, i), tf.tensor1d(i.scale), tf.tensor1d(i.shift)];
    return () => tf.add(tf.mul(normalised(x), tf.add(scale, 1)), shift);
  },
  groupNormSilu: (s, i) => {
    const [x, weight, bias] = [
      tf.tensor2d(i.x, [32, (s.c * s.h * s.w) / 32]),
      tf.tensor2d(i.weight, [s.c, 1]),
      tf.tensor2d(i.bias, [s.c, 1]),
    ];
    return () => {
      const y = tf.add(tf.mul(tf.reshape(normalised(x), [s.c, s.h * s.w]), weight), bias);
      return tf.mul(y, tf.sigmoid(y));
    };
  },
};

/** NHWC back to the channel order of the others. */
const canonical = (spec, out) => (spec.op === "conv" ? transposed(out, spec.h * spec.w, spec.o) : out);

async function prepare(spec, inputs) {
  const make = cases[spec.op];
  if (!make) throw new Unsupported(`no ${spec.op}`);
  const compute = make(spec, inputs);
  let result;
  return {
    run: async () => {
      result?.dispose();
      result = tf.tidy(compute);
    },
    output: async () => canonical(spec, await result.data()),
  };
}

await serve(async () => {
  wasm.setWasmPaths(`${require.resolve("@tensorflow/tfjs-backend-wasm").replace(/[^/]*$/, "")}`);
  await tf.setBackend("wasm");
  return { version: tf.version_core, detail: "1 thread", prepare };
});
