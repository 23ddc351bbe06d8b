// The graph of each case for onnxruntime, and weights in its block format (MatMulNBits).
import { swapped, transposed } from "./data.mjs";
import { Unsupported } from "./protocol.mjs";

const f32 = (name, shape, data) => ({ name, shape, data });
const one = (op, inputs, attributes, domain) => [{ op, inputs, outputs: ["out"], attributes, domain }];

/** Weights [n, k] as blocks of 32 along k, symmetric, one f32 scale a block. */
function nBits(weight, { n, k }, bits) {
  const size = 32;
  const [blocks, half] = [k / size, 2 ** (bits - 1)];
  const data = new Uint8Array((n * k * bits) / 8);
  const scales = new Float32Array(n * blocks);
  for (let b = 0; b < n * blocks; b++) {
    let top = 0;
    for (let i = 0; i < size; i++) top = Math.max(top, Math.abs(weight[b * size + i]));
    const scale = top / (half - 1);
    scales[b] = scale;
    const code = (i) => Math.max(0, Math.min(2 * half - 1, Math.round(weight[b * size + i] / scale) + half));
    if (bits === 8) for (let i = 0; i < size; i++) data[b * size + i] = code(i);
    else for (let i = 0; i < size; i += 2) data[(b * size + i) / 2] = code(i) | (code(i + 1) << 4);
  }
  const constants = [
    { name: "w", type: "u8", shape: [n, blocks, (size * bits) / 8], data },
    { name: "scales", shape: [n * blocks], data: scales },
  ];
  const nodes = one("MatMulNBits", ["x", "w", "scales"], { K: k, N: n, bits, block_size: size }, "com.microsoft");
  return { nodes, constants, note: `MatMulNBits, ${bits} bits in blocks of 32` };
}

function linear(spec, { x, weight }) {
  const { m, k, n, dtype } = spec;
  const shared = { data: [f32("x", [m, k], x)], output: [m, n] };
  if (dtype === "f32") return { ...shared, nodes: one("MatMul", ["x", "w"]), constants: [f32("w", [k, n], transposed(weight, n, k))] };
  if (dtype === "q8_0") return { ...shared, ...nBits(weight, spec, 8) };
  if (dtype === "q4_0" || dtype === "q4_K") return { ...shared, ...nBits(weight, spec, 4) };
  throw new Unsupported(`no product with ${dtype} weights`);
}

function attention({ heads, tokens, width }, inputs) {
  const shape = [1, tokens, heads * width];
  const data = ["q", "k", "v"].map((name) => f32(name, shape, swapped(inputs[name], [heads, tokens, width])));
  const nodes = one("MultiHeadAttention", ["q", "k", "v"], { num_heads: heads }, "com.microsoft");
  return { nodes, data, output: shape, note: "com.microsoft MultiHeadAttention" };
}

function modulate({ rows, columns }, { x, scale, shift }) {
  const constants = [
    f32("ones", [columns], new Float32Array(columns).fill(1)),
    f32(
      "scale",
      [columns],
      scale.map((s) => s + 1),
    ),
    f32("shift", [columns], shift),
  ];
  const nodes = [
    { op: "LayerNormalization", inputs: ["x", "ones"], outputs: ["normed"], attributes: { axis: -1, epsilon: Float32Array.of(1e-6) } },
    { op: "Mul", inputs: ["normed", "scale"], outputs: ["scaled"] },
    { op: "Add", inputs: ["scaled", "shift"], outputs: ["out"] },
  ];
  return { nodes, data: [f32("x", [rows, columns], x)], constants, output: [rows, columns] };
}

function groupNormSilu({ c, h, w }, { x, weight, bias }) {
  const nodes = [
    {
      op: "GroupNormalization",
      inputs: ["x", "weight", "bias"],
      outputs: ["normed"],
      attributes: { num_groups: 32, epsilon: Float32Array.of(1e-6) },
    },
    { op: "Sigmoid", inputs: ["normed"], outputs: ["gate"] },
    { op: "Mul", inputs: ["normed", "gate"], outputs: ["out"] },
  ];
  const shape = [1, c, h, w];
  return { nodes, data: [f32("x", shape, x)], constants: [f32("weight", [c], weight), f32("bias", [c], bias)], output: shape };
}

const onRows =
  (op, attributes) =>
  ({ rows, columns }, { x }) => ({
    nodes: one(op, ["x"], attributes),
    data: [f32("x", [rows, columns], x)],
    output: [rows, columns],
  });

const normOfRows =
  (op, eps) =>
  ({ rows, columns }, { x, weight }) => ({
    nodes: one(op, ["x", "weight"], { axis: -1, epsilon: Float32Array.of(eps) }),
    data: [f32("x", [rows, columns], x)],
    constants: [f32("weight", [columns], weight)],
    output: [rows, columns],
  });

const graphs = {
  matmul: ({ m, k, n }, { a, b }) => ({
    nodes: one("MatMul", ["a", "b"]),
    data: [f32("a", [m, k], a), f32("b", [k, n], b)],
    output: [m, n],
  }),
  linear,
  conv: ({ c, o, h, w }, { x, weight }) => ({
    nodes: one("Conv", ["x", "w"], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }),
    data: [f32("x", [1, c, h, w], x)],
    constants: [f32("w", [o, c, 3, 3], weight)],
    output: [1, o, h, w],
  }),
  attention,
  softmax: onRows("Softmax", { axis: -1 }),
  gelu: onRows("Gelu", { approximate: "tanh" }),
  add: ({ rows, columns }, { x, y }) => ({
    nodes: one("Add", ["x", "y"]),
    data: [f32("x", [rows, columns], x), f32("y", [rows, columns], y)],
    output: [rows, columns],
  }),
  rmsNorm: normOfRows("SimplifiedLayerNormalization", 1e-6),
  layerNorm: normOfRows("LayerNormalization", 1e-6),
  modulate,
  groupNormSilu,
};

/** { nodes, data: graph inputs with their values, constants, output: shape, note? } of a case; throws Unsupported. */
export function graphOf(spec, inputs) {
  const make = graphs[spec.op];
  if (!make) throw new Unsupported(`no graph for ${spec.op}`);
  return { constants: [], ...make(spec, inputs) };
}
