// A look at the picture while it is made, in half-block characters, and when it is done, inline where the terminal can show PNGs.
import { encodePng, halfBlocks, type Image, inlinePng, inlineProtocol } from "@wick/image";
import type { PainterStep } from "./models/registry.ts";
import type { PreviewKind } from "./preview-kinds.ts";
import type { Progress } from "./progress.ts";
import type { Reporter } from "./reporter.ts";

/** Previews may take this part of the time. */
const budget = 0.2;
const widestColumns = 48;

export class Preview {
  readonly #reporter: Reporter;
  readonly #progress: Progress;
  readonly #kind: PreviewKind;
  #spentMillis = 0;
  readonly #started = performance.now();

  constructor(reporter: Reporter, progress: Progress, kind: PreviewKind) {
    this.#reporter = reporter;
    this.#progress = progress;
    this.#kind = kind;
  }

  /** Shows the state after a step, when a terminal is there to show it and decoding is cheap enough (or asked for). */
  async show(step: PainterStep, keepsWeights: boolean): Promise<void> {
    if (this.#kind === "off" || !this.#reporter.isInteractive || step.index + 1 === step.count) return;
    if (this.#kind === "auto" && (!keepsWeights || this.#spentMillis > budget * (performance.now() - this.#started))) return;
    const before = performance.now();
    const [image] = await step.preview();
    if (image) this.#draw(image);
    this.#spentMillis += performance.now() - before;
  }

  // Live pictures are always characters: an inline picture cannot be redrawn in its place everywhere.
  #draw(image: Image): void {
    this.#progress.showPicture(halfBlocks(image, columnsFor(this.#reporter)));
  }
}

/** The finished picture as terminal text: inline where asked for or promised by the terminal, half blocks otherwise. */
export function finalPicture(image: Image, reporter: Reporter, kind: PreviewKind): string {
  const promised = inlineProtocol(process.env);
  const protocol = kind === "inline" ? (promised ?? "kitty") : kind === "auto" ? promised : undefined;
  const columns = columnsFor(reporter);
  return protocol ? inlinePng(encodePng(image), columns, protocol) : halfBlocks(image, columns);
}

const columnsFor = (reporter: Reporter): number => Math.max(8, Math.min(widestColumns, reporter.columns - 2));
