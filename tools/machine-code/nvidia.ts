// The machine code that Mesa's compiler for NVIDIA (NAK) prints with NAK_DEBUG=print: its last form of a kernel, with the schedule.
import type { Block, Instruction, Kind, Program } from "./program.ts";

const families: readonly (readonly [RegExp, Kind])[] = [
  [/^(hmma|imma|dmma|hgmma)/, "matrix"],
  [/^(ld\.shared|ldsm)/, "sharedLoad"],
  [/^st\.shared/, "sharedStore"],
  [/^(ld\.global|ld\.generic|tex|tld)/, "globalLoad"],
  [/^(st\.global|st\.generic|atom|red\b|suatom)/, "globalStore"],
  [/^(ld|st)\.local/, "scratch"],
  [/^(f(add|mul|fma|mnmx|set|setp|swz)|[hd](add|mul|fma|mnmx|set|setp)2?\b)/, "float"],
  [/^mufu/, "special"],
  [/^(f2f|f2i|i2f|i2i|frnd|f2fp)/, "convert"],
  [/^(mov|copy|swap|r2ur)/, "move"],
  [/^shfl/, "shuffle"],
  [/^(s2r|cs2r|ldc|ld\.const)/, "constant"],
  [/^bar\b/, "barrier"],
  [/^(bra|bssy|bsync|bclear|break|exit|warpsync|brx|ret|call)/, "branch"],
  [/^(nop|membar|depbar|errbar|cctl|fence)/, "wait"],
];

const kindOf = (opcode: string): Kind => families.find(([of]) => of.test(opcode))?.[1] ?? "integer";

/** Bytes of a thread; ldsm gives it four for every matrix. */
function bytesOf(opcode: string): number {
  const matrices = /^ldsm.*\.x(\d)/.exec(opcode);
  if (matrices) return 4 * Number(matrices[1]);
  if (opcode.startsWith("ldsm")) return 4;
  const bits = /\.[bus](8|16|32|64|128)\b/.exec(opcode);
  return /^(ld|st)\./.test(opcode) && bits ? Number(bits[1]) / 8 : 0;
}

/** `  @!p0  r12..16 = ld.shared.b128 [r9] // delay=1 wr:0`; undefined for lines that are none. */
export function parseInstruction(line: string): Instruction | undefined {
  const [text = "", schedule = ""] = line.split("//");
  const match = /^\s+(?:@\S+\s+)?(?:[^=[]*?\s=\s+)?([a-z][a-z0-9]*[^\s]*)/.exec(text.replace(/^@\S+/, " "));
  if (!match) return undefined;
  const opcode = match[1]!;
  return { opcode, kind: kindOf(opcode), bytes: bytesOf(opcode), delay: Number(/delay=(\d+)/.exec(schedule)?.[1] ?? 0) };
}

const list = (text: string): string[] => text.split(",").flatMap((t) => t.trim() || []);

function parseBlocks(lines: readonly string[]): Block[] {
  const blocks: Block[] = [];
  let name: string | undefined;
  let instructions: Instruction[] = [];
  for (const line of lines) {
    const start = /^block(?:\.\w+)? (\d+) /.exec(line);
    const end = /^\} -> \[(.*)\]/.exec(line);
    if (start) {
      name = start[1]!;
      instructions = [];
    } else if (end && name !== undefined) blocks.push({ name, instructions, next: list(end[1]!) });
    else {
      const instruction = parseInstruction(line);
      if (instruction) instructions.push(instruction);
    }
  }
  return blocks;
}

/** The last kernel in what NAK printed; undefined if there is none. */
export function parseNvidia(text: string): Program | undefined {
  const lines = text.split("\n");
  const start = lines.lastIndexOf("NAK IR after calc_instr_deps:");
  const end = lines.indexOf("Stage: compute", start);
  if (start < 0 || end < 0) return undefined;
  const number = (label: string): number =>
    Number(new RegExp(`^${label}: (\\d+)`, "m").exec(lines.slice(end, end + 12).join("\n"))?.[1] ?? 0);
  const shared = lines.slice(0, start).findLast((l) => l.startsWith("shared_size: "));
  return {
    blocks: parseBlocks(lines.slice(start + 1, end)),
    registers: number("Num GPRs"),
    spills: number("Spills to mem"),
    sharedBytes: Number(shared?.split(": ")[1] ?? 0),
    wavesByCompiler: number("Max warps/SM"),
    instructions: number("Instruction count"),
    text: lines.slice(start, end + 10).join("\n"),
  };
}
