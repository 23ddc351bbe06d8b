// Errors of the tokenizers. Messages read `<op>: <what is wrong>: <operands>[; <what to do>]`.

/** A tokenizer file that is missing, malformed or asks for something not supported, or an option that does not fit. */
export class TokenizerError extends Error {
  /** The call that failed. */
  readonly op: string;
  constructor(op: string, detail: string, options?: ErrorOptions) {
    super(`${op}: ${detail}`, options);
    this.name = new.target.name;
    this.op = op;
  }
}

/** A text with more tokens than the limit, met with truncation switched off. */
export class TextTooLongError extends TokenizerError {
  /** Of the text. */
  readonly tokenCount: number;
  /** What is allowed. */
  readonly maxLength: number;
  constructor(op: string, tokenCount: number, maxLength: number) {
    super(op, `the text has ${tokenCount} tokens, the limit is ${maxLength}; shorten it, raise maxLength or allow truncate`);
    this.tokenCount = tokenCount;
    this.maxLength = maxLength;
  }
}
