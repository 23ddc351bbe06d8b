// Four projects: unit (no GPU), gpu (Dawn in Node), browser (WebGPU in Chromium) and isolated (threads in Chromium). Sources are used as they are, without a build.
import { playwright } from "@vitest/browser-playwright";
import { defineConfig } from "vitest/config";
import { chromiumArgs, findChromium } from "./tools/chromium.ts";

const conditions = ["@wick/source", "module", "import", "default"];

const chromium = findChromium();

/** A headless Chromium; vitest writes into what it is given, so every project gets its own. */
const browser = () => ({
  enabled: true,
  headless: true,
  screenshotFailures: false,
  provider: playwright({ launchOptions: { ...(chromium ? { executablePath: chromium } : {}), args: [...chromiumArgs] } }),
  instances: [{ browser: "chromium" as const }],
});

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
          exclude: ["**/test/gpu/**", "**/test/browser/**", "**/test/isolated/**", "**/node_modules/**"],
        },
      },
      {
        extends: true,
        test: {
          name: "gpu",
          include: ["packages/*/test/gpu/**/*.test.ts", "examples/test/gpu/**/*.test.ts"],
          pool: "forks",
          globalSetup: "tools/vitest-driver.ts",
        },
      },
      {
        extends: true,
        test: {
          name: "browser",
          include: ["packages/*/test/browser/**/*.test.ts"],
          // Pages do not see the environment of the process.
          env: { WICK_CONFORMANCE: process.env["WICK_CONFORMANCE"] ?? "" },
          browser: browser(),
        },
      },
      {
        extends: true,
        // The page that browsers let share memory between threads.
        server: { headers: { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" } },
        test: { name: "isolated", include: ["packages/*/test/isolated/**/*.test.ts"], browser: browser() },
      },
    ],
  },
});
