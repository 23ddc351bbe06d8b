// A part of the golden rows for devices where every new kernel costs a slow compilation (software drivers, browsers).
import type { Row } from "./run.ts";

/** At most `f32Rows` rows of every op in f32 and `otherRows` in each other dtype, evenly spread over its layouts and cases. */
export function sampleRows(rows: readonly Row[], f32Rows: number, otherRows: number): readonly Row[] {
  const byKind = new Map<string, Row[]>();
  for (const row of rows) {
    const key = `${row.op} ${row.dtype}`;
    const group = byKind.get(key);
    if (group) group.push(row);
    else byKind.set(key, [row]);
  }
  return [...byKind.values()].flatMap((group) => {
    const count = Math.min(group.length, group[0]!.dtype === "f32" ? f32Rows : otherRows);
    return Array.from({ length: count }, (_, i) => group[Math.floor((i * group.length) / count)]!);
  });
}
