// What the parity tests of models on a GPU share: how much runs, where figures go, and runs whose blocks stream against runs whose do not.
import type { Device } from "@wick/tensor";

/** WICK_PARITY=all: every case, with figures on stdout; minutes where the GPU is software. */
export const allParity = process.env["WICK_PARITY"] === "all";

/** Prints figures of a comparison as one line of JSON, when everything runs. */
export function reportParity(device: Device, what: string, figures: object): void {
  if (allParity) process.stdout.write(`${JSON.stringify({ what, ...figures, on: device.description })}\n`);
}

/** What the pipelines of the model packages have. */
interface Pipeline<R> extends Disposable {
  generate(request: R): Promise<unknown>;
}
type LatentsOut = (out: { readonly values: Float32Array }) => void;

/** A run within a limit, beside the same run without. */
export interface StreamedRun {
  /** Final latents without a limit. */
  readonly plain: Float32Array;
  /** Final latents within it. */
  readonly streamed: Float32Array;
  /** Most bytes that the limited run had on the device up to its last step, beside those it was given. */
  readonly peakBytes: number;
  /** The same in buffers, with what they are rounded up to and what is kept for reuse. */
  readonly allocatedBytes: number;
}

/** Runs `request` on a pipeline without and on one with `maxGpuBytes`; what is on the device before is given, not counted. */
export async function streamedRun<R extends object>(
  device: Device,
  open: (maxGpuBytes: number | undefined) => Promise<Pipeline<R & { readonly latentsOut: LatentsOut }>>,
  request: R,
  maxGpuBytes: number,
): Promise<StreamedRun> {
  const givenBytes = device.liveBytes;
  const run = async (limit: number | undefined) => {
    using pipe = await open(limit);
    let [latents, peakBytes, allocatedBytes] = [new Float32Array(), 0, 0];
    device.resetPeak();
    const latentsOut: LatentsOut = ({ values }) => {
      latents = values.slice();
      peakBytes = device.peakBytes - givenBytes;
      allocatedBytes = device.memory().peakBytes - givenBytes;
    };
    await pipe.generate({ ...request, latentsOut });
    return { latents, peakBytes, allocatedBytes };
  };
  const plain = await run(undefined);
  const { latents, ...bytes } = await run(maxGpuBytes);
  return { plain: plain.latents, streamed: latents, ...bytes };
}
