// The tensor: shape, dtype, device and a view of storage. One line per op; the rules are in ops/, the kernels in backends/.
// Ops are synchronous and recorded; you wait in `toArray()` and its kin only. Tensors are immutable.
// Longer than other files on purpose: it is the list of methods, each one line of code under its documentation; nothing is decided here.

import type { Device } from "./device.ts";
import { bytesOf, type DType } from "./dtype.ts";
import { decodeBytes, type HostArray, type NumberList, nestedList } from "./encode.ts";
import { DisposedError, ShapeError } from "./errors.ts";
import { contiguousLayout, isContiguous, type Layout } from "./layout.ts";
import { rope, scaledDotProductAttention } from "./ops/attention.ts";
import {
  asOneRow,
  type ConvOptions,
  type ConvTransposeOptions,
  conv2d,
  convTranspose2d,
  type Pair,
  type PoolOptions,
  pool2d,
} from "./ops/conv.ts";
import { type CloseOptions, isClose, maskedFill, nanToNum, normalize, oneHot } from "./ops/derived.ts";
import { binary, cast, clamp, contiguous, copyOf, elu, roundTo, unary, where } from "./ops/elementwise.ts";
import type { Epilogue } from "./ops/epilogue.ts";
import type { AttentionOptions, NormOptions } from "./ops/fused-options.ts";
import { argsort, dequantize, embedding, gather, indexAdd, indexSelect, type Sorted, scatter, sort, topk } from "./ops/gather.ts";
import { type GridSampleOptions, gridSample } from "./ops/grid-sample.ts";
import { cat, type PadOptions, pad, roll, sliceAssign, triangle } from "./ops/join.ts";
import { linear, matmul } from "./ops/matmul.ts";
import { groupNorm, rowNorm, softmax } from "./ops/norm.ts";
import { type Dims, type ReduceOptions, reduce, scan } from "./ops/reduce.ts";
import { interpolate, type ResampleOptions } from "./ops/resample.ts";
import { applyIndex, type IndexSpec } from "./ops/view-index.ts";
import {
  chunk,
  expand,
  flatten,
  flip,
  listOf,
  movedim,
  narrow,
  permute,
  repeat,
  repeatInterleave,
  reshape,
  type Sizes,
  split,
  squeeze,
  transpose,
  unbind,
  unflatten,
  unfold,
  unsqueeze,
} from "./ops/views.ts";
import { formatTensor, type PrintOptions } from "./print.ts";
import { rearrange } from "./rearrange.ts";
import { adopt, type OpenScope, scope } from "./scope.ts";
import { dimIndex, formatShape, type Shape, sizeOf, type Tuple } from "./shape.ts";
import { type Pending, Storage } from "./storage.ts";
import type { View } from "./view.ts";

/** Anything that maps one tensor to one tensor: a layer, or a plain function. */
export type Stage =
  | {
      /** x → the stage's output */
      forward(x: Tensor): Tensor;
    }
  | ((x: Tensor) => Tensor);

/** Releases tensors that nobody owns when the collector finds them, and counts them (see `leakedTensors`). */
const orphans = new FinalizationRegistry<Storage>((storage) => {
  leaked++;
  storage.release();
});
let leaked = 0;
/** How many tensors were left to the garbage collector since start: own them with scope() or using. */
export const leakedTensors = (): number => leaked;

/** Numbers of one dtype and shape on a device; a handle on memory that views share. */
export class Tensor {
  /** Tells tensors from other objects. */
  readonly isTensor = true;
  /** How the values lie in memory. */
  readonly layout: Layout;
  /** Where this came from, for messages and reports: a parameter's path, or the op that made it. */
  label: string | undefined;
  /** @internal The scope that releases it. */
  owner: OpenScope | undefined;
  #device: Device | undefined;
  #dtype: DType;
  #storage: Storage | undefined;
  #disposed = false;
  #orphan = false;

  /** @internal Use a device's `tensor`, `zeros`, … */
  constructor(device: Device | undefined, dtype: DType, layout: Layout, storage: Storage | undefined, label?: string) {
    this.#device = device;
    this.#dtype = dtype;
    this.layout = layout;
    this.label = label;
    this.#storage = storage;
    if (storage) {
      storage.retain();
      this.adoptBy(adopt);
    }
  }

