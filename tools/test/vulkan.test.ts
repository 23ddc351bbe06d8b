// The order in which drivers are tried, with a made-up probe; and the unpacking of the carried SwiftShader.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type AdapterReport, describeDriver, findDriver, unpackSwiftShader } from "../vulkan.ts";

const adapter: AdapterReport = { vendor: "v", device: "d", description: "Some GPU", f16: true };

describe("findDriver", () => {
  it("takes the system's driver when it works, and then unpacks nothing", async () => {
    const driver = await findDriver(
      async () => adapter,
      () => {
        throw new Error("must not be called");
      },
    );
    expect(driver?.origin).toBe("system");
    expect(Object.keys(driver?.env ?? {})).toEqual(["MESA_SHADER_CACHE_DIR"]);
    expect(driver && describeDriver(driver)).toBe("Some GPU, f16 (system)");
  });

  it("falls back to SwiftShader, first without and then with its own Vulkan loader", async () => {
    const tried: string[][] = [];
    const driver = await findDriver(
      async (env) => {
        tried.push(Object.keys(env));
        return env["LD_LIBRARY_PATH"] ? { ...adapter, f16: false } : null;
      },
      () => "/carried",
    );
    expect(tried).toEqual([["MESA_SHADER_CACHE_DIR"], ["VK_DRIVER_FILES"], ["VK_DRIVER_FILES", "LD_LIBRARY_PATH"]]);
    expect(driver?.env["VK_DRIVER_FILES"]).toBe(join("/carried", "vk_swiftshader_icd.json"));
    expect(driver?.env["LD_LIBRARY_PATH"]).toMatch(/^\/carried/);
  });

  it("is null when nothing works", async () => {
    expect(
      await findDriver(
        async () => null,
        () => "/carried",
      ),
    ).toBeNull();
    expect(
      await findDriver(
        async () => null,
        () => null,
      ),
    ).toBeNull();
  });
});

describe.runIf(process.platform === "linux" && process.arch === "x64")("unpackSwiftShader (the package carries Linux x64 only)", () => {
  it("leaves the driver, its manifest and the loader", () => {
    const folder = unpackSwiftShader();
    for (const name of ["libvk_swiftshader.so", "libvulkan.so.1", "vk_swiftshader_icd.json"]) {
      expect(existsSync(join(folder ?? "", name)), name).toBe(true);
    }
  });
});
