// The simulator finds what it is for: wrong indices, missing barriers, accesses out of bounds, undefined memory, control flow that is not uniform.

import { relativeL2 } from "@wick/testing";
import { describe, expect, it } from "vitest";
import { permuteLayout } from "../../src/layout.ts";
import { Pair } from "../gpu/pair.ts";
import { Compiler } from "./compile.ts";
import { Memory } from "./memory.ts";
import { halfBits, halfValue } from "./values.ts";
import { simulated, simulatedVariant, type VendorName } from "./vendors.ts";
import { runDispatch } from "./workgroup.ts";

/** Runs one workgroup of a kernel over 64 words; gives the words. */
function run(body: string, globals = "", threads = 8): Uint32Array {
  const code = `@group(0) @binding(0) var<storage, read_write> out: array<u32>;\nvar<workgroup> w: array<u32, 8>;\n${globals}
@compute @workgroup_size(${threads})
fn main(@builtin(local_invocation_index) lid: u32, @builtin(subgroup_invocation_id) lane: u32) {\n${body}\n}`;
  const kernel = new Compiler(code).kernel();
  const buffer = new ArrayBuffer(256);
  const storage = new Map([["out", new Memory("out", buffer, 0, 256, "shared")]]);
  runDispatch({ kernel, storage, params: {}, grid: [1, 1, 1], subgroupSize: 4 });
  return new Uint32Array(buffer);
}

describe("kernels run as WGSL says", () => {
  it("integers wrap, shifts keep or drop signs, division truncates", () => {
    const [a, b, c, d] = run(
      "out[0] = 0xffffffffu + 2u; out[1] = 65537u * 65537u; out[2] = bitcast<u32>(-7 / 2); out[3] = bitcast<u32>(-8 >> 1u);",
      "",
      1,
    );
    expect([a, b, c! | 0, d! | 0]).toEqual([1, 131073, -3, -4]);
  });

  it("vectors are values, and can be changed by element", () => {
    const words = run(
      "var v = vec4<u32>(1u, 2u, 3u, 4u); let u = v; v[1] = 9u; v.z += 5u; let t = (u + v).wx; out[0] = v.y; out[1] = u.y; out[2] = t.x; out[3] = v.z;",
      "",
      1,
    );
    expect([...words.subarray(0, 4)]).toEqual([9, 2, 8, 8]);
  });

  it("f16 rounds to nearest even, from f32 and through memory", () => {
    for (const v of [0, 1 / 3, 65504, 65519, 65520, 1e-8, 2 ** -25, 2 ** -24 * 1.5, 6.1e-5, 2049, 2051, Infinity, -2.5]) {
      const want = new Float32Array([v])[0]!;
      expect(halfValue(halfBits(want)), String(v)).toBe(nearestHalf(want));
    }
    const [word] = run("out[0] = bitcast<u32>(vec2<f16>(f16(1.5), f16(0.333251953125)));", "", 1);
    expect(word).toBe(0x35553e00);
  });

  it("barriers, shuffles and atomics let invocations meet", () => {
    const words = run(
      "w[lid] = lid; workgroupBarrier(); let other = w[7u - lid]; let sum = subgroupAdd(other); out[lid] = sum + subgroupShuffleXor(lane, 1u); atomicAdd(&out2[0], 1u);",
      "var<workgroup> out2: array<atomic<u32>, 1>;",
    );
    expect([...words.subarray(0, 8)]).toEqual([23, 22, 25, 24, 7, 6, 9, 8]);
  });
});

/** The nearest f16 by trying all of them. */
function nearestHalf(v: number): number {
  if (Math.abs(v) >= 65520) return v > 0 ? Infinity : -Infinity;
  const all = Array.from({ length: 0x7c00 }, (_, h) => halfValue(h));
  const best = all.reduce((a, b, i) =>
    Math.abs(b - Math.abs(v)) < Math.abs(a - Math.abs(v)) || (b - Math.abs(v) === Math.abs(v) - a && i % 2 === 0) ? b : a,
  );
  return v < 0 ? -best : best;
}

