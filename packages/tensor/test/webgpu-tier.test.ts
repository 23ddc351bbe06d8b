// Which tier an adapter gets, and how a tier loses its trust; on descriptions of adapters and a stand-in for a device.
import { describe, expect, test } from "vitest";
import type { Backend } from "../src/backends/backend.ts";
import { createCpuBackend } from "../src/backends/cpu/index.ts";
import { pickMatrixConfig } from "../src/backends/webgpu/matrix-config.ts";
import type { OpenedDevice } from "../src/backends/webgpu/open.ts";
import { attentionPreferences, productClass } from "../src/backends/webgpu/preferences.ts";
import { trustedTraits } from "../src/backends/webgpu/self-test.ts";
import { adapterName, hasFastMatrices, preferredTier, type Tier } from "../src/backends/webgpu/tier.ts";
import type { DeviceTraits } from "../src/backends/webgpu/traits.ts";
import { fastest, type Measurement } from "../src/backends/webgpu/tuner.ts";
import { tuneWebgpu } from "../src/webgpu.ts";

const infoOf = (vendor: string, architecture: string, device = ""): GPUAdapterInfo =>
  ({ vendor, architecture, device, description: "" }) as GPUAdapterInfo;
const opened = (info: GPUAdapterInfo, software = false): OpenedDevice => ({ device: {} as GPUDevice, info, driver: "vulkan", software });
const hopper = infoOf("nvidia", "hopper");

describe("preferredTier", () => {
  test("takes subgroup matrices unmeasured only where they are known to be fast", () => {
    const on = (vendor: string, architecture: string): string =>
      preferredTier("matrix", opened(infoOf(vendor, architecture)), undefined, undefined).tier;
    expect([on("nvidia", "hopper"), on("apple", "apple-9"), on("amd", "rdna-3"), on("intel", "xe-2-lpg")]).toEqual(Array(4).fill("matrix"));
    expect([on("intel", "xe-hpg"), on("amd", "gcn-5"), on("qualcomm", "adreno-7xx"), on("", "")]).toEqual(Array(4).fill("subgroups"));
    expect(hasFastMatrices(infoOf("mesa", "llvmpipe"))).toBe(false);
  });

  test("says why", () => {
    const reason = (offered: Tier, info: GPUAdapterInfo, software = false): string =>
      preferredTier(offered, opened(info, software), undefined, undefined).tierReason;
    expect(reason("plain", hopper)).toMatchInlineSnapshot(`"the highest tier the adapter offers is plain"`);
    expect(reason("matrix", hopper)).toMatchInlineSnapshot(`"the highest tier the adapter offers is matrix"`);
    expect(reason("matrix", infoOf("intel", "xe-hpg"))).toMatchInlineSnapshot(
      `"this adapter's subgroup matrices are not known to be fast; wick doctor --tune measures them"`,
    );
    expect(reason("matrix", infoOf("mesa", "llvmpipe"), true)).toMatchInlineSnapshot(
      `"subgroup matrices are slow on a software adapter; wick doctor --tune measures them"`,
    );
  });

  test("follows a measurement, and above all the option", () => {
    expect(preferredTier("matrix", opened(hopper), undefined, "plain")).toMatchInlineSnapshot(`
      {
        "tier": "plain",
        "tierReason": "measured to be the fastest on this adapter",
      }
    `);
    expect(preferredTier("matrix", opened(hopper), "subgroups", "plain")).toMatchInlineSnapshot(`
      {
        "tier": "subgroups",
        "tierReason": "set by the option "tier"",
      }
    `);
    expect(() => preferredTier("matrix", opened(hopper), "fast" as never, undefined)).toThrow(
      /^webgpu: the adapter has no fast tier, only/,
    );
    expect(() => preferredTier("subgroups", opened(hopper), "matrix", undefined)).toThrowErrorMatchingInlineSnapshot(
      `[DeviceError: webgpu: the adapter has no matrix tier, only up to subgroups; leave the option "tier" out]`,
    );
  });
});

