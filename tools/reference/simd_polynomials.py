# Minimax coefficients of the vector functions in packages/tensor/src/backends/cpu/wasm/simd-math.ts, simd-functions.ts and simd-power.ts (highest
# power first, with the largest weighted error). Lawson's iteration on Chebyshev nodes; needs numpy only. Run: python tools/reference/simd_polynomials.py
import numpy as np


def fit(function, weight, low, high, degree, rounds=1200):
    """Polynomial that minimises the largest |weight * (p - function)| on [low, high]."""
    nodes = 4000
    x = (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(nodes) + 0.5) / nodes)
    powers, values, weights = np.vander(x, degree + 1), function(x), weight(x)
    share = np.ones(nodes) / nodes
    for _ in range(rounds):
        root = np.sqrt(share) * weights
        coefficients = np.linalg.lstsq(powers * root[:, None], values * root, rcond=None)[0]
        error = np.abs((powers @ coefficients - values) * weights)
        share = share * (error + 1e-30)
        share /= share.sum()
    return coefficients.tolist(), error.max()


half_octave = np.log(2) / 2 * 1.0005


def exp_tail(r):
    """(e^r - 1 - r) / r^2"""
    series = 0.5 + r / 6 + r**2 / 24 + r**3 / 120 + r**4 / 720
    return np.where(np.abs(r) < 1e-3, series, (np.expm1(r) - r) / np.where(r == 0, 1, r * r))


def log_tail(f):
    """(ln(1 + f) - f + f^2 / 2) / f^3"""
    series = 1 / 3 - f / 4 + f**2 / 5 - f**3 / 6 + f**4 / 7 - f**5 / 8 + f**6 / 9
    return np.where(np.abs(f) < 1e-2, series, (np.log1p(f) - f + f * f / 2) / np.where(f == 0, 1, f**3))


def sin_tail(z):
    """(sin x - x) / x^3 of z = x^2"""
    series = -1 / 6 + z / 120 - z**2 / 5040 + z**3 / 362880 - z**4 / 39916800
    return np.where(z < 1e-2, series, (np.sin(np.sqrt(z)) - np.sqrt(z)) / np.where(z == 0, 1, z**1.5))


def cos_tail(z):
    """(cos x - 1 + x^2 / 2) / x^4 of z = x^2"""
    series = 1 / 24 - z / 720 + z**2 / 40320 - z**3 / 3628800 + z**4 / 479001600
    return np.where(z < 1e-1, series, (np.cos(np.sqrt(z)) - 1 + z / 2) / np.where(z == 0, 1, z * z))


def power_tail(f):
    """(2^f - 1) / f"""
    return np.where(np.abs(f) < 1e-5, np.log(2) + np.log(2) ** 2 * f / 2, np.expm1(f * np.log(2)) / np.where(f == 0, 1, f))


def artanh_tail(z):
    """2 (artanh s - s) / s^3 of z = s^2"""
    s = np.sqrt(z)
    return np.where(z < 1e-6, 2 / 3 + 2 * z / 5, 2 * (np.arctanh(s) - s) / np.where(s == 0, 1, s**3))


def log2_tail(z):
    """log2((1 + s) / (1 - s)) / s of z = s^2"""
    s = np.sqrt(z)
    return np.where(z < 1e-8, 2 / np.log(2) * (1 + z / 3), 2 / np.log(2) * np.arctanh(s) / np.where(s == 0, 1, s))


eighth_turn = (np.pi / 4 * 1.001) ** 2
quarter_turn = (np.pi / 2 * 1.0002) ** 2
artanh_end = (((np.sqrt(2) - 1) / (np.sqrt(2) + 1)) ** 2) * 1.001
fits = {
    "exp, fast": (exp_tail, lambda r: r * r / np.exp(r), -half_octave, half_octave, 3),
    "power": (power_tail, lambda f: np.abs(f / np.exp2(f)), -0.50025, 0.50025, 4),
    "artanh": (artanh_tail, lambda z: z / 2, 1e-12, artanh_end, 2),
    "log2 in f64": (log2_tail, lambda z: 1 / log2_tail(z), 1e-14, artanh_end, 3),
    "sin to a quarter turn": (sin_tail, lambda z: z * np.sqrt(z) / np.sin(np.sqrt(z)), 1e-9, quarter_turn, 3),
    "exp": (exp_tail, lambda r: r * r / np.exp(r), -half_octave, half_octave, 4),
    "expm1": (exp_tail, lambda r: np.abs(r * r / np.expm1(r)), -half_octave, half_octave, 4),
    "log": (log_tail, lambda f: np.abs(f**3 / np.log1p(f)), np.sqrt(0.5) - 1, np.sqrt(2) - 1, 8),
    "sin": (sin_tail, lambda z: z, 1e-9, eighth_turn, 2),
    "cos": (cos_tail, lambda z: z * z / np.cos(np.sqrt(z)), 1e-9, eighth_turn, 2),
}
for name, arguments in fits.items():
    print(name, *fit(*arguments))

# 2^(2g), of degree 4: the leading coefficient, and its factors g^2 + a g + b
half, error = fit(lambda g: np.exp2(2 * g), lambda g: 1 / np.exp2(2 * g), -0.50025 / 4, 0.50025 / 4, 4)
pairs = [(-2 * root.real, abs(root) ** 2) for root in np.roots(half) if root.imag > 0]
print("half power", half[0], *pairs, error)
