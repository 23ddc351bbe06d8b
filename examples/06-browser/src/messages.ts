// What the page and its worker say to each other.

export type DeviceChoice = "auto" | "webgpu" | "cpu";

/** To the worker. */
export type Order =
  | { readonly type: "open"; readonly device: DeviceChoice }
  | { readonly type: "draw"; readonly prompt: string; readonly seed: number; readonly steps: number; readonly guidance: number }
  | { readonly type: "verify" }
  | { readonly type: "stop" };

/** A picture's RGB bytes. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly rgb: Uint8Array;
}

/** One line of the verification table. */
export interface Check {
  readonly name: string;
  /** Relative L2 error, or the count of values that differ. */
  readonly measured: number;
  readonly allowed: number;
  readonly unit: "relative L2" | "values differ";
  readonly isPassed: boolean;
}

/** To the page. */
export type Report =
  | { readonly type: "ready"; readonly facts: readonly (readonly [string, string])[]; readonly note: string }
  | { readonly type: "progress"; readonly text: string; readonly fraction: number }
  | { readonly type: "step"; readonly step: number; readonly steps: number; readonly picture: Picture; readonly elapsedMs: number }
  | { readonly type: "done"; readonly picture: Picture; readonly facts: readonly (readonly [string, string])[] }
  | { readonly type: "check"; readonly check: Check }
  | { readonly type: "verified"; readonly isPassed: boolean; readonly totalMs: number }
  | { readonly type: "stopped" }
  | { readonly type: "failed"; readonly message: string };
