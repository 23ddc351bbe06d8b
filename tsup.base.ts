// The one build recipe of all packages: ESM only, declarations, source maps. "node:" stays in imports, so that bundlers
// for browsers know a Node module when they see one.
import type { Options } from "tsup";

export const library: Options = {
  entry: ["src/index.ts"],
  format: ["esm"],
  dts: true,
  sourcemap: true,
  target: "es2022",
  clean: true,
  removeNodeProtocol: false,
};
