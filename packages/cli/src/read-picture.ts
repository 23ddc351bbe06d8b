// Pictures given on the command line.
import { readFile } from "node:fs/promises";
import { decodeImage, type Image } from "@wick/image";
import { CliError } from "./cli-error.ts";
import { variedPictures } from "./models/redux.ts";
import type { PaintRequest } from "./models/registry.ts";
import type { ScaledFile } from "./option-types.ts";
import { named } from "./output-file.ts";

/** Reads a PNG, JPEG or WebP file; every failure names it. */
export async function readPicture(path: string): Promise<Image> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw named(error, path);
  });
  try {
    return await decodeImage(bytes);
  } catch (error) {
    const { message } = error as Error;
    const detail = message.replace(/^\w+: /, "").replace("pass a larger maxPixels if this is meant", "make it smaller");
    throw new CliError(`${path}: ${detail}`, 1, { cause: error });
  }
}

/** The files of --redux as a request has them; nothing when there are none. */
export async function readRedux(files: readonly ScaledFile[] | undefined): Promise<Pick<PaintRequest, "redux">> {
  if (!files) return {};
  const pictures = await Promise.all(files.map(async ({ path, scale }) => ({ image: await readPicture(path), strength: scale })));
  return { redux: variedPictures(pictures) };
}
