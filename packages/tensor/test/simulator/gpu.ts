// A GPU that simulates kernels: enough of WebGPU for the backend, and any adapter's subgroups and subgroup matrices. Fresh memory holds garbage.
import { Compiler, type Kernel } from "./compile.ts";
import { Memory } from "./memory.ts";
import { type Launch, runDispatch } from "./workgroup.ts";

/** What the simulated adapter offers. */
export interface SimulatedAdapter {
  readonly subgroupSize: number;
  readonly workgroupBytes: number;
  readonly f16: boolean;
  readonly maxInvocations?: number;
  /** What kernels go by in the adapter's info. */
  readonly architecture?: string;
  readonly description?: string;
  /** Changes the text of every kernel before it runs: to see that errors are found. */
  readonly rewrite?: (code: string, label: string) => string;
  /** Hears of every kernel that is launched. */
  readonly onLaunch?: (label: string) => void;
}

interface Buffer {
  readonly size: number;
  readonly bytes: ArrayBuffer;
}
interface Pipeline {
  readonly label: string;
  readonly kernel: Kernel;
}
interface BindGroup {
  readonly entries: readonly { binding: number; resource: { buffer: Buffer; offset: number; size: number } }[];
}
type Command = () => void;

const garbage = 0xff;

function createBuffer({ size }: { size: number }): object {
  const bytes = new ArrayBuffer(Math.ceil(size / 4) * 4);
  new Uint8Array(bytes).fill(garbage);
  return {
    ...{ size, bytes, usage: 0 },
    destroy: () => undefined,
    mapAsync: async () => undefined,
    getMappedRange: (offset = 0, length = size) => bytes.slice(offset, offset + length),
    unmap: () => undefined,
  };
}

/** Parameters by name, from immediates or from a uniform buffer: all of them are 32-bit words. */
function paramsOf(kernel: Kernel, words: ArrayBuffer): Record<string, number> {
  const view = new DataView(words);
  const read = (at: number, type: string): number =>
    type === "f32" ? view.getFloat32(at, true) : type === "i32" ? view.getInt32(at, true) : view.getUint32(at, true);
  return Object.fromEntries(kernel.params.map((f, i) => [f.name, read(4 * i, f.type)]));
}

class Pass {
  private readonly commands: Command[];
  private readonly adapter: SimulatedAdapter;
  private pipeline: Pipeline | undefined;
  private readonly groups: (BindGroup | undefined)[] = [];
  private uniformOffset = 0;
  private immediates = new ArrayBuffer(0);

  constructor(commands: Command[], adapter: SimulatedAdapter) {
    this.commands = commands;
    this.adapter = adapter;
  }

  setPipeline(p: Pipeline): void {
    this.pipeline = p;
  }

  setBindGroup(i: number, g: BindGroup, offsets?: readonly number[]): void {
    this.groups[i] = g;
    this.uniformOffset = offsets?.[0] ?? 0;
  }

  setImmediates(_offset: number, data: ArrayBuffer): void {
    this.immediates = data.slice(0);
  }

  dispatchWorkgroups(x: number, y = 1, z = 1): void {
    const { label, kernel } = this.pipeline!;
    const { immediates, uniformOffset, adapter } = this;
    const [group, uniform] = this.groups;
    this.commands.push(() => {
      adapter.onLaunch?.(label);
      const ring = uniform?.entries[0]?.resource.buffer.bytes.slice(uniformOffset);
      const params = paramsOf(kernel, kernel.immediates || !ring ? immediates : ring);
      const launch = { kernel, storage: storageOf(kernel, group!), params, grid: [x, y, z], subgroupSize: adapter.subgroupSize } as const;
      located(label, launch);
    });
  }

  end(): void {}
}

function storageOf(kernel: Kernel, group: BindGroup): Map<string, Memory> {
  const storage = kernel.variables.filter((v) => v.space === "storage");
  return new Map(
    storage.map((v) => {
      const { buffer, offset, size } = group.entries.find((e) => e.binding === v.binding)!.resource;
      return [v.name, new Memory(v.name, buffer.bytes, offset, size, v.writable ? "shared" : "constant")];
    }),
  );
}

