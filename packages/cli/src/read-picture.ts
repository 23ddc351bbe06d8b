// Pictures given on the command line.
import { readFile } from "node:fs/promises";
import { decodeImage, type Image } from "@wick/image";
import { variedPictures } from "./models/redux.ts";
import type { PaintRequest } from "./models/registry.ts";
import type { ScaledFile } from "./option-types.ts";

/** Reads a PNG, JPEG or WebP file. */
export const readPicture = async (path: string): Promise<Image> => decodeImage(await readFile(path));

/** The files of --redux as a request has them; nothing when there are none. */
export async function readRedux(files: readonly ScaledFile[] | undefined): Promise<Pick<PaintRequest, "redux">> {
  if (!files) return {};
  const pictures = await Promise.all(files.map(async ({ path, scale }) => ({ image: await readPicture(path), strength: scale })));
  return { redux: variedPictures(pictures) };
}
