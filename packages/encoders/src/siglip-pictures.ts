// Pictures as SigLIP reads them.
// After huggingface/transformers src/transformers/models/siglip/image_processing_siglip.py on Pillow: bytes resized, then scaled to -1…1.
import { flatten, type Image, resize, toPixels } from "@wick/image";
import { type Device, FormatError, type Tensor, UnsupportedError } from "@wick/tensor";
import type { ConfigJson } from "./config-reader.ts";
import type { SiglipConfig } from "./siglip.ts";

/** A picture as [1, 3, imageSize, imageSize] in -1…1: squeezed to a square by Pillow's bicubic filter. What is transparent counts as white. */
export function siglipPixels(device: Device, image: Image, { imageSize }: Pick<SiglipConfig, "imageSize">): Tensor {
  const square = resize(flatten(image), imageSize, imageSize, "bicubic");
  return device.tensor(toPixels(square), [1, 3, imageSize, imageSize], { label: "pixels" });
}

/** preprocessor_config.json of what `siglipPixels` does; 3 is Pillow's number of the bicubic filter. */
const prepared: ConfigJson = {
  do_resize: true,
  resample: 3,
  do_rescale: true,
  rescale_factor: 1 / 255,
  do_normalize: true,
  image_mean: [0.5, 0.5, 0.5],
  image_std: [0.5, 0.5, 0.5],
  do_center_crop: false,
  do_pad: false,
};

/**
 * Throws UnsupportedError, naming the key, when a preprocessor_config.json wants pictures otherwise than `siglipPixels` prepares them for
 * this model, and FormatError when it is not an object. Keys that are absent or null have transformers' defaults.
 */
export function checkSiglipProcessor(json: ConfigJson, { imageSize }: Pick<SiglipConfig, "imageSize">): void {
  const op = "checkSiglipProcessor";
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new FormatError(op, "preprocessor_config.json is not an object");
  const { height, width } = (json["size"] ?? {}) as ConfigJson;
  if (height !== imageSize || width !== imageSize)
    throw new UnsupportedError(op, `"size" is ${JSON.stringify(json["size"])}, the model reads ${imageSize} x ${imageSize} pixels`);
  for (const [key, wanted] of Object.entries(prepared)) {
    const value = json[key] ?? wanted;
    if (JSON.stringify(value) !== JSON.stringify(wanted))
      throw new UnsupportedError(op, `"${key}" is ${JSON.stringify(value)}, pictures are prepared with ${JSON.stringify(wanted)}`);
  }
}
