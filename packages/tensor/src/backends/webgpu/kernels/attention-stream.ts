// The attention kernel of software drivers without subgroups: one thread per query.

import type { ProgramSpec } from "../pipelines.ts";
import { type AttentionSize, type AttentionText, attentionSpec, type Flash, locate } from "./attention-parts.ts";

/** Columns of v that one thread owns at most; wider outputs compute the scores again, because more memory per thread compiles slowly. */
const widestOutput = 128;

/** The kernel for software drivers. */
export function streamAttention({ valueWidth }: AttentionSize): Flash {
  const chunk = Math.min(valueWidth, widestOutput);
  return { key: `s${chunk}`, rows: 64, chunk, spec: (text) => streamSpec(chunk, text) };
}

/**
 * One thread per query; all threads of a workgroup read the same keys, so their loads are uniform. Loop bounds are parameters, not
 * constants: software drivers take minutes to compile the unrolled loops.
 */
function streamSpec(chunk: number, text: AttentionText): ProgramSpec {
  const body = `${locate(64, chunk)}
  let i = (rest / chunks) * 64u + lid;
  if (head >= p.total || i >= p.l) { return; }
  let values = min(${chunk / 4}u, p.vw / 4u - v0);
  var o: array<vec4<f32>, ${chunk / 4}>;
  for (var d = 0u; d < values; d++) { o[d] = vec4<f32>(); }
  var m = -3.4e38; var sum = 0.0;
  let limit = key_limit(b, i);
  for (var j = 0u; j < limit; j += 4u) {
    let j1 = min(j + 1u, p.s - 1u); let j2 = min(j + 2u, p.s - 1u); let j3 = min(j + 3u, p.s - 1u);
    var a0 = vec4<f32>(); var a1 = vec4<f32>(); var a2 = vec4<f32>(); var a3 = vec4<f32>();
    for (var d = 0u; d < p.quads; d++) {
      let x = q4(qb, i, d);
      a0 += x * k4(kb, j, d); a1 += x * k4(kb, j1, d); a2 += x * k4(kb, j2, d); a3 += x * k4(kb, j3, d);
    }
    let dots = vec4<f32>((a0.x + a0.y) + (a0.z + a0.w), (a1.x + a1.y) + (a1.z + a1.w), (a2.x + a2.y) + (a2.z + a2.w), (a3.x + a3.y) + (a3.z + a3.w)) * p.scale;
    var s: vec4<f32>;
    for (var t = 0u; t < min(4u, limit - j); t++) { s[t] = masked(head, i, j + t, dots[t]); }
    s = select(vec4<f32>(-3.4e38), s, vec4<u32>(j, j + 1u, j + 2u, j + 3u) < vec4<u32>(limit));
    let best = max(max(m, max(s.x, s.y)), max(s.z, s.w));
    let c = select(f_exp(m - best), 1.0, best <= m);
    m = best;
    let w = vec4<f32>(weight(s.x, m), weight(s.y, m), weight(s.z, m), weight(s.w, m));
    sum = sum * c + ((w.x + w.y) + (w.z + w.w));
    for (var d = 0u; d < values; d++) {
      let at = v0 + d;
      o[d] = o[d] * c + (w.x * v4(vb, j, at) + w.y * v4(vb, j1, at) + (w.z * v4(vb, j2, at) + w.w * v4(vb, j3, at)));
    }
  }
  let r = select(1.0 / sum, 0.0, sum == 0.0);
  for (var d = 0u; d < values; d++) { put4(ob, i, v0 + d, o[d] * r); }`;
  const extra = "fn weight(s: f32, m: f32) -> f32 { return select(f_exp(s - m), 0.0, s <= -3.0e38); }\n";
  return attentionSpec("attention", text, extra, body);
}
