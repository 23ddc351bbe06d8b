// Quantized checkpoint layouts that are recognized by their tensor names but not read, so that the report can say what they are.
// Layouts: bitsandbytes functional.py (QuantState.as_dict), nunchaku (SVDQuant), AutoGPTQ and AutoAWQ (qweight, qzeros).

const foreign: readonly (readonly [layout: string, names: RegExp])[] = [
  ["bitsandbytes 4-bit (NF4, FP4)", /\.quant_state\.bitsandbytes__(nf4|fp4)$/],
  ["bitsandbytes 8-bit", /\.(SCB|weight_format)$/],
  ["Nunchaku SVDQuant", /\.(wscales|smooth_factor|smooth_factor_orig|wcscales)$/],
  ["GPTQ or AWQ", /\.qzeros$/],
];

/** The quantized layout that tensor `names` belong to, when it is one that cannot be read; its weights have no plain form in the file. */
export function foreignLayout(names: Iterable<string>): string | undefined {
  for (const name of names) {
    const match = foreign.find(([, pattern]) => pattern.test(name));
    if (match) return match[0];
  }
  return undefined;
}
