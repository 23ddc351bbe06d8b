// Matrix multiplication with subgroupBroadcast: each lane holds a row of a and four columns of the result, rows travel between lanes
// without memory or barriers. Fastest on software drivers; real GPUs have better ways.
import type { DeviceTraits } from "../limits.ts";
import type { Finish } from "./finish.ts";
import { type Gemm, type GemmSize, gemmSpec, storeRow, times, withBatch } from "./gemm-parts.ts";
import type { MatrixSource } from "./matmul.ts";

/** Whether the broadcast kernel is the one to take. */
export function wantsBroadcast(traits: DeviceTraits, size: GemmSize, a: MatrixSource, b: MatrixSource, finish: Finish): boolean {
  const { tier, software, subgroupSize } = traits;
  const work = 2 * size.m * size.n * size.k * size.batch;
  // Element-wise access would make the kernel too long for software drivers to compile in time.
  const vectors = a.quad && b.quad && finish.quad;
  return (
    vectors && tier !== "plain" && software && (subgroupSize === 4 || subgroupSize === 8) && a.along === "k" && size.m >= 16 && work >= 4e6
  );
}

/** One subgroup per workgroup: 16 rows x 4 columns per lane. */
export function broadcastTile(lanes: number, size: GemmSize, a: MatrixSource, b: MatrixSource, finish: Finish): Gemm {
  const rows = 16;
  const width = 4 * lanes;
  return {
    key: `b${lanes}`,
    grid: withBatch(Math.ceil(size.m / rows) * Math.ceil(size.n / width), size.batch),
    spec: () => {
      const body = `let z = wid.z;
  let across = (p.n + ${width - 1}u) / ${width}u;
  let r0 = (wg / across) * ${rows}u;
  let c0 = (wg % across) * ${width}u + lane * 4u;
  if (r0 >= p.m) { return; }
  ${times(rows, (i) => `var s${i} = vec4<f32>();`).join(" ")}
  for (var k = 0u; k < p.k; k += 4u) {
    ${times(rows / lanes, (g) => `let a${g} = a_k4(z, min(r0 + ${g * lanes}u + lane, p.m - 1u), k);`).join(" ")}
    ${columnsText(b)}
    ${times(4, (q) => times(rows, (i) => `s${i} += subgroupBroadcast(a${Math.floor(i / lanes)}.${"xyzw"[q]}, ${i % lanes}u) * b${q};`).join(" ")).join("\n    ")}
  }
  ${times(rows, (i) => storeRow(finish, `(r0 + ${i}u)`, "c0", `s${i}`)).join("\n  ")}`;
      const builtins = ["@builtin(subgroup_invocation_id) lane: u32"];
      return gemmSpec(`matmul broadcast ${rows}x${width}`, lanes, a, b, finish, "", body, { enable: ["subgroups"], builtins });
    },
  };
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
