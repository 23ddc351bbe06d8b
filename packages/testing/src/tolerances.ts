// Relative L2 tolerances by what is compared and the dtype it is stored in (accumulation is f32 everywhere).
// They are where a test starts; a test that measures less states the tighter number itself. A golden is only as good as
// its tolerance: the generators refuse goldens that a wrong constant would move by less than five times these.

/** Storage dtypes results are compared in. */
export type ComparedDType = "f32" | "f16" | "bf16";

/** What a result is the result of. */
export type ComparedLevel = "elementwise" | "matmul" | "softmax" | "norm" | "block" | "model" | "textEncoder" | "vae";

/**
 * Relative L2 tolerance per level and dtype. 1 ulp is 2^-24 relative in f32, 2^-11 in f16, 2^-8 in bf16.
 * Text encoders have narrow weights but f32 activations: T5's do not fit f16.
 */
export const tolerances = {
  elementwise: { f32: 1e-6, f16: 1e-3, bf16: 8e-3 },
  matmul: { f32: 1e-6, f16: 1e-3, bf16: 8e-3 },
  softmax: { f32: 1e-6, f16: 1e-3, bf16: 5e-3 },
  norm: { f32: 1e-6, f16: 1e-3, bf16: 8e-3 },
  block: { f32: 2e-5, f16: 2e-3, bf16: 2e-2 },
  model: { f32: 1e-4, f16: 2e-3, bf16: 2e-2 },
  textEncoder: { f32: 1e-4, f16: 2e-3, bf16: 2e-2 },
  vae: { f32: 1e-4, f16: 2e-3, bf16: 2e-2 },
} as const satisfies Record<ComparedLevel, Partial<Record<ComparedDType, number>>>;

/** Tolerances of what is computed on the host in f64: sigmas and tables. Token ids, noise and shapes are compared exactly. */
export const hostTolerances = { sigmas: 1e-7, tables: 1e-6 } as const;

/** Peak signal-to-noise ratios in dB that a decoded picture reaches when it starts from the same latents. */
export const pictureDb = { f32: 50, f16: 35, bf16: 30 } as const satisfies Record<ComparedDType, number>;
