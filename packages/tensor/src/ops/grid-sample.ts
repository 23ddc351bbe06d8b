// Pictures read at given places, as torch's grid_sample: warps, crops, rotations. Composed of elementwise ops and gather, so that it runs wherever
// those run.
// After pytorch/pytorch aten/src/ATen/native/GridSampler.h. b batch, c channels, h w rows and columns of the picture, n places.
import { isFloat } from "../dtype.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { checkComputable, checkDevices } from "./elementwise.ts";

/** How `gridSample` reads; PyTorch's names and defaults. */
export interface GridSampleOptions {
  /** How values between the pixels are made; "bilinear" by default. */
  readonly mode?: "bilinear" | "nearest" | "bicubic";
  /** What is outside: zeros (default), the nearest pixel of the border, or the picture mirrored. */
  readonly paddingMode?: "zeros" | "border" | "reflection";
  /** -1 and 1 are the centers of the corner pixels; by default their outer edges. */
  readonly alignCorners?: boolean;
}

type Reading = Required<GridSampleOptions>;

/**
 * x [b, c, h, w] at the places of grid [b, h', w', 2] (x before y, in -1…1) → [b, c, h', w'] in x's dtype; computed in f32. Throws ShapeError
 * for shapes that do not fit and DTypeError for integers.
 */
export function gridSample(x: Tensor, grid: Tensor, options: GridSampleOptions = {}): Tensor {
  const op = "gridSample";
  const { mode = "bilinear", paddingMode = "zeros", alignCorners = false } = options;
  checkDevices(op, [x, grid]);
  checkComputable(op, x);
  if (x.rank !== 4 || grid.rank !== 4 || grid.dim(0) !== x.dim(0) || grid.dim(3) !== 2 || x.dim(2) * x.dim(3) === 0)
    throw new ShapeError(op, `x is [b, c, h, w] and the grid [b, rows, columns, 2]: x ${x}, grid ${grid}`);
  if (!isFloat(x.dtype) || !isFloat(grid.dtype)) throw new DTypeError(op, `x and the grid are floats: x ${x}, grid ${grid}; cast first`);
  if (!(mode in samplers)) throw new ShapeError(op, `unknown mode "${mode}"; known are ${Object.keys(samplers).join(", ")}`);
  if (!["zeros", "border", "reflection"].includes(paddingMode))
    throw new ShapeError(op, `unknown paddingMode "${paddingMode}"; known are zeros, border, reflection`);
  const [b, c, h, w] = x.dims(4);
  const [, rows, columns] = grid.dims(4);
  const reading = { mode, paddingMode, alignCorners };
  const at = (axis: 0 | 1, size: number) =>
    inPixels(
      grid
        .narrow(3, axis, 1)
        .to("f32")
        .reshape([b, 1, rows * columns]),
      size,
      alignCorners,
    );
  const picture = { pixels: x.to("f32").reshape([b, c, h * w]), h, w };
  return samplers[mode](picture, at(0, w), at(1, h), reading).reshape([b, c, rows, columns]).to(x.dtype);
}

/** A picture as rows one after the other. */
interface Flat {
  /** [b, c, h · w] */
  readonly pixels: Tensor;
  readonly h: number;
  readonly w: number;
}

/** Places from -1…1 to pixels, 0 the center of the first. */
const inPixels = (at: Tensor, size: number, alignCorners: boolean): Tensor =>
  alignCorners ? at.add(1).mul((size - 1) / 2) : at.add(1).mul(size).sub(1).mul(0.5);

/** Places with those outside brought to the border, or mirrored at it. */
function padded(at: Tensor, size: number, { paddingMode, alignCorners }: Reading): Tensor {
  if (paddingMode === "zeros") return at;
  const inside = paddingMode === "border" ? at : mirrored(at, alignCorners ? 0 : -0.5, alignCorners ? size - 1 : size);
  return inside.clamp(0, size - 1);
}

/** Places mirrored into low … low + span, as often as they need it. */
function mirrored(at: Tensor, low: number, span: number): Tensor {
  if (span === 0) return at.mul(0);
  const distance = at.sub(low).abs();
  const flips = distance.div(span).floor();
  const rest = distance.sub(flips.mul(span));
  const isEven = flips.mul(0.5).floor().mul(2).eq(flips);
  return isEven.where(rest, rest.rsub(span)).add(low);
}

/** Pixels at whole places x and y [b, 1, n] → [b, c, n]; 0 outside. */
function pixelsAt({ pixels, h, w }: Flat, x: Tensor, y: Tensor): Tensor {
  const whole = (at: Tensor, size: number) => at.clamp(0, size - 1).to("i32");
  // Of places that are no numbers, whose integer is anything.
  const index = whole(y, h)
    .mul(w)
    .add(whole(x, w))
    .clamp(0, h * w - 1);
  const [b, c] = pixels.dims(3);
  const isInside = x
    .ge(0)
    .and(x.le(w - 1))
    .and(y.ge(0))
    .and(y.le(h - 1));
  return isInside.where(pixels.gather(2, index.expand(b, c, index.dim(2))), 0);
}

type Sampler = (picture: Flat, x: Tensor, y: Tensor, reading: Reading) => Tensor;

const nearest: Sampler = (picture, x, y, reading) =>
  pixelsAt(picture, padded(x, picture.w, reading).round(), padded(y, picture.h, reading).round());

const bilinear: Sampler = (picture, x, y, reading) => {
  const [px, py] = [padded(x, picture.w, reading), padded(y, picture.h, reading)];
  const [left, top] = [px.floor(), py.floor()];
  const [right, below] = [px.sub(left), py.sub(top)];
  const row = (at: Tensor) =>
    pixelsAt(picture, left, at)
      .mul(right.rsub(1))
      .add(pixelsAt(picture, left.add(1), at).mul(right));
  return row(top)
    .mul(below.rsub(1))
    .add(row(top.add(1)).mul(below));
};

/** Weights of the four pixels around a place, t after the second of them: Keys' cubic with a = -0.75, as torch's. */
function cubicWeights(t: Tensor): readonly Tensor[] {
  const a = -0.75;
  const near = (d: Tensor) =>
    d
      .mul(a + 2)
      .sub(a + 3)
      .mul(d)
      .mul(d)
      .add(1);
  const far = (d: Tensor) =>
    d
      .mul(a)
      .sub(5 * a)
      .mul(d)
      .add(8 * a)
      .mul(d)
      .sub(4 * a);
  return [far(t.add(1)), near(t), near(t.rsub(1)), far(t.rsub(2))];
}

const bicubic: Sampler = (picture, x, y, reading) => {
  const [left, top] = [x.floor(), y.floor()];
  const [across, down] = [cubicWeights(x.sub(left)), cubicWeights(y.sub(top))];
  const columns = [-1, 0, 1, 2].map((k) => padded(left.add(k), picture.w, reading));
  const rows = [-1, 0, 1, 2].map((k) => padded(top.add(k), picture.h, reading));
  const sum = (terms: readonly Tensor[]) => terms.reduce((total, term) => total.add(term));
  return sum(rows.map((row, i) => sum(columns.map((column, k) => pixelsAt(picture, column, row).mul(across[k]!))).mul(down[i]!)));
};

const samplers: Readonly<Record<Reading["mode"], Sampler>> = { bilinear, nearest, bicubic };
