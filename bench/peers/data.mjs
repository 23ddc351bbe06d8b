// The numbers every contestant computes with: a hash of the position, the same in torch_peer.py, so that results can be compared.

/** `count` values in [-0.5, 0.5) from a hash of seed and position. */
export function values(count, seed) {
  const out = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    let h = (i + Math.imul(seed, 0x9e3779b9)) | 0;
    h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
    h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
    out[i] = ((h ^ (h >>> 16)) >>> 8) / 0x1000000 - 0.5;
  }
  return out;
}

const rows = ({ rows, columns }) => ({ x: values(rows * columns, 1) });
const weighted = (spec) => ({ ...rows(spec), weight: values(spec.columns, 2) });

const picture = ({ c, side }) => ({ x: values(c * side * side, 1) });
/** Places in -1…1, x before y. */
const places = (spec) => ({ ...picture(spec), grid: values(2 * spec.side * spec.side, 2).map((v) => 2 * v) });

const makers = {
  matmul: ({ m, k, n }) => ({ a: values(m * k, 1), b: values(k * n, 2) }),
  /** weight is [n, k], as torch.nn.Linear has it. */
  linear: ({ m, k, n }) => ({ x: values(m * k, 1), weight: values(n * k, 2) }),
  conv: ({ c, o, h, w }) => ({ x: values(c * h * w, 1), weight: values(o * c * 9, 2) }),
  /** q, k, v are [heads, tokens, width]. */
  attention: ({ heads, tokens, width }) => {
    const count = heads * tokens * width;
    return { q: values(count, 1), k: values(count, 2), v: values(count, 3) };
  },
  softmax: rows,
  gelu: rows,
  silu: rows,
  add: (spec) => ({ ...rows(spec), y: values(spec.rows * spec.columns, 2) }),
  rmsNorm: weighted,
  layerNorm: weighted,
  /** layer norm without weights, times 1 + scale, plus shift. */
  modulate: (spec) => ({ ...rows(spec), scale: values(spec.columns, 2), shift: values(spec.columns, 3) }),
  /** group norm of 32 groups, then SiLU. */
  groupNormSilu: ({ c, h, w }) => ({ x: values(c * h * w, 1), weight: values(c, 2), bias: values(c, 3) }),
  bilinear: picture,
  bicubic: picture,
  bilinearAntialias: picture,
  bicubicAntialias: picture,
  gridSample: places,
  gridSampleBicubic: places,
};

/** Inputs of a case by name; cases made of whole modules bring their own. */
export const inputsOf = (spec) => makers[spec.op]?.(spec) ?? {};

/** [a, b, c] -> [b, a, c] */
export function swapped(x, [a, b, c]) {
  const out = new Float32Array(x.length);
  for (let i = 0; i < a; i++) for (let j = 0; j < b; j++) out.set(x.subarray((i * b + j) * c, (i * b + j + 1) * c), (j * a + i) * c);
  return out;
}

/** [rows, columns] -> [columns, rows] */
export function transposed(x, rows, columns) {
  const out = new Float32Array(x.length);
  // In squares that fit the cache: a plain loop over a large matrix takes seconds.
  for (let r0 = 0; r0 < rows; r0 += 32)
    for (let c0 = 0; c0 < columns; c0 += 32)
      for (let r = r0; r < Math.min(rows, r0 + 32); r++)
        for (let c = c0; c < Math.min(columns, c0 + 32); c++) out[c * rows + r] = x[r * columns + c];
  return out;
}
