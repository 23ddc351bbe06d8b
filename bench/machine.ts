// What the figures were measured on: processor, memory, system, GPU and driver, the state of the repository.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { arch, cpus, loadavg, platform, release, totalmem } from "node:os";

/** The machine of a run. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly system: string;
  readonly gpu: string | undefined;
  readonly load: number;
}

/** Standard output of a command, or undefined when it does not exist or fails. */
export function commandOutput(command: string, args: readonly string[]): string | undefined {
  try {
    return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"], timeout: 20_000 }).trim();
  } catch {
    return undefined;
  }
}

/** Name, driver and memory of the NVIDIA card, if there is one. */
const nvidia = (): string | undefined =>
  commandOutput("nvidia-smi", ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])?.split("\n")[0];

export const machine = (): Machine => ({
  cpu: cpus()[0]?.model ?? "unknown",
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  system: `${platform()} ${release()} ${arch()}`,
  gpu: nvidia(),
  load: Math.round((loadavg()[0] ?? 0) * 10) / 10,
});

/** Abbreviated commit, with "+" when files differ from it; in a packed folder what it was packed from, elsewhere undefined. */
export function commit(): string | undefined {
  if (existsSync("bench/gpu-check.mjs")) return readFileSync("commit", "utf8").trim();
  const hash = commandOutput("git", ["rev-parse", "--short", "HEAD"]);
  return hash && `${hash}${commandOutput("git", ["status", "--porcelain", "--untracked-files=no"]) ? "+" : ""}`;
}

/** Processor time that all processes of the machine used so far, in seconds (Linux). */
export function busySeconds(): number | undefined {
  try {
    const [user, nice, system, , , irq, soft] = readFileSync("/proc/stat", "utf8").split("\n")[0]!.trim().split(/\s+/).slice(1).map(Number);
    return (user! + nice! + system! + irq! + soft!) / 100;
  } catch {
    return undefined;
  }
}

/** A line of /proc/PID/status in bytes (Linux), such as VmHWM: the highest resident memory. */
export function statusBytes(pid: number, field: "VmHWM" | "VmRSS"): number | undefined {
  try {
    const line = readFileSync(`/proc/${pid}/status`, "utf8")
      .split("\n")
      .find((l) => l.startsWith(`${field}:`));
    return line ? Number(line.replace(/\D/g, "")) * 1024 : undefined;
  } catch {
    return undefined;
  }
}

/** Starts VmHWM of this process again from what is resident now (Linux; elsewhere nothing happens and `statusBytes` knows nothing either). */
export function resetPeakOfProcess(): void {
  try {
    writeFileSync("/proc/self/clear_refs", "5");
  } catch {
    return;
  }
}
