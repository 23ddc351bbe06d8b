// argsort: stable order of rows; NaN is the largest value.
import type { Kernel } from "../../../ops/table.ts";
import { readOne, rowOffsets, writeBlock } from "./access.ts";

/** out = indices that sort the last dimension of x, see the op table. */
export const argsort: Kernel<"argsort"> = (out, { x }, { descending }) => {
  const { rows, at } = rowOffsets(x.layout);
  const width = x.layout.shape.at(-1)!;
  const step = x.layout.strides.at(-1)!;
  const row = new Float64Array(width);
  const order = new Int32Array(width);
  const compare = descending
    ? (a: number, b: number) => ascending(row[b]!, row[a]!)
    : (a: number, b: number) => ascending(row[a]!, row[b]!);
  for (let r = 0; r < rows; r++) {
    for (let i = 0; i < width; i++) {
      row[i] = readOne(x, at(r) + i * step);
      order[i] = i;
    }
    order.sort(compare);
    writeBlock(out, out.layout.offset + r * width, 1, order, 0, width);
  }
};

function ascending(a: number, b: number): number {
  if (Number.isNaN(a)) return Number.isNaN(b) ? 0 : 1;
  return Number.isNaN(b) ? -1 : a < b ? -1 : a > b ? 1 : 0;
}
