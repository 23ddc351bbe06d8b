// Elementary functions in f32 with about 1e-7 relative error and PyTorch's treatment of NaN and infinity. WGSL's own may assume that
// neither occurs and are only accurate to 2^-11 in places. Polynomials: Cephes (expf, logf, sinf, tanhf, atanf, asinf) and, for erf,
// a minimax fit below and above 0.93. NaN is tested and made by its bits, which no compiler can assume away.

const texts: Readonly<Record<string, string>> = {
  f_nan: `fn f_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }`,
  f_inf: `fn f_inf(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }`,
  f_bits: `fn f_bits(b: u32) -> f32 { return bitcast<f32>(b); }`,
  f_keep: `fn f_keep(x: f32, r: f32) -> f32 { return bitcast<f32>(select(bitcast<u32>(r), bitcast<u32>(x), f_nan(x))); }`,
  f_pick: `fn f_pick(r: f32, b: u32, c: bool) -> f32 { return bitcast<f32>(select(bitcast<u32>(r), b, c)); }`,
  // Adding 1.5 * 2^23 rounds to an integer, which the low bits of the sum then hold.
  f_exp_turns: `fn f_exp_turns(x: f32) -> u32 { return bitcast<u32>(x * 1.44269504088896341 + 12582912.0); }`,
  f_exp_rest: `fn f_exp_rest(x: f32, turns: u32) -> f32 {
  let k = f32(bitcast<i32>(turns) - 0x4b400000);
  let r = (x - k * 0.693359375) + k * 2.12194440e-4;
  let q = ((((1.9875691500e-4 * r + 1.3981999507e-3) * r + 8.3334519073e-3) * r + 4.1665795894e-2) * r + 1.6666665459e-1) * r + 5.0000001201e-1;
  return (q * r) * r + r + 1.0;
}`,
  f_exp: `fn f_exp(x: f32) -> f32 {
  let c = clamp(x, -104.0, 89.0);
  let t = f_exp_turns(c);
  let i = bitcast<i32>(t) - 0x4b400000;
  let h = i >> 1u;
  return f_keep(x, (f_exp_rest(c, t) * bitcast<f32>(u32(h + 127) << 23u)) * bitcast<f32>(u32(i - h + 127) << 23u));
}`,
  // From -86, below which results would be subnormal; infinity from 88.73 to 89, the largest argument.
  f_exp_within: `fn f_exp_within(x: f32) -> f32 {
  let t = f_exp_turns(x);
  return bitcast<f32>(bitcast<u32>(f_exp_rest(x, t)) + (t << 23u) - 0x800000u) * 2.0;
}`,
  f_exp_minus: `fn f_exp_minus(x: f32) -> f32 { return f_exp_within(clamp(-x, -86.0, 89.0)); }`,
  f_expm1: `fn f_expm1(x: f32) -> f32 {
  let r = clamp(x, -0.35, 0.35);
  let q = ((((1.9875691500e-4 * r + 1.3981999507e-3) * r + 8.3334519073e-3) * r + 4.1665795894e-2) * r + 1.6666665459e-1) * r + 5.0000001201e-1;
  return f_keep(x, select(f_exp(x) - 1.0, (q * r) * r + r, abs(x) <= 0.35));
}`,
  f_logp: `fn f_logp(m: f32, e: f32) -> f32 {
  let z = m * m;
  var y = (((((((7.0376836292e-2 * m - 1.1514610310e-1) * m + 1.1676998740e-1) * m - 1.2420140846e-1) * m + 1.4249322787e-1) * m - 1.6668057665e-1) * m + 2.0000714765e-1) * m - 2.4999993993e-1) * m + 3.3333331174e-1;
  y = (y * m) * z;
  y = (y - e * 2.12194440e-4) - 0.5 * z;
  return (m + y) + e * 0.693359375;
}`,
  f_log: `fn f_log(x: f32) -> f32 {
  let tiny = x < 1.17549435e-38;
  let u = bitcast<u32>(select(x, x * 8388608.0, tiny));
  var e = f32(i32(u >> 23u) - 126) - select(0.0, 23.0, tiny);
  var m = bitcast<f32>((u & 0x7fffffu) | 0x3f000000u);
  if (m < 0.70710678) { e -= 1.0; m = m + m; }
  let r = f_logp(m - 1.0, e);
  let a = f_pick(r, 0x7f800000u, bitcast<u32>(x) == 0x7f800000u);
  let b = f_pick(a, 0xff800000u, x == 0.0);
  return f_keep(x, f_pick(b, 0x7fc00000u, x < 0.0));
}`,
  f_log1p: `fn f_log1p(x: f32) -> f32 {
  let r = clamp(x, -0.29, 0.41);
  return f_keep(x, select(f_log(1.0 + x), f_logp(r, 0.0), x > -0.29 && x < 0.41));
}`,
  f_log2: `fn f_log2(x: f32) -> f32 {
  let e = i32((bitcast<u32>(x) >> 23u) & 0xffu) - 127;
  let exact = x > 0.0 && (bitcast<u32>(x) & 0x7fffffu) == 0u && e > -127 && e < 128;
  return select(f_log(x) * 1.44269504088896341, f32(e), exact);
}`,
  // x = m 2^(e-23) with integer m. Bits of 2/pi above weight 2^(24-e) only add multiples of 4 quarter turns, so m times the next 96 bits, modulo
  // 2^96, holds the quadrant and 94 bits of the fraction: Payne and Hanek's reduction in integers, which no compiler can reassociate.
  f_quarters: `fn f_quarters(x: f32) -> vec2<u32> {
  let two_over_pi = array<u32, 8>(0u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu);
  let u = bitcast<u32>(x);
  let at = min(max((u >> 23u) & 0xffu, 121u), 254u) - 120u;
  let m = (u & 0x7fffffu) | 0x800000u;
  let i = at >> 5u;
  let s = at & 31u;
  let down = 31u - s;
  let w0 = (two_over_pi[i] << s) | ((two_over_pi[i + 1u] >> 1u) >> down);
  let w1 = (two_over_pi[i + 1u] << s) | ((two_over_pi[i + 2u] >> 1u) >> down);
  let w2 = (two_over_pi[i + 2u] << s) | ((two_over_pi[i + 3u] >> 1u) >> down);
  let low = m * w1;
  let mid = low + u_high(m, w2);
  return vec2<u32>(m * w0 + u_high(m, w1) + select(0u, 1u, mid < low), mid);
}`,
  u_high: `fn u_high(a: u32, b: u32) -> u32 {
  let t = (a >> 16u) * (b & 0xffffu) + (((a & 0xffffu) * (b & 0xffffu)) >> 16u);
  let v = (a & 0xffffu) * (b >> 16u) + (t & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (t >> 16u) + (v >> 16u);
}`,
  f_sincos: `fn f_sincos(x: f32, quarter: i32) -> f32 {
  let near = abs(x) < 0.7853981;
  let w = f_quarters(x);
  // Round the quarter turns to the nearest; what is left is a fraction of magnitude at most one half, of 62 bits.
  let k = (w.x >> 30u) + ((w.x >> 29u) & 1u);
  let below = ((w.x >> 29u) & 1u) == 1u;
  let f0 = (w.x << 2u) | (w.y >> 30u);
  let f1 = w.y << 2u;
  let g1 = select(f1, ~f1, below);
  let g0 = select(f0, ~f0, below);
  let z0 = min(countLeadingZeros(g0), 31u);
  let top = (g0 << z0) | ((g1 >> 1u) >> (31u - z0));
  let size = f32(top) * 1.57079632679489662 * bitcast<f32>((95u - z0) << 23u);
  let away = bitcast<f32>(bitcast<u32>(size) | select(0u, 0x80000000u, below != (x < 0.0)));
  let r = select(away, x, near);
  let z = r * r;
  let s = select(((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r, r, z < 1e-9);
  let c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0;
  let turns = select(select(i32(k), -i32(k), x < 0.0), 0, near);
  let q = (turns + quarter) & 3;
  let v = select(s, c, (q & 1) == 1);
  return f_pick(select(v, -v, q >= 2), 0x7fc00000u, f_inf(x) || f_nan(x));
}`,
  f_tan: `fn f_tan(x: f32) -> f32 { return f_sincos(x, 0) / f_sincos(x, 1); }`,
  f_atan: `fn f_atan(x: f32) -> f32 {
  let a = abs(x);
  let big = a > 2.414213562373095;
  let mid = a > 0.4142135623730950;
  let t = select(select(a, (a - 1.0) / (a + 1.0), mid), -1.0 / a, big);
  let y0 = select(select(0.0, 0.785398163397448, mid), 1.5707963267948966, big);
  let z = t * t;
  let y = y0 + ((((8.05374449538e-2 * z - 1.38776856032e-1) * z + 1.99777106478e-1) * z - 3.33329491539e-1) * z * t + t);
  let r = f_pick(y, 0x3fc90fdbu, f_inf(x));
  return f_keep(x, bitcast<f32>(bitcast<u32>(r) | (bitcast<u32>(x) & 0x80000000u)));
}`,
  f_asin: `fn f_asin(x: f32) -> f32 {
  let a = abs(x);
  let z = select(a * a, 0.5 * (1.0 - a), a > 0.5);
  let t = select(a, sqrt(z), a > 0.5);
  let p = ((((4.2163199048e-2 * z + 2.4181311049e-2) * z + 4.5470025998e-2) * z + 7.4953002686e-2) * z + 1.6666752422e-1) * z * t + t;
  let y = select(p, 1.5707963267948966 - 2.0 * p, a > 0.5);
  return f_keep(x, f_pick(select(y, -y, x < 0.0), 0x7fc00000u, a > 1.0));
}`,
  f_acos: `fn f_acos(x: f32) -> f32 {
  let far = abs(x) > 0.5;
  let h = 2.0 * f_asin(sqrt(max(0.0, 0.5 * (1.0 - abs(x)))));
  let y = select(1.5707963267948966 - f_asin(x), select(h, 3.14159265358979 - h, x < 0.0), far);
  return f_keep(x, f_pick(y, 0x7fc00000u, abs(x) > 1.0));
}`,
  f_atan2: `fn f_atan2(y: f32, x: f32) -> f32 {
  let ay = abs(y);
  let ax = abs(x);
  var a = f_atan(min(ax, ay) / max(ax, ay));
  a = select(a, 0.0, ax == 0.0 && ay == 0.0);
  a = select(a, 0.785398163397448, f_inf(x) && f_inf(y));
  a = select(a, 1.5707963267948966 - a, ay > ax);
  a = select(a, 3.14159265358979 - a, (bitcast<u32>(x) >> 31u) == 1u);
  let r = bitcast<f32>((bitcast<u32>(a) & 0x7fffffffu) | (bitcast<u32>(y) & 0x80000000u));
  return f_keep(x, f_keep(y, r));
}`,
  f_sinh: `fn f_sinh(x: f32) -> f32 {
  let a = abs(x);
  let m = f_expm1(min(a, 60.0));
  let h = f_exp(0.5 * a);
  let y = select(0.5 * (m + m / (m + 1.0)), (0.5 * h) * h, a > 20.0);
  return f_keep(x, select(y, -y, x < 0.0));
}`,
  f_cosh: `fn f_cosh(x: f32) -> f32 { let a = abs(x); let h = f_exp(0.5 * a); return f_keep(x, select(0.5 * (f_exp(a) + f_exp(-a)), (0.5 * h) * h, a > 20.0)); }`,
  f_tanh: `fn f_tanh(x: f32) -> f32 {
  let a = abs(x);
  let z = x * x;
  let small = ((((-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2) * z + 1.33314422036e-1) * z - 3.33332819422e-1) * z * x + x;
  let t = 1.0 - 2.0 / (f_exp_within(min(2.0 * a, 80.0)) + 1.0);
  return f_keep(x, select(select(t, -t, x < 0.0), small, a < 0.625));
}`,
  f_sigmoid: `fn f_sigmoid(x: f32) -> f32 { return f_keep(x, 1.0 / (1.0 + f_exp_minus(x))); }`,
  f_silu: `fn f_silu(x: f32) -> f32 { return f_pick(x / (1.0 + f_exp_minus(x)), 0x7fc00000u, bitcast<u32>(x) == 0xff800000u); }`,
  f_relu: `fn f_relu(x: f32) -> f32 { return f_keep(x, max(x, 0.0)); }`,
  // (1 + tanh u) / 2 = 1 / (1 + exp(-2u)).
  f_gelu: `fn f_gelu(x: f32) -> f32 {
  let u = 1.5957691216057308 * (x + 0.044715 * x * x * x);
  return f_pick(x / (1.0 + f_exp_minus(u)), 0x7fc00000u, bitcast<u32>(x) == 0xff800000u);
}`,
  f_geluErf: `fn f_geluErf(x: f32) -> f32 { return 0.5 * x * (1.0 + f_erf(x * 0.70710678118654752)); }`,
  f_geluQuick: `fn f_geluQuick(x: f32) -> f32 { return x * f_sigmoid(1.702 * x); }`,
  f_softplus: `fn f_softplus(x: f32) -> f32 { return f_keep(x, select(f_log1p(f_exp(min(x, 20.0))), x, x > 20.0)); }`,
  f_erf: `fn f_erf(x: f32) -> f32 {
  let t = abs(x);
  let s = x * x;
  let c = min(t, 4.0);
  let cs = c * c;
  var r = -1.72853470e-5 * c + 3.83197126e-4;
  r = r * cs + (-3.88396438e-3 * c + 2.42546219e-2);
  r = ((r * c - 1.06777877e-1) * c - 6.34846687e-1) * c - 1.28717512e-1;
  let far = 1.0 - f_exp_within(r * c - c);
  let p = ((((-5.96761703e-4 * s + 4.99119423e-3) * s - 2.67681349e-2) * s + 1.12819925e-1) * s - 3.76125336e-1) * s + 1.28379166e-1;
  return f_keep(x, select(select(far, -far, x < 0.0), p * x + x, t <= 0.927734375));
}`,
  f_square: `fn f_square(x: f32) -> f32 { return x * x; }`,
  f_cube: `fn f_cube(x: f32) -> f32 { return x * x * x; }`,
  f_sign: `fn f_sign(x: f32) -> f32 { return select(select(0.0, 1.0, x > 0.0), -1.0, x < 0.0); }`,
  f_rsqrt: `fn f_rsqrt(x: f32) -> f32 { return 1.0 / sqrt(x); }`,
  f_sqrt: `fn f_sqrt(x: f32) -> f32 { return f_keep(x, f_pick(f_pick(sqrt(x), bitcast<u32>(x), f_inf(x)), 0x7fc00000u, x < 0.0)); }`,
  f_min: `fn f_min(x: f32, y: f32) -> f32 { return f_keep(x, f_keep(y, select(y, x, x < y))); }`,
  f_max: `fn f_max(x: f32, y: f32) -> f32 { return f_keep(x, f_keep(y, select(y, x, x > y))); }`,
  f_floorDiv: `fn f_floorDiv(x: f32, y: f32) -> f32 {
  let m = f_fmod(x, y);
  var d = (x - m) / y;
  if (m != 0.0 && ((y < 0.0) != (m < 0.0))) { d -= 1.0; }
  let r = select(floor(d) + select(0.0, 1.0, d - floor(d) > 0.5), x / y, y == 0.0);
  return f_keep(x, f_keep(y, f_pick(r, 0x7fc00000u, f_inf(x))));
}`,
  f_fmod: `fn f_fmod(x: f32, y: f32) -> f32 {
  let a = bitcast<u32>(x) & 0x7fffffffu;
  let b = bitcast<u32>(y) & 0x7fffffffu;
  if (a >= 0x7f800000u || b < 0x800000u || b > 0x7f800000u) { return f_bits(0x7fc00000u); }
  if (a < b) { return x; }
  // Long division of the mantissas: exact, whatever the compiler does to floats.
  var r = (a & 0x7fffffu) | 0x800000u;
  let d = (b & 0x7fffffu) | 0x800000u;
  for (var e = (a >> 23u) - (b >> 23u); e > 0u; e--) { if (r >= d) { r -= d; } r = r << 1u; }
  if (r >= d) { r -= d; }
  if (r == 0u) { return f_bits(bitcast<u32>(x) & 0x80000000u); }
  let shift = countLeadingZeros(r) - 8u;
  let ex = b >> 23u;
  let bits = select(0u, ((r << shift) & 0x7fffffu) | ((ex - shift) << 23u), ex > shift);
  return f_bits(bits | (bitcast<u32>(x) & 0x80000000u));
}`,
  f_rem: `fn f_rem(x: f32, y: f32) -> f32 {
  let m = f_fmod(x, y);
  return select(m, m + y, m != 0.0 && ((m < 0.0) != (y < 0.0)));
}`,
  f_pow: `fn f_pow(x: f32, y: f32) -> f32 {
  let a = abs(x);
  let whole = floor(y) == y;
  let odd = whole && abs(y) < 16777216.0 && (i32(y) & 1) == 1;
  var r = f_pow_abs(a, y);
  if (whole && abs(y) <= 16.0) { r = f_pow_int(a, i32(y)); }
  let negative = (bitcast<u32>(x) >> 31u) == 1u;
  r = select(r, -r, negative && odd);
  r = f_pick(r, 0x7fc00000u, x < 0.0 && !whole && !f_inf(x) && !f_inf(y));
  r = f_keep(x, f_keep(y, r));
  return select(r, 1.0, y == 0.0 || x == 1.0 || (x == -1.0 && f_inf(y)));
}`,
  f_pow_int: `fn f_pow_int(a: f32, n: i32) -> f32 {
  var r = 1.0;
  var b = a;
  for (var k = abs(n); k > 0; k = k >> 1u) { if ((k & 1) == 1) { r *= b; } b *= b; }
  return select(r, 1.0 / r, n < 0);
}`,
  f_high: `fn f_high(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) & 0xfffff000u); }`,
  f_pow_abs: `fn f_pow_abs(a: f32, y: f32) -> f32 {
  if (a == 0.0) { return f_pick(0.0, 0x7f800000u, y < 0.0); }
  if (f_inf(y)) { return f_pick(0.0, 0x7f800000u, (y > 0.0) == (a > 1.0)); }
  if (f_inf(a)) { return f_pick(0.0, 0x7f800000u, y > 0.0); }
  // log2(a) as an integer and two floats, the first with 12 bits: products with 12 bits of y are then exact, so large powers keep their digits.
  let u = bitcast<u32>(a);
  var e = f32(i32(u >> 23u) - 127);
  var m = bitcast<f32>((u & 0x7fffffu) | 0x3f800000u);
  if (m > 1.41421356) { m *= 0.5; e += 1.0; }
  let d = m - 1.0;
  let s = d / (2.0 + d);
  let sh = f_high(s);
  let sl = ((d - 2.0 * sh) - sh * d) / (2.0 + d);
  let z = s * s;
  let tail = s * z * (0.66666666 + z * (0.4 + z * (0.2857143 + z * (0.22222222 + z * 0.18181819))));
  let h = 2.88476562 * sh;
  let hi = f_high(h);
  let lo = (h - hi) + 6.24456778e-4 * sh + 2.88539008 * sl + tail * 1.44269504;
  let yh = f_high(y);
  let yl = y - yh;
  let p = yh * e;
  let q = yh * hi;
  let low = yl * e + yl * hi + y * lo;
  let n = round(p + q + low);
  let f = ((p - n) + q) + low;
  let c = clamp(n, -300.0, 300.0);
  let k = f32(i32(c) / 2);
  let v = (f_exp(f * 0.69314718055994531) * f_ldexp(k)) * f_ldexp(c - k);
  return f_pick(f_pick(v, 0x7f800000u, n > 200.0), 0u, n < -200.0);
}`,
  f_ldexp: `fn f_ldexp(k: f32) -> f32 { let h = i32(k) / 2; return bitcast<f32>(u32(h + 127) << 23u) * bitcast<f32>(u32(i32(k) - h + 127) << 23u); }`,
  f_round: `fn f_round(x: f32) -> f32 { return select(round(x), x, abs(x) >= 8388608.0 || f_nan(x)); }`,
  f_f16: `fn f_f16(x: f32) -> f32 { return f16_from(f16_bits(x)); }`,
  f_bf16: `fn f_bf16(x: f32) -> f32 { return bitcast<f32>(bf16_bits(x) << 16u); }`,
  i_pow: `fn i_pow(x: i32, y: i32) -> i32 {
  if (y < 0) { return select(select(0, select(1, -1, (y & 1) == 1), x == -1), 1, x == 1); }
  var r = 1; var b = x;
  for (var k = y; k > 0; k = k >> 1u) { if ((k & 1) == 1) { r *= b; } b *= b; }
  return r;
}`,
  u_pow: `fn u_pow(x: u32, y: u32) -> u32 { var r = 1u; var b = x; for (var k = y; k > 0u; k = k >> 1u) { if ((k & 1u) == 1u) { r *= b; } b *= b; } return r; }`,
  i_floorDiv: `fn i_floorDiv(x: i32, y: i32) -> i32 { if (y == 0) { return 0; } let q = x / y; return select(q, q - 1, (x % y != 0) && ((x < 0) != (y < 0))); }`,
  i_rem: `fn i_rem(x: i32, y: i32) -> i32 { if (y == 0) { return 0; } let m = x % y; return select(m, m + y, m != 0 && ((m < 0) != (y < 0))); }`,
  u_floorDiv: `fn u_floorDiv(x: u32, y: u32) -> u32 { if (y == 0u) { return 0u; } return x / y; }`,
  u_rem: `fn u_rem(x: u32, y: u32) -> u32 { if (y == 0u) { return 0u; } return x % y; }`,
};

/** The functions that `text` calls, and those that they call. */
export function mathFunctions(text: string): string {
  const found = new Set<string>();
  const visit = (t: string): void => {
    for (const [name] of t.matchAll(/\b[fiu]_[A-Za-z0-9_]+(?=\()/g)) {
      const body = texts[name];
      if (body === undefined || found.has(name)) continue;
      found.add(name);
      visit(body);
    }
  };
  visit(text);
  return Object.keys(texts)
    .filter((n) => found.has(n))
    .map((n) => texts[n]! + "\n")
    .join("");
}
