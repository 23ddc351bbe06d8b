// The one build recipe of all packages: ESM only, declarations, source maps.
import type { Options } from "tsup";

export const library: Options = {
  entry: ["src/index.ts"],
  format: ["esm"],
  dts: true,
  sourcemap: true,
  target: "es2022",
  clean: true,
};
