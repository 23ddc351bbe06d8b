// Machine code as Mesa's compilers printed it for one small kernel (two loads into shared memory, one product of fragments in a loop of 100): what
// bench/gpu-code.ts reads from it.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import * as amd from "../machine-code/amd.ts";
import { chips } from "../machine-code/chips.ts";
import { cells, figuresOf, titles } from "../machine-code/figures.ts";
import * as nvidia from "../machine-code/nvidia.ts";
import { type Block, hotLoop, type Instruction, type Kind, loopsOf, type Program, usualTurn } from "../machine-code/program.ts";

const recorded = (name: string): string => readFileSync(fileURLToPath(new URL(`fixtures/${name}.txt`, import.meta.url)), "utf8");

describe("NAK", () => {
  const text = recorded("nak-hopper");

  it("gives the loop with the matrix instructions, its copies and its memory", () => {
    const figures = figuresOf(chips["hopper"]!, chips["hopper"]!.parse(text)!, 32, 32);
    expect(figures).toMatchObject({ registers: 32, spills: 0, sharedBytes: 2048, instructions: 83 });
    const { count, bytes, instructions, cycles, perMatrix, sharedPerMatrix } = figures.loop!;
    expect(count).toMatchObject({
      matrix: 2,
      sharedLoad: 2,
      sharedStore: 1,
      globalLoad: 1,
      move: 26,
      integer: 4,
      branch: 2,
      wait: 4,
      barrier: 0,
    });
    expect(bytes).toEqual({ sharedLoad: 32, sharedStore: 16, globalLoad: 16, globalStore: 0 });
    expect({ instructions, cycles }).toEqual({ instructions: 42, cycles: 88 });
    expect(perMatrix).toBe(19);
    expect(sharedPerMatrix).toBe((48 * 32) / 2);
  });

  it("counts subgroups by registers, shared memory and whole workgroups", () => {
    const program = nvidia.parseNvidia(text)!;
    const waves = (chip: string, workgroup: number, change: Partial<Program> = {}): number =>
      chips[chip]!.waves({ ...program, ...change }, workgroup);
    expect(waves("hopper", 32)).toBe(64);
    expect(waves("turing", 32)).toBe(21);
    expect(waves("hopper", 128, { wavesByCompiler: 10 })).toBe(8);
    expect(waves("hopper", 128, { sharedBytes: 45056 })).toBe(20);
    expect(waves("ada", 128, { sharedBytes: 45056 })).toBe(8);
  });

  it.each([
    [" r24..28 = hmma.m16n8k16.f32 r16..20 r20..22 r24..28       // delay=1 wt=001010 wr:0", "matrix", 0, 1],
    [" r16..20 = ldsm.16.m8n8.x4 [r2]                            // delay=2 rd:0 wr:1", "sharedLoad", 16, 2],
    ["           st.shared.strong.cta.b64 [r6+rZ+0x400] r24..26  // delay=1 rd:0", "sharedStore", 8, 1],
    ["@!p0 r5    = ld.global.a64.strong.gpu.u16 [r4..6+rZ], pT   // delay=1 wr:0", "globalLoad", 2, 1],
    ["           st.local.b32 [r1] r2                            // delay=1", "scratch", 4, 1],
    [" r19 p21   = iadd3 r17 r12 rZ                              // delay=6", "integer", 0, 6],
    ["      p1 null   = plop3 pT pF pT LUT[0xcc] LUT[0x0]        // delay=9", "integer", 0, 9],
    [" r3        = fmul.ftz r3 0x4f7ffffe                        // delay=6", "float", 0, 6],
    [" r3        = hfma2 r3 r4 r5                                // delay=6", "float", 0, 6],
    [" r3        = f2fp.f16.f32.rn r3 r4                         // delay=6", "convert", 0, 6],
    ["           bar.sync                                        // delay=6 yld", "barrier", 0, 6],
    ["@!p0              bra pT L3027                             // delay=1", "branch", 0, 1],
  ] as const)("%s", (line, kind, bytes, delay) => {
    expect(nvidia.parseInstruction(line)).toMatchObject({ kind, bytes, delay });
  });

  it("finds nothing in prints that are cut off", () => {
    expect(nvidia.parseNvidia(text.slice(0, 4000))).toBeUndefined();
    expect(nvidia.parseNvidia("")).toBeUndefined();
  });
});

