// Latents that outlive what goes wrong after them: they are read before they are decoded, and travel with the error if that fails.
import { type Device, type Tensor, TensorError } from "@wick/tensor";
import { NumericsError } from "./denoise.ts";

/** Latents off the device: nothing to release. */
export interface HostLatents {
  /** [b, c, h, w] */
  readonly shape: readonly number[];
  /** Row-major. */
  readonly values: Float32Array;
}

/** Decoding failed; `latents` are what was to be decoded, `cause` is why it could not be. */
export class DecodeError extends TensorError {
  /** What was to be decoded. */
  readonly latents: HostLatents;
  constructor(latents: HostLatents, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(
      "decode",
      `${reason}: latents [${latents.shape.join(", ")}]; they are kept in this error: decode(latentsOn(device, error.latents))`,
      {
        cause,
      },
    );
    this.latents = latents;
  }
}

/** Reads latents [b, c, h, w]; throws NumericsError when any value is NaN or infinite. */
export async function readLatents(latents: Tensor, what = "the latents"): Promise<HostLatents> {
  const values = await latents.toArray();
  if (!(values instanceof Float32Array && values.every(Number.isFinite)))
    throw new NumericsError("denoise", `NaN or infinite values in ${what}: ${latents}; use bf16 or f32 weights, or lower the guidance`);
  return { shape: [...latents.shape], values };
}

/** Latents back on a device, owned by the caller. */
export const latentsOn = (device: Device, { values, shape }: HostLatents): Tensor => device.tensor(values, shape, { label: "latents" });
