// The cases that are one operator, in Wick's public words.
import {
  type Device,
  type DType,
  dtypeInfo,
  epilogue,
  isQuantized,
  type PlainDType,
  quantizeInto,
  type Shape,
  sizeOf,
  type Tensor,
} from "@wick/tensor";

/** The dimensions of a case. */
export type Spec = Readonly<Record<string, number>> & { readonly dtype?: DType };
type Inputs = Readonly<Record<string, Float32Array>>;
type Make = (device: Device, spec: Spec, inputs: Inputs) => () => Tensor;

/** `data` in any weight format. */
export function tensorIn(device: Device, data: Float32Array, shape: Shape, dtype: DType, label?: string): Tensor {
  if (!isQuantized(dtype)) return device.tensor(data, shape, { dtype: dtype as PlainDType, ...(label ? { label } : {}) });
  const { blockSize, blockBytes } = dtypeInfo[dtype];
  const bytes = new Uint8Array((sizeOf(shape) / blockSize) * blockBytes);
  quantizeInto(dtype, data, 0, bytes, 0, data.length);
  return device.fromBytes(bytes, shape, dtype, label);
}

const rows = (device: Device, { rows, columns }: Spec, data: Float32Array): Tensor => device.tensor(data, [rows!, columns!]);

const onRows =
  (op: (x: Tensor) => Tensor): Make =>
  (device, spec, { x }) => {
    const input = rows(device, spec, x!);
    return () => op(input);
  };

const normOnRows =
  (op: (x: Tensor, weight: Tensor) => Tensor): Make =>
  (device, spec, { x, weight }) => {
    const [input, scale] = [rows(device, spec, x!), device.tensor(weight!)];
    return () => op(input, scale);
  };

const resample =
  (mode: "bilinear" | "bicubic", antialias = false): Make =>
  (device, { c, side, to }, { x }) => {
    const picture = device.tensor(x!, [1, c!, side!, side!]);
    return () => picture.interpolate([to!, to!], { mode, antialias });
  };

const gridSample =
  (mode: "bilinear" | "bicubic"): Make =>
  (device, { c, side }, { x, grid }) => {
    const [picture, places] = [device.tensor(x!, [1, c!, side!, side!]), device.tensor(grid!, [1, side!, side!, 2])];
    return () => picture.gridSample(places, { mode });
  };

/** What each operator case runs; inputs are on the device before the clock starts. */
export const wickOps: Readonly<Record<string, Make>> = {
  matmul: (device, { m, k, n }, { a, b }) => {
    const [x, y] = [device.tensor(a!, [m!, k!]), device.tensor(b!, [k!, n!])];
    return () => x.matmul(y);
  },
  linear: (device, { m, k, n, dtype }, { x, weight }) => {
    const [input, w] = [device.tensor(x!, [m!, k!]), tensorIn(device, weight!, [n!, k!], dtype!)];
    return () => input.linear(w);
  },
  conv: (device, { c, o, h, w }, { x, weight }) => {
    const [input, filter] = [device.tensor(x!, [1, c!, h!, w!]), device.tensor(weight!, [o!, c!, 3, 3])];
    return () => input.conv2d(filter, { padding: [1, 1] });
  },
  attention: (device, { heads, tokens, width }, inputs) => {
    const [q, k, v] = ["q", "k", "v"].map((name) => device.tensor(inputs[name]!, [1, heads!, tokens!, width!])) as [Tensor, Tensor, Tensor];
    return () => q.attend(k, v).transpose(1, 2);
  },
  softmax: onRows((x) => x.softmax()),
  gelu: onRows((x) => x.gelu()),
  add: (device, spec, { x, y }) => {
    const [a, b] = [rows(device, spec, x!), rows(device, spec, y!)];
    return () => a.add(b);
  },
  rmsNorm: normOnRows((x, weight) => x.rmsNorm({ weight, eps: 1e-6 })),
  layerNorm: normOnRows((x, weight) => x.layerNorm({ weight, eps: 1e-6 })),
  modulate: (device, spec, { x, scale, shift }) => {
    const [input, s, t] = [rows(device, spec, x!), device.tensor(scale!), device.tensor(shift!)];
    const then = epilogue((y, a, b) => y.mul(a.add(1)).add(b), s, t);
    return () => input.layerNorm({ eps: 1e-6, then });
  },
  groupNormSilu: (device, { c, h, w }, { x, weight, bias }) => {
    const [input, scale, offset] = [device.tensor(x!, [1, c!, h!, w!]), device.tensor(weight!), device.tensor(bias!)];
    const then = epilogue((y) => y.silu());
    return () => input.groupNorm(32, { weight: scale, bias: offset, eps: 1e-6, then });
  },
  bilinear: resample("bilinear"),
  bicubic: resample("bicubic"),
  bilinearAntialias: resample("bilinear", true),
  bicubicAntialias: resample("bicubic", true),
  gridSample: gridSample("bilinear"),
  gridSampleBicubic: gridSample("bicubic"),
};