function located(label: string, launch: Launch): void {
  try {
    runDispatch(launch);
  } catch (cause) {
    throw new Error(`${label}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

class Encoder {
  readonly commands: Command[] = [];
  private readonly adapter: SimulatedAdapter;

  constructor(adapter: SimulatedAdapter) {
    this.adapter = adapter;
  }

  beginComputePass(): Pass {
    return new Pass(this.commands, this.adapter);
  }

  copyBufferToBuffer(from: Buffer, fromByte: number, to: Buffer, toByte: number, byteLength: number): void {
    this.commands.push(() => new Uint8Array(to.bytes).set(new Uint8Array(from.bytes, fromByte, byteLength), toByte));
  }

  finish(): readonly Command[] {
    return this.commands;
  }
}

const queue = {
  writeBuffer(to: Buffer, toByte: number, data: Uint8Array | Uint32Array, from = 0, count = data.length - from): void {
    const unit = data.BYTES_PER_ELEMENT;
    new Uint8Array(to.bytes).set(new Uint8Array(data.buffer, data.byteOffset + from * unit, count * unit), toByte);
  },
  submit(lists: readonly (readonly Command[])[]): void {
    for (const list of lists) for (const command of list) command();
  },
  onSubmittedWorkDone: async () => undefined,
};

function createDevice(adapter: SimulatedAdapter, features: ReadonlySet<string>, limits: object): object {
  const kernels = new Map<string, Kernel>();
  const compile = (code: string): Kernel => {
    const known = kernels.get(code) ?? new Compiler(code).kernel();
    kernels.set(code, known);
    return known;
  };
  return {
    ...{ features, limits, queue, createBuffer },
    lost: new Promise(() => undefined),
    addEventListener: () => undefined,
    createBindGroupLayout: (d: object) => d,
    createPipelineLayout: (d: object) => d,
    createBindGroup: (d: object) => d,
    createShaderModule: ({ code, label }: { code: string; label: string }) => adapter.rewrite?.(code, label) ?? code,
    createComputePipeline: ({ label, compute }: { label: string; compute: { module: string } }) => ({
      label,
      get kernel() {
        return compile(compute.module);
      },
    }),
    createCommandEncoder: () => new Encoder(adapter),
    pushErrorScope: () => undefined,
    popErrorScope: async () => null,
    destroy: () => undefined,
  };
}

/** An implementation of WebGPU for the option `gpu`, with one adapter. Errors of kernels are thrown where their work is submitted. */
export function simulatedGpu(adapter: SimulatedAdapter): GPU {
  const { f16, subgroupSize, workgroupBytes, maxInvocations = 1024 } = adapter;
  const { architecture = `${subgroupSize} lanes`, description = "simulated kernels" } = adapter;
  const features = new Set(["subgroups", "chromium-experimental-subgroup-matrix", ...(f16 ? ["shader-f16"] : [])]);
  const limits = {
    ...{ maxBufferSize: 2 ** 30, maxStorageBufferBindingSize: 2 ** 30, maxStorageBuffersPerShaderStage: 10 },
    ...{ maxComputeWorkgroupStorageSize: workgroupBytes, maxComputeInvocationsPerWorkgroup: maxInvocations },
    ...{ maxComputeWorkgroupSizeX: maxInvocations, maxComputeWorkgroupSizeY: maxInvocations, maxComputeWorkgroupsPerDimension: 65535 },
    ...{ minStorageBufferOffsetAlignment: 256, maxImmediateSize: 64 },
  };
  const info = {
    ...{ vendor: "simulated", architecture, device: "", description },
    ...{ subgroupMinSize: subgroupSize, subgroupMaxSize: subgroupSize, isFallbackAdapter: false },
  };
  const requestDevice = async (): Promise<object> => createDevice(adapter, features, limits);
  return { requestAdapter: async () => ({ info, features, limits, requestDevice }) } as unknown as GPU;
}
