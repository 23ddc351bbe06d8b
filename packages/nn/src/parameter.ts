// A parameter: a tensor that is declared (shape) when its module is built and filled (data) when weights are loaded.
import { type DType, type Shape, ShapeError, Tensor } from "@wick/tensor";

/** A tensor that is declared (shape) before it is loaded (dtype, device, values). */
export class Parameter extends Tensor {
  constructor(shape: Shape) {
    if (!shape.every((d) => Number.isInteger(d) && d >= 0))
      throw new ShapeError(
        "param",
        `a dimension must be a whole number of at least 0: [${shape.join(", ")}]; does a width divide by its heads?`,
      );
    super(undefined, "f32", rowMajorLayout(shape), undefined);
  }

  /** Takes over the data of `source` (same shape, row-major, any dtype); the source may be disposed afterwards. */
  fill(source: Tensor): void {
    const same = source.rank === this.rank && source.shape.every((d, i) => d === this.shape[i]);
    if (!same) throw new ShapeError("fill", `the data has another shape: parameter ${this}, data ${source}`);
    const { layout } = source;
    const plain = layout.offset === 0 && layout.strides.every((s, i) => s === this.layout.strides[i] || this.shape[i] === 1);
    if (!plain) throw new ShapeError("fill", `the data is a strided view: ${source}; call copy() first`);
    source.compute();
    this.bind(source.device, source.dtype, source.storage());
  }

  /** Drops the data: back to declared. */
  unload(): void {
    this.unbind_();
  }
  /** Releases the data; the parameter can be loaded again. */
  override dispose(): void {
    this.unload();
  }

  /** The dtype the data has, or undefined before loading. */
  get loadedDType(): DType | undefined {
    return this.hasData ? this.dtype : undefined;
  }
}

function rowMajorLayout(shape: Shape): { shape: Shape; strides: number[]; offset: number } {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i]!;
  }
  return { shape, strides, offset: 0 };
}

/** Declares a parameter of this shape; throws ShapeError for dimensions that are none. */
export const param = (...shape: number[]): Parameter => new Parameter(shape);
