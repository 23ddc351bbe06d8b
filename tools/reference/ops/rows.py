"""Rows of op goldens: a call with views as inputs, its values from torch, and wrong calls that must differ."""

import hashlib
import json
import sys
from dataclasses import dataclass

import torch

from golden import ROOT, GoldenRefused, tensor_bytes, write_safetensors
from weights import generator

FOLDER = "packages/tensor/test/goldens"
NAMES = {
    torch.float32: "f32",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.uint32: "u32",
    torch.uint8: "u8",
}
DTYPES = {v: k for k, v in NAMES.items()}
FLOATS = ["f32", "f16", "bf16"]
INTS = ["i32", "u32", "u8"]
# Relative L2 over the finite values per tolerance class, NaNs and infinities at the same places; "exact" is bit for bit (NaN equals NaN).
TOLERANCES = {
    "exact": {"f32": 0, "f16": 0, "bf16": 0},
    "pointwise": {"f32": 1e-6, "f16": 1e-3, "bf16": 8e-3},
    "accumulate": {"f32": 1e-6, "f16": 1e-3, "bf16": 8e-3},
    "special": {"f32": 1e-6, "f16": 1e-3, "bf16": 8e-3},
    "largeMean": {"f32": 2e-5, "f16": 1e-3, "bf16": 8e-3},
    "attention": {"f32": 2e-6, "f16": 1e-3, "bf16": 8e-3},
}


@dataclass
class View:
    """A stored base tensor and how the operand is seen in it."""

    base: torch.Tensor
    kind: str = "contiguous"
    args: dict | None = None
    name: str = "x"

    def tensor(self) -> torch.Tensor:
        t = self.base
        for step, value in (self.args or {}).items():
            t = getattr(t, step)(*value) if step == "narrow" else getattr(t, step)(value)
        return t

    def named(self, name: str) -> "View":
        return View(self.base, self.kind, self.args, name)


