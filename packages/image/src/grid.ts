// Several pictures as one.
import { ImageSizeError } from "./errors.ts";
import { checkImage, flatten, type Image, type Rgb } from "./image.ts";

/** Options of `grid`. */
export interface GridOptions {
  /** Pixels between pictures; 0 by default. */
  gap?: number;
  /** Colour of gaps and empty cells; white by default. */
  background?: Rgb;
}

/** Lays pictures of one size out in rows of `columns`, first row first. Throws `ImageSizeError` when sizes differ. */
export function grid(images: readonly Image[], columns: number, options: GridOptions = {}): Image {
  const { gap = 0, background = [255, 255, 255] } = options;
  const first = images[0];
  if (first === undefined || !Number.isSafeInteger(columns) || columns < 1 || !Number.isSafeInteger(gap) || gap < 0) {
    throw new ImageSizeError(
      "grid",
      `needs pictures, 1 or more columns and a gap of 0 or more: ${images.length} pictures, ${columns} columns, gap ${gap}`,
    );
  }
  const used = Math.min(columns, images.length);
  const rows = Math.ceil(images.length / columns);
  const width = used * first.width + (used - 1) * gap;
  const height = rows * first.height + (rows - 1) * gap;
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0; i < rgb.length; i++) rgb[i] = background[i % 3]!;
  images.forEach((image, i) => {
    checkSameSize(first, image, i);
    const x = (i % columns) * (first.width + gap);
    const y = Math.floor(i / columns) * (first.height + gap);
    paste(rgb, width, flatten(image, background), x, y);
  });
  return { width, height, rgb };
}

function checkSameSize(first: Image, image: Image, index: number): void {
  checkImage("grid", image);
  if (image.width === first.width && image.height === first.height) return;
  const sizes = `picture 0 is ${first.width} x ${first.height}, picture ${index} is ${image.width} x ${image.height}`;
  throw new ImageSizeError("grid", `pictures differ in size: ${sizes}; resize them first`);
}

function paste(target: Uint8Array, targetWidth: number, image: Image, x: number, y: number): void {
  for (let row = 0; row < image.height; row++) {
    const line = image.rgb.subarray(row * image.width * 3, (row + 1) * image.width * 3);
    target.set(line, ((y + row) * targetWidth + x) * 3);
  }
}
