// Box-Muller in double precision, by this engine's Math functions: within two units in the last place of glibc's.
const TWO_PI = 2 * Math.PI;
/** Turns uniforms x[i…i+7] and x[i+8…i+15] in [0, 1) into 16 normal values in place. */
export function boxMuller16Double(x: Float64Array, i: number): void {
  for (let j = i; j < i + 8; j++) {
    const radius = Math.sqrt(-2 * Math.log(1 - x[j]!));
    const angle = TWO_PI * x[j + 8]!;
    x[j] = radius * Math.cos(angle) + 0;
    x[j + 8] = radius * Math.sin(angle) + 0;
  }
}
/** Two normal values from two uniforms in [0, 1), as the one-by-one path of PyTorch makes them. */
export function normalPair(u1: number, u2: number): [number, number] {
  const r = Math.sqrt(-2 * Math.log1p(-u2));
  const angle = TWO_PI * u1;
  return [r * Math.cos(angle), r * Math.sin(angle)];
}