describe("trustedTraits", () => {
  /** Makes `backend` for the tiers above plain, and for plain one that computes. */
  const above =
    (backend: () => Backend) =>
    ({ tier }: DeviceTraits): Backend =>
      tier === "plain" ? createCpuBackend({ kernels: "plain" }) : backend();
  /** A backend whose products are all 0. */
  const broken = (): Backend =>
    ({
      capabilities: {},
      allocate: () => ({}),
      write: () => {},
      release: () => {},
      trim: () => {},
      kernels: { matmul: () => {} },
      read: async (_b: unknown, _o: number, length: number) => new Uint8Array(length),
    }) as unknown as Backend;
  const throwing = (): Backend =>
    ({ ...broken(), allocate: () => ({}), read: async () => Promise.reject(new Error("device hung\nmore")) }) as unknown as Backend;
  const traits = { tier: "matrix", tierReason: "the highest tier the adapter offers is matrix" } as DeviceTraits;
  const failing = (name: string, make: (traits: DeviceTraits) => Backend, options = {}): Promise<DeviceTraits> =>
    trustedTraits(opened(infoOf(name, "")), traits, options, make);

  test("goes down to the tier that computes right, with every reason", async () => {
    const { tier, tierReason } = await failing("one", above(broken));
    expect(tier).toBe("plain");
    expect(tierReason).toMatchInlineSnapshot(
      `"the matrix tier failed its self-test: matmul gave 0 instead of -307350 at [0, 0]; the subgroups tier failed its self-test: matmul gave 0 instead of -307350 at [0, 0]"`,
    );
  });

  test("judges each precision by itself, and a lower tier has none to choose", async () => {
    const rounding = { ...traits, float32MatmulPrecision: "high" } as DeviceTraits;
    let made = 0;
    const counting = above(() => {
      made++;
      return broken();
    });
    const info = opened(infoOf("precisions", ""));
    expect((await trustedTraits(info, rounding, {}, counting)).float32MatmulPrecision).toBe("highest");
    expect(made).toBe(2);
    await trustedTraits(info, { ...traits, float32MatmulPrecision: "highest" }, {}, counting);
    expect(made).toBe(3);
  });

  test("takes an error for a failure", async () => {
    const { tierReason } = await failing("two", above(throwing));
    expect(tierReason).toMatchInlineSnapshot(
      `"the matrix tier failed its self-test: matmul: device hung; the subgroups tier failed its self-test: matmul: device hung"`,
    );
  });

  test("refuses an adapter whose plain kernels are wrong too, every time it is opened", async () => {
    for (let time = 0; time < 2; time++) {
      await expect(failing("idle", broken)).rejects.toThrowErrorMatchingInlineSnapshot(
        `[DeviceError: webgpu: idle computes wrong results: the matrix tier failed its self-test: matmul gave 0 instead of -307350 at [0, 0]; the subgroups tier failed its self-test: matmul gave 0 instead of -307350 at [0, 0]; the plain tier failed its self-test: matmul gave 0 instead of -307350 at [0, 0]; update its driver or use cpu()]`,
      );
      await expect(failing("idle", broken)).rejects.toMatchObject({ reason: "wrong-results" });
    }
  });

  test("tests an adapter once, and a forced tier never", async () => {
    let made = 0;
    const counting = above(() => {
      made++;
      return broken();
    });
    await failing("three", counting);
    await failing("three", counting);
    expect(made).toBe(2);
    expect((await failing("four", counting, { tier: "matrix" })).tier).toBe("matrix");
    expect(made).toBe(2);
  });
});

