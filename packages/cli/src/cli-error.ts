// Errors of the command line and the exit codes they end in. Text: `<what is wrong>; <what to do>`, on one line.

/** What the process ends with. */
export const exitCodes = {
  /** Done. */
  ok: 0,
  /** Something failed: a file, the network, the device, the model. */
  failure: 1,
  /** The command or an option is not right. */
  usage: 2,
  /** compare and reproduce ran to the end, and found a difference. */
  differs: 3,
  /** Ctrl-C. */
  interrupted: 130,
  /** SIGTERM. */
  terminated: 143,
} as const;

/** One of `exitCodes`. */
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** A failure with its exit code; the text says what to do. */
export class CliError extends Error {
  readonly exitCode: ExitCode;
  constructor(text: string, exitCode: ExitCode = exitCodes.failure, options?: ErrorOptions) {
    super(text, options);
    this.name = new.target.name;
    this.exitCode = exitCode;
  }
}

/** A wrong command or option. */
export class UsageError extends CliError {
  constructor(text: string) {
    super(text, exitCodes.usage);
  }
}

/** The reason of the signal that Ctrl-C and SIGTERM abort. */
export class Interrupted extends CliError {
  constructor(exitCode: ExitCode = exitCodes.interrupted) {
    super("stopped; no file was left behind", exitCode);
  }
}
