// Writes the few parts of an ONNX model (onnx/onnx: onnx/onnx.proto) that one-operator graphs need.

const utf8 = new TextEncoder();

function varint(value) {
  const out = [];
  let v = BigInt.asUintN(64, BigInt(value));
  while (v > 127n) {
    out.push(Number(v & 127n) | 128);
    v >>= 7n;
  }
  return Uint8Array.from([...out, Number(v)]);
}

const integer = (field, value) => [varint(field * 8), varint(value)];
const bytes = (field, content) => [varint(field * 8 + 2), varint(content.byteLength), content];
const text = (field, value) => bytes(field, utf8.encode(value));
const float = (field, value) => [varint(field * 8 + 5), new Uint8Array(Float32Array.of(value).buffer)];

function joined(parts) {
  const flat = parts.flat(Number.POSITIVE_INFINITY);
  const out = new Uint8Array(flat.reduce((sum, p) => sum + p.byteLength, 0));
  let at = 0;
  for (const part of flat) {
    out.set(part, at);
    at += part.byteLength;
  }
  return out;
}
const message = (field, ...parts) => bytes(field, joined(parts));

const elementTypes = { f32: 1, u8: 2, i32: 6, i64: 7 };

function attribute([name, value]) {
  if (typeof value === "string") return message(5, text(1, name), text(4, value), integer(20, 3));
  if (Array.isArray(value)) return message(5, text(1, name), ...value.map((v) => integer(8, v)), integer(20, 7));
  if (value instanceof Float32Array) return message(5, text(1, name), float(2, value[0]), integer(20, 1));
  return message(5, text(1, name), integer(3, value), integer(20, 2));
}

const node = ({ op, inputs, outputs, domain = "", attributes = {} }) =>
  message(
    1,
    ...inputs.map((name) => text(1, name)),
    ...outputs.map((name) => text(2, name)),
    text(4, op),
    ...Object.entries(attributes).map(attribute),
    text(7, domain),
  );

function initializer({ name, type = "f32", shape, data }) {
  const raw = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return message(5, ...shape.map((d) => integer(1, d)), integer(2, elementTypes[type]), text(8, name), bytes(9, raw));
}

function value(field, { name, type = "f32", shape }) {
  const dims = shape.map((d) => message(1, integer(1, d)));
  return message(field, text(1, name), message(2, message(1, integer(1, elementTypes[type]), message(2, ...dims))));
}

/**
 * An ONNX file. nodes: { op, inputs, outputs, domain?, attributes? }; constants: { name, type?, shape, data }; inputs, outputs:
 * { name, type?, shape }. Attributes are integers, lists of integers, strings, or a Float32Array of one value.
 */
export function onnxModel({ nodes, constants = [], inputs, outputs }) {
  const graph = [
    ...nodes.map(node),
    text(2, "bench"),
    ...constants.map(initializer),
    ...inputs.map((one) => value(11, one)),
    ...outputs.map((one) => value(12, one)),
  ];
  const opsets = [message(8, text(1, ""), integer(2, 21)), message(8, text(1, "com.microsoft"), integer(2, 1))];
  return joined([integer(1, 10), ...opsets, message(7, ...graph)]);
}
