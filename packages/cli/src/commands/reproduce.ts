// wick reproduce: makes a picture again from its record and compares.
import { readFile } from "node:fs/promises";
import { decodePng, type Image } from "@wick/image";
import type { DType } from "@wick/tensor";
import { CliError, type ExitCode, exitCodes, UsageError } from "../cli-error.ts";
import { embeddedName } from "../models/embedded.ts";
import type { HubOptions } from "../models/find-files.ts";
import { openModel, type PaintRequest } from "../models/registry.ts";
import { type FileStamp, stampFile } from "../models/used-files.ts";
import { CommandDevice, type DeviceOptions, openDevice } from "../open-device.ts";
import { checkWritable, writeWhole } from "../output-file.ts";
import { paint, paintingPng } from "../paint.ts";
import { type PictureRecord, readRecord, type StampedFile } from "../picture-record.ts";
import { Progress } from "../progress.ts";
import { readPicture, readRedux } from "../read-picture.ts";
import { type CommonOptions, Reporter } from "../reporter.ts";
import { formatDuration } from "../units.ts";

export interface ReproduceOptions extends CommonOptions, DeviceOptions, HubOptions {
  /** Where the model's parts are now; default where they were. */
  readonly model?: string;
  readonly transformer?: string;
  readonly companions?: string;
  readonly reduxModel?: string;
  readonly out?: string;
}

/** How two pictures of one size differ. */
export interface PixelDifference {
  readonly pixels: number;
  readonly maxDifference: number;
  /** Infinite for equal pictures. */
  readonly psnrDb: number;
}

/** Runs the record again; resolves with `differs` when the pixels are not the same. */
export async function reproduce(path: string, options: ReproduceOptions, signal: AbortSignal): Promise<ExitCode> {
  const reporter = new Reporter(options);
  const bytes = await readFile(path);
  const old = readRecord(path, bytes);
  if (options.reduxModel !== undefined && !old.redux) throw new UsageError(`--redux-model: ${path} was made without --redux; leave it out`);
  if (options.out !== undefined) await checkWritable(options.out);
  for (const file of [...(old.loras ?? []), ...(old.redux ?? []), ...(old.init ? [old.init] : []), ...(old.mask ? [old.mask] : [])])
    await checkSame(file, signal);
  const progress = new Progress(reporter);
  const matmulPrecision = options.matmulPrecision ?? old.matmulPrecision;
  const deviceOptions = { ...options, device: options.device ?? old.device.kind };
  const wanted = { ...deviceOptions, ...(matmulPrecision === undefined ? {} : { matmulPrecision }) };
  using opened = new CommandDevice(await openDevice(wanted, (text) => reporter.note(text)), signal);
  const { device } = opened;
  using model = await openModel(device, {
    ...options,
    model: options.model ?? old.model.name,
    ...(options.model === undefined && old.model.revision !== undefined ? { revision: old.model.revision } : {}),
    dtype: old.dtype as DType | undefined,
    textEncoderDType: old.textEncoderDType as DType | undefined,
    maxGpuBytes: old.maxGpuBytes,
    transformer: options.transformer ?? old.transformer,
    companions: options.companions ?? old.companions,
    loras: old.loras,
    redux: old.redux && (options.reduxModel ?? old.reduxModel),
    text: old.prompt !== "" || (old.trueCfg ?? 1) > 1,
    signal,
    onDownload: progress.download,
    onNotice: (text) => reporter.note(text),
  });
  const request = { ...requestOf(old), ...(await picturesOf(old)), signal, onProgress: progress.pipeline };
  const painting = await paint(model, device, request, { ...old, matmulPrecision });
  const image = painting.images[old.index]!;
  const record = { ...painting.records[old.index]!, model: { ...painting.records[old.index]!.model, name: old.model.name } };
  const png = paintingPng(image, record);
  if (options.out !== undefined) await writeWhole(options.out, png);
  const same = Buffer.compare(png, bytes) === 0;
  const difference = comparePixels(image, decodePng(bytes));
  const changes = changedFields(old, record);
  const verdict = same ? "identical, byte for byte" : difference?.pixels === 0 ? "the same pixels" : describe(difference);
  const document = {
    file: path,
    sameBytes: same,
    samePixels: difference?.pixels === 0,
    difference,
    changes,
    totalMillis: painting.totalMillis,
  };
  const because = changes.length > 0 ? `; changed since: ${changes.join(", ")}` : "";
  reporter.result(`${path}: ${verdict}${because} (${formatDuration(painting.totalMillis)})`, document);
  return difference?.pixels === 0 ? exitCodes.ok : exitCodes.differs;
}

