// What a picture remembers of its making: everything needed to make it again, as JSON in a PNG text. No times and no paths of outputs, so
// that the same request gives the same bytes.
import { readPngText } from "@wick/image";
import type { Float32MatmulPrecision } from "@wick/tensor";
import { CliError } from "./cli-error.ts";
import type { FileStamp } from "./models/used-files.ts";
import type { ScaledFile } from "./option-types.ts";

/** A file beside the model, with what identifies it. */
export interface StampedFile extends FileStamp {
  readonly path: string;
}

/** The text under the keyword "wick". */
export interface PictureRecord {
  /** Version of this record. */
  readonly format: 1;
  /** Empty where pictures to vary stood alone. */
  readonly prompt: string;
  readonly negativePrompt?: string | undefined;
  readonly width: number;
  readonly height: number;
  readonly steps: number;
  readonly guidance: number;
  /** As text: it may have 64 bits. */
  readonly seed: string;
  readonly rng: string;
  readonly noiseDType: string;
  readonly solver: string;
  readonly sigmas?: readonly number[] | undefined;
  /** Pictures of the request, and which of them this is, from 0: their noise is drawn together. */
  readonly count: number;
  readonly index: number;
  readonly dtype?: string | undefined;
  readonly textEncoderDType?: string | undefined;
  /** As --matmul-precision had it: rounding shows in the pixels. */
  readonly matmulPrecision?: Float32MatmulPrecision | undefined;
  /** A limit may cut the decoding into tiles, whose seams show in the last bits. */
  readonly maxGpuBytes?: number | undefined;
  /** As --transformer and --companions had it. */
  readonly transformer?: string | undefined;
  readonly companions?: string | undefined;
  readonly loras?: readonly (StampedFile & Pick<ScaledFile, "scale">)[] | undefined;
  readonly trueCfg?: number | undefined;
  /** As --redux-model had it. */
  readonly reduxModel?: string | undefined;
  /** Pictures that were varied; `scale` is their strength. */
  readonly redux?: readonly (StampedFile & Pick<ScaledFile, "scale">)[] | undefined;
  readonly init?: StampedFile | undefined;
  readonly strength?: number | undefined;
  readonly mask?: StampedFile | undefined;
  readonly model: {
    readonly name: string;
    readonly pipeline: string;
    readonly revision?: string | undefined;
    readonly files: Readonly<Record<string, FileStamp>>;
  };
  readonly device: { readonly kind: "cpu" | "webgpu"; readonly description: string; readonly tier: string };
  readonly versions: Readonly<Record<string, string>>;
}

const keyword = "wick";

/** The texts of a picture: the record, and the common keywords that other programs show. */
export function recordTexts(record: PictureRecord): Record<string, string> {
  const { prompt, negativePrompt, steps, solver, guidance, seed, width, height, model, versions } = record;
  const settings = `Steps: ${steps}, Sampler: ${solver}, CFG scale: ${guidance}, Seed: ${seed}, Size: ${width}x${height}`;
  const negative = negativePrompt ? `\nNegative prompt: ${negativePrompt}` : "";
  return {
    Description: prompt,
    Software: `Wick ${versions["wick"]}`,
    parameters: `${prompt}${negative}\n${settings}, Model: ${model.name}, Version: wick ${versions["wick"]}`,
    [keyword]: JSON.stringify(record),
  };
}

/** The record in a PNG file. Throws CliError when this is no PNG, when there is none in it, or one of a later version. */
export function readRecord(path: string, png: Uint8Array): PictureRecord {
  const text = textsOf(path, png)[keyword];
  if (text === undefined) throw new CliError(`${path} has no record of how it was made; only pictures that wick generate wrote have one`);
  const record = parseRecord(text);
  if (record?.format === 1 && isComplete(record)) return record;
  throw new CliError(`the record in ${path} is damaged or of another version; make the picture again with this version of wick`);
}

function textsOf(path: string, png: Uint8Array): Readonly<Record<string, string>> {
  try {
    return readPngText(png);
  } catch (error) {
    throw new CliError(`${path}: ${(error as Error).message.replace(/^\w+: /, "")}`, 1, { cause: error });
  }
}

/** Whether what a program must have to run the record is there: anyone can write a text into a PNG. Pipelines check the values. */
const isComplete = ({ prompt, model, device, seed, count, index }: PictureRecord): boolean =>
  typeof prompt === "string" &&
  typeof model?.name === "string" &&
  (device?.kind === "cpu" || device?.kind === "webgpu") &&
  /^\d{1,20}$/.test(seed) &&
  Number.isInteger(index) &&
  index >= 0 &&
  index < count;

function parseRecord(text: string): PictureRecord | undefined {
  try {
    return JSON.parse(text) as PictureRecord;
  } catch {
    return undefined;
  }
}
