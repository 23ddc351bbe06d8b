// Programs (WGSL text, pipeline, parameter layout) and bind groups, both cached: creating either costs more than recording a dispatch.
import type { Store } from "./store.ts";

export interface BindingSpec {
  readonly name: string;
  /** WGSL type of the variable, e.g. "array<vec4<u32>>". */
  readonly type: string;
  readonly write?: boolean;
}

/** A kernel's text and interface; the declarations of bindings and parameters are generated. */
export interface ProgramSpec {
  readonly label: string;
  readonly bindings: readonly BindingSpec[];
  /** Names of 32-bit parameters, in WGSL as `p.name`; "name:f32" and "name:i32" for other types than u32. */
  readonly params: readonly string[];
  readonly workgroup: readonly [number, number?, number?];
  /** Fixes the subgroup size of an adapter where it varies; needs the feature subgroup-size-control. */
  readonly subgroupSize?: number;
  /** Extensions, e.g. ["f16"]. */
  readonly enable?: readonly string[];
  /** Declarations and functions. */
  readonly declarations?: string;
  /** Body of main, with the builtins `lid` (local index), `wg` (linear workgroup index) in scope; more by `builtins`. */
  readonly body: string;
  readonly builtins?: readonly string[];
}

export interface Program {
  readonly label: string;
  readonly layoutKey: string;
  readonly groupLayout: GPUBindGroupLayout;
  readonly pipeline: GPUComputePipeline;
  readonly immediates: boolean;
  /** Which bindings it writes. */
  readonly writes: readonly number[];
  /** Of the parameters: 0 u32, 1 f32, 2 i32. */
  readonly types: Uint8Array;
}

/** The part of each buffer that a dispatch binds, in the order of the program's bindings. */
export interface BindingWindows {
  readonly byteOffsets: readonly number[];
  readonly byteLengths: readonly number[];
}

/** Parameter values as the program's 32-bit words. */
export function paramWords({ types }: Program, params: readonly number[]): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(types.length);
  const [floats, signed] = [new Float32Array(words.buffer), new Int32Array(words.buffer)];
  params.forEach((v, i) => {
    if (types[i] === 0) words[i] = v;
    else if (types[i] === 1) floats[i] = v;
    else signed[i] = v;
  });
  return words;
}

const immediateWords = 16;
/** Bytes of one slot of the uniform ring; a multiple of every adapter's offset alignment. */
export const uniformSlotBytes = 512;

const splitParam = (p: string): [string, string] => [p.split(":")[0]!, p.split(":")[1] ?? "u32"];

/** The complete WGSL module of a kernel. */
function moduleText(spec: ProgramSpec, immediates: boolean): string {
  const pinned = spec.subgroupSize !== undefined;
  const lines = [...(spec.enable ?? []), ...(pinned ? ["subgroup_size_control"] : [])].map((e) =>
    e.includes("(") ? `${e};` : `enable ${e};`,
  );
  const fields = spec.params.map((p) => splitParam(p).join(": ")).join(", ");
  if (fields)
    lines.push(`struct Params { ${fields} }`, immediates ? "var<immediate> p: Params;" : "@group(1) @binding(0) var<uniform> p: Params;");
  spec.bindings.forEach((b, i) => {
    lines.push(`@group(0) @binding(${i}) var<storage, ${b.write ? "read_write" : "read"}> ${b.name}: ${b.type};`);
  });
  if (spec.declarations) lines.push(spec.declarations);
  const builtins = [
    "@builtin(local_invocation_index) lid: u32",
    "@builtin(workgroup_id) wid: vec3<u32>",
    "@builtin(num_workgroups) nwg: vec3<u32>",
  ];
  lines.push(
    `${pinned ? `@subgroup_size(${spec.subgroupSize}) ` : ""}@compute @workgroup_size(${spec.workgroup.filter((n) => n !== undefined).join(", ")})`,
    `fn main(${[...builtins, ...(spec.builtins ?? [])].join(", ")}) {`,
    "  let wg = wid.x + wid.y * nwg.x;",
    spec.body,
    "}",
  );
  return lines.join("\n") + "\n";
}

/** Whether a kernel's parameters go into immediates. */
const usesImmediates = (spec: ProgramSpec, supported: boolean): boolean => supported && spec.params.length <= immediateWords;

interface CachedGroup {
  readonly group: GPUBindGroup;
  readonly layout: GPUBindGroupLayout;
  readonly ids: readonly number[];
  readonly windows: BindingWindows;
  /** Another group with the same hash. */
  readonly next: CachedGroup | undefined;
}

function hashOf(stores: readonly Store[], { byteOffsets, byteLengths }: BindingWindows): number {
  let h = stores.length;
  for (let i = 0; i < stores.length; i++) {
    h = Math.imul(h ^ stores[i]!.id, 0x9e3779b1) ^ (h >>> 15);
    h = Math.imul(h ^ byteOffsets[i]!, 0x85ebca6b) ^ byteLengths[i]!;
  }
  return h;
}

function find(
  first: CachedGroup | undefined,
  { groupLayout }: Program,
  stores: readonly Store[],
  windows: BindingWindows,
): CachedGroup | undefined {
  for (let g = first; g; g = g.next) if (g.layout === groupLayout && sameWindows(g, stores, windows)) return g;
  return undefined;
}

function sameWindows({ ids, windows }: CachedGroup, stores: readonly Store[], { byteOffsets, byteLengths }: BindingWindows): boolean {
  for (let i = 0; i < stores.length; i++) {
    if (ids[i] !== stores[i]!.id || windows.byteOffsets[i] !== byteOffsets[i] || windows.byteLengths[i] !== byteLengths[i]) return false;
  }
  return ids.length === stores.length;
}

