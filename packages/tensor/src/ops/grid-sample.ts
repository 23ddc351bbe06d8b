// Pictures read at given places, as torch's grid_sample: warps, crops, rotations.
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

const modes = ["bilinear", "nearest", "bicubic"] as const;
const paddingModes = ["zeros", "border", "reflection"] as const;

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
  if (!modes.includes(mode)) throw new ShapeError(op, `unknown mode "${mode}"; known are ${modes.join(", ")}`);
  if (!paddingModes.includes(paddingMode))
    throw new ShapeError(op, `unknown paddingMode "${paddingMode}"; known are ${paddingModes.join(", ")}`);
  const out = x.device.empty([...x.shape.slice(0, 2), ...grid.shape.slice(1, 3)], x.dtype, op);
  const inputs = { x: x.contiguous().view, grid: grid.to("f32").contiguous().view };
  if (out.size > 0) x.device.backend.kernels.gridSample(out.view, inputs, { mode, paddingMode, alignCorners });
  return out;
}
