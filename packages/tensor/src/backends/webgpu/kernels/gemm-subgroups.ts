// Matrix multiplication with subgroupBroadcast: each lane holds a row of a and four columns of the result, and rows travel between lanes
// without memory or barriers.
import type { DeviceTraits } from "../traits.ts";
import type { Finish } from "./finish.ts";
import { type Gemm, type GemmSize, gemmSpec, storeRow, times, withBatch } from "./gemm-parts.ts";
import type { BroadcastVariant } from "./gemm-variants.ts";
import type { MatrixSource } from "./matrix-source.ts";

/** Whether a variant can run here: subgroups of a known size that the rows divide evenly or fit into. */
export function canBroadcast({ tier, subgroupSize: lanes }: DeviceTraits, { rows }: BroadcastVariant, a: MatrixSource): boolean {
  return tier !== "plain" && lanes >= 4 && (rows % lanes === 0 || lanes % rows === 0) && a.along === "k";
}

/** One subgroup per workgroup: `rows` rows x 4 columns per lane. The caller has asked `canBroadcast`. */
export function broadcastTile(
  { subgroupSize: lanes, pinSubgroups, f16, software }: DeviceTraits,
  { rows }: BroadcastVariant,
  size: GemmSize,
  a: MatrixSource,
  b: MatrixSource,
  finish: Finish,
): Gemm {
  const width = 4 * lanes;
  const builtins = ["@builtin(subgroup_invocation_id) lane: u32"];
  // Software drivers convert f16 faster by integers.
  const more = {
    enable: f16 && !software ? ["f16", "subgroups"] : ["subgroups"],
    builtins,
    ...(pinSubgroups ? { subgroupSize: lanes } : {}),
  };
  return {
    key: `b${lanes}x${rows}`,
    grid: withBatch(Math.ceil(size.m / rows) * Math.ceil(size.n / width), size.batch),
    spec: () => gemmSpec(`matmul broadcast ${rows}x${width}`, lanes, a, b, finish, "", broadcastBody(lanes, rows, b, finish), more),
  };
}

function broadcastBody(lanes: number, rows: number, b: MatrixSource, finish: Finish): string {
  const width = 4 * lanes;
  const held = Math.min(lanes, rows);
  const lane = held === lanes ? "lane" : `lane % ${held}u`;
  const value = (i: number, q: number): string => `subgroupBroadcast(a${Math.floor(i / held)}.${"xyzw"[q]}, ${i % held}u)`;
  return `let z = wid.z;
  let across = (p.n + ${width - 1}u) / ${width}u;
  let r0 = (wg / across) * ${rows}u;
  let c0 = (wg % across) * ${width}u + lane * 4u;
  if (r0 >= p.m) { return; }
  ${times(rows, (i) => `var s${i} = vec4<f32>();`).join(" ")}
  for (var k = 0u; k < p.k; k += 4u) {
    ${times(rows / held, (g) => `let a${g} = a_k4(z, min(r0 + ${g * held}u + ${lane}, p.m - 1u), k);`).join(" ")}
    ${columnsText(b)}
    ${times(4, (q) => times(rows, (i) => `s${i} += ${value(i, q)} * b${q};`).join(" ")).join("\n    ")}
  }
  ${times(rows, (i) => storeRow(finish, `(r0 + ${i}u)`, "c0", `s${i}`)).join("\n  ")}`;
}

/** Statements defining b0…b3: four columns of b at k…k+3. */
function columnsText(b: MatrixSource): string {
  if (b.along === "r") {
    const column = b.quad ? "min(c0, p.n - 4u)" : "c0";
    return times(4, (j) => `let b${j} = b_r4(z, ${column}, k + ${j}u);`).join(" ");
  }
  const loads = times(4, (j) => `let t${j} = b_k4(z, min(c0 + ${j}u, p.n - 1u), k);`).join(" ");
  return `${loads} ${times(4, (q) => `let b${q} = vec4<f32>(${times(4, (j) => `t${j}.${"xyzw"[q]}`).join(", ")});`).join(" ")}`;
}
