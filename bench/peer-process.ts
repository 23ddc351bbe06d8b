// One contestant as a process: asked one thing at a time, stopped while others are measured, its memory watched from outside.
import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createInterface, type Interface } from "node:readline";
import type { Contestant } from "./contestants.ts";
import { busySeconds, statusBytes } from "./machine.ts";

/** Times of one round. */
export interface Round {
  /** Milliseconds of one run: the median of the round. */
  readonly ms: number;
  /** Processor time of this process per run, in milliseconds. */
  readonly processorMs: number;
  /** Cores that the rest of the machine used meanwhile. */
  readonly othersCores: number | undefined;
  readonly deviceBytes: number | undefined;
}

export type Answer = Readonly<Record<string, unknown>>;

/** Processes that are stopped do not notice that their parent is gone: they end with it. */
const running = new Set<ChildProcess>();
const endAll = (): void => {
  for (const child of running) child.kill("SIGKILL");
};
process.on("exit", endAll);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(130));

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)]!;

export class PeerProcess {
  readonly contestant: Contestant;
  private readonly child: ChildProcess;
  private readonly lines: Interface;
  private waiting: ((answer: Answer) => void) | undefined;
  private errors = "";
  private ended = false;

  constructor(contestant: Contestant) {
    this.contestant = contestant;
    this.child = spawn(contestant.command, [...contestant.args], { stdio: ["pipe", "pipe", "pipe"] });
    running.add(this.child);
    this.child.on("error", (error) => this.end(error.message));
    this.child.on("exit", (code, signal) => this.end(`the process ended with ${signal ?? code}${this.errors && `: ${this.errors}`}`));
    this.child.stdin!.on("error", () => {});
    this.child.stderr!.on("data", (text) => {
      this.errors = `${text}`.trim().split("\n").at(-1)!.slice(0, 200);
    });
    this.lines = createInterface({ input: this.child.stdout! });
    this.lines.on("line", (line) => line.startsWith("@") && this.answered(JSON.parse(line.slice(1))));
  }

  private answered(answer: Answer): void {
    const { waiting } = this;
    this.waiting = undefined;
    waiting?.(answer);
  }
  private end(reason: string): void {
    this.ended = true;
    running.delete(this.child);
    this.answered({ failed: reason });
  }

  /** What the process says next; { failed } when it ends or takes longer than `timeoutSeconds`. */
  next(timeoutSeconds: number): Promise<Answer> {
    if (this.ended) return Promise.resolve({ failed: "the process has ended" });
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.child.kill("SIGKILL");
        this.answered({ failed: `no answer within ${timeoutSeconds} s` });
      }, timeoutSeconds * 1000);
      this.waiting = (answer) => {
        clearTimeout(timer);
        resolve(answer);
      };
    });
  }

  ask(request: object, timeoutSeconds = 300): Promise<Answer> {
    this.child.stdin!.write(`${JSON.stringify(request)}\n`);
    return this.next(timeoutSeconds);
  }

  /** Stops the process between its turns: thread pools that spin would slow the others. */
  pause(): void {
    if (process.platform !== "win32") this.child.kill("SIGSTOP");
  }
  resume(): void {
    if (process.platform !== "win32") this.child.kill("SIGCONT");
  }

  /** Highest resident memory so far, in bytes. */
  get peakBytes(): number | undefined {
    return statusBytes(this.child.pid!, "VmHWM");
  }
  get residentBytes(): number | undefined {
    return statusBytes(this.child.pid!, "VmRSS");
  }
  /** Starts `peakBytes` anew from what is resident now (Linux). */
  resetPeak(): void {
    try {
      writeFileSync(`/proc/${this.child.pid}/clear_refs`, "5");
    } catch {
      // Elsewhere the peak stays that of the whole process, which is the same for a fresh one.
    }
  }

  /** One round of measuring; undefined when it failed. */
  async round(request: { minMs: number; maxRuns: number; warmUp: number }): Promise<Round | undefined> {
    const [busy, start] = [busySeconds(), performance.now()];
    const answer = await this.ask({ run: request });
    const times = answer["times"] as number[] | undefined;
    if (!times) return undefined;
    const seconds = (performance.now() - start) / 1000;
    const processorMs = answer["processorMs"] as number;
    const now = busySeconds();
    // The clock of the machine ticks in hundredths: too coarse for a short round.
    const others =
      busy !== undefined && now !== undefined && seconds > 0.05 ? Math.max(0, (now - busy - processorMs / 1000) / seconds) : undefined;
    return {
      ms: median(times),
      processorMs: processorMs / times.length,
      othersCores: others,
      deviceBytes: (answer["deviceBytes"] as number | null) ?? undefined,
    };
  }

  close(): void {
    this.resume();
    this.child.stdin!.end(`${JSON.stringify({ end: true })}\n`);
    setTimeout(() => this.child.kill("SIGKILL"), 3000).unref();
  }
}
