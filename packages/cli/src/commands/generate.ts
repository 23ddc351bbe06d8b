// wick generate: a prompt becomes one or more PNG files.
import { extname } from "node:path";
import type { RngKind } from "@wick/diffusion";
import type { DType } from "@wick/tensor";
import { UsageError } from "../cli-error.ts";
import { reportAdapter } from "../models/adapter-report.ts";
import type { HubOptions } from "../models/find-files.ts";
import { reduxRepository } from "../models/redux.ts";
import { type OpenedModel, openModel, type PaintRequest } from "../models/registry.ts";
import { stampFile } from "../models/used-files.ts";
import { CommandDevice, type DeviceOptions, openDevice } from "../open-device.ts";
import type { ScaledFile } from "../option-types.ts";
import { checkWritable, freeName, writeWhole } from "../output-file.ts";
import { type Painting, paint, paintingPng, type RecordedSettings } from "../paint.ts";
import { finalPicture, Preview } from "../preview.ts";
import { type PreviewKind, previewFor } from "../preview-kinds.ts";
import { Progress } from "../progress.ts";
import { readPicture, readRedux } from "../read-picture.ts";
import { type CommonOptions, Reporter } from "../reporter.ts";
import { formatDuration } from "../units.ts";

/** Options of the command, as the parser leaves them. */
export interface GenerateOptions extends CommonOptions, DeviceOptions, HubOptions {
  readonly model: string;
  readonly revision?: string;
  readonly width?: number;
  readonly height?: number;
  readonly steps?: number;
  readonly guidance?: number;
  readonly negative?: string;
  readonly seed: number | bigint;
  readonly rng?: RngKind;
  readonly count: number;
  readonly solver?: string;
  readonly sigmas?: number[];
  readonly dtype?: DType;
  readonly textEncoderDtype?: DType;
  readonly maxMemory?: number;
  readonly lora?: readonly ScaledFile[];
  readonly transformer?: string;
  readonly companions?: string;
  readonly redux?: readonly ScaledFile[];
  readonly reduxModel?: string;
  readonly trueCfg?: number;
  readonly init?: string;
  readonly strength?: number;
  readonly mask?: string;
  readonly out?: string;
  readonly preview: PreviewKind;
}

/** Makes the pictures and writes them; throws CliError and the libraries' errors. */
export async function generate(words: readonly string[], asked: GenerateOptions, signal: AbortSignal): Promise<void> {
  const options = { ...asked, preview: previewFor(asked.preview, process.env) };
  const reporter = new Reporter(options);
  const prompt = words.join(" ").trim();
  if (prompt === "" && !options.redux) throw new UsageError('the prompt is empty; say what to draw, such as wick generate "a red apple"');
  const names = await outputNames(options, prompt);
  for (const name of names) await checkWritable(name);
  const { pictures, settings } = await readInputs(options, signal);
  const progress = new Progress(reporter);
  using opened = new CommandDevice(await openDevice(options, (text) => reporter.note(text)), signal);
  const { device } = opened;
  using model = await openModel(device, {
    ...options,
    textEncoderDType: options.textEncoderDtype,
    maxGpuBytes: options.maxMemory,
    loras: options.lora,
    redux: options.redux && (options.reduxModel ?? reduxRepository),
    text: prompt !== "" || (options.trueCfg ?? 1) > 1,
    signal,
    onDownload: progress.download,
    onNotice: (text) => reporter.note(text),
    onAdapter: (path, coverage) => reportAdapter(reporter, path, coverage),
  });
  if (options.trueCfg !== undefined && !model.pipeline.startsWith("Flux"))
    throw new UsageError(`--true-cfg is for FLUX; guidance of a ${model.pipeline} is --guidance`);
  if (model.isEmbedded) await warnAboutPrompt(prompt, reporter);
  const preview = new Preview(reporter, progress, options.preview);
  // Released models take a start picture's size; the embedded one was made for a single size.
  const { width, height } = model.painter.parts.defaults;
  const size = model.isEmbedded ? { width, height } : {};
  const request = { ...size, ...requestOf(prompt, options), ...pictures, signal, onProgress: progress.pipeline };
  const painting = await paint(model, device, request, settings, (step) => preview.show(step, model.painter.parts.keepLoaded));
  signal.throwIfAborted();
  for (const [i, name] of names.entries()) await writeWhole(name, paintingPng(painting.images[i]!, painting.records[i]!));
  report(reporter, options, names, painting, model);
}

