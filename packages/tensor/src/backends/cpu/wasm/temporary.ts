// Memory for the time of one call.
import { bytesOf, type DType } from "../../../dtype.ts";
import { contiguousLayout } from "../../../layout.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import { CpuBuffer } from "../memory.ts";
import type { Arena } from "./arena.ts";

/** What `run` gives for a contiguous view of undefined contents; false when there is no room for it. */
export function withTemporary(arena: Arena, shape: readonly number[], dtype: DType, run: (view: View) => boolean): boolean {
  const byteLength = bytesOf(dtype, sizeOf(shape));
  const region = arena.take(Math.max(64, Math.ceil(byteLength / 64) * 64));
  if (!region) return false;
  try {
    return run({ buffer: new CpuBuffer(byteLength, "temporary", region), dtype, layout: contiguousLayout(shape) });
  } finally {
    arena.give(region);
  }
}