test("f16 fragments with f32 sums come first, f32 ones where there are no others, f16 sums never", () => {
  const config = (size: number, componentType: string, resultComponentType: string) => ({
    ...{ M: size, N: size, K: size, componentType, resultComponentType },
  });
  const nvidia = [config(16, "f16", "f16"), config(16, "f16", "f32"), config(32, "u8", "u32")];
  const apple = [config(8, "f32", "f32"), config(8, "f16", "f16")];
  expect(pickMatrixConfig({ subgroupMatrixConfigs: nvidia }, true)).toEqual({ m: 16, n: 16, k: 16, input: "f16" });
  expect(pickMatrixConfig({ subgroupMatrixConfigs: nvidia }, false)).toBeUndefined();
  expect(pickMatrixConfig({ subgroupMatrixConfigs: apple }, true)).toEqual({ m: 8, n: 8, k: 8, input: "f32" });
  expect(pickMatrixConfig({}, true)).toBeUndefined();
});

test("products are classed by results, the right operand's storage, and whether operands are split", () => {
  expect(productClass({ m: 1024, n: 1024, batch: 1 }, "f32", true)).toBe("large f32 split");
  expect(productClass({ m: 1024, n: 1023, batch: 1 }, "bf16", false)).toBe("small half");
  expect(productClass({ m: 64, n: 64, batch: 256 }, "q4_K", false)).toBe("large block");
});

test("the tuner takes the fastest kernel of every class, and the matrix tier only when it won somewhere", () => {
  const measured: Measurement[] = [
    { work: "large f32", kernel: "workgroup 64x64", gflops: 3 },
    { work: "large f32", kernel: "matrix 2x2", gflops: 2 },
    { work: "small half", kernel: "broadcast 8", gflops: 1 },
  ];
  expect(fastest(measured, "matrix")).toEqual({
    tier: "subgroups",
    variants: { "large f32": "workgroup 64x64", "small half": "broadcast 8" },
    attention: {},
  });
  const better: Measurement = { work: "small half", kernel: "matrix 4x4", gflops: 9 };
  expect(fastest([...measured, better], "matrix")).toMatchObject({ tier: "matrix", variants: { "small half": "matrix 4x4" } });
  const attention: Measurement[] = [
    { work: "f32 attention", kernel: "tiled", gflops: 2 },
    { work: "f32 attention", kernel: "matrix 1 ahead", gflops: 3 },
    { work: "half attention", kernel: "tiled", gflops: 4 },
  ];
  expect(fastest(attention, "matrix")).toEqual({
    tier: "matrix",
    variants: {},
    attention: { "f32 attention": "matrix 1 ahead", "half attention": "tiled" },
  });
  expect(fastest(measured.slice(0, 1), "plain").tier).toBe("plain");
});

test("attention takes what was measured, then what suits the adapter's matrix units", () => {
  const names = (adapterName: string, more: Partial<DeviceTraits> = {}): readonly string[] =>
    attentionPreferences(
      { tier: "matrix", software: false, tunedAttention: {}, adapterName, ...more } as unknown as DeviceTraits,
      "half attention",
    );
  expect(names("nvidia | hopper |  | H200 | vulkan")).toEqual(["matrix 1 ahead", "matrix 1"]);
  expect(names("amd | rdna-3 | radv | vulkan")).toEqual(["matrix 1 ahead turned", "matrix 1 turned", "matrix 1 ahead", "matrix 1"]);
  expect(names("nvidia | hopper |  | NVK: Mesa 26.2.6 | vulkan")[0]).toBe("matrix 1 ahead turned");
  expect(names("amd", { software: true })).toEqual(["matrix 1"]);
  expect(names("amd", { tunedAttention: { "half attention": "matrix 2" } })[0]).toBe("matrix 2");
  expect(names("amd", { tier: "plain" })).toEqual([]);
});

test("the tuner does not measure what runs nothing", async () => {
  await expect(tuneWebgpu({ driver: "null" })).rejects.toThrowErrorMatchingInlineSnapshot(
    `[DeviceError: webgpu: the null driver runs nothing that could be measured; leave the option out]`,
  );
});

test("an adapter's name tells driver versions apart", () => {
  const name = adapterName({ ...infoOf("nvidia", "hopper", "0x2330"), description: "H200, driver 570" } as GPUAdapterInfo, "vulkan");
  expect(name).toBe("nvidia | hopper | 0x2330 | H200, driver 570 | vulkan");
});
