// map: elementwise expressions over strided inputs.
import type { Kernel } from "../../../ops/table.ts";
import { blockLength, Walker, Writer } from "./access.ts";
import { Program, viewSource } from "./expression.ts";

/** out = expr(inputs…), see the op table. */
export const map: Kernel<"map"> = (out, { inputs }, { expr }) => {
  const { size } = new Walker(out.layout);
  if (size === 0) return;
  const program = new Program(expr, inputs.map(viewSource), Math.min(blockLength, size));
  const writer = new Writer(out);
  for (let start = 0; start < size; start += blockLength) {
    const count = Math.min(blockLength, size - start);
    writer.put(start, count, program.run(start, count));
  }
};
