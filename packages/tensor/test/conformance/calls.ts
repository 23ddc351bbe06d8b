// How a golden row's op, operands and arguments become a call of the public API.
import {
  cat,
  type Device,
  type DType,
  einsum,
  type IndexSpec,
  meshgrid,
  type PlainDType,
  qkNormRope,
  scaledDotProductAttention,
  stack,
  type Tensor,
} from "@wick/tensor";

export type Args = Readonly<Record<string, unknown>>;
type Operands = Readonly<Record<string, Tensor>>;
type Call = (x: Tensor, t: Operands, a: Args) => Tensor | readonly Tensor[];

const num = (v: unknown): number =>
  v === "Infinity" || v === "inf" ? Number.POSITIVE_INFINITY : v === "-Infinity" || v === "-inf" ? Number.NEGATIVE_INFINITY : (v as number);
const nums = (v: unknown): number[] => v as number[];

/** Methods that take nothing. */
const plain = [
  "neg abs sign exp expm1 log log1p log2 sqrt rsqrt square reciprocal sin cos tan asin acos atan sinh cosh tanh sigmoid silu relu",
  "gelu geluErf geluQuick softplus erf floor ceil trunc isNan isInf isFinite not contiguous",
]
  .join(" ")
  .split(" ");
/** Methods of another tensor or a number. */
const pairs = "add sub rsub mul div rdiv floorDiv remainder pow minimum maximum eq ne lt le gt ge and or xor atan2".split(" ");
const reductions = "sum mean prod max min var std logSumExp norm any all".split(" ");

type Method = (...args: unknown[]) => Tensor;
const method = (x: Tensor, name: string): Method => (x as unknown as Record<string, Method>)[name]!.bind(x);

function reduceOptions(a: Args): object {
  const { keepdim, correction } = a;
  return {
    ...(keepdim === undefined ? {} : { keepdim }),
    ...(correction === undefined ? {} : { correction }),
    ...(a["p"] === undefined ? {} : { p: num(a["p"]) }),
  };
}

/** Index specs as JSON writes them: null inside a slice is an open end. */
const indexSpec = (s: unknown): IndexSpec =>
  Array.isArray(s) ? (s.map((v: unknown) => (v === null ? undefined : v)) as unknown as IndexSpec) : (s as IndexSpec);

