// Every error this library throws on purpose. Messages read `<op>: <what is wrong>: <operands>[; <what to do>]`.

/** Base of all typed errors; `op` is the operation a reader can grep for. */
export class TensorError extends Error {
  /** The call that failed. */
  readonly op: string;
  /** The message without the call: for whoever puts another subject before it. */
  readonly detail: string;
  constructor(op: string, detail: string, options?: ErrorOptions) {
    super(`${op}: ${detail}`, options);
    this.name = new.target.name;
    this.op = op;
    this.detail = detail;
  }
}

/** Shapes that do not fit each other or the operation. */
export class ShapeError extends TensorError {}

/** A dtype the operation does not take, or a mix it does not promote. */
export class DTypeError extends TensorError {}

/** A tensor used after its release, or a parameter used before its data was loaded. */
export class DisposedError extends TensorError {}

/** A checkpoint that does not fit the model. */
export class WeightsError extends TensorError {}

/** A file that is truncated, malformed or hostile. */
export class FormatError extends TensorError {}

/**
 * Why a device cannot be opened: "no-webgpu" (a browser without it), "no-dawn" (the npm package "webgpu" is not installed), "dawn-failed" (it is, and does
 * not start), "no-adapter" (no GPU with a driver), "unknown-adapter" (none of the name asked for), "no-device" (the adapter gave none), "wrong-results"
 * (its driver computes wrong), "bad-option" (an option that this adapter or version does not take).
 * Why an opened one cannot be used: "lost" (by the driver), "destroyed" (by the program), "out-of-memory", "driver-error" (anything else it reports),
 * "mixed-devices" (operands on two), "invalid-buffer" (memory given back, or of another backend), "busy" (a profile is running).
 */
export type DeviceErrorReason =
  | "no-webgpu"
  | "no-dawn"
  | "dawn-failed"
  | "no-adapter"
  | "unknown-adapter"
  | "no-device"
  | "wrong-results"
  | "bad-option"
  | "lost"
  | "destroyed"
  | "out-of-memory"
  | "driver-error"
  | "mixed-devices"
  | "invalid-buffer"
  | "busy";

/** A device that cannot be opened or used; `reason` says why, for programs. */
export class DeviceError extends TensorError {
  /** Why. */
  readonly reason: DeviceErrorReason;
  constructor(op: string, reason: DeviceErrorReason, detail: string, options?: ErrorOptions) {
    super(op, detail, options);
    this.reason = reason;
  }
}

/** The device ran out of memory; nothing was leaked and the device is still usable. */
export class OutOfMemoryError extends DeviceError {
  constructor(op: string, detail: string, options?: ErrorOptions) {
    super(op, "out-of-memory", detail, options);
  }
}

/** Something this backend, driver or build cannot do; the message says what can. */
export class UnsupportedError extends TensorError {}