def wrap(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Casts with two's complement wrapping; uint32 goes through int64."""
    if dtype == torch.uint32:
        return (value.to(torch.int64) & 0xFFFFFFFF).to(torch.uint32)
    return value.to(dtype)


def computable(t: torch.Tensor, wide: bool) -> torch.Tensor:
    """What torch computes with: f64 for floats when `wide`, int64 for uint32 (which has few kernels)."""
    if t.dtype == torch.uint32:
        return t.to(torch.int64)
    return t.double() if wide and t.is_floating_point() else t


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative L2 over the finite values; infinity when shapes, NaNs or infinities differ."""
    if a.shape != b.shape:
        return float("inf")
    a, b = a.double(), b.double()
    if not torch.equal(a.isnan(), b.isnan()) or not torch.equal(a[a.isinf()], b[b.isinf()]):
        return float("inf")
    ok = b.isfinite()
    return 0.0 if not ok.any() else ((a[ok] - b[ok]).norm() / b[ok].norm().clamp_min(1e-30)).item()


class Rows:
    def __init__(self, family: str):
        self.family, self.rows, self.tensors, self.checked = family, [], {}, 0
        self.ids: set = set()

    def store(self, t: torch.Tensor) -> str:
        key = hashlib.sha256(f"{t.dtype}{tuple(t.shape)}".encode() + tensor_bytes(t)).hexdigest()[:12]
        self.tensors[key] = t
        return key

    def operand(self, view: View) -> dict:
        row = {"name": view.name, "key": self.store(view.base), "dtype": NAMES[view.base.dtype], "shape": list(view.tensor().shape)}
        row["base"] = list(view.base.shape)
        if view.kind != "contiguous":
            row |= {"view": view.kind, "viewArgs": view.args}
        return row

    def add(self, op: str, fn, inputs: list, args: dict | None = None, tolerance: str = "exact", out: list | None = None, case: str = "", wrong: dict | None = None):
        """`fn(*tensors)` in torch. Values of "exact" and "special" rows are torch's own; the others are computed in f64, and torch's own must agree.

        `out` overrides the output dtypes (ours differ from torch's where torch widens integers). `wrong` maps labels to calls that must differ.
        """
        tensors = [v.tensor() for v in inputs]
        native = as_list(fn(*[computable(t, False) for t in tensors]))
        dtypes = [DTYPES[d] for d in out] if out else [ours(t.dtype, tensors) for t in native]
        values = [wrap(t, d) for t, d in zip(native, dtypes)]
        if tolerance not in ("exact", "special"):
            exact = as_list(fn(*[computable(t, True) for t in tensors]))
            for got, want, d in zip(native, exact, dtypes):
                self.attainable(op, case, got, wrap(want, d), tolerance)
            values = [wrap(t, d) for t, d in zip(exact, dtypes)]
        self.check_wrong(op, case, tensors, values, tolerance, wrong or {})
        self.append(op, inputs, args or {}, values, tolerance, case)

    def attainable(self, op: str, case: str, native: torch.Tensor, exact: torch.Tensor, tolerance: str) -> None:
        """In f32 torch must agree with f64; in 16 bits some of its kernels accumulate in 16 bits, which is not asked of us."""
        if native.dtype == torch.float32 == exact.dtype:
            error, limit = distance(native, exact), TOLERANCES[tolerance][NAMES[exact.dtype]]
            if not error <= 3 * limit:
                raise GoldenRefused(f"{self.family} {op} {case}: torch itself is {error:.2e} away from f64, limit {limit}")

    def check_wrong(self, op: str, case: str, tensors: list, values: list, tolerance: str, wrong: dict) -> None:
        for label, call in wrong.items():
            others = as_list(call(*[computable(t, t.is_floating_point()) for t in tensors]))
            moved = max(distance(o, v) for o, v in zip(others, values))
            limit = TOLERANCES[tolerance].get(NAMES.get(values[0].dtype, ""), 0)
            if moved <= 5 * limit:
                raise GoldenRefused(f"{self.family} {op} {case}: {label} moves it by {moved:.2e} only")
            self.checked += 1

    def append(self, op: str, inputs: list, args: dict, values: list, tolerance: str, case: str) -> None:
        dtype = NAMES[inputs[0].base.dtype] if inputs else NAMES[values[0].dtype]
        label = "-".join(p for p in (op, case, dtype, inputs[0].kind if inputs else "") if p)
        n = 2
        unique = label
        while unique in self.ids:
            unique, n = f"{label}-{n}", n + 1
        self.ids.add(unique)
        outputs = [{"key": self.store(v.contiguous()), "dtype": NAMES[v.dtype], "shape": list(v.shape)} for v in values]
        row = {"id": unique, "op": op, "dtype": dtype, "args": args}
        self.rows.append(row | {"inputs": [self.operand(v) for v in inputs], "outputs": outputs, "tolerance": tolerance})

    def write(self) -> None:
        path = ROOT / FOLDER / f"ops-{self.family}.safetensors"
        write_safetensors(path, self.tensors, {"reference": f"torch {torch.__version__}", "generator": "tools/reference/make.py ops"})
        lines = ",\n".join(json.dumps(r, separators=(",", ":")) for r in self.rows)
        path.with_suffix(".json").write_text(f"[\n{lines}\n]\n")
        size = path.stat().st_size + path.with_suffix(".json").stat().st_size
        print(f"ops-{self.family}: {len(self.rows)} rows, {size / 1e6:.2f} MB, {self.checked} wrong calls refused", file=sys.stderr)


def as_list(value) -> list:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def ours(dtype: torch.dtype, inputs: list) -> torch.dtype:
    """torch's result dtype in our terms: bool is u8, int64 (indices, integer sums) is i32, integers computed for u32 stay u32."""
    if dtype == torch.bool:
        return torch.uint8
    if dtype == torch.int64:
        return torch.uint32 if any(t.dtype == torch.uint32 for t in inputs) else torch.int32
    return torch.float32 if dtype == torch.float64 else dtype


def base(name: str, shape: tuple, dtype: str, low: float = -3.0, high: float = 3.0) -> torch.Tensor:
    """Values of `dtype` in [low, high]; floats are drawn in f32 and rounded."""
    g = generator(f"ops/{name}/{shape}/{low}/{high}")
    if dtype in FLOATS:
        return (torch.rand(shape, generator=g) * (high - low) + low).to(DTYPES[dtype])
    lo, hi = (max(0, int(low)) if dtype[0] == "u" else int(low)), int(high)
    return wrap(torch.randint(lo, hi + 1, shape, generator=g), DTYPES[dtype])


def views(name: str, dtype: str, low: float = -3.0, high: float = 3.0) -> list:
    """The layouts that every op is tried with. All but the last three see a tensor of shape [3, 5, 7]."""

    def of(shape):
        return base(name, shape, dtype, low, high)

    return [
        View(of((3, 5, 7))),
        View(of((7, 5, 3)), "transposed", {"permute": [2, 1, 0]}),
        View(of((1, 5, 1)), "broadcast", {"expand": [3, 5, 7]}),
        View(of((3, 9, 7)), "slice", {"narrow": [1, 2, 5]}),
        View(of((0, 4))),
        View(of((1,))),
        View(of(())),
    ]


def like(name: str, view: View, dtype: str, low: float = -3.0, high: float = 3.0) -> View:
    """A second operand with the same shape and layout kind."""
    return View(base(name, tuple(view.base.shape), dtype, low, high), view.kind, view.args, "y")


def special(dtype: str) -> torch.Tensor:
    """NaN, infinities, signed zeros, halves. Nothing large, which would drown the rest in an L2 norm."""
    values = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.5]
    return torch.tensor(values, dtype=torch.float64).to(DTYPES[dtype])
