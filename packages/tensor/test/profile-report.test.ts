// Profiles of real runs as a table and as a trace.
import { chromeTrace, cpu, scope, summarizeProfile } from "@wick/tensor";
import { expect, test } from "vitest";

test("a profile adds up and names the work", async () => {
  using device = cpu();
  using x = device.ones([64, 64]);
  const timings = await device.profile(() => {
    scope(() => void x.matmul(x).softmax().matmul(x).compute());
  });
  const summary = summarizeProfile(timings);
  expect(summary.map((s) => s.op).sort()).toEqual(["matmul", "softmax"]);
  expect(summary.find((s) => s.op === "matmul")!.count).toBe(2);
  expect(summary.reduce((s, o) => s + o.share, 0)).toBeCloseTo(1, 6);
  expect(timings.filter((t) => t.op === "matmul").every((t) => t.flops === 2 * 64 ** 3)).toBe(true);
});

test("a trace has one complete event per op, in order", () => {
  const timing = { op: "map", label: "", startMicros: 5, elapsedMicros: 2, flops: 1, bytes: 8 };
  const trace = JSON.parse(chromeTrace([timing, { ...timing, startMicros: 9 }])) as {
    traceEvents: { ph: string; ts: number; dur: number }[];
  };
  expect(trace.traceEvents.map(({ ph, ts, dur }) => [ph, ts, dur])).toEqual([
    ["X", 5, 2],
    ["X", 9, 2],
  ]);
});
