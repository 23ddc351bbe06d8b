// Dawn's null adapter with the workgroups of a real one. The null adapter stops at 16 KiB and 256 invocations, which it checks when a pipeline is
// made, after Tint has checked the text: kernels that need more are compiled, and those complaints are left out. Nothing can be run.
import { dawnFlags } from "../../src/backends/webgpu/open.ts";

export interface CompileOnly {
  readonly gpu: GPU;
  /** What Tint and Dawn found wrong with the kernels so far, but for the size of their workgroups. */
  problems(): Promise<readonly string[]>;
}

const pick = (from: GPUSupportedLimits, names: readonly string[]): Record<string, number> =>
  Object.fromEntries(names.map((name) => [name, from[name as "maxComputeInvocationsPerWorkgroup"]]));

/** The object with some properties replaced; methods keep their own `this`. */
function override<T extends object>(object: T, changes: Readonly<Record<string, unknown>>): T {
  return new Proxy(object, {
    get(target, name) {
      if (name in changes) return changes[name as string];
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

// Dawn crashes when the object its create() returned is collected.
const kept: GPU[] = [];

/** An adapter of `workgroupBytes` for the option `gpu`. */
export async function compileOnly(workgroupBytes: number): Promise<CompileOnly> {
  const { create, globals } = await import("webgpu");
  for (const [name, value] of Object.entries(globals)) if (!(name in globalThis)) Object.assign(globalThis, { [name]: value });
  const dawn = create(dawnFlags({ driver: "null" }));
  kept.push(dawn);
  const found: Promise<GPUError | null>[] = [];
  const raised = {
    maxComputeWorkgroupStorageSize: workgroupBytes,
    maxComputeInvocationsPerWorkgroup: 1024,
    maxComputeWorkgroupSizeX: 1024,
  };
  const watched = (device: GPUDevice): GPUDevice => {
    const scoped = <A, R>(make: (a: A) => R): ((a: A) => R) => {
      return (a) => {
        device.pushErrorScope("validation");
        const made = make(a);
        found.push(device.popErrorScope());
        return made;
      };
    };
    return override(device, {
      limits: override(device.limits, raised),
      createShaderModule: scoped((d: GPUShaderModuleDescriptor) => device.createShaderModule(d)),
      createComputePipeline: scoped((d: GPUComputePipelineDescriptor) => device.createComputePipeline(d)),
    });
  };
  const requestAdapter = async (): Promise<GPUAdapter> => {
    const adapter = (await dawn.requestAdapter())!;
    const requestDevice = async (d: GPUDeviceDescriptor): Promise<GPUDevice> =>
      watched(await adapter.requestDevice({ ...d, requiredLimits: { ...d.requiredLimits, ...pick(adapter.limits, Object.keys(raised)) } }));
    return override(adapter, { limits: override(adapter.limits, raised), requestDevice });
  };
  const problems = async (): Promise<readonly string[]> => {
    const messages = (await Promise.all(found)).flatMap((e) => (e ? [e.message] : []));
    return messages.filter((m) => !/^(The total|Entry-point uses) .*workgroup.* (exceeds|larger)/i.test(m));
  };
  return { gpu: override(dawn, { requestAdapter }), problems };
}
