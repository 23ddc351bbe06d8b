// Every error this package throws on purpose. Text: `<op>: <what is wrong>: <sizes>; <what to do>`.

/** Base of every error of the image package; `op` names the call that failed. */
export class ImageError extends Error {
  /** The call that failed. */
  readonly op: string;
  constructor(op: string, detail: string, options?: ErrorOptions) {
    super(`${op}: ${detail}`, options);
    this.name = new.target.name;
    this.op = op;
  }
}

/** Width, height and the lengths of the arrays do not agree, or a size is not allowed. */
export class ImageSizeError extends ImageError {}
/** Bytes that are not the image file they claim to be: cut, damaged or hostile. */
export class ImageFormatError extends ImageError {}
/** A value that has no pixel: NaN, or a text that a PNG cannot carry. */
export class ImageValueError extends ImageError {}
/** No decoder for this format here; the text says how to get one. */
export class DecoderMissingError extends ImageError {}
