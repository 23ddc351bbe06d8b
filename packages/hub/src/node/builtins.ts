// Node's own modules, taken at run time so that a browser bundler never meets a `node:` import. Loaded only behind a dynamic import.
import type * as Crypto from "node:crypto";
import type * as Fs from "node:fs/promises";
import type * as Os from "node:os";
import type * as Path from "node:path";

export const fs: typeof Fs = process.getBuiltinModule("node:fs/promises");
export const path: typeof Path = process.getBuiltinModule("node:path");
export const os: typeof Os = process.getBuiltinModule("node:os");
export const crypto: typeof Crypto = process.getBuiltinModule("node:crypto");
