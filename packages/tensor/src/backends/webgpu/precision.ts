// The choice between f32's accuracy and one rounding to f16, for products on matrix units that take f16 (docs/decisions/0016-tiers.md).
import { DeviceError } from "../../errors.ts";
import type { Float32MatmulPrecision } from "../backend.ts";
import type { MatrixConfig } from "./matrix-config.ts";
import type { Tier } from "./tier.ts";

/** Values of `float32MatmulPrecision`, most exact first. */
const float32MatmulPrecisions = ["highest", "high"] as const satisfies readonly Float32MatmulPrecision[];

/** Checks what a program without types may pass; throws DeviceError naming the values there are. */
export function checkPrecision(asked: Float32MatmulPrecision | undefined): void {
  if (asked === undefined || float32MatmulPrecisions.includes(asked)) return;
  const known = float32MatmulPrecisions.map((p) => `"${p}"`).join(" or ");
  throw new DeviceError("webgpu", "bad-option", `float32MatmulPrecision is ${JSON.stringify(asked)}; it takes ${known}`);
}

/** The precision that products come to have: only f16 fragments round. */
export const precisionOf = (
  asked: Float32MatmulPrecision | undefined,
  tier: Tier,
  matrix: MatrixConfig | undefined,
): Float32MatmulPrecision => (asked === "high" && tier === "matrix" && matrix?.input === "f16" ? "high" : "highest");
