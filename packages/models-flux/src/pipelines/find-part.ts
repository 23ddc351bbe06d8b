// Where the weights of a part lie: in a folder of diffusers' layout, or in a single file.
import type { ModelFiles } from "@wick/hub";
import type { Reading } from "./reading.ts";

/** Weights of a part, and its configuration when there is a folder. */
export interface FoundPart {
  /** Where the files are. */
  readonly place: ModelFiles;
  /** Path or glob of the weights. */
  readonly weights: string;
  /** Contents of the folder's config.json. */
  readonly config: Readonly<Record<string, unknown>> | undefined;
}

/** The part in the first place that has its `folder` or a file that `single` matches; undefined when none has. */
export async function findPart(
  places: readonly ModelFiles[],
  { folder, single }: { readonly folder: string; readonly single: string },
  reading: Reading,
): Promise<FoundPart | undefined> {
  for (const place of places) {
    if (await place.has(`${folder}/config.json`, reading))
      return { place, weights: `${folder}/*.safetensors`, config: await place.readJson(`${folder}/config.json`, reading) };
    const [path] = await place.match(single, reading);
    if (path !== undefined) return { place, weights: path, config: undefined };
  }
  return undefined;
}
