// navigator.gpu for libraries written for browsers, from Dawn. Kept on globalThis: Dawn crashes when create()'s object is collected.
import { create, globals } from "webgpu";

const flags = ["enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia"];

/** Defines navigator.gpu and the GPU constants; throws when there is no adapter. Returns the adapter's description. */
export async function installGpu() {
  const gpu = create(flags);
  globalThis.dawnInstance = gpu;
  Object.assign(globalThis, globals);
  Object.defineProperty(globalThis, "navigator", {
    value: { gpu, hardwareConcurrency: 1, userAgent: "Node", platform: "Linux" },
    configurable: true,
  });
  const adapter = await gpu.requestAdapter();
  if (!adapter) throw new Error("no WebGPU adapter");
  return adapter.info.description || adapter.info.device || adapter.info.vendor;
}
