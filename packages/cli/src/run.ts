// One run of the command line: parse, act, and turn whatever happens into an exit code.
import { CommanderError } from "commander";
import { type ExitCode, exitCodes } from "./cli-error.ts";
import { describeFailure, oneLine } from "./error-line.ts";
import { InterruptSignal } from "./interrupt.ts";
import { buildProgram, commandNames } from "./program.ts";
import { Reporter } from "./reporter.ts";

/** Runs `wick` with these arguments; resolves with the exit code. Never rejects. */
export async function run(args: readonly string[]): Promise<ExitCode> {
  // The options of a command that could not be parsed are not known yet, but how to report that is wanted all the same.
  const early = new Reporter({ json: args.includes("--json"), quiet: args.includes("--quiet"), debug: args.includes("--debug") });
  using interrupt = new InterruptSignal();
  endWithOutput();
  let code: ExitCode = exitCodes.ok;
  try {
    const program = buildProgram({ signal: interrupt.signal, setExitCode: (value) => (code = value) });
    await program.parseAsync(args.length === 0 ? ["--help"] : args, { from: "user" });
    return code;
  } catch (error) {
    return report(error, early, interrupt.signal, args);
  }
}

function report(error: unknown, reporter: Reporter, signal: AbortSignal, args: readonly string[]): ExitCode {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return exitCodes.ok; // --help and --version
    reporter.fail(`${parserText(error)}; see wick ${commandOf(args)}--help`, exitCodes.usage);
    return exitCodes.usage;
  }
  const { text, code } = describeFailure(error, signal.aborted ? signal.reason : undefined);
  reporter.fail(text, code);
  if (reporter.debug && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  return code;
}

/** The parser's message: its hint in the same line, no "error:", no full stop before what follows. */
const parserText = ({ message }: CommanderError): string =>
  oneLine(message.replace(/^error: /, ""))
    .replace(" | ", " ")
    .replace(/ is invalid\. (?=[a-z])/, " is invalid: ")
    .replace(/\.$/, "");

/** The command's name and a space, when the arguments begin with a known one. */
const commandOf = ([first = ""]: readonly string[]): string => (commandNames.includes(first) ? `${first} ` : "");

/** `wick … | head` ends quietly when the reader is gone; output that cannot be written otherwise is a failure. */
function endWithOutput(): void {
  const failed = (error: NodeJS.ErrnoException): never => process.exit(error.code === "EPIPE" ? exitCodes.ok : exitCodes.failure);
  process.stderr.on("error", failed);
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") process.stderr.write(`wick: standard output: ${describeFailure(error).text}\n`);
    failed(error);
  });
}
