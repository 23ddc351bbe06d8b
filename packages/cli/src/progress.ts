// What a running generation tells: one redrawn line in terminals, sparse plain lines elsewhere, with bytes, steps and time left.
import type { PipelineProgress } from "@wick/diffusion";
import type { ByteProgress } from "@wick/hub";
import type { Reporter } from "./reporter.ts";
import { formatBytes, formatDuration } from "./units.ts";

/** How often a terminal line is redrawn, and how often a plain line is written. */
const redrawMillis = 100;
const plainMillis = 3000;

export class Progress {
  readonly #reporter: Reporter;
  readonly #files = new Map<string, { first: number; loaded: number; total: number }>();
  #downloadStarted = 0;
  #lastDraw = Number.NEGATIVE_INFINITY;
  #stepsStarted = 0;
  /** Part of the denoising that is done, 0…1. */
  #denoised = 0;
  /** A picture in characters below the line. */
  #picture = "";
  #line = "";

  constructor(reporter: Reporter) {
    this.#reporter = reporter;
  }

  /** Bytes of a file on its way from the network. */
  download = ({ file, loadedBytes, totalBytes }: ByteProgress): void => {
    this.#downloadStarted ||= performance.now();
    const known = this.#files.get(file);
    this.#files.set(file, { first: known?.first ?? loadedBytes, loaded: loadedBytes, total: totalBytes });
    let [loaded, total, fresh] = [0, 0, 0];
    for (const f of this.#files.values()) {
      loaded += f.loaded;
      total += f.total;
      fresh += f.loaded - f.first;
    }
    const rate = fresh / Math.max(0.001, (performance.now() - this.#downloadStarted) / 1000);
    const left = rate > 0 && loaded < total ? `, ${formatBytes(rate)}/s, ${formatDuration(((total - loaded) / rate) * 1000)} left` : "";
    const name = this.#files.size > 1 ? `${this.#files.size} files` : file;
    this.#draw(`downloading ${name}: ${formatBytes(loaded)} of ${formatBytes(total)}${left}`, loaded >= total);
  };

  /** Where the pipeline is. */
  pipeline = (p: PipelineProgress): void => {
    if (p.stage === "load") {
      const { loadedBytes, totalBytes } = p.progress;
      const done = loadedBytes >= totalBytes;
      this.#draw(`loading ${p.model}: ${formatBytes(loadedBytes)} of ${formatBytes(totalBytes)}`, done && totalBytes > 1e9);
    } else if (p.stage === "encode") this.#draw("reading the prompt", false);
    else if (p.stage === "decode") this.#draw(this.#denoised >= 1 ? "decoding the picture" : this.#line, false);
    else this.#denoising(p);
  };

  #denoising(p: Extract<PipelineProgress, { stage: "block" | "step" }>): void {
    const now = performance.now();
    this.#stepsStarted ||= now;
    const [done, shown] = p.stage === "step" ? [p.step / p.steps, p.step] : [(p.step + p.block / p.blocks) / p.steps, p.step + 1];
    // Guided steps run their blocks twice; time left is only told from whole steps.
    if (p.stage === "step") this.#denoised = done;
    const elapsed = now - this.#stepsStarted;
    const left = this.#denoised > 0 ? `, ${formatDuration((elapsed / this.#denoised) * Math.max(0, 1 - done))} left` : "";
    const finished = p.stage === "step" && p.step === p.steps;
    const end = finished ? ` in ${formatDuration(elapsed)}` : left;
    const block = p.stage === "block" ? `, block ${p.block}/${p.blocks}` : "";
    this.#draw(`step ${shown}/${p.steps}${block}${end}`, p.stage === "step" && (finished || p.step === 1));
  }

  /** Shows a picture in characters below the line until the next one comes. */
  showPicture(lines: string): void {
    this.#picture = lines;
    this.#lastDraw = Number.NEGATIVE_INFINITY;
    this.#draw(this.#line, false);
  }

  /** The next picture of a series starts from nothing. */
  restart(): void {
    this.#stepsStarted = 0;
    this.#denoised = 0;
    this.#picture = "";
  }

  #draw(line: string, important: boolean): void {
    const { quiet, isInteractive, columns } = this.#reporter;
    this.#line = line;
    if (quiet) return;
    const now = performance.now();
    if (!important && now - this.#lastDraw < (isInteractive ? redrawMillis : plainMillis)) return;
    this.#lastDraw = now;
    if (isInteractive) this.#reporter.live(`${line.slice(0, columns - 1)}${this.#picture === "" ? "" : `\n${this.#picture}`}`);
    else if (line !== "") this.#reporter.note(line);
  }
}
