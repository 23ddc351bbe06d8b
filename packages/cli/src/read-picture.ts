// A picture given on the command line.
import { readFile } from "node:fs/promises";
import { decodeImage, type Image } from "@wick/image";

/** Reads a PNG, JPEG or WebP file. */
export const readPicture = async (path: string): Promise<Image> => decodeImage(await readFile(path));
