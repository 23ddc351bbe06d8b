// What a profile is read as: a table of ops, and a trace file for chrome://tracing and Perfetto.
import type { OpTiming } from "./backends/backend.ts";

/** All runs of one op in a profile. */
export interface OpSummary {
  /** Name of the kernel. */
  readonly op: string;
  /** Launches. */
  readonly count: number;
  /** Device time of all launches. */
  readonly elapsedMs: number;
  /** Part of the whole profile's time, 0…1. */
  readonly share: number;
  /** 0 where the kernel does not state its work. */
  readonly gflopsPerSecond: number;
  /** 0 where the kernel does not state its traffic. */
  readonly gigabytesPerSecond: number;
}

/** Times by op, the most expensive first. */
export function summarizeProfile(timings: readonly OpTiming[]): readonly OpSummary[] {
  const total = timings.reduce((s, t) => s + t.elapsedMicros, 0);
  const byOp = new Map<string, OpTiming[]>();
  for (const t of timings) byOp.set(t.op, [...(byOp.get(t.op) ?? []), t]);
  return [...byOp]
    .map(([op, runs]) => {
      const sum = (pick: (t: OpTiming) => number) => runs.reduce((s, t) => s + pick(t), 0);
      const micros = sum((t) => t.elapsedMicros);
      const perSecond = (amount: number) => (micros > 0 ? amount / (micros * 1e3) : 0);
      return {
        op,
        count: runs.length,
        elapsedMs: micros / 1e3,
        share: total > 0 ? micros / total : 0,
        gflopsPerSecond: perSecond(sum((t) => t.flops)),
        gigabytesPerSecond: perSecond(sum((t) => t.bytes)),
      };
    })
    .sort((a, b) => b.elapsedMs - a.elapsedMs);
}

/** The profile in Chrome's trace event format: write it to a .json file and open it in chrome://tracing or ui.perfetto.dev. */
export function chromeTrace(timings: readonly OpTiming[]): string {
  const traceEvents = timings.map(({ op, label, startMicros, elapsedMicros, flops, bytes, region }) => ({
    name: op,
    cat: "op",
    ph: "X",
    ts: startMicros,
    dur: elapsedMicros,
    pid: 1,
    tid: 1,
    args: { label, flops, bytes, region },
  }));
  return JSON.stringify({ displayTimeUnit: "ms", traceEvents });
}
