// A disk without room, for a process that imports this first: files can be created, and every write to one fails.
import { open } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const handle = await open(fileURLToPath(import.meta.url));
const prototype = Object.getPrototypeOf(handle) as Record<"write" | "writeFile", () => Promise<never>>;
await handle.close();
const refuse = async (): Promise<never> => {
  throw Object.assign(new Error("ENOSPC: no space left on device, write"), { errno: -28, code: "ENOSPC", syscall: "write" });
};
Object.assign(prototype, { write: refuse, writeFile: refuse });
