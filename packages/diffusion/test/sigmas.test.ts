// Noise levels against diffusers, black-forest-labs/flux and Tongyi-MAI/Z-Image (goldens/sigmas.json).
import { readFileSync } from "node:fs";
import {
  dpmFlowSigmas,
  flowSigmas,
  fluxDevShift,
  noShift,
  ownGridSigmas,
  type Shift,
  shiftFromConfig,
  torchGrid,
  truncatedSigmas,
  userSigmas,
} from "@wick/diffusion";
import { describe, expect, test } from "vitest";

interface Row {
  readonly id: string;
  readonly steps: number;
  readonly sigmas: readonly number[];
  readonly config: Readonly<Record<string, unknown>>;
  readonly mu: number | null;
  readonly given: readonly number[] | null;
  readonly tokens?: number;
  readonly shifted?: boolean;
  readonly shift?: number;
  readonly strength: number;
  readonly start: number;
}
type Family = "flowMatchEuler" | "flux" | "zImage" | "dpmFlow" | "strength";
const goldens = JSON.parse(readFileSync(new URL("./goldens/sigmas.json", import.meta.url), "utf8")) as Record<Family, { rows: Row[] }>;

function expectClose(got: readonly number[], want: readonly number[]): void {
  expect(got.length).toBe(want.length);
  const off = Math.max(...got.map((s, i) => Math.abs(s - want[i]!)));
  expect(off).toBeLessThanOrEqual(1e-7);
}

/** A dynamic shift whose mu is exactly the row's: a flat line. */
function shiftOf({ config, mu }: Row): Shift {
  const shift = shiftFromConfig(config);
  return shift.kind === "dynamic" && mu !== null ? { ...shift, baseShift: mu, maxShift: mu } : shift;
}

describe("FlowMatchEulerDiscreteScheduler", () => {
  test.each(goldens.flowMatchEuler.rows)("$id", (row) => {
    const shift = shiftOf(row);
    if (!row.given) return expectClose(ownGridSigmas(row.steps, shift), row.sigmas);
    const { config } = row;
    const terminal = config["shift_terminal"] as number | undefined;
    const spacing = config["use_karras_sigmas"] ? "karras" : config["use_exponential_sigmas"] ? "exponential" : undefined;
    const options = { ...(terminal === undefined ? {} : { terminal }), ...(spacing ? { spacing } : ({} as object)) };
    expectClose(flowSigmas({ steps: row.steps, shift, tokens: 1, grid: row.given, ...options }), row.sigmas);
  });
});

test.each(goldens.flux.rows)("$id", ({ steps, tokens = 0, shifted, sigmas }) => {
  expectClose(flowSigmas({ steps, shift: shifted ? fluxDevShift : noShift, tokens, grid: torchGrid(steps) }), sigmas);
});

test.each(goldens.zImage.rows)("$id", ({ steps, shift, sigmas }) => {
  expectClose(flowSigmas({ steps, shift: { kind: "static", shift: shift! }, rounding: "f64" }), sigmas);
});

test.each(goldens.dpmFlow.rows)("$id", ({ steps, shift, sigmas }) => {
  expectClose(dpmFlowSigmas(steps, { kind: "static", shift: shift! }), sigmas);
});

test.each(goldens.strength.rows)("$steps steps at strength $strength start at $start", ({ steps, strength, start }) => {
  const sigmas = flowSigmas({ steps, shift: { kind: "static", shift: 3 } });
  expect(truncatedSigmas(sigmas, strength)).toEqual(sigmas.slice(start));
});

describe("bad input", () => {
  test("is refused with the reason", () => {
    expect(() => flowSigmas({ steps: 0, shift: noShift })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: flowSigmas: steps is a whole number of at least 1, got 0]`,
    );
    expect(() => userSigmas([0.5, 0.9, 0])).toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: sigmas decrease within 1…0, got [0.5, 0.9, 0]]`,
    );
    expect(() => userSigmas([])).toThrowErrorMatchingInlineSnapshot(`[RequestError: generate: sigmas decrease within 1…0, got []]`);
    expect(() => truncatedSigmas([1, 0], 0)).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: truncatedSigmas: strength lies in 0…1 (0 excluded), got 0]`,
    );
    expect(() => shiftFromConfig({ _class_name: "DDIMScheduler" })).toThrowErrorMatchingInlineSnapshot(
      `[UnsupportedError: shiftFromConfig: scheduler class DDIMScheduler is not supported; FlowMatchEulerDiscreteScheduler is]`,
    );
  });

  test("a missing final 0 is added", () => {
    expect(userSigmas([1, 0.5])).toEqual([1, 0.5, 0]);
  });
});
