// wick generate --list: the prompts that the embedded model was trained on.
import { tinyZImage } from "@wick/tiny-zimage";
import { type CommonOptions, Reporter } from "../reporter.ts";

/** Prints one name a line. */
export function listNames(options: CommonOptions): void {
  new Reporter(options).result(tinyZImage.names.join("\n"), { names: tinyZImage.names });
}