export const calls: Readonly<Record<string, Call>> = {
  ...Object.fromEntries(plain.map((n): [string, Call] => [n, (x) => method(x, n)()])),
  ...Object.fromEntries(pairs.map((n): [string, Call] => [n, (x, t, a) => method(x, n)(t["y"] ?? num(a["other"]))])),
  ...Object.fromEntries(reductions.map((n): [string, Call] => [n, (x, _, a) => method(x, n)(a["dims"], reduceOptions(a))])),
  argmax: (x, _, a) => x.argmax(a["dim"] as number | undefined, reduceOptions(a)),
  argmin: (x, _, a) => x.argmin(a["dim"] as number | undefined, reduceOptions(a)),
  cumsum: (x, _, a) => x.cumsum(num(a["dim"])),
  cumprod: (x, _, a) => x.cumprod(num(a["dim"])),
  where: (x, t, a) => x.where(t["x"] ?? num(a["x"]), t["y"] ?? num(a["y"])),
  clamp: (x, _, a) => x.clamp(a["min"] as number | undefined, a["max"] as number | undefined),
  round: (x, _, a) => x.round(a["decimals"] as number | undefined),
  elu: (x, _, a) => x.elu(num(a["alpha"])),
  swiglu: (x, t) => x.swiglu(t["up"]!),
  affine: (x, _, a) => x.affine(num(a["mul"]), num(a["add"])),
  lerp: (x, t, a) => x.lerp(t["end"]!, num(a["weight"])),
  gatedAdd: (x, t) => x.gatedAdd(t["gate"]!, t["branch"]!),
  modulate: (x, t) => x.modulate(t["shift"], t["scale"]!),
  to: (x, _, a) => x.to(a["dtype"] as DType),
  conv2d: (x, t, a) => x.conv2d(t["weight"]!, { ...a, bias: t["bias"] }),
  convTranspose2d: (x, t, a) => x.convTranspose2d(t["weight"]!, { ...a, bias: t["bias"] }),
  conv1d: (x, t, a) => x.conv1d(t["weight"]!, { ...a, bias: t["bias"] }),
  convTranspose1d: (x, t, a) => x.convTranspose1d(t["weight"]!, { ...a, bias: t["bias"] }),
  maxPool2d: (x, _, { kernel, ...a }) => x.maxPool2d(kernel as number, a),
  avgPool2d: (x, _, { kernel, ...a }) => x.avgPool2d(kernel as number, a),
  interpolate: (x, _, { size, ...a }) => x.interpolate(size as number[], a),
  gridSample: (x, t, a) => x.gridSample(t["grid"]!, a),
  gather: (x, t, a) => x.gather(num(a["dim"]), t["index"]!),
  scatter: (x, t, a) => x.scatter(num(a["dim"]), t["index"]!, t["src"]!),
  scatterAdd: (x, t, a) => x.scatterAdd(num(a["dim"]), t["index"]!, t["src"]!),
  indexSelect: (x, t, a) => x.indexSelect(num(a["dim"]), t["index"]!),
  indexAdd: (x, t, a) => x.indexAdd(num(a["dim"]), t["index"]!, t["src"]!),
  embedding: (x, t) => x.embedding(t["ids"]!),
  argsort: (x, _, a) => x.argsort(num(a["dim"]), { descending: a["descending"] === true }),
  sort: (x, _, a) => Object.values(x.sort(num(a["dim"]), { descending: a["descending"] === true })),
  topk: (x, _, a) => Object.values(x.topk(num(a["k"]), num(a["dim"]))),
  pad: (x, _, { amounts, ...a }) => x.pad(nums(amounts), a),
  cat: (_, t, a) => cat(Object.values(t), num(a["dim"])),
  meshgrid: (_, t, a) => meshgrid(Object.values(t), a["indexing"] as "ij" | "xy"),
  einsum: (_, t, a) => einsum(a["equation"] as string, ...Object.values(t)),
  maskedFill: (x, t, a) => x.maskedFill(t["mask"]!, num(a["value"])),
  normalize: (x, _, a) => x.normalize(num(a["dim"]), { p: num(a["p"]), eps: num(a["eps"]) }),
  nanToNum: (x, _, a) => x.nanToNum(a),
  isClose: (x, t, a) => x.isClose(t["y"]!, a),
  oneHot: (x, _, a) => x.oneHot(num(a["classes"])),
  stack: (_, t, a) => stack(Object.values(t), num(a["dim"])),
  sliceAssign: (x, t, a) => x.sliceAssign(nums(a["starts"]), t["src"]!),
  matmul: (x, t) => x.matmul(t["b"]!),
  linear: (x, t) => x.linear(t["weight"]!, t["bias"]),
  reshape: (x, _, a) => x.reshape(nums(a["shape"])),
  flatten: (x, _, a) => x.flatten(a["start"] as number | undefined, a["end"] as number | undefined),
  unflatten: (x, _, a) => x.unflatten(num(a["dim"]), nums(a["sizes"])),
  unsqueeze: (x, _, a) => x.unsqueeze(num(a["dim"])),
  squeeze: (x, _, a) => x.squeeze(a["dim"] as number | undefined),
  permute: (x, _, a) => x.permute(...nums(a["order"])),
  transpose: (x, _, a) => x.transpose(num(a["a"]), num(a["b"])),
  movedim: (x, _, a) => x.movedim(num(a["from"]), num(a["to"])),
  narrow: (x, _, a) => x.narrow(num(a["dim"]), num(a["start"]), num(a["length"])),
  index: (x, _, a) => x.index(...(a["specs"] as unknown[]).map(indexSpec)),
  split: (x, _, a) => x.split(nums(a["sizes"]), num(a["dim"])),
  chunk: (x, _, a) => x.chunk(num(a["n"]), num(a["dim"])),
  unbind: (x, _, a) => x.unbind(num(a["n"]), num(a["dim"])),
  rearrange: (x, _, a) => x.rearrange(a["pattern"] as string, a["sizes"] as Record<string, number> | undefined),
  unfold: (x, _, a) => x.unfold(num(a["dim"]), num(a["size"]), num(a["step"])),
  flip: (x, _, a) => x.flip(...nums(a["dims"])),
  repeat: (x, _, a) => x.repeat(...nums(a["counts"])),
  repeatInterleave: (x, _, a) => x.repeatInterleave(num(a["n"]), num(a["dim"])),
  roll: (x, _, a) => x.roll(num(a["shift"]), num(a["dim"])),
  tril: (x, _, a) => x.tril(num(a["diagonal"])),
  triu: (x, _, a) => x.triu(num(a["diagonal"])),
  expand: (x, _, a) => x.expand(nums(a["shape"])),
  softmax: (x, _, a) => x.softmax(num(a["dim"])),
  logSoftmax: (x, _, a) => x.logSoftmax(num(a["dim"])),
  layerNorm: (x, t, a) => x.layerNorm({ weight: t["weight"], bias: t["bias"], eps: num(a["eps"]) }),
  rmsNorm: (x, t, a) => x.rmsNorm({ weight: t["weight"], eps: num(a["eps"]) }),
  groupNorm: (x, t, a) => x.groupNorm(num(a["groups"]), { weight: t["weight"], bias: t["bias"], eps: num(a["eps"]) }),
  scaledDotProductAttention: (x, t, a) => scaledDotProductAttention(x, t["k"]!, t["v"]!, { ...a, mask: t["mask"], lengths: t["lengths"] }),
  qkNormRope: (x, t, a) => {
    const [eps, heads, options] = [
      num(a["eps"]),
      num(a["heads"]),
      { cos: t["cos"]!, sin: t["sin"]!, interleaved: a["interleaved"] === true },
    ];
    const second = t["second"] ? [{ x: t["second"], weight: t["secondWeight"], eps }] : [];
    return qkNormRope([{ x, weight: t["weight"], eps }, ...second], { heads, ...options });
  },
  rope: (x, t, a) => x.rope(t["cos"]!, t["sin"]!, { interleaved: a["interleaved"] === true }),
};

const dtypeOf = (a: Args): PlainDType => (a["dtype"] as PlainDType | undefined) ?? "f32";

/** Ops that start from a device instead of a tensor. */
export const creations: Readonly<Record<string, (d: Device, a: Args) => Tensor>> = {
  zeros: (d, a) => d.zeros(nums(a["shape"]), dtypeOf(a)),
  ones: (d, a) => d.ones(nums(a["shape"]), dtypeOf(a)),
  full: (d, a) => d.full(nums(a["shape"]), num(a["value"]), dtypeOf(a)),
  arange: (d, a) => d.arange(num(a["start"] ?? 0), num(a["end"]), num(a["step"] ?? 1), dtypeOf(a)),
  eye: (d, a) => d.eye(num(a["n"]), dtypeOf(a)),
  linspace: (d, a) => d.linspace(num(a["start"]), num(a["end"]), num(a["count"]), dtypeOf(a)),
};