function requestOf(r: PictureRecord): PaintRequest {
  return {
    ...(r.prompt === "" ? {} : { prompt: r.prompt }),
    ...(r.negativePrompt === undefined ? {} : { negativePrompt: r.negativePrompt }),
    width: r.width,
    height: r.height,
    ...(r.sigmas ? { sigmas: r.sigmas } : { steps: r.steps }),
    guidance: r.guidance,
    seed: BigInt(r.seed),
    rng: r.rng as NonNullable<PaintRequest["rng"]>,
    count: r.count,
    solver: r.solver,
    ...(r.trueCfg === undefined ? {} : { trueCfg: r.trueCfg }),
    ...(r.strength === undefined ? {} : { strength: r.strength }),
  };
}

async function picturesOf({ init, mask, redux }: PictureRecord): Promise<Partial<PaintRequest>> {
  const [image, hole] = [init && (await readPicture(init.path)), mask && (await readPicture(mask.path))];
  return { ...(image ? { image } : {}), ...(hole ? { mask: hole } : {}), ...(await readRedux(redux)) };
}

/** A picture or adapter beside the model must be what it was, or the result means nothing. */
async function checkSame({ path, ...was }: StampedFile, signal: AbortSignal): Promise<void> {
  const now = await stampFile(path, signal);
  if (!sameStamp(was, now))
    throw new CliError(`${path} is not the file it was when the picture was made; bring that file back and run again`);
}

/** Undefined when the sizes differ. */
function comparePixels(a: Image, b: Image): PixelDifference | undefined {
  if (a.width !== b.width || a.height !== b.height) return undefined;
  let [pixels, maxDifference, squares] = [0, 0, 0];
  for (let at = 0; at < a.rgb.length; at += 3) {
    let worst = 0;
    for (let c = at; c < at + 3; c++) {
      const d = Math.abs(a.rgb[c]! - b.rgb[c]!);
      worst = Math.max(worst, d);
      squares += d * d;
    }
    if (worst > 0) pixels++;
    maxDifference = Math.max(maxDifference, worst);
  }
  return { pixels, maxDifference, psnrDb: 10 * Math.log10(255 ** 2 / (squares / a.rgb.length)) };
}

function describe(difference: PixelDifference | undefined): string {
  if (!difference) return "a picture of another size";
  const { pixels, maxDifference, psnrDb } = difference;
  return `${pixels} pixels differ, by at most ${maxDifference} of 255 (PSNR ${psnrDb.toFixed(1)} dB)`;
}

/** What was not the same this time: device, versions, model files. */
function changedFields(old: PictureRecord, now: PictureRecord): string[] {
  const changes: string[] = [];
  if (old.device.description !== now.device.description) changes.push(`device (${old.device.description})`);
  const precision = old.matmulPrecision ?? "highest";
  if (precision !== (now.matmulPrecision ?? "highest")) changes.push(`matmul precision (${precision})`);
  for (const [name, was] of Object.entries(old.versions)) if (now.versions[name] !== was) changes.push(`${name} (${was})`);
  for (const [file, stamp] of Object.entries(old.model.files)) {
    const found = now.model.files[file];
    if (!found || !sameStamp(stamp, found)) changes.push(`${old.model.name === embeddedName ? "embedded " : ""}${file}`);
  }
  return changes;
}

/** A repository names files by other hashes than a folder does; sizes must agree, and so must every hash that both have. */
function sameStamp(a: FileStamp, b: FileStamp): boolean {
  const kinds = ["sha256", "gitSha1", "endsSha256"] as const;
  return a.bytes === b.bytes && kinds.every((kind) => a[kind] === undefined || b[kind] === undefined || a[kind] === b[kind]);
}
