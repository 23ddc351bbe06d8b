// Builds the page from the packages' sources. An app outside this repository needs no conditions: it gets the built packages.
import { defineConfig } from "vite";

// With these headers a page may share memory between threads, and the CPU backend uses all cores; without them it uses one.
const headers = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };

export default defineConfig({
  base: "./",
  resolve: { conditions: ["@wick/source", "module", "browser", "import", "default"] },
  // `using` and import.meta.url stay what they are in browsers that have WebGPU; esbuild lowers the former.
  build: { target: "es2022", emptyOutDir: true },
  worker: { format: "es" },
  server: { fs: { allow: ["../.."] }, headers },
  preview: { headers },
});
