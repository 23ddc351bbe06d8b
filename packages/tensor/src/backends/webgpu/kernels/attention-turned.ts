// Values of attention as f16 with rows and columns exchanged: [batch, heads, parts x width, keys], zeros beyond the last key. Matrix units want the
// order of keys in fragments of values, so that without this they read them two bytes at a time.
import type { View } from "../../../view.ts";
import type { ProgramSpec } from "../pipelines.ts";
import { formatFunctions } from "../wgsl/formats.ts";
import { type HeadSource, headSource, pairFunctions, times } from "./attention-parts.ts";
import { turnedPitch } from "./attention-plan.ts";
import { bindView, bytesOfView, type KernelContext } from "./context.ts";
import { stagingFunctions } from "./gemm-staging.ts";

/** Values, the parts they go into, and memory for them. */
interface Values {
  readonly view: View;
  readonly parts: number;
  readonly scaled: boolean;
  readonly rows: View;
}

/** Records the exchange; `largest` are the words of `largestHeads`, where there are any. */
export function recordTurned(ctx: KernelContext, values: Values, largest: View | undefined): void {
  const { view, rows } = values;
  const [batch, heads, keys, width] = view.layout.shape as [number, number, number, number];
  const source = headSource(ctx, "v", view);
  const blocks = turnedPitch(keys) / 32;
  const count = batch * heads * blocks * width;
  const groups = Math.min(16384, Math.ceil(count / 256));
  ctx.record({
    op: "attention",
    program: ctx.program(`turned|${source.key}|${[width, values.parts, values.scaled, largest !== undefined].join()}`, () =>
      turnedSpec(width, values, source, largest !== undefined),
    ),
    bindings: [source.bound.binding, ...[rows, ...(largest ? [largest] : [])].map((v) => bindView(ctx, "attention", v).binding)],
    params: [groups, count, keys, blocks, ...source.values],
    grid: groups,
    bytes: bytesOfView(view) + bytesOfView(rows),
  });
}

function turnedSpec(width: number, values: Values, source: HeadSource, measured: boolean): ProgramSpec {
  return {
    label: "values of attention as f16, turned",
    bindings: [
      { name: "v", type: source.type },
      { name: "v_half", type: "array<vec4<u32>>", write: true },
      ...(measured ? [{ name: "largest", type: "array<u32>" }] : []),
    ],
    params: ["groups", "count", "keys", "blocks", ...source.params],
    workgroup: [256],
    enable: ["f16"],
    declarations: `${formatFunctions(source.text, true)}${source.text}${stagingFunctions}${pairFunctions}`,
    body: turnedBody(width, values),
  };
}

/** A thread takes eight keys of four columns; four neighbours take 32 keys, which are 64 bytes of a turned row. */
function turnedBody(width: number, { parts, scaled }: Values): string {
  const quads = width / 4;
  const down = scaled ? " * power(-scale_exponent(largest[2]))" : "";
  const load = (n: number): string =>
    `let x${n} = select(vec4<f32>(), v4(base, min(i + ${n}u, p.keys - 1u), c)${down}, i + ${n}u < p.keys);`;
  const partOf = (part: number, quad: string): string => (parts === 1 ? quad : part === 0 ? `high_part(${quad})` : `low_part(${quad})`);
  const store = (part: number, j: number): string => {
    const [a, b] = [0, 4].map((first) => `vec4<f32>(${times(4, (n) => `x${first + n}[${j}]`).join(", ")})`) as [string, string];
    const row = `(h * ${parts}u + ${part}u) * ${width}u + 4u * c + ${j}u`;
    return `v_half[(${row}) * (4u * p.blocks) + i / 8u] = bits(${partOf(part, a)}, ${partOf(part, b)});`;
  };
  return `for (var t = wg * 256u + lid; t < p.count; t += p.groups * 256u) {
    let c = (t / 4u) % ${quads}u; let step = t / ${4 * quads}u;
    let h = step / p.blocks; let i = (step % p.blocks) * 32u + (t % 4u) * 8u; let base = v_head(h);
    ${times(8, load).join("\n    ")}
    ${times(parts, (part) => times(4, (j) => store(part, j)).join("\n    ")).join("\n    ")}
  }`;
}
