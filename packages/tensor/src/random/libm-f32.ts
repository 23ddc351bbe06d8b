// logf, sinf and cosf with the bits of glibc since 2.28, which the f16 stream of PyTorch 1.13 depends on. Computed in f64, rounded once.
// Algorithms and constants: ARM-software/optimized-routines math/{logf,logf_data,sincosf_data}.c and sincosf.h (MIT licence).

const f = Math.fround;
const value = new Float32Array(1);
const bits = new Int32Array(value.buffer);

/** 1/c and log(c) of 16 subintervals. */
const LOG_TABLE: readonly (readonly [number, number])[] = [
  [1.398907162146528, -0.33569133332882284],
  [1.3403141896637998, -0.2929040563774074],
  [1.286432210124115, -0.2518726580937369],
  [1.2367150214269895, -0.21245868807117255],
  [1.1906977166711752, -0.17453945183745634],
  [1.1479821020556429, -0.1380057072319758],
  [1.1082251448272158, -0.10275976698545139],
  [1.0711297413057381, -0.06871392447020525],
  [1.036437278977283, -0.0357891387398228],
  [1.0, 0.0],
  [0.9492859795739057, 0.05204517742929496],
  [0.8951049428609004, 0.11081431298787942],
  [0.8476821620351103, 0.1652495223695143],
  [0.8050314851692001, 0.21687389031699977],
  [0.7664671008843108, 0.2659635028121397],
  [0.731428603316328, 0.3127556664073557],
];
const [A0, A1, A2] = [-0.25089342214237154, 0.333456765744066, -0.4999997485802103];

/** Natural logarithm of a normal positive f32, as f32. */
export function logf(x: number): number {
  if (x === 1) return 0;
  value[0] = x;
  const above = bits[0]! - 0x3f330000;
  const [inverse, log] = LOG_TABLE[(above >>> 19) & 15]!;
  const k = above >> 23;
  bits[0] = bits[0]! - (above & 0xff800000);
  const r = value[0]! * inverse - 1;
  const r2 = r * r;
  const y = A0 * r2 + (A1 * r + A2);
  return f(y * r2 + (log + k * Math.LN2 + r));
}

const HALF_PI = 1.5707963267948966;
const [C1, C2, C3, C4] = [-0.49999999725108224, 0.041666623324344516, -0.001388676379437604, 2.4390450703564542e-5];
const [S1, S2, S3] = [-0.16666654943701084, 0.008332178146138854, -0.00019517298981385725];

function sine(x: number): number {
  const x2 = x * x;
  const x3 = x * x2;
  return f(x + x3 * S1 + x3 * x2 * (S2 + x2 * S3));
}

function cosine(x: number): number {
  const x2 = x * x;
  const x4 = x2 * x2;
  return f(1 + x2 * C1 + x4 * C2 + x4 * x2 * (C3 + x2 * C4));
}

/** Sine (shift 0) or cosine (shift 1) of an f32 angle in [0, 120), as f32. */
function quadrants(x: number, shift: number): number {
  const n = Math.round((x * 2) / Math.PI);
  const r = x - n * HALF_PI;
  const quadrant = (n + shift) & 3;
  const size = quadrant & 1 ? cosine(r) : sine(r);
  return quadrant & 2 ? -size : size;
}

/** Sine of an f32 angle in [0, 120), as f32. */
export const sinf = (x: number): number => quadrants(x, 0);
/** Cosine of an f32 angle in [0, 120), as f32. */
export const cosf = (x: number): number => quadrants(x, 1);
