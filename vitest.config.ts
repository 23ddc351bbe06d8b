// Three projects: unit (no GPU), gpu (Dawn in Node) and browser (WebGPU in Chromium). Sources are used as they are, without a build.
import { playwright } from "@vitest/browser-playwright";
import { defineConfig } from "vitest/config";
import { chromiumArgs, findChromium } from "./tools/chromium.ts";

const conditions = ["@wick/source", "module", "import", "default"];

const chromium = findChromium();

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
      {
        extends: true,
        test: { name: "gpu", include: ["packages/*/test/gpu/**/*.test.ts"], pool: "forks", globalSetup: "tools/vitest-driver.ts" },
      },
      {
        extends: true,
        test: {
          name: "browser",
          include: ["packages/*/test/browser/**/*.test.ts"],
          browser: {
            enabled: true,
            headless: true,
            screenshotFailures: false,
            provider: playwright({ launchOptions: { ...(chromium ? { executablePath: chromium } : {}), args: [...chromiumArgs] } }),
            instances: [{ browser: "chromium" }],
          },
        },
      },
    ],
  },
});
