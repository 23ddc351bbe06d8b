// The machine code that Mesa's compiler for AMD (ACO) prints with RADV_DEBUG=asm,shaderstats.
import type { Block, Instruction, Kind, Program } from "./program.ts";

const families: readonly (readonly [RegExp, Kind])[] = [
  [/^v_(wmma|swmmac|mfma)/, "matrix"],
  [/^ds_(bpermute|permute|swizzle)/, "shuffle"],
  [/^ds_(load|read)/, "sharedLoad"],
  [/^ds_/, "sharedStore"],
  [/^scratch_/, "scratch"],
  [/^(buffer|global|flat)_load/, "globalLoad"],
  [/^(buffer|global|flat)_/, "globalStore"],
  [/^(s_load|s_buffer_load)/, "constant"],
  [/^s_barrier(_signal)?$/, "barrier"],
  [/^s_(wait|delay|nop|clause|sleep|barrier_wait|sendmsg|set_inst|icache)/, "wait"],
  [/^s_(cbranch|branch|endpgm|setpc)/, "branch"],
  [/^s_/, "scalar"],
  [/^v_(mov|readlane|readfirstlane|writelane|swap|accvgpr|dual_mov)/, "move"],
  [/^v_permlane/, "shuffle"],
  [/^v_cvt/, "convert"],
  [/^v_(exp|log|rcp|rsq|sqrt|sin|cos)_/, "special"],
  [/^v_(?!cvt).*_f(16|32|64)|^v_pk_\w+_f16|^v_fma|^v_dual_(fm|mul|add|sub|max|min)/, "float"],
];

const kindOf = (opcode: string): Kind => families.find(([of]) => of.test(opcode))?.[1] ?? "integer";

const words: Readonly<Record<string, number>> = { dword: 4, dwordx2: 8, dwordx3: 12, dwordx4: 16 };

/** Bytes of a thread. */
function bytesOf(opcode: string): number {
  if (!/^(ds|buffer|global|flat)_(load|store|read|write)/.test(opcode)) return 0;
  const times = opcode.includes("2addr") ? 2 : 1;
  const bits = /_[biud]+(8|16|32|64|96|128)(_|$)/.exec(opcode);
  if (bits) return (times * Number(bits[1])) / 8;
  const named = /_(dwordx?\d?)$/.exec(opcode);
  return named ? (words[named[1]!] ?? 0) : /byte/.test(opcode) ? 1 : /short/.test(opcode) ? 2 : 0;
}

/** A tab, an instruction, its encoding; undefined for lines that are none. */
export function parseInstruction(line: string): Instruction | undefined {
  const opcode = /^\t([a-z]\w+)/.exec(line)?.[1];
  return opcode === undefined ? undefined : { opcode, kind: kindOf(opcode), bytes: bytesOf(opcode), delay: 0 };
}

/** Where a block goes: to what its branches name, and to the block after it unless it ends in a jump. */
function parseBlocks(lines: readonly string[]): Block[] {
  const found: { name: string; instructions: Instruction[]; next: string[]; ends: boolean }[] = [];
  for (const line of lines) {
    const label = /^(BB\d+):/.exec(line)?.[1];
    if (label) found.push({ name: label, instructions: [], next: [], ends: false });
    const block = found.at(-1);
    const instruction = parseInstruction(line);
    if (!block || !instruction) continue;
    block.instructions.push(instruction);
    const target = /^\ts_c?branch\w*\s+(BB\d+)/.exec(line)?.[1];
    if (target) block.next.push(target);
    block.ends = /^s_(branch|endpgm|setpc)/.test(instruction.opcode);
  }
  return found.map(({ name, instructions, next, ends }, i) => {
    const after = found[i + 1];
    return { name, instructions, next: ends || !after ? next : [...next, after.name] };
  });
}

/** The last kernel in what ACO printed; undefined if there is none. */
export function parseAmd(text: string): Program | undefined {
  const lines = text.split("\n");
  const start = lines.lastIndexOf("disasm:");
  const end = lines.indexOf("Compute Shader:", start);
  if (start < 0 || end < 0) return undefined;
  const statistics = lines.slice(end).join("\n");
  const number = (label: string): number => Number(new RegExp(`^${label}: (\\d+)`, "m").exec(statistics)?.[1] ?? 0);
  return {
    blocks: parseBlocks(lines.slice(start + 1, end)),
    registers: number("VGPRs"),
    spills: number("Spilled VGPRs"),
    sharedBytes: number("LDS size"),
    wavesByCompiler: number("Subgroups per SIMD"),
    instructions: number("Instructions"),
    text: lines.slice(start).join("\n"),
  };
}