function requestOf(prompt: string, o: GenerateOptions): PaintRequest {
  const { width, height, steps, guidance, trueCfg, seed, rng, count, solver, sigmas, strength } = o;
  const all = { negativePrompt: o.negative, width, height, steps, guidance, trueCfg, seed, rng, count, solver, sigmas, strength };
  // Pipelines refuse options they do not have, even undefined ones.
  return { ...(prompt === "" ? {} : { prompt }), ...Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) };
}

/** Reads the pictures of --init, --mask and --redux, and stamps every file beside the model for the record. */
async function readInputs(
  options: GenerateOptions,
  signal: AbortSignal,
): Promise<{ pictures: Partial<PaintRequest>; settings: RecordedSettings }> {
  const { init, mask, strength, lora, redux, reduxModel, dtype, textEncoderDtype, matmulPrecision, maxMemory } = options;
  const { transformer, companions, trueCfg } = options;
  if (init === undefined && (mask ?? strength) !== undefined)
    throw new UsageError("--mask and --strength need --init: a picture to start from");
  if (reduxModel !== undefined && !redux) throw new UsageError("--redux-model needs --redux: a picture to vary");
  const [image, hole] = [init && (await readPicture(init)), mask && (await readPicture(mask))];
  const stamped = async (path: string) => ({ path, ...(await stampFile(path, signal)) });
  const stampedAll = (files: readonly ScaledFile[] | undefined) =>
    files && Promise.all(files.map(async ({ path, scale }) => ({ ...(await stamped(path)), scale })));
  return {
    pictures: { ...(image ? { image } : {}), ...(hole ? { mask: hole } : {}), ...(await readRedux(redux)) },
    settings: {
      dtype,
      textEncoderDType: textEncoderDtype,
      matmulPrecision,
      maxGpuBytes: maxMemory,
      transformer,
      companions,
      trueCfg,
      loras: await stampedAll(lora),
      redux: await stampedAll(redux),
      reduxModel: redux && (reduxModel ?? reduxRepository),
      strength,
      init: init === undefined ? undefined : await stamped(init),
      mask: mask === undefined ? undefined : await stamped(mask),
    },
  };
}

/** The files to write: --out (numbered when there are several), or a free name made from the prompt. */
async function outputNames({ out, count, seed }: GenerateOptions, prompt: string): Promise<string[]> {
  if (out !== undefined && extname(out).toLowerCase() !== ".png")
    throw new UsageError(`--out ${out} does not end in .png; pictures are written as PNG`);
  const slug = prompt
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-|-$/g, "")
    .slice(0, 60);
  const stem = out?.slice(0, -4) ?? `${slug || "picture"}-seed-${seed}`;
  const numbered = Array.from({ length: count }, (_, i) => (count === 1 ? stem : `${stem}-${i + 1}`));
  return Promise.all(numbered.map((name) => (out === undefined ? freeName(name, ".png") : `${name}${extname(out)}`)));
}

/** The embedded model draws what it was trained on; anything else is a blend that should not surprise. */
async function warnAboutPrompt(prompt: string, reporter: Reporter): Promise<void> {
  const { isTrainedPrompt, nearestNames, tinyZImage } = await import("@wick/tiny-zimage");
  if (isTrainedPrompt(prompt)) return;
  const near = nearestNames(prompt);
  const hint = near.length > 0 ? `the nearest are ${near.map((name) => `"${name}"`).join(", ")}` : "nothing in its list is near";
  const named = prompt.length > 60 ? `${prompt.slice(0, 57)}…` : prompt;
  reporter.warn(
    `the embedded model draws ${tinyZImage.names.length} emoji and "${named}" is not one of them; ${hint} (wick generate --list shows all)`,
  );
}

function report(reporter: Reporter, options: GenerateOptions, names: readonly string[], painting: Painting, model: OpenedModel): void {
  const { width, height, steps, seed, device } = painting.records[0]!;
  const pictures = names.map((file, i) => ({ file, record: painting.records[i]! }));
  const document = { pictures, stepMillis: painting.stepMillis, totalMillis: painting.totalMillis };
  const shown = reporter.isInteractive && !reporter.json && options.preview !== "off";
  if (shown) for (const image of painting.images) reporter.note(finalPicture(image, reporter, options.preview));
  const facts = `${width} x ${height}, ${steps} ${steps === 1 ? "step" : "steps"}, seed ${seed}, ${model.name} on ${device.description}, ${formatDuration(painting.totalMillis)}`;
  reporter.result(`${names.join("\n")}\n${facts}`, document);
}