/** Compiles each distinct kernel once and hands out bind groups. */
export class PipelineCache {
  private readonly device: GPUDevice;
  private readonly immediates: boolean;
  private readonly programs = new Map<string, Program>();
  private readonly bySource = new Map<string, Program>();
  private readonly layouts = new Map<string, GPUBindGroupLayout>();
  private readonly pipelineLayouts = new Map<string, GPUPipelineLayout>();
  private readonly uniformLayout: GPUBindGroupLayout;
  // Two generations: what the older one still gives is moved to the younger; the rest goes when the younger is full.
  private young = new Map<number, CachedGroup>();
  private old = new Map<number, CachedGroup>();
  private youngCount = 0;

  constructor(device: GPUDevice, immediates: boolean) {
    this.device = device;
    this.immediates = immediates;
    this.uniformLayout = device.createBindGroupLayout({
      label: "uniform ring",
      entries: [{ binding: 0, visibility: 4, buffer: { type: "uniform", hasDynamicOffset: true } }],
    });
  }

  /** The program of a variant; `spec` is only asked for when the variant is new. */
  program(key: string, spec: () => ProgramSpec): Program {
    const known = this.programs.get(key);
    if (known) return known;
    const made = this.compile(spec());
    this.programs.set(key, made);
    return made;
  }

  /** Label and WGSL text of every kernel compiled so far. */
  sources(): { label: string; code: string }[] {
    return [...this.bySource].map(([code, { label }]) => ({ label, code }));
  }

  private compile(spec: ProgramSpec): Program {
    const immediates = usesImmediates(spec, this.immediates);
    const code = moduleText(spec, immediates);
    const known = this.bySource.get(code);
    if (known) return known;
    const { device } = this;
    const { label } = spec;
    const layoutKey = spec.bindings.map((b) => (b.write ? "w" : "r")).join("");
    const groupLayout = this.groupLayout(layoutKey);
    const uniform = !immediates && spec.params.length > 0;
    const layout = this.pipelineLayout(layoutKey, groupLayout, uniform, immediates ? spec.params.length * 4 : 0);
    const module = device.createShaderModule({ label, code });
    const pipeline = device.createComputePipeline({ label, layout, compute: { module, entryPoint: "main" } });
    const types = Uint8Array.from(spec.params, (p) => ["u32", "f32", "i32"].indexOf(splitParam(p)[1]));
    const writes = spec.bindings.flatMap((b, i) => (b.write ? [i] : []));
    const program: Program = { label, layoutKey, groupLayout, pipeline, immediates, writes, types };
    this.bySource.set(code, program);
    return program;
  }

  private groupLayout(key: string): GPUBindGroupLayout {
    let layout = this.layouts.get(key);
    if (!layout) {
      const entries = [...key].map((c, binding) => ({
        ...{ binding, visibility: 4 },
        buffer: { type: (c === "w" ? "storage" : "read-only-storage") as GPUBufferBindingType },
      }));
      layout = this.device.createBindGroupLayout({ label: key, entries });
      this.layouts.set(key, layout);
    }
    return layout;
  }

  private pipelineLayout(key: string, group: GPUBindGroupLayout, uniform: boolean, immediateSize: number): GPUPipelineLayout {
    const id = `${key}/${uniform ? "u" : immediateSize}`;
    let layout = this.pipelineLayouts.get(id);
    if (!layout) {
      const bindGroupLayouts = uniform ? [group, this.uniformLayout] : [group];
      layout = this.device.createPipelineLayout({ label: id, bindGroupLayouts, ...(immediateSize > 0 ? { immediateSize } : {}) });
      this.pipelineLayouts.set(id, layout);
    }
    return layout;
  }

  /** A bind group over windows of stores, from the cache when the pool returned the same buffers. */
  bindGroup(program: Program, stores: readonly Store[], windows: BindingWindows): GPUBindGroup {
    const hash = hashOf(stores, windows);
    const young = find(this.young.get(hash), program, stores, windows);
    if (young) return young.group;
    const kept = find(this.old.get(hash), program, stores, windows);
    if (this.youngCount++ >= 4096) {
      this.old = this.young;
      this.young = new Map();
      this.youngCount = 0;
    }
    const group = kept?.group ?? this.createBindGroup(program, stores, windows);
    const ids = stores.map((s) => s.id);
    this.young.set(hash, { group, layout: program.groupLayout, ids, windows, next: this.young.get(hash) });
    return group;
  }

  private createBindGroup({ label, groupLayout }: Program, stores: readonly Store[], windows: BindingWindows): GPUBindGroup {
    const entries = stores.map((s, binding) => ({
      binding,
      resource: { buffer: s.gpu, offset: windows.byteOffsets[binding]!, size: windows.byteLengths[binding]! },
    }));
    return this.device.createBindGroup({ label, layout: groupLayout, entries });
  }

  uniformGroup(buffer: GPUBuffer): GPUBindGroup {
    const resource = { buffer, offset: 0, size: uniformSlotBytes };
    return this.device.createBindGroup({ label: "uniform ring", layout: this.uniformLayout, entries: [{ binding: 0, resource }] });
  }

  /** Forgets bind groups; needed when buffers are destroyed. */
  clearBindGroups(): void {
    this.young.clear();
    this.old.clear();
    this.youngCount = 0;
  }
}
