// Why a device does not open or cannot be used, by the reason of the error; GPUs are stand-ins, as no machine has all of these faults.
import { cpu, DeviceError, webgpu } from "@wick/tensor";
import { messageOf } from "@wick/testing";
import { describe, expect, test } from "vitest";
import { dawnUnloaded } from "../src/backends/webgpu/open.ts";
import type { WebGpuOptions } from "../src/backends/webgpu/options.ts";

const refused = async (options: WebGpuOptions): Promise<string> => {
  const error = await webgpu(options).then(
    () => undefined,
    (e: unknown) => e,
  );
  if (!(error instanceof DeviceError)) throw new Error(`no DeviceError: ${error}`);
  expect(error.message).toBe(`webgpu: ${error.detail}`);
  return `${error.reason}: ${error.detail}`;
};

/** Dawn's words for an adapter or driver that is not there. */
const dawnsList = {
  requestAdapter: async () => {
    throw new Error(
      "no suitable backends found\nAvailable adapters:\n * backend: 'vulkan', name: 'AMD Radeon'\n * backend: 'vulkan', name: 'llvmpipe'",
    );
  },
};
/** An adapter whose driver gives no device. */
const withoutDevice = {
  requestAdapter: async () => ({
    info: { description: "AMD Radeon" },
    limits: {},
    features: new Set(),
    requestDevice: async () => {
      throw new Error("the driver is too old\nmore");
    },
  }),
};

describe("webgpu()", () => {
  test("tells an adapter that is not there from a machine without any", async () => {
    expect(await refused({ gpu: dawnsList, adapter: "GeForce" })).toMatchInlineSnapshot(
      `"unknown-adapter: no adapter is called "GeForce"; the option "adapter" takes a part of AMD Radeon or llvmpipe"`,
    );
    expect(await refused({ gpu: dawnsList, driver: "metal" })).toMatchInlineSnapshot(
      `"no-adapter: driver "metal": no suitable backends found; the option "adapter" takes a part of AMD Radeon or llvmpipe"`,
    );
    expect(await refused({ gpu: { requestAdapter: async () => null } })).toMatch(
      /^no-adapter: no WebGPU adapter was found; .*or use cpu\(\)$/,
    );
  });

  test("tells a driver that gives no device", async () => {
    expect(await refused({ gpu: withoutDevice })).toMatchInlineSnapshot(
      `"no-device: AMD Radeon gave no device: the driver is too old; use cpu() or another adapter"`,
    );
  });

  test("tells an option that it does not take", async () => {
    const gpu = { requestAdapter: async () => null };
    expect(await refused({ gpu, float32MatmulPrecision: "medium" as never })).toMatchInlineSnapshot(
      `"bad-option: float32MatmulPrecision is "medium"; it takes "highest" or "high""`,
    );
  });

  test("tells a package that is not installed from one that does not load", () => {
    const missing = Object.assign(new Error("Cannot find package 'webgpu'"), { code: "ERR_MODULE_NOT_FOUND" });
    const broken = Object.assign(new Error("dawn.node: libstdc++.so.6: version GLIBCXX_3.4.30 not found\nmore"), {
      code: "ERR_DLOPEN_FAILED",
    });
    const said = (error: DeviceError): string => `${error.reason}: ${error.detail}`;
    expect(said(dawnUnloaded(missing))).toMatchInlineSnapshot(
      `"no-dawn: the npm package "webgpu" could not be loaded (Cannot find package 'webgpu'); npm install webgpu, or use cpu()"`,
    );
    expect(said(dawnUnloaded(broken))).toMatchInlineSnapshot(
      `"dawn-failed: the npm package "webgpu" could not be loaded (dawn.node: libstdc++.so.6: version GLIBCXX_3.4.30 not found); install it again for this system, or use cpu()"`,
    );
  });
});

test("cpu() refuses options of other values", () => {
  const said = (options: object): string => messageOf(() => cpu(options));
  expect(said({ threads: 2.5 })).toBe("DeviceError: cpu: threads is a whole number of at least 1, got 2.5");
  expect(said({ threads: 0 })).toBe("DeviceError: cpu: threads is a whole number of at least 1, got 0");
  expect(said({ kernels: "fast" })).toBe('DeviceError: cpu: kernels is "plain" or "wasm", got fast');
  expect(said({ v8: "fast" })).toBe('DeviceError: cpu: v8 is "fma" or "wide", got fast');
  expect(said({ memoryLimitBytes: Number.NaN })).toBe("DeviceError: cpu: memoryLimitBytes is a number of at least 0, got NaN");
});

test("an opened device says why it cannot be used", async () => {
  const reasonOf = (fn: () => unknown): string => {
    try {
      fn();
    } catch (error) {
      if (error instanceof DeviceError) return error.reason;
    }
    throw new Error("no DeviceError");
  };
  const [a, b] = [cpu(), cpu()];
  const [x, y] = [a.ones([2]), b.ones([2])];
  expect(reasonOf(() => x.add(y))).toBe("mixed-devices");
  await a.profile(async () => {
    await expect(a.profile(() => {})).rejects.toMatchObject({ reason: "busy" });
  });
  b.destroy();
  expect(reasonOf(() => b.ones([2]))).toBe("destroyed");
  expect(reasonOf(() => a.backend.release({ byteLength: 8 }))).toBe("invalid-buffer");
  x.dispose();
  a.destroy();
});