describe("ACO", () => {
  const text = recorded("aco-navi31");

  it("gives the loop with the matrix instructions and its memory", () => {
    const figures = figuresOf(chips["navi31"]!, chips["navi31"]!.parse(text)!, 64, 64);
    expect(figures).toMatchObject({ registers: 36, spills: 0, sharedBytes: 2048, instructions: 45, waves: 32 });
    const { count, bytes, perMatrix, sharedPerMatrix } = figures.loop!;
    expect(count).toMatchObject({
      matrix: 1,
      sharedLoad: 8,
      sharedStore: 1,
      globalLoad: 1,
      integer: 2,
      scalar: 2,
      branch: 1,
      wait: 4,
      move: 0,
    });
    expect(bytes).toEqual({ sharedLoad: 64, sharedStore: 16, globalLoad: 16, globalStore: 0 });
    expect(perMatrix).toBe(16);
    expect(sharedPerMatrix).toBe(80 * 64);
  });

  it.each([
    ["\tv_wmma_f32_16x16x16_f16 v[8:11], v[16:23], v[24:31], v[8:11]", "matrix", 0],
    ["\tds_store_2addr_stride64_b32 v1, v8, v9 offset0:4 offset1:5", "sharedStore", 8],
    ["\tds_load_u16_d16_hi v1, v8", "sharedLoad", 2],
    ["\tds_bpermute_b32 v1, v8, v9", "shuffle", 0],
    ["\tbuffer_load_b128 v[12:15], v5, s[4:7], 0 offen", "globalLoad", 16],
    ["\tbuffer_load_dwordx2 v[12:13], v5, s[4:7], 0 offen", "globalLoad", 8],
    ["\tscratch_store_b32 off, v1, s32", "scratch", 0],
    ["\tv_fma_mix_f32 v1, v2, v3, v4", "float", 0],
    ["\tv_pk_mul_f16 v1, v2, v3", "float", 0],
    ["\tv_cvt_f32_f16_e32 v1, v2", "convert", 0],
    ["\tv_exp_f32_e32 v1, v2", "special", 0],
    ["\tv_lshl_add_u32 v5, s2, 6, v0", "integer", 0],
    ["\ts_add_u32 s2, s2, 1", "scalar", 0],
    ["\ts_delay_alu instid0(VALU_DEP_1)", "wait", 0],
    ["\ts_barrier", "barrier", 0],
  ] as const)("%s", (line, kind, bytes) => {
    expect(amd.parseInstruction(line)).toMatchObject({ kind, bytes });
  });

  it("finds nothing in prints that are cut off", () => {
    expect(amd.parseAmd(text.slice(0, 800))).toBeUndefined();
  });
});

describe("loops", () => {
  const instruction = (kind: Kind): Instruction => ({ opcode: kind, kind, bytes: 0, delay: 1 });
  const block = (name: string, next: readonly string[], ...of: readonly Kind[]): Block => ({
    name,
    next,
    instructions: of.map(instruction),
  });
  const program = (blocks: readonly Block[]): Program => ({
    ...{ blocks, registers: 0, spills: 0, sharedBytes: 0, wavesByCompiler: 0, instructions: 0, text: "" },
  });

  it("takes the inner of two loops, and all blocks of a body", () => {
    const nested = program([
      block("0", ["1"]),
      block("1", ["2"], "globalLoad"),
      block("2", ["3", "4"], "matrix"),
      block("3", ["5"], "float"),
      block("4", ["5"], "integer"),
      block("5", ["2", "6"], "integer"),
      block("6", ["1", "7"]),
      block("7", []),
    ]);
    expect(loopsOf(nested).map((l) => l.blocks.map((b) => b.name).join(""))).toEqual(["2345", "123456"]);
    expect(hotLoop(nested)!.header).toBe("2");
  });

  it("takes the shorter of two texts of one loop, and the longest where nothing is a matrix", () => {
    const branches = (first: readonly Kind[], second: readonly Kind[]): Program =>
      program([block("0", ["1", "2"]), block("1", ["1", "3"], ...first), block("2", ["2", "3"], ...second), block("3", [])]);
    expect(hotLoop(branches(["matrix", "integer"], ["matrix"]))!.header).toBe("2");
    expect(hotLoop(branches(["float", "integer"], ["float"]))!.header).toBe("1");
    expect(hotLoop(program([block("0", ["1"]), block("1", [])]))).toBeUndefined();
  });

  it("follows the usual turn: past what is rarely done, through all matrix instructions, inner loops once", () => {
    const turn = program([
      block("0", ["1"]),
      block("1", ["2", "3"], "matrix"),
      block("2", ["3"], "float"),
      block("3", ["4", "5"], "integer"),
      block("4", ["4", "6"], "matrix", "move"),
      block("5", ["6"], "move"),
      block("6", ["1", "7"], "branch"),
      block("7", []),
    ]);
    const outer = loopsOf(turn).find((l) => l.header === "1")!;
    expect(usualTurn(outer).map((b) => b.name)).toEqual(["1", "3", "4", "6"]);
  });

  it("fills as many cells as there are titles", () => {
    const chip = chips["hopper"]!;
    expect(cells(figuresOf(chip, chip.parse(recorded("nak-hopper"))!, 32, 32))).toHaveLength(titles.length);
    expect(cells(figuresOf(chip, program([block("0", [])]), 32, 32))).toHaveLength(titles.length);
  });
});
