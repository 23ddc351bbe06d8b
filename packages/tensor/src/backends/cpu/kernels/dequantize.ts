// dequantize: f8 and block-quantized formats to floats, a stretch of whole blocks at a time.
import type { Kernel } from "../../../ops/table.ts";
import { blockLength, writeBlock } from "./access.ts";
import { expandRow } from "./gather.ts";

/** out = the values of x, see the op table. Stretches of 1024 are whole blocks of every format. */
export const dequantize: Kernel<"dequantize"> = (out, { x }) => {
  const size = x.layout.shape.reduce((n, d) => n * d, 1);
  const block = new Float32Array(Math.min(blockLength, size));
  for (let start = 0; start < size; start += blockLength) {
    const values = block.subarray(0, Math.min(blockLength, size - start));
    expandRow(x, x.layout.offset + start, values);
    writeBlock(out, out.layout.offset + start, 1, values, 0, values.length);
  }
};
