// From a request to PNG bytes with their record: what generate, reproduce and the picture grid share.
import { encodePng, type Image } from "@wick/image";
import type { Device } from "@wick/tensor";
import type { OpenedModel, PainterStep, PaintRequest } from "./models/registry.ts";
import { type PictureRecord, recordTexts } from "./picture-record.ts";
import { version } from "./version.ts";

/** What was painted. */
export interface Painting {
  readonly images: readonly Image[];
  readonly records: readonly PictureRecord[];
  /** Per step, in order. */
  readonly stepMillis: readonly number[];
  readonly totalMillis: number;
}

/** Settings that only the record needs. */
export type RecordedSettings = Pick<
  PictureRecord,
  | "dtype"
  | "textEncoderDType"
  | "matmulPrecision"
  | "maxGpuBytes"
  | "transformer"
  | "companions"
  | "reduxModel"
  | "redux"
  | "trueCfg"
  | "loras"
  | "init"
  | "strength"
  | "mask"
>;

/** Runs a request to the end; `onStep` is awaited after every step. */
export async function paint(
  model: OpenedModel,
  device: Device,
  request: PaintRequest,
  settings: RecordedSettings = {},
  onStep: (step: PainterStep) => void | Promise<void> = () => {},
): Promise<Painting> {
  const started = performance.now();
  const stepMillis: number[] = [];
  const images = await denoiseAll(model, request, async (step) => {
    stepMillis.push(step.elapsedMs);
    await onStep(step);
  });
  const totalMillis = performance.now() - started;
  const { width, height } = images[0]!;
  const record = { ...(await recordOf(model, device, request, settings)), width, height };
  return { images, records: images.map((_, index) => ({ ...record, index })), stepMillis, totalMillis };
}

async function denoiseAll(
  { painter }: OpenedModel,
  request: PaintRequest,
  onStep: (step: PainterStep) => Promise<void>,
): Promise<readonly Image[]> {
  const run = painter.steps(request);
  try {
    for (;;) {
      const step = await run.next();
      if (!step.done) {
        await onStep(step.value);
        continue;
      }
      const latents = step.value;
      try {
        return await painter.decode(latents, request);
      } finally {
        latents.dispose();
      }
    }
  } finally {
    // Ends a run that was left early, so that its tensors are released.
    await run.return(undefined as never);
  }
}

async function recordOf(model: OpenedModel, device: Device, request: PaintRequest, settings: RecordedSettings): Promise<PictureRecord> {
  const { defaults } = model.painter.parts;
  return {
    format: 1,
    prompt: request.prompt ?? "",
    negativePrompt: request.negativePrompt,
    width: request.width ?? defaults.width,
    height: request.height ?? defaults.height,
    steps: request.sigmas ? stepsOf(request.sigmas) : (request.steps ?? defaults.steps),
    guidance: request.guidance ?? defaults.guidance,
    seed: String(request.seed ?? 0),
    rng: request.rng ?? "torch-cpu",
    noiseDType: model.noiseDType,
    solver: typeof request.solver === "object" ? request.solver.name : (request.solver ?? "euler"),
    sigmas: request.sigmas,
    count: request.count ?? 1,
    index: 0,
    ...settings,
    model: { name: model.name, pipeline: model.pipeline, revision: model.revision, files: await model.files.stamps(request.signal) },
    device: { kind: device.kind, description: device.description, tier: device.capabilities.tier },
    versions: { wick: version, node: process.versions.node },
  };
}

/** A schedule ends in 0, also where that was left out. */
const stepsOf = (sigmas: readonly number[]): number => (sigmas.at(-1) === 0 ? sigmas.length - 1 : sigmas.length);

/** A picture as PNG with its record. */
export const paintingPng = (image: Image, record: PictureRecord): Uint8Array => encodePng(image, { text: recordTexts(record) });
