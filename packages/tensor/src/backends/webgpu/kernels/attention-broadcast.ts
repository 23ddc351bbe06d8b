// Attention of software drivers with subgroups: one subgroup per workgroup owns 16 queries; each lane holds four keys of the scores and four
// columns of the output. Queries and weights travel between lanes by broadcast and shuffle: with barriers these drivers compile for a minute.

import type { ProgramSpec } from "../pipelines.ts";
import type { DeviceTraits } from "../traits.ts";
import { type AttentionSize, type AttentionText, attentionSpec, type Flash, locate, times } from "./attention-parts.ts";

const rows = 16;
/** Operations below which the shorter kernel's faster compilation wins. */
const worthCompiling = 4e6;
/** Output columns of one workgroup; for wider ones the scores are computed again, because more memory per lane compiles for minutes. */
const widestOutput = 128;

/** The kernel, or undefined where it does not serve. */
export function broadcastAttention({ tier, software, subgroupSize: lanes }: DeviceTraits, size: AttentionSize): Flash | undefined {
  if (tier === "plain" || !software || (lanes !== 4 && lanes !== 8) || size.work < worthCompiling) return undefined;
  const chunk = Math.min(size.valueWidth, widestOutput);
  return { key: `b${lanes},${chunk}`, rows, chunk, spec: (text) => broadcastSpec(lanes, chunk, text) };
}

function broadcastSpec(lanes: number, chunk: number, text: AttentionText): ProgramSpec {
  const blocks = Math.ceil(chunk / (4 * lanes));
  const keys = 4 * lanes;
  const groups = rows / lanes;
  const extra = `fn logit(head: u32, i: u32, j: u32, limit: u32, s: f32) -> f32 {
  if (j >= limit) { return -3.4e38; }
  return masked(head, i, j, s);
}
fn weight(s: f32, m: f32) -> f32 { return select(f_exp(s - m), 0.0, s <= -3.0e38); }
`;
  const body = `${locate(rows, chunk)}
  let i0 = (rest / chunks) * ${rows}u;
  if (head >= p.total) { return; }
  var o: array<vec4<f32>, ${rows * blocks}>;
  var m: array<f32, ${rows}>;
  var sum: array<f32, ${rows}>;
  var grown: array<f32, ${rows}>;
  var x: array<vec4<f32>, ${rows}>;
  for (var r = 0u; r < ${rows}u; r++) { m[r] = -3.4e38; sum[r] = 0.0; }
  for (var r = 0u; r < ${rows * blocks}u; r++) { o[r] = vec4<f32>(); }
  let last = key_limit(b, min(i0 + ${rows - 1}u, p.l - 1u));
  for (var j0 = 0u; j0 < last; j0 += ${keys}u) {
    let j = j0 + lane * 4u;
    ${times(4, (c) => `let key${c} = min(j + ${c}u, p.s - 1u);`).join(" ")}
    ${times(rows, (r) => `var s${r} = vec4<f32>();`).join(" ")}
    for (var d = 0u; d < p.quads; d++) {
      ${times(groups, (g) => `let q${g} = q4(qb, min(i0 + ${g * lanes}u + lane, p.l - 1u), d);`).join(" ")}
      ${times(4, (c) => `let t${c} = k4(kb, key${c}, d);`).join(" ")}
      ${times(4, (e) => `let k${e} = vec4<f32>(${times(4, (c) => `t${c}.${"xyzw"[e]}`).join(", ")});`).join(" ")}
      ${times(rows, (r) => `s${r} += ${times(4, (e) => `subgroupBroadcast(q${Math.floor(r / lanes)}.${"xyzw"[e]}, ${r % lanes}u) * k${e}`).join(" + ")};`).join("\n      ")}
    }
    ${times(rows, (r) => `x[${r}] = s${r};`).join(" ")}
    for (var r = 0u; r < ${rows}u; r++) {
      let i = min(i0 + r, p.l - 1u);
      let limit = key_limit(b, i);
      let t = x[r] * p.scale;
      let s = vec4<f32>(${times(4, (c) => `logit(head, i, j + ${c}u, limit, t[${c}])`).join(", ")});
      let best = max(m[r], subgroupMax(max(max(s.x, s.y), max(s.z, s.w))));
      let w = vec4<f32>(${times(4, (c) => `weight(s[${c}], best)`).join(", ")});
      grown[r] = select(f_exp(m[r] - best), 1.0, best <= m[r]);
      m[r] = best;
      sum[r] = sum[r] * grown[r] + ((w.x + w.y) + (w.z + w.w));
      x[r] = w;
    }
    ${times(rows, (r) => `let w${r} = x[${r}];`).join(" ")}
    for (var block = 0u; block < ${blocks}u; block++) {
      let column = min(v0 + block * ${lanes}u + lane, p.vw / 4u - 1u);
      let at = block * ${rows}u;
      ${times(rows, (r) => `var o${r} = o[at + ${r}u] * grown[${r}];`).join(" ")}
      for (var source = 0u; source < ${lanes}u; source++) {
        let key = j0 + source * 4u;
        ${times(4, (c) => `let v${c} = v4(vb, min(key + ${c}u, p.s - 1u), column);`).join(" ")}
        ${times(rows, (r) => `{ let w = subgroupShuffle(w${r}, source); o${r} += (w.x * v0 + w.y * v1) + (w.z * v2 + w.w * v3); }`).join(" ")}
      }
      ${times(rows, (r) => `o[at + ${r}u] = o${r};`).join(" ")}
    }
  }
  for (var r = 0u; r < ${rows}u; r++) {
    let total = subgroupAdd(sum[r]);
    let scale = select(1.0 / total, 0.0, total == 0.0);
    for (var block = 0u; block < ${blocks}u; block++) {
      let column = v0 + block * ${lanes}u + lane;
      if (i0 + r < p.l && column < min(p.vw, v0 * 4u + ${chunk}u) / 4u) { put4(ob, i0 + r, column, o[block * ${rows}u + r] * scale); }
    }
  }`;
  return attentionSpec("attention broadcast", text, extra, body, {
    workgroup: [lanes],
    enable: ["subgroups"],
    builtins: ["@builtin(subgroup_invocation_id) lane: u32"],
  });
}
