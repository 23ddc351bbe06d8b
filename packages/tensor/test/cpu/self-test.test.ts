// The check before 256-bit code is trusted, and that code itself in a process of its own (the flag is for a whole process).
import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { ArenaSource } from "../../src/backends/cpu/wasm/arena.ts";
import { WasmEngine } from "../../src/backends/cpu/wasm/engine.ts";
import { wasmKernels } from "../../src/backends/cpu/wasm/kernels.ts";
import { kernelFault } from "../../src/backends/cpu/wasm/self-test.ts";
import type { KernelTable } from "../../src/ops/table.ts";
import { probeWasm } from "../../src/wasm/features.ts";

function generated(tileRows: number, tileVectors: number, pinned = false): { kernels: KernelTable; source: ArenaSource } {
  const { fma } = probeWasm();
  const source = new ArenaSource({ shared: false, threads: 1 });
  return { kernels: wasmKernels(new WasmEngine({ fma, shared: false, tileRows, tileVectors, pinned }, source, 1), 0), source };
}

describe("the self-test", () => {
  it("passes every tile and leaves no memory behind", () => {
    for (const [rows, vectors, pinned] of [
      [6, 2, false],
      [6, 2, true],
      [5, 2, false],
      [5, 2, true],
      [4, 4, false],
    ] as const) {
      const { kernels, source } = generated(rows, vectors, pinned);
      expect(kernelFault(kernels, source)).toBeUndefined();
      expect(source.arenas.map((arena) => arena.usedBytes)).toEqual([0]);
    }
  });

  it("names a kernel that computes something else", () => {
    const { kernels, source } = generated(6, 2);
    const wrong: KernelTable = {
      ...kernels,
      attention: (out, inputs, attrs) => kernels.attention(out, inputs, { ...attrs, scale: 0.401 }),
    };
    expect(kernelFault(wrong, source)).toBe("attention differs from the plain loops");
  });

  it("decides whether 256-bit code runs, where the engine has it at all", () => {
    const url = new URL("../../src/index.ts", import.meta.url).href;
    const script = `const { cpu } = await import(${JSON.stringify(url)});
      try { const d = cpu({ v8: "wide" }); console.log(d.capabilities.tier, d.capabilities.tierReason ?? ""); d.destroy(); }
      catch (e) { console.log(String(e)); }`;
    const flags = ["--import", "tsx", "--conditions=@wick/source", "--input-type=module", "-e", script];
    const { stdout } = spawnSync(process.execPath, flags, { encoding: "utf8", timeout: 60_000 });
    if (Number(process.versions.node.split(".")[0]) >= 24) expect(stdout).toMatch(/^wasm-wide $|: 256-bit code is wrong here: /m);
    else expect(stdout).toContain('UnsupportedError: createCpuBackend: V8 flags for "wide" cannot be set here; leave out v8');
  });
});
