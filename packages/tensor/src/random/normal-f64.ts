// Box-Muller in double precision with the bits of PyTorch on x86-64 Linux: groups of 16, and one by one for short tensors.
// pytorch: aten/src/ATen/native/cpu/DistributionTemplates.h (NormalFill16<double>), core/DistributionsHelper.h (normal_distribution).
import { log, log1p, sinCos } from "./libm.ts";

const TWO_PI = 2 * Math.PI;

/** Turns uniforms x[i…i+7] and x[i+8…i+15] in [0, 1) into 16 normal values in place. */
export function boxMuller16Double(x: Float64Array, i: number): void {
  for (let j = i; j < i + 8; j++) {
    const radius = Math.sqrt(-2 * log(1 - x[j]!));
    const [sine, cosine] = sinCos(TWO_PI * x[j + 8]!);
    x[j] = radius * cosine + 0;
    x[j + 8] = radius * sine + 0;
  }
}

/** Two normal values from two uniforms in [0, 1), as the one-by-one path of PyTorch makes them. */
export function normalPair(u1: number, u2: number): readonly [number, number] {
  const radius = Math.sqrt(-2 * log1p(-u2));
  const [sine, cosine] = sinCos(TWO_PI * u1);
  return [radius * cosine, radius * sine];
}
