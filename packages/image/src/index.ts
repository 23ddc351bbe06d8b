// Pictures as plain values: PNG with texts in and out, JPEG and WebP in, resizing, grids, terminal previews. No tensors.
export { decodeImage, type ImageFormat, imageFormat } from "./decode-image.ts";
export * from "./errors.ts";
export { type GridOptions, grid } from "./grid.ts";
export { flatten, type Image, type Rgb } from "./image.ts";
export { fromPixels, toPixels } from "./pixels.ts";
export { type DecodedPng, type DecodeOptions, decodePng } from "./png/decode.ts";
export { type EncodePngOptions, encodePng } from "./png/encode.ts";
export { readPngText } from "./png/text.ts";
export { type ResizeFilter, resize } from "./resize.ts";
export { halfBlocks, type InlineProtocol, inlinePng, inlineProtocol } from "./terminal.ts";
