"""Bytes that ggml's own quantizers give, to compare qualities with. Usage: formats-ggml.py LIBRARY, a shared library that exports
ggml-quants.c (ggml d99724f2: gcc -O2 -fPIC -shared -Iinclude -Isrc src/ggml-quants.c and stubs of ggml_abort and the fp16 table).
Writes packages/tensor/test/goldens/quant-ggml.safetensors."""
import ctypes
import pathlib
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "packages/tensor/test/goldens/quant-ggml.safetensors"
REFERENCE = "q2_K q3_K q4_K q5_K q6_K".split()
SEARCHED = "iq4_nl iq4_xs".split()


def main() -> None:
    lib = ctypes.CDLL(sys.argv[1])
    table = (ctypes.c_float * 65536).in_dll(lib, "ggml_table_f32_f16")
    with np.errstate(all="ignore"):
        table[:] = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32).tolist()
    rng = np.random.default_rng(11)
    x = rng.standard_normal((32, 256)).astype(np.float32) * np.float32(0.03)
    x[8:16] = rng.standard_t(3, (8, 256)).astype(np.float32) * np.float32(0.01)
    x[16:20] += np.float32(0.1)
    x[20:24] = rng.uniform(-1, 1, (4, 256)).astype(np.float32)
    x[24] = 0
    x[25, 1:] = 0
    x[26] = np.float32(0.7)
    x[27] *= rng.choice([1, 1e-4], 256).astype(np.float32)
    data = x.ctypes.data_as(ctypes.c_void_p)
    out: dict[str, np.ndarray] = {"values": x.reshape(-1)}
    for name in REFERENCE + SEARCHED:
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name.upper()]]
        bytes_ = np.zeros(x.size // block * size, np.uint8)
        target = bytes_.ctypes.data_as(ctypes.c_void_p)
        if name in REFERENCE:
            getattr(lib, f"quantize_row_{name}_ref")(data, target, ctypes.c_int64(x.size))
        else:
            getattr(lib, f"quantize_{name}")(data, target, ctypes.c_int64(1), ctypes.c_int64(x.size), None)
        out[name] = bytes_
    save_file(out, OUT, {"ggml": "d99724f2"})
    OUT.chmod(0o644)


main()
