// The chips whose compilers run without them (matrix-driver.sh compile), and how many subgroups fit a unit of each.
import { parseAmd } from "./amd.ts";
import { parseNvidia } from "./nvidia.ts";
import type { Program } from "./program.ts";

/** What a chip's figures are counted by. */
export interface Chip {
  readonly vendor: "NVIDIA" | "AMD";
  /** The variables that make its compiler print machine code. */
  readonly env: Readonly<Record<string, string>>;
  parse(text: string): Program | undefined;
  /** Subgroups on a unit at once: an NVIDIA multiprocessor, a SIMD of AMD. */
  waves(program: Program, workgroup: number): number;
}

interface Multiprocessor {
  readonly warps: number;
  readonly sharedBytes: number;
}

/** By CUDA's programming guide, table of technical specifications; a workgroup takes 1 KiB of shared memory for itself since Ampere. */
const nvidia = ({ warps, sharedBytes }: Multiprocessor): Chip => ({
  vendor: "NVIDIA",
  env: { NAK_DEBUG: "print" },
  parse: parseNvidia,
  waves: (program, workgroup) => {
    const mine = Math.ceil(workgroup / 32);
    const byShared = program.sharedBytes === 0 ? Number.POSITIVE_INFINITY : Math.floor(sharedBytes / (program.sharedBytes + 1024));
    return mine * Math.min(Math.floor(Math.min(warps, program.wavesByCompiler) / mine), byShared);
  },
});

const amd: Chip = {
  vendor: "AMD",
  env: { RADV_DEBUG: "asm,shaderstats" },
  parse: parseAmd,
  waves: ({ wavesByCompiler }) => wavesByCompiler,
};

/** By the names that matrix-driver.sh takes. */
export const chips: Readonly<Record<string, Chip>> = {
  hopper: nvidia({ warps: 64, sharedBytes: 228 * 1024 }),
  ada: nvidia({ warps: 48, sharedBytes: 100 * 1024 }),
  ampere: nvidia({ warps: 48, sharedBytes: 100 * 1024 }),
  turing: nvidia({ warps: 32, sharedBytes: 64 * 1024 }),
  navi31: amd,
  gfx1201: amd,
};
