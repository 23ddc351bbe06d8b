"""PyTorch in the protocol of run.ts (see protocol.mjs). Usage: python torch_peer.py cpu|cuda THREADS. Needs torch and numpy; the cases
made of whole modules need diffusers, and the included model needs transformers."""

import json
import sys
import time

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
except ImportError as error:
    print("@" + json.dumps({"missing": str(error)}), flush=True)
    sys.exit(0)

DEVICE, THREADS = sys.argv[1], int(sys.argv[2])
SEEDS = {"weight": 2, "y": 2, "b": 2, "k": 2, "scale": 2, "grid": 2, "v": 3, "shift": 3, "bias": 3}


class Unsupported(Exception):
    """A case PyTorch has no operator or type for."""


def values(count: int, seed: int) -> torch.Tensor:
    """The numbers of data.mjs: `count` values in [-0.5, 0.5) from a hash of seed and position."""
    h = np.arange(count, dtype=np.uint32) + np.uint32((seed * 0x9E3779B9) & 0xFFFFFFFF)
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    return torch.from_numpy((h >> np.uint32(8)).astype(np.float32) / np.float32(0x1000000) - np.float32(0.5))


def tensor(name: str, *shape: int) -> torch.Tensor:
    return values(int(np.prod(shape)), SEEDS.get(name, 1)).reshape(shape).to(DEVICE)


def matmul(m, k, n, **_):
    a, b = tensor("a", m, k), tensor("b", k, n)
    return lambda: a @ b


def linear(m, k, n, dtype, **_):
    x, weight = tensor("x", m, k), tensor("weight", n, k)
    if dtype not in ("f32", "bf16", "f16"):
        raise Unsupported(f"no product with {dtype} weights")
    if dtype == "f32":
        return lambda: F.linear(x, weight)
    narrow = {"bf16": torch.bfloat16, "f16": torch.float16}[dtype]
    x, weight = x.to(narrow), weight.to(narrow)
    return lambda: F.linear(x, weight)


def conv(c, o, h, w, **_):
    x, weight = tensor("x", 1, c, h, w), tensor("weight", o, c, 3, 3)
    return lambda: F.conv2d(x, weight, padding=1)


def attention(heads, tokens, width, **_):
    q, k, v = (tensor(name, 1, heads, tokens, width) for name in "qkv")
    return lambda: F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def on_rows(function):
    def make(rows, columns, **_):
        x = tensor("x", rows, columns)
        return lambda: function(x)

    return make


def add(rows, columns, **_):
    x, y = tensor("x", rows, columns), tensor("y", rows, columns)
    return lambda: x + y


def norm(function):
    def make(rows, columns, **_):
        x, weight = tensor("x", rows, columns), tensor("weight", columns)
        return lambda: function(x, (columns,), weight)

    return make


def modulate(rows, columns, **_):
    x, scale, shift = tensor("x", rows, columns), tensor("scale", columns), tensor("shift", columns)
    return lambda: F.layer_norm(x, (columns,), eps=1e-6) * (1 + scale) + shift


def group_norm_silu(c, h, w, **_):
    x, weight, bias = tensor("x", 1, c, h, w), tensor("weight", c), tensor("bias", c)
    return lambda: F.silu(F.group_norm(x, 32, weight, bias, 1e-6))


def resample(**how):
    def make(c, side, to, **_):
        x = tensor("x", 1, c, side, side)
        return lambda: F.interpolate(x, (to, to), **how)

    return make


def grid_sample(mode):
    def make(c, side, **_):
        x, grid = tensor("x", 1, c, side, side), 2 * tensor("grid", 1, side, side, 2)
        return lambda: F.grid_sample(x, grid, mode=mode, align_corners=False)

    return make


def module_case(name):
    def make(**spec):
        import torch_modules

        return getattr(torch_modules, name)(spec, DEVICE)

    return make


CASES = {
    "matmul": matmul,
    "linear": linear,
    "conv": conv,
    "attention": attention,
    "softmax": on_rows(lambda x: F.softmax(x, -1)),
    "gelu": on_rows(lambda x: F.gelu(x, approximate="tanh")),
    "add": add,
    "rmsNorm": norm(lambda x, shape, weight: F.rms_norm(x, shape, weight, 1e-6)),
    "layerNorm": norm(lambda x, shape, weight: F.layer_norm(x, shape, weight, eps=1e-6)),
    "modulate": modulate,
    "groupNormSilu": group_norm_silu,
    "bilinear": resample(mode="bilinear"),
    "bicubic": resample(mode="bicubic"),
    "bilinearAntialias": resample(mode="bilinear", antialias=True),
    "bicubicAntialias": resample(mode="bicubic", antialias=True),
    "gridSample": grid_sample("bilinear"),
    "gridSampleBicubic": grid_sample("bicubic"),
    "zImageBlock": module_case("z_image_block"),
    "fluxDouble": module_case("flux_double"),
    "fluxSingle": module_case("flux_single"),
    "tinyStep": module_case("tiny_step"),
    "tinyPicture": module_case("tiny_picture"),
}


def synchronize() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def answer(message: dict) -> None:
    print("@" + json.dumps(message), flush=True)


def milliseconds(job) -> tuple[float, torch.Tensor]:
    start = time.perf_counter()
    result = job()
    synchronize()
    return (time.perf_counter() - start) * 1000, result


def prepared(spec: dict):
    if spec["op"] not in CASES:
        raise Unsupported(f"no {spec['op']}")
    job = CASES[spec["op"]](**{key: value for key, value in spec.items() if key != "op"})
    cold, result = milliseconds(job)
    sample = None
    if isinstance(result, torch.Tensor):
        flat = result.float().reshape(-1)
        sample = [flat[i * (flat.numel() - 1) // 15].item() for i in range(16)]
    note = "activations in the weights' dtype" if spec.get("dtype") in ("bf16", "f16") else None
    return job, {"coldMs": cold, "sample": sample, "note": note}


def timed(job, minMs: float, maxRuns: int, warmUp: int) -> dict:
    for _ in range(warmUp):
        milliseconds(job)
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times, start = [], time.process_time()
    while not times or (sum(times) < minMs and len(times) < maxRuns):
        times.append(milliseconds(job)[0])
    peak = torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None
    return {"times": times, "processorMs": (time.process_time() - start) * 1000, "deviceBytes": peak}


def main() -> None:
    if DEVICE == "cuda" and not torch.cuda.is_available():
        return answer({"missing": "this PyTorch sees no CUDA device"})
    torch.set_num_threads(THREADS)
    torch.set_grad_enabled(False)
    detail = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{THREADS} threads"
    answer({"ready": {"version": torch.__version__, "detail": detail, "python": sys.version.split()[0]}})
    job = None
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("end"):
            return
        try:
            if "run" in request:
                answer(timed(job, **request["run"]))
            else:
                job, message = prepared(request["prepare"])
                answer(message)
        except Unsupported as error:
            answer({"unsupported": str(error)})
        except Exception as error:  # a contestant that fails is a row of the table, not the end of the run
            answer({"failed": f"{type(error).__name__}: {error}".split("\n")[0]})


if __name__ == "__main__":
    with np.errstate(over="ignore"):
        main()
