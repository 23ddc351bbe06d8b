// Bit layouts that the block decoders and encoders share (ggml: src/ggml-common.h).

/** The 16 levels of the non-linear 4-bit formats (kvalues_iq4nl in ggml-common.h). */
export const iq4Values: Int8Array = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);

/** 6-bit scale (low six bits) and 6-bit minimum (bits 6 to 11) of sub-block `j` in the 12 packed bytes at `b[s]`. */
export function scaleMinK4(b: Uint8Array, s: number, j: number): number {
  if (j < 4) return (b[s + j]! & 63) | ((b[s + j + 4]! & 63) << 6);
  const scale = (b[s + j + 4]! & 15) | ((b[s + j - 4]! >> 6) << 4);
  const min = (b[s + j + 4]! >> 4) | ((b[s + j]! >> 6) << 4);
  return scale | (min << 6);
}

/** Packs eight 6-bit scales and eight 6-bit minima into the 12 bytes at `b[s]`; the inverse of `scaleMinK4`. */
export function packScaleMinK4(scales: ArrayLike<number>, mins: ArrayLike<number>, b: Uint8Array, s: number): void {
  for (let j = 0; j < 4; j++) {
    b[s + j] = scales[j]! | ((scales[j + 4]! >> 4) << 6);
    b[s + j + 4] = mins[j]! | ((mins[j + 4]! >> 4) << 6);
    b[s + j + 8] = (scales[j + 4]! & 15) | ((mins[j + 4]! & 15) << 4);
  }
}
