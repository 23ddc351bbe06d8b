// Every error this library throws on purpose. Messages read `<op>: <what is wrong>: <operands>[; <what to do>]`.

/** Base of all typed errors; `op` is the operation a reader can grep for. */
export class TensorError extends Error {
  /** The call that failed. */
  readonly op: string;
  constructor(op: string, detail: string, options?: ErrorOptions) {
    super(`${op}: ${detail}`, options);
    this.name = new.target.name;
    this.op = op;
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

/** No adapter, a lost device, operands on two devices, memory that ran out. */
export class DeviceError extends TensorError {}

/** The device ran out of memory; nothing was leaked and the device is still usable. */
export class OutOfMemoryError extends DeviceError {}

/** Something this backend, driver or build cannot do; the message says what can. */
export class UnsupportedError extends TensorError {}
