// The version of this package, from its manifest; the same path from src and from dist.
import { createRequire } from "node:module";

const manifest = createRequire(import.meta.url)("../package.json") as { version: string };

/** "0.1.0". */
export const version: string = manifest.version;