describe("errors of kernels are refused", () => {
  it.each([
    ["out of bounds", "out[64u + lid] = 1u;", /index 64 of out, which has 64 elements/],
    ["undefined memory", "out[lid] = w[lid];", /read of undefined memory at byte 0 of w/],
    ["a missing barrier", "w[lid] = lid; out[lid] = w[lid ^ 1u];", /undefined|race/],
    ["two writers", "w[0] = lid;", /race: write after another's write at byte 0 of w/],
    [
      "a write too early",
      "w[lid] = lid; workgroupBarrier(); out[lid] = w[0]; if (lid == 7u) { w[0] = 1u; }",
      /race: write after another's read/,
    ],
    ["two writers of one result", "out[lid / 2u] = lid;", /race: write after another's write at byte 0 of out/],
    ["a barrier for some", "if (lid < 4u) { workgroupBarrier(); }", /wait at workgroupBarrier in line \d+ and the end/],
    ["half a subgroup", "if (lid < 2u) { out[lid] = subgroupAdd(lid); }", /one subgroup wait at subgroupAdd in line \d+ and the end/],
    ["division by zero", "out[lid] = 5u / (lid - lid);", /division of an integer by zero/],
  ])("%s", (_name, body, message) => {
    expect(() => run(body)).toThrow(message);
  });
});

const swap = (l: Parameters<typeof permuteLayout>[0]): typeof l => permuteLayout(l, [1, 0]);

type Kind = "product" | "product fetched ahead" | "attention" | "attention of growing scores";

/** Relative error of a product (or attention) whose kernel was changed, or the simulator's message. */
async function outcome(vendor: VendorName, kind: Kind, rewrite: (code: string) => string): Promise<number | string> {
  const change = (code: string): string => (code.includes("subgroupMatrixMultiply") ? rewrite(code) : code);
  const product = kind.startsWith("product");
  const variant = kind === "product" ? "matrix 2x2" : "matrix 2x2 ahead";
  const { options } = product ? await simulatedVariant(vendor, variant, { rewrite: change }) : simulated(vendor, { rewrite: change });
  const pair = await Pair.open(options);
  try {
    // Later keys are larger, so that the output is rescaled on the way.
    const growing = Float32Array.from({ length: 70 * 64 }, (_, i) => Math.sin(i * 1.7) * (1 + i / 640));
    const heads = (values?: Float32Array): ReturnType<Pair["tensor"]> => pair.tensor([1, 1, 70, 64], "f16", values);
    const { cpu, gpu } = product
      ? await pair.run(
          "matmul",
          pair.output([70, 40], "f32"),
          { a: pair.tensor([70, 72], "f16"), b: pair.tensor([40, 72], "f16", undefined, swap) },
          {},
        )
      : await pair.run(
          "attention",
          pair.output([1, 1, 70, 64], "f32"),
          { q: heads(), k: heads(kind === "attention" ? undefined : growing), v: heads() },
          { scale: 1, causal: false },
        );
    return relativeL2(gpu, cpu);
  } catch (error) {
    return String(error);
  }
}

/** Relative error of f32 attention when the low parts that `rewrite` finds in some kernels are 0. */
async function errorWithout(lowParts: "of weights" | "of operands" | "none"): Promise<number> {
  const texts = { "of weights": "return v - high_digits(v);", "of operands": "return v - high_part(v);" };
  const rewrite = (code: string): string => {
    const mine = code.includes("subgroupMatrixMultiply") ? "of weights" : "of operands";
    return mine === lowParts ? code.replace(texts[lowParts], "return vec4<f32>();") : code;
  };
  const pair = await Pair.open(simulated("NVIDIA", { rewrite }).options);
  const heads = (): ReturnType<Pair["tensor"]> => pair.tensor([1, 1, 40, 64]);
  const attrs = { scale: 1, causal: false };
  const { cpu, gpu } = await pair.run("attention", pair.output([1, 1, 40, 64], "f32"), { q: heads(), k: heads(), v: heads() }, attrs);
  return relativeL2(gpu, cpu);
}

/** The text without its i-th barrier. */
const withoutBarrier = (code: string, i: number): string => {
  let n = 0;
  return code.replaceAll("workgroupBarrier();", (b) => (n++ === i ? "" : b));
};

describe("mutations of the kernels are found", () => {
  it.each(["product", "product fetched ahead", "attention"] as const)("%s: as it is", async (kind) => {
    expect(await outcome("NVIDIA", kind, (code) => code)).toBeLessThan(1e-3);
  });

  it.each([
    ["product", "(down + 16u)", "(down + 8u)"],
    ["product", "t % 4u) * 4u", "t % 2u) * 4u"],
    ["product", "row_major>(&ss", "col_major>(&ss"],
    ["product fetched ahead", "1u - slot", "slot"],
    ["attention", "col_major>(&staged", "row_major>(&staged"],
    ["attention of growing scores", "sum *= shrink", "sum *= 1.0"],
    ["attention of growing scores", "score(at) * factors[group", "score(at) * factors[0u * group"],
  ] as const)("%s: %s becomes %s", async (kind, from, to) => {
    const found = await outcome("NVIDIA", kind, (code) => {
      expect(code).toContain(from);
      return code.replaceAll(from, to);
    });
    expect(typeof found === "string" || found > 0.01, String(found)).toBe(true);
  });

  it("attention of f32: without its low parts it misses the gate of f32", async () => {
    expect(await errorWithout("none")).toBeLessThan(4e-6);
    for (const kind of ["of weights", "of operands"] as const) expect(await errorWithout(kind), kind).toBeGreaterThan(4e-5);
  });

  it.each([["product"], ["product fetched ahead"], ["attention", "attention of growing scores"]] as const)(
    "%s: without any one of its barriers",
    async (...kinds) => {
      let count = 0;
      await outcome("NVIDIA", kinds[0], (code) => {
        count = code.split("workgroupBarrier();").length - 1;
        return code;
      });
      const noticed = async (i: number): Promise<boolean> => {
        for (const kind of kinds) if (typeof (await outcome("NVIDIA", kind, (code) => withoutBarrier(code, i))) === "string") return true;
        return false;
      };
      const unnoticed: number[] = [];
      for (let i = 0; i < count; i++) if (!(await noticed(i))) unnoticed.push(i);
      expect(count).toBeGreaterThan(2);
      expect(unnoticed).toEqual([]);
    },
  );
});
