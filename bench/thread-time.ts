// Processor time of the main thread: what recording costs, undisturbed by a busy machine and by the driver's own threads.
import { readFileSync } from "node:fs";

/** Milliseconds the main thread has run so far; where the system does not tell (outside Linux), the process's processor time. */
export function mainThreadMs(): number {
  try {
    return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ")[0]) / 1e6;
  } catch {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  }
}
