// Reads a repository's scheduler_config.json into a schedule value.
import { UnsupportedError } from "@wick/tensor";
import type { Shift } from "./sigmas.ts";

interface SchedulerJson {
  readonly _class_name?: unknown;
  readonly shift?: unknown;
  readonly use_dynamic_shifting?: unknown;
  readonly time_shift_type?: unknown;
  readonly base_shift?: unknown;
  readonly max_shift?: unknown;
  readonly base_image_seq_len?: unknown;
  readonly max_image_seq_len?: unknown;
}

const numberOr = (v: unknown, fallback: number): number => (typeof v === "number" ? v : fallback);

/** The shift a FlowMatchEulerDiscreteScheduler config describes; other scheduler classes are refused by name. */
export function shiftFromConfig(json: object): Shift {
  const c = json as SchedulerJson;
  if (c._class_name !== undefined && c._class_name !== "FlowMatchEulerDiscreteScheduler") {
    throw new UnsupportedError(
      "shiftFromConfig",
      `scheduler class ${String(c._class_name)} is not supported; FlowMatchEulerDiscreteScheduler is`,
    );
  }
  if (c.use_dynamic_shifting !== true) {
    const shift = numberOr(c.shift, 1);
    return shift === 1 ? { kind: "none" } : { kind: "static", shift };
  }
  return {
    kind: "dynamic",
    form: c.time_shift_type === "linear" ? "linear" : "exponential",
    baseShift: numberOr(c.base_shift, 0.5),
    maxShift: numberOr(c.max_shift, 1.15),
    baseTokens: numberOr(c.base_image_seq_len, 256),
    maxTokens: numberOr(c.max_image_seq_len, 4096),
  };
}
