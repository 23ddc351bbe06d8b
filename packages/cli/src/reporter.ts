// Where a command's words go: results to stdout (text, or one JSON document), everything else to stderr, nothing but errors with --quiet.
import type { WriteStream } from "node:tty";
import { printable } from "./units.ts";

/** Options every command has. */
export interface CommonOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly debug?: boolean;
}

export class Reporter {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly debug: boolean;
  /** Lines at the bottom of the terminal that are redrawn; cleared before anything else is written. */
  #live = "";
  readonly #warnings: string[] = [];

  constructor({ json = false, quiet = false, debug = false }: CommonOptions) {
    this.json = json;
    this.quiet = quiet;
    this.debug = debug;
  }

  /** Whether progress may be drawn and redrawn. */
  get isInteractive(): boolean {
    return !this.quiet && process.stderr.isTTY === true && process.env["TERM"] !== "dumb";
  }
  get columns(): number {
    return (process.stderr as Partial<WriteStream>).columns ?? 80;
  }

  /** The result of a command: the document with --json, otherwise the text. It is written by JSON.stringify: plain objects, arrays, numbers, text. */
  result(text: string, document: object): void {
    this.clearLive();
    if (this.json) process.stdout.write(`${JSON.stringify(this.#withWarnings(document))}\n`);
    else if (!this.quiet) process.stdout.write(`${text}\n`);
  }
  /** A remark; not part of the result. */
  note(text: string): void {
    if (this.quiet) return;
    this.clearLive();
    process.stderr.write(`${text}\n`);
  }
  /** A remark that also belongs into the JSON document. */
  warn(text: string): void {
    this.#warnings.push(text);
    this.note(`warning: ${printable(text)}`);
  }
  /** The one line of a failure, also as a JSON document. */
  fail(text: string, code: number): void {
    this.clearLive();
    process.stderr.write(`wick: ${printable(text)}\n`);
    if (this.json) process.stdout.write(`${JSON.stringify(this.#withWarnings({ error: { message: text, exitCode: code } }))}\n`);
  }

  /** Draws `lines` in place of what was drawn last; only for terminals. */
  live(lines: string): void {
    process.stderr.write(`${this.#eraseLive()}${lines}`);
    this.#live = lines;
  }
  clearLive(): void {
    if (this.#live === "") return;
    process.stderr.write(this.#eraseLive());
    this.#live = "";
  }

  #eraseLive(): string {
    const rows = this.#live === "" ? 0 : this.#live.split("\n").length - 1;
    return this.#live === "" ? "" : `${rows > 0 ? `\x1b[${rows}A` : ""}\r\x1b[J`;
  }

  #withWarnings(document: object): object {
    return this.#warnings.length === 0 ? document : { ...document, warnings: this.#warnings };
  }
}