  /** @internal Fills a declared tensor (a parameter) with data; it is owned by its module, not by a scope. */
  protected bind(device: Device, dtype: DType, storage: Storage): void {
    storage.retain();
    this.#storage?.release();
    this.#device = device;
    this.#dtype = dtype;
    this.#storage = storage;
    this.#disposed = false;
  }
  /** @internal Back to the declared state. */
  protected unbind_(): void {
    this.#storage?.release();
    this.#storage = undefined;
    this.#device = undefined;
  }

  // --- what it is ---
  /** Sizes of the dimensions, outermost first. */
  get shape(): Shape {
    return this.layout.shape;
  }
  /** Format of the values. */
  get dtype(): DType {
    return this.#dtype;
  }
  /** Number of dimensions. */
  get rank(): number {
    return this.layout.shape.length;
  }
  /** Number of values. */
  get size(): number {
    return sizeOf(this.layout.shape);
  }
  /** Bytes of the values of this view. */
  get byteLength(): number {
    return bytesOf(this.#dtype, this.size);
  }
  /** Where the values are; throws DisposedError before a parameter is loaded. */
  get device(): Device {
    return this.#device ?? this.#noData();
  }
  /** True once this handle was released. */
  get isDisposed(): boolean {
    return this.#disposed;
  }
  /** True once there is data (always, except for parameters before `load`). */
  get hasData(): boolean {
    return this.#storage !== undefined && !this.#disposed;
  }
  /** Label, dtype and shape, e.g. "img_in.weight bf16 [3072, 64]". */
  toString(): string {
    return `${this.label ? `${this.label} ` : ""}${this.#dtype} ${formatShape(this.shape)}`;
  }
  /** What console.log shows in Node: no values, which need an await; see `print`. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    const state = this.#disposed ? ", released" : this.#storage ? ` on ${this.#device!.kind}` : ", no data";
    return `Tensor(${this}${state})`;
  }
  /** The dimensions, checked to be exactly `rank` many: `const [b, l, d] = x.dims(3)`. */
  dims<N extends number>(rank: N): Tuple<number, N> {
    if (this.rank !== rank) throw new ShapeError("dims", `expected ${rank} dimensions, got ${this}`);
    return [...this.shape] as Tuple<number, N>;
  }
  /** One dimension; negative counts from the end. */
  dim(i: number): number {
    return this.shape[dimIndex("dim", i, this.rank, this)]!;
  }

  // --- lifetime ---
  /** Releases this handle; the memory is freed with the last one. */
  dispose(): void {
    if (this.#disposed || !this.#storage) return;
    this.#disposed = true;
    if (this.#orphan) orphans.unregister(this);
    this.#storage.release();
  }
  /** The same as `dispose()`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
  /** @internal */
  adoptBy(owner: (t: Tensor) => boolean): void {
    if (this.#disposed || owner(this) || !this.#storage) return;
    if (!this.#orphan) orphans.register(this, this.#storage, this);
    this.#orphan = true;
  }
  /** @internal The storage, alive. */
  storage(): Storage {
    if (!this.#storage) this.#noData();
    if (this.#disposed) throw new DisposedError("use", `${this} was released; return it from its scope, or own it with hold() or using`);
    return this.#storage!;
  }
  #noData(): never {
    throw new DisposedError("use", `${this} has no data yet; call load(model, source, device) or initParameters first`);
  }

  // --- between ops and backends ---
  /** @internal What kernels take; launches a deferred expression. */
  get view(): View {
    return { buffer: this.storage().buffer(), dtype: this.#dtype, layout: this.layout };
  }
  /** @internal */
  computed(): Storage {
    const s = this.storage();
    s.buffer();
    return s;
  }
  /** Launches what is deferred; the result is unchanged. */
  compute(): this {
    if (!this.#disposed) this.storage().buffer();
    return this;
  }
  /** @internal A new deferred tensor on this device. */
  deferred(op: string, shape: Shape, dtype: DType, pending: Pending): Tensor {
    return new Tensor(this.device, dtype, contiguousLayout(shape), Storage.defer(this.device, dtype, pending, op), op);
  }
  /** @internal A view of the same storage. */
  viewAs(layout: Layout): Tensor {
    const storage = this.computed();
    return new Tensor(this.device, this.#dtype, layout, storage, this.label);
  }

  // --- leaving the device ---
  /** The values in row-major order: floats as Float32Array, integers in their own width. */
  async toArray(): Promise<HostArray> {
    return decodeBytes(await this.toBytes(), this.#dtype);
  }
  /** The bytes in row-major order. */
  async toBytes(): Promise<Uint8Array> {
    const { device } = this;
    const whole = isContiguous(this.layout) ? this : undefined;
    const source = whole ?? copyOf(this);
    const { buffer, layout } = source.view;
    const storage = source.storage();
    storage.retain();
    if (!whole) source.dispose();
    try {
      return await device.backend.read(buffer, bytesOf(this.#dtype, layout.offset), this.byteLength);
    } finally {
      storage.release();
    }
  }
  /** The value of a one-element tensor. */
  async item(): Promise<number> {
    if (this.size !== 1) throw new ShapeError("item", `needs exactly one value: ${this}`);
    return Number((await this.toArray())[0]);
  }
  /** The values as nested lists, as torch.Tensor.tolist: a number for a scalar. */
  async toList(): Promise<number | NumberList> {
    return nestedList(await this.toArray(), this.shape);
  }
  /** Whether all values are close to y's, as torch.allclose; see `isClose`. */
  async allClose(y: Tensor | number, options?: CloseOptions): Promise<boolean> {
    const close = scope(() => isClose(this, y, options).all());
    try {
      return (await close.item()) === 1;
    } finally {
      close.dispose();
    }
  }
  /** PyTorch-style text of the values, shortened in the middle when large. */
  async print(options?: PrintOptions): Promise<string> {
    return formatTensor(this, options);
  }
  /** A copy on another device, or another dtype (rounding to nearest even; floats truncate on the way to integers). */
  to(dtype: DType): Tensor;
  to(device: Device): Promise<Tensor>;
  to(target: DType | Device): Tensor | Promise<Tensor> {
    return typeof target === "string" ? cast(this, target) : this.#toDevice(target);
  }
  async #toDevice(device: Device): Promise<Tensor> {
    const bytes = await this.toBytes();
    return device.fromBytes(bytes, this.shape, this.#dtype, this.label);
  }

  // --- composition ---
  /** Through functions and modules from left to right. */
  pipe(...stages: readonly Stage[]): Tensor {
    return stages.reduce<Tensor>((x, s) => (typeof s === "function" ? s(x) : s.forward(x)), this);
  }

  // --- elementwise, broadcasting as NumPy ---
  /** x + y */
  add(y: Tensor | number): Tensor {
    return binary("add", this, y);
  }
  /** x - y */
  sub(y: Tensor | number): Tensor {
    return binary("sub", this, y);
  }
  /** y - x */
  rsub(y: number): Tensor {
    return binary("sub", this, y, true);
  }
  /** x · y */
  mul(y: Tensor | number): Tensor {
    return binary("mul", this, y);
  }
  /** True division; integers give f32. */
  div(y: Tensor | number): Tensor {
    return binary("div", this, y);
  }
  /** y / x */
  rdiv(y: number): Tensor {
    return binary("div", this, y, true);
  }
  /** The quotient rounded down. */
  floorDiv(y: Tensor | number): Tensor {
    return binary("floorDiv", this, y);
  }
  /** Sign of the divisor, as torch.remainder. */
  remainder(y: Tensor | number): Tensor {
    return binary("rem", this, y);
  }
  /** x to the power of y. */
  pow(y: Tensor | number): Tensor {
    return binary("pow", this, y);
  }
  /** The smaller of both; NaN wins. */
  minimum(y: Tensor | number): Tensor {
    return binary("min", this, y);
  }
  /** The larger of both; NaN wins. */
  maximum(y: Tensor | number): Tensor {
    return binary("max", this, y);
  }
  /** The angle of (y, this), this being the ordinate, as torch.atan2. */
  atan2(y: Tensor | number): Tensor {
    return binary("atan2", this, y);
  }
  /** Comparisons give u8: 1 where true. */
  eq(y: Tensor | number): Tensor {
    return binary("eq", this, y);
  }
  /** u8: 1 where unequal. */
  ne(y: Tensor | number): Tensor {
    return binary("ne", this, y);
  }
  /** u8: 1 where x < y. */
  lt(y: Tensor | number): Tensor {
    return binary("lt", this, y);
  }
  /** u8: 1 where x ≤ y. */
  le(y: Tensor | number): Tensor {
    return binary("le", this, y);
  }
  /** u8: 1 where x > y. */
  gt(y: Tensor | number): Tensor {
    return binary("gt", this, y);
  }
  /** u8: 1 where x ≥ y. */
  ge(y: Tensor | number): Tensor {
    return binary("ge", this, y);
  }
  /** Bitwise on integers; on u8 masks of 0 and 1, logical. */
  and(y: Tensor | number): Tensor {
    return binary("and", this, y);
  }
  /** As `and`. */
  or(y: Tensor | number): Tensor {
    return binary("or", this, y);
  }
  /** As `and`. */
  xor(y: Tensor | number): Tensor {
    return binary("xor", this, y);
  }
  /** 1 where zero: logical not, as u8. */
  not(): Tensor {
    return unary("not", this);
  }
  /** u8: 1 where NaN. */
  isNan(): Tensor {
    return unary("isNan", this);
  }
  /** u8: 1 where infinite. */
  isInf(): Tensor {
    return unary("isInf", this);
  }
  /** u8: 1 where neither NaN nor infinite. */
  isFinite(): Tensor {
    return unary("isFinite", this);
  }
  /** u8: 1 where |x - y| ≤ atol + rtol · |y|, as torch.isclose: rtol 1e-5 and atol 1e-8 unless given. */
  isClose(y: Tensor | number, options?: CloseOptions): Tensor {
    return scope(() => isClose(this, y, options));
  }
  /** -x */
  neg(): Tensor {
    return unary("neg", this);
  }
  /** |x| */
  abs(): Tensor {
    return unary("abs", this);
  }
  /** -1, 0 or 1. */
  sign(): Tensor {
    return unary("sign", this);
  }
  /** e to the power of x. */
  exp(): Tensor {
    return unary("exp", this);
  }
  /** e to the power of x, less 1, exact near 0. */
  expm1(): Tensor {
    return unary("expm1", this);
  }
  /** The natural logarithm. */
  log(): Tensor {
    return unary("log", this);
  }
  /** log(1 + x), exact near 0. */
  log1p(): Tensor {
    return unary("log1p", this);
  }
  /** The logarithm to base 2. */
  log2(): Tensor {
    return unary("log2", this);
  }
  /** The square root. */
  sqrt(): Tensor {
    return unary("sqrt", this);
  }
  /** 1 / √x */
  rsqrt(): Tensor {
    return unary("rsqrt", this);
  }
  /** x² */
  square(): Tensor {
    return unary("square", this);
  }
  /** 1 / x */
  reciprocal(): Tensor {
    return unary("recip", this);
  }
  /** The sine, of radians. */
  sin(): Tensor {
    return unary("sin", this);
  }
  /** The cosine, of radians. */
  cos(): Tensor {
    return unary("cos", this);
  }
  /** The tangent, of radians. */
  tan(): Tensor {
    return unary("tan", this);
  }
  /** The inverse sine, in radians. */
  asin(): Tensor {
    return unary("asin", this);
  }
  /** The inverse cosine, in radians. */
  acos(): Tensor {
    return unary("acos", this);
  }
  /** The inverse tangent, in radians. */
  atan(): Tensor {
    return unary("atan", this);
  }
  /** The hyperbolic sine. */
  sinh(): Tensor {
    return unary("sinh", this);
  }
  /** The hyperbolic cosine. */
  cosh(): Tensor {
    return unary("cosh", this);
  }
  /** The hyperbolic tangent. */
  tanh(): Tensor {
    return unary("tanh", this);
  }
  /** 1 / (1 + e^-x) */
  sigmoid(): Tensor {
    return unary("sigmoid", this);
  }
  /** max(x, 0) */
  relu(): Tensor {
    return unary("relu", this);
  }
  /** x · sigmoid(x) */
  silu(): Tensor {
    return unary("silu", this);
  }
  /** The tanh approximation, as diffusion transformers use it (torch: gelu(approximate="tanh")). */
  gelu(): Tensor {
    return unary("gelu", this);
  }
  /** The exact form (torch's default gelu). */
  geluErf(): Tensor {
    return unary("geluErf", this);
  }
  /** x · sigmoid(1.702 x), as CLIP. */
  geluQuick(): Tensor {
    return unary("geluQuick", this);
  }
  /** x where positive, else alpha (exp(x) - 1). */
  elu(alpha = 1): Tensor {
    return elu(this, alpha);
  }
  /** log(1 + e^x) */
  softplus(): Tensor {
    return unary("softplus", this);
  }
  /** The error function. */
  erf(): Tensor {
    return unary("erf", this);
  }
  /** Rounded down. */
  floor(): Tensor {
    return unary("floor", this);
  }
  /** Rounded up. */
  ceil(): Tensor {
    return unary("ceil", this);
  }
  /** Half to even, at `decimals` digits after the point. */
  round(decimals = 0): Tensor {
    return roundTo(this, decimals);
  }
  /** Rounded towards 0. */
  trunc(): Tensor {
    return unary("trunc", this);
  }
  /** No less than `min` and no more than `max`; either may be left out. A bound that is no whole number makes f32 of integers. */
  clamp(min?: number, max?: number): Tensor {
    return clamp(this, min, max);
  }
  /** mul · x + add, candle's affine. */
  affine(mul: number, add: number): Tensor {
    return this.mul(mul).add(add);
  }
  /** x + weight · (end - x) */
  lerp(end: Tensor, weight: Tensor | number): Tensor {
    return this.add(end.sub(this).mul(weight));
  }
  /** This (nonzero) ? x : y, all broadcast together. */
  where(x: Tensor | number, y: Tensor | number): Tensor {
    return where(this, x, y);
  }
  /** `value` where `mask` (broadcast) is nonzero, as torch.masked_fill. */
  maskedFill(mask: Tensor, value: number): Tensor {
    return maskedFill(this, mask, value);
  }
  /** Finite values in place of NaN and infinities; 0 and the largest magnitudes of the dtype by default. */
  nanToNum(options?: { nan?: number; posInf?: number; negInf?: number }): Tensor {
    return nanToNum(this, options);
  }
  /** Divided by its p-norm (default 2) along `dim`, or by eps (default 1e-12) where that is smaller, as torch.nn.functional.normalize. */
  normalize(dim = 1, options?: { p?: number; eps?: number }): Tensor {
    return normalize(this, dim, options);
  }
  /** ids [...] below `classes` → u8 [..., classes], 1 at each id; torch.nn.functional.one_hot. */
  oneHot(classes: number): Tensor {
    return oneHot(this, classes);
  }
  /** silu(this) · up: the gated unit of SwiGLU feed-forwards. */
  swiglu(up: Tensor): Tensor {
    return this.silu().mul(up);
  }
  /** (1 + scale) · x + shift, adaLN's modulation (arXiv:2212.09748). */
  modulate(shift: Tensor | undefined, scale: Tensor): Tensor {
    const scaled = this.mul(scale.add(1));
    return shift ? scaled.add(shift) : scaled;
  }
  /** x + gate · branch, the gated residual of DiT blocks. */
  gatedAdd(gate: Tensor, branch: Tensor): Tensor {
    return this.add(gate.mul(branch));
  }

  // --- reductions; dims: one, several or (default) all ---
  /** The sum; integers give i32. */
  sum(dims?: Dims, options?: ReduceOptions): Tensor {
    return scope(() => reduce("sum", this, dims, options));
  }
  /** The arithmetic mean. */
  mean(dims?: Dims, options?: ReduceOptions): Tensor {
    return scope(() => reduce("mean", this, dims, options));
  }
  /** The product. */
  prod(dims?: Dims, options?: ReduceOptions): Tensor {
    return scope(() => reduce("prod", this, dims, options));
  }
  /** Values only; see argmax. NaN wins. */
  max(dims?: Dims, options?: ReduceOptions): Tensor {
    return scope(() => reduce("max", this, dims, options));
  }
  /** Values only; see argmin. NaN wins. */
  min(dims?: Dims, options?: ReduceOptions): Tensor {
    return scope(() => reduce("min", this, dims, options));
  }
  /** i32 position of the first largest value along `dim`, or in the flattened tensor. */
  argmax(dim?: number, options?: ReduceOptions): Tensor {
    return scope(() => reduce("argmax", this, dim, options));
  }
  /** i32 position of the first smallest value along `dim`, or in the flattened tensor. */
  argmin(dim?: number, options?: ReduceOptions): Tensor {
    return scope(() => reduce("argmin", this, dim, options));
  }
  /** With `correction` 1 (Bessel) by default, as torch. */
  var(dims?: Dims, options?: ReduceOptions & { correction?: number }): Tensor {
    return scope(() => reduce("var", this, dims, options));
  }
  /** The standard deviation; as `var`. */
  std(dims?: Dims, options?: ReduceOptions & { correction?: number }): Tensor {
    return scope(() => reduce("var", this, dims, options).sqrt());
  }
  /** log of the sum of e^x, without overflow. */
  logSumExp(dims?: Dims, options?: ReduceOptions): Tensor {
    return scope(() => reduce("logSumExp", this, dims, options));
  }
  /** The p-norm (default 2; Infinity, -Infinity, 0 and 1 too). */
  norm(dims?: Dims, options?: ReduceOptions & { p?: number }): Tensor {
    return scope(() => reduce("norm", this, dims, options));
  }
  /** u8: 1 if any (all) values are nonzero. */
  any(dims?: Dims, options?: ReduceOptions): Tensor {
    return scope(() => reduce("any", this, dims, options));
  }
  /** u8: 1 if all values are nonzero. */
  all(dims?: Dims, options?: ReduceOptions): Tensor {
    return scope(() => reduce("all", this, dims, options));
  }
  /** Running sums along `dim`. */
  cumsum(dim: number): Tensor {
    return scope(() => scan("sum", this, dim));
  }
  /** Running products along `dim`. */
  cumprod(dim: number): Tensor {
    return scope(() => scan("prod", this, dim));
  }

  // --- products ---
  /** a [..., m, k] @ b [..., k, n]; b may be the transpose of a quantized weight. `then` is fused into the product. */
  matmul(b: Tensor, then?: Epilogue): Tensor {
    return scope(() => matmul(this, b, then));
  }
  /** x wᵀ + bias: w [out, in], bias [out]; `then` sees the biased result. */
  linear(weight: Tensor, bias?: Tensor, then?: Epilogue): Tensor {
    return scope(() => linear(this, weight, bias, then));
  }
  /** x [b, c, h, w], weight [o, c/groups, kh, kw] → [b, o, h', w']. */
  conv2d(weight: Tensor, options?: ConvOptions): Tensor {
    return scope(() => conv2d(this, weight, options));
  }
  /** x [b, c, l], weight [o, c/groups, k]. */
  conv1d(
    weight: Tensor,
    { stride = 1, padding = 0, dilation = 1, ...rest }: ConvOptions & { stride?: number; padding?: number; dilation?: number } = {},
  ): Tensor {
    return scope(() => asOneRow(conv2d, this, weight, rest, { stride: [1, stride], padding: [0, padding], dilation: [1, dilation] }));
  }
  /** x [b, c, h, w], weight [c, o/groups, kh, kw] → [b, o, h', w']. */
  convTranspose2d(weight: Tensor, options?: ConvTransposeOptions): Tensor {
    return scope(() => convTranspose2d(this, weight, options));
  }
  /** x [b, c, l], weight [c, o/groups, k] → [b, o, l']. */
  convTranspose1d(
    weight: Tensor,
    {
      stride = 1,
      padding = 0,
      dilation = 1,
      outputPadding = 0,
      ...rest
    }: ConvTransposeOptions & { stride?: number; padding?: number; dilation?: number; outputPadding?: number } = {},
  ): Tensor {
    const fixed = { stride: [1, stride], padding: [0, padding], dilation: [1, dilation], outputPadding: [0, outputPadding] } as const;
    return scope(() => asOneRow(convTranspose2d, this, weight, rest, fixed));
  }
  /** The largest value of each window: x [b, c, h, w] → [b, c, h', w']. */
  maxPool2d(kernel: Pair, options?: PoolOptions): Tensor {
    return scope(() => pool2d("max", this, kernel, options));
  }
  /** The mean of each window: x [b, c, h, w] → [b, c, h', w']. */
  avgPool2d(kernel: Pair, options?: PoolOptions): Tensor {
    return scope(() => pool2d("avg", this, kernel, options));
  }
  /** To [rows, columns]. */
  interpolate(size: readonly number[], options?: ResampleOptions): Tensor {
    return scope(() => interpolate(this, size, options));
  }
  /** This [b, c, h, w] read at the positions of grid [b, h', w', 2], x and y in -1…1 → [b, c, h', w']. */
  gridSample(grid: Tensor, options?: GridSampleOptions): Tensor {
    return scope(() => gridSample(this, grid, options));
  }

  // --- rows ---
  /** e^x divided by its sum along `dim`. */
  softmax(dim = -1): Tensor {
    return scope(() => softmax(this, dim, false));
  }
  /** The logarithm of `softmax`. */
  logSoftmax(dim = -1): Tensor {
    return scope(() => softmax(this, dim, true));
  }
  /** Mean 0 and variance 1 over the last dimension, in f32. */
  layerNorm(options: NormOptions): Tensor {
    return scope(() => rowNorm("layer", this, options));
  }
  /** Divided by the root of the mean square over the last dimension, in f32. */
  rmsNorm(options: NormOptions): Tensor {
    return scope(() => rowNorm("rms", this, options));
  }
  /** Mean 0 and variance 1 over each group of channels: x [b, c, ...] → the same shape. */
  groupNorm(groups: number, options: NormOptions): Tensor {
    return scope(() => groupNorm(this, groups, options));
  }
  /** This is q; see `scaledDotProductAttention` in ops/attention.ts. */
  attend(k: Tensor, v: Tensor, options?: AttentionOptions): Tensor {
    return scope(() => scaledDotProductAttention(this, k, v, options));
  }
  /** Turns pairs of the last dimension: x [..., l, k], cos and sin broadcast to [..., l, k/2]; `interleaved` pairs neighbours, else halves. */
  rope(cos: Tensor, sin: Tensor, { interleaved }: { interleaved: boolean }): Tensor {
    return scope(() => rope(this, cos, sin, interleaved));
  }

  // --- views; nothing is copied ---
  /** @internal A second handle to the same values. */
  view_(): Tensor {
    return this.viewAs(this.layout);
  }
  /** Another shape of the same values in row-major order; one -1 is inferred. Copies only if the strides force it. */
  reshape(...to: Sizes): Tensor {
    return reshape(this, to);
  }
  /** Joins dimensions start…end into one. */
  flatten(start = 0, end = -1): Tensor {
    return flatten(this, start, end);
  }
  /** Splits one dimension into several; one -1 is inferred. */
  unflatten(dim: number, sizes: readonly number[]): Tensor {
    return unflatten(this, dim, sizes);
  }
  /** A new dimension of size 1 before `dim`. */
  unsqueeze(dim: number): Tensor {
    return unsqueeze(this, dim);
  }
  /** Drops `dim` (which must be 1), or all dimensions of size 1. */
  squeeze(dim?: number): Tensor {
    return squeeze(this, dim);
  }
  /** All dimensions in a new order. */
  permute(...order: Sizes): Tensor {
    return permute(this, listOf(order));
  }
  /** Two dimensions change places. */
  transpose(a: number, b: number): Tensor {
    return transpose(this, a, b);
  }
  /** Swaps the last two dimensions. */
  t(): Tensor {
    return this.transpose(-2, -1);
  }
  /** Moves one dimension to another place. */
  movedim(from: number, to: number): Tensor {
    return movedim(this, from, to);
  }
  /** Repeats dimensions of size 1 (and adds leading ones) without copying; -1 keeps a size. */
  expand(...to: Sizes): Tensor {
    return expand(this, to);
  }
  /** `length` entries of `dim` from `start`. */
  narrow(dim: number, start: number, length: number): Tensor {
    return narrow(this, dim, start, length);
  }
  /** NumPy-style indexing: numbers drop a dimension, [start, end, step?] slices, ":" keeps, "..." fills, null adds one. */
  index(...specs: readonly IndexSpec[]): Tensor {
    return applyIndex(this, specs);
  }
  /** Exactly n equal parts: `const [shift, scale, gate] = m.chunk(3, -1)`. */
  chunk<N extends number>(n: N, dim: number): Tuple<Tensor, N> {
    return chunk(this, n, dim) as Tuple<Tensor, N>;
  }
  /** Parts of the given sizes, which must add up. */
  split<const S extends readonly number[]>(sizes: S, dim: number): { -readonly [K in keyof S]: Tensor } {
    return split(this, sizes, dim) as { -readonly [K in keyof S]: Tensor };
  }
  /** The n slices along `dim`, without it. */
  unbind<N extends number>(n: N, dim = 0): Tuple<Tensor, N> {
    return scope(() => unbind(this, n, dim)) as Tuple<Tensor, N>;
  }
  /** einops-style: `x.rearrange("b l (n k) -> b n l k", { n: heads })`. */
  rearrange(pattern: string, sizes?: Readonly<Record<string, number>>): Tensor {
    return scope(() => rearrange(this, pattern, sizes));
  }
  /** Windows of `size` every `step` along `dim`, appended as a last dimension (torch.Tensor.unfold). */
  unfold(dim: number, size: number, step: number): Tensor {
    return unfold(this, dim, size, step);
  }
  /** Reversed along the given dimensions. */
  flip(...dims: Sizes): Tensor {
    return flip(this, listOf(dims));
  }

  // --- copies ---
  /** Row-major: a second handle if it already is, else a copy. */
  contiguous(): Tensor {
    return contiguous(this);
  }
  /** A contiguous copy in memory of its own. */
  copy(): Tensor {
    return copyOf(this);
  }
  /** The whole tensor tiled, one count per dimension (torch.Tensor.repeat). */
  repeat(...counts: Sizes): Tensor {
    return scope(() => repeat(this, listOf(counts)));
  }
  /** Each entry of `dim` n times in a row. */
  repeatInterleave(n: number, dim: number): Tensor {
    return scope(() => repeatInterleave(this, n, dim));
  }
  /** As torch.nn.functional.pad: [before, after] pairs from the last dimension backwards. */
  pad(amounts: readonly number[], options?: PadOptions): Tensor {
    return scope(() => pad(this, amounts, options));
  }
  /** Shifted cyclically along `dim`. */
  roll(shift: number, dim: number): Tensor {
    return scope(() => roll(this, shift, dim));
  }
  /** On and below the diagonal of the last two dimensions. */
  tril(diagonal = 0): Tensor {
    return scope(() => triangle(this, diagonal, true));
  }
  /** On and above the diagonal of the last two dimensions. */
  triu(diagonal = 0): Tensor {
    return scope(() => triangle(this, diagonal, false));
  }
  /** A copy whose part from `starts` on (one per dimension) is replaced by `src`. */
  sliceAssign(starts: readonly number[], src: Tensor): Tensor {
    return scope(() => sliceAssign(this, starts, src));
  }
  /** This and others one after the other along `dim`. */
  cat(others: readonly Tensor[], dim: number): Tensor {
    return scope(() => cat([this, ...others], dim));
  }

  // --- by index ---
  /** out[…, i, …] = x[…, index[…, i, …], …] along `dim`. */
  gather(dim: number, index: Tensor): Tensor {
    return scope(() => gather(this, dim, index));
  }
  /** A copy with `src` written at `index` along `dim`; later equal indices win. */
  scatter(dim: number, index: Tensor, src: Tensor): Tensor {
    return scope(() => scatter(this, dim, index, src, false));
  }
  /** A copy with `src` added at `index` along `dim`, in index order. */
  scatterAdd(dim: number, index: Tensor, src: Tensor): Tensor {
    return scope(() => scatter(this, dim, index, src, true));
  }
  /** Whole slices along `dim`: index [n] → n in place of `dim`. */
  indexSelect(dim: number, index: Tensor): Tensor {
    return scope(() => indexSelect(this, dim, index));
  }
  /** A copy with `src`'s slices added at `index` along `dim`, in index order. */
  indexAdd(dim: number, index: Tensor, src: Tensor): Tensor {
    return scope(() => indexAdd(this, dim, index, src));
  }
  /** This is the table [n, d]; ids of any shape → [..., d]. */
  embedding(ids: Tensor): Tensor {
    return scope(() => embedding(this, ids));
  }
  /** i32 positions in stable order along `dim`; NaN counts as the largest value. */
  argsort(dim = -1, { descending = false } = {}): Tensor {
    return scope(() => argsort(this, dim, descending));
  }
  /** In stable order along `dim`, with the positions the values had. */
  sort(dim = -1, { descending = false } = {}): Sorted {
    return scope(() => sort(this, dim, descending));
  }
  /** The k largest along `dim`, largest first. */
  topk(k: number, dim = -1): Sorted {
    return scope(() => topk(this, k, dim));
  }
  /** f8 or quantized values as floats (default f32). */
  dequantize(dtype?: DType): Tensor {
    return scope(() => dequantize(this, dtype));
  }

  // --- for the fuser (ops/elementwise.ts) ---
  /** @internal The deferred expression if this is all of it. */
  pendingWhole(): Pending | undefined {
    return this.storage().pending;
  }
  /** @internal */
  storageInlined(): number {
    return this.storage().inlined;
  }
  /** @internal */
  markInlined(): void {
    this.storage().inlined++;
  }
}
