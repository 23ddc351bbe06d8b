"""Goldens of the GGUF block formats: random block bytes (also with zero, subnormal, infinite and NaN scales) and their values by
gguf.quants.dequantize; random values and their bytes by gguf.quants.quantize. Writes packages/tensor/test/goldens/quant.safetensors."""
import pathlib

import gguf
import numpy as np
from safetensors.numpy import save_file

GOLDENS = pathlib.Path(__file__).resolve().parents[2] / "packages/tensor/test/goldens"
TYPES = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS".split()
ENCODED = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0".split()
# Byte offsets of the f16 fields of a block.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
}
SPECIAL = np.array([0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E01, 0xFFFF], np.uint16)


def blocks(rng: np.random.Generator, name: str) -> np.ndarray:
    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    data = rng.integers(0, 256, (10 + len(SPECIAL), size), dtype=np.uint8)
    for offset in HALVES[name]:
        field = rng.normal(0, 0.02, data.shape[0]).astype(np.float16).view(np.uint16)
        field[-len(SPECIAL):] = rng.permutation(SPECIAL)
        data[:, offset : offset + 2] = field.view(np.uint8).reshape(-1, 2)
    return data


def values(rng: np.random.Generator) -> np.ndarray:
    scales = np.float32(10.0) ** rng.integers(-6, 4, (96, 1)).astype(np.float32)
    x = (rng.standard_normal((96, 32)).astype(np.float32) * scales).astype(np.float32)
    x[0] = 0
    x[1] = 1.5
    x[2] = -0.25
    x[3] = np.arange(32) - 16
    x[4] = np.repeat(np.arange(-8, 8), 2) / 2 + 0.25
    x[5, 1:] = 0
    x[6] *= np.float32(1e-20)
    return x


def main() -> None:
    rng = np.random.default_rng(7)
    out: dict[str, np.ndarray] = {}
    with np.errstate(invalid="ignore", over="ignore"):
        for name in TYPES:
            data = blocks(rng, name)
            out[f"{name}.blocks"] = data.reshape(-1)
            out[f"{name}.values"] = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[name]).reshape(-1)
    x = values(rng)
    out["encode.values"] = x.reshape(-1)
    for name in ENCODED:
        out[f"encode.{name}"] = gguf.quants.quantize(x, gguf.GGMLQuantizationType[name]).reshape(-1)
    GOLDENS.mkdir(parents=True, exist_ok=True)
    save_file(out, GOLDENS / "quant.safetensors", {"gguf": "0.19.0"})


main()
