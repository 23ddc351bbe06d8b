import { existsSync } from "node:fs";
import { playwright } from "@vitest/browser-playwright";
import { defineConfig } from "vitest/config";

const conditions = ["@wick/source", "module", "import", "default"];

/** Chromium flags under which WebGPU compute works headless without a GPU (SwiftShader). */
const chromiumArgs = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--enable-unsafe-webgpu",
];
const chromium = [process.env["CHROMIUM_PATH"], "/usr/bin/chromium", "/usr/bin/google-chrome"].find((p) => p && existsSync(p));

export default defineConfig({
  esbuild: { target: "es2022" },
  resolve: { conditions: [...conditions, "browser"] },
  ssr: { resolve: { conditions: [...conditions, "node"] } },
  test: {
    testTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["packages/*/test/**/*.test.ts", "examples/test/**/*.test.ts", "tools/test/**/*.test.ts"],
          exclude: ["**/test/gpu/**", "**/test/browser/**", "**/node_modules/**"],
        },
      },
      { extends: true, test: { name: "gpu", include: ["packages/*/test/gpu/**/*.test.ts"], pool: "forks" } },
      {
        extends: true,
        test: {
          name: "browser",
          include: ["packages/*/test/browser/**/*.test.ts"],
          browser: {
            enabled: true,
            headless: true,
            screenshotFailures: false,
            provider: playwright({ launchOptions: { ...(chromium ? { executablePath: chromium } : {}), args: chromiumArgs } }),
            instances: [{ browser: "chromium" }],
          },
        },
      },
    ],
  },
});
