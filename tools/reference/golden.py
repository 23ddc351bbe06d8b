"""Golden files: what one holds, how it is written, and the mutation check that every golden must pass.

A golden is a safetensors file with `in.<name>` (inputs), `w.<checkpoint name>` (weights) and `out.<path>` (outputs by dotted module path).
"""

import contextlib
import importlib.metadata
import json
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
END_TOLERANCE = 1e-4  # relative L2 that the end output of an f32 model must meet
MOVEMENT_FACTOR = 5.0

DTYPE_NAMES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.uint32: "U32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class GoldenRefused(Exception):
    """A golden that would pass although a constant of the model is wrong."""


@dataclass
class Run:
    """One execution of a reference: everything that the golden stores. `end` names the outputs that the mutation check watches."""

    inputs: dict
    weights: dict
    outputs: dict
    end: list


@dataclass
class Mutation:
    """A wrong constant: config overrides handed to the runner, or a patch (context manager factory) around it."""

    label: str
    overrides: dict = field(default_factory=dict)
    patch: Callable | None = None


@dataclass
class Golden:
    path: str
    reference: str
    config: dict
    run: Callable[..., Run]
    mutations: list
    tolerance: float = END_TOLERANCE
    extra: dict = field(default_factory=dict)
    weights_file: str | None = None  # weights that several goldens share, beside them
    own_weights: tuple = ()  # names that this golden holds itself, in place of the shared ones
    writes_weights: bool = True


def version(reference: str) -> str:
    """`diffusers AutoencoderKL` -> `diffusers 0.42.1 AutoencoderKL`; references with a commit are passed through."""
    package, _, rest = reference.partition(" ")
    try:
        return f"{package} {importlib.metadata.version(package)} {rest}"
    except importlib.metadata.PackageNotFoundError:
        return reference


def relative_l2(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2 error in f64; infinity when the shapes differ or a value is not finite."""
    if actual.shape != expected.shape:
        return float("inf")
    a, b = actual.double(), expected.double()
    error = (a - b).norm() / b.norm().clamp_min(1e-30)
    return float("inf") if not torch.isfinite(error) else error.item()


def tensor_bytes(t: torch.Tensor) -> bytes:
    t = t.detach().contiguous().cpu()
    if t.dtype == torch.bfloat16:
        t = t.view(torch.int16)
    if t.dtype == torch.uint32:
        t = t.view(torch.int32)
    return t.numpy().tobytes()


def write_safetensors(path: Path, tensors: dict, metadata: dict | None = None) -> None:
    """Write a safetensors file whose bytes depend on the contents only (sorted names, sorted metadata)."""
    header, chunks, offset = {}, [], 0
    if metadata:
        header["__metadata__"] = {k: v if isinstance(v, str) else json.dumps(v, sort_keys=True) for k, v in sorted(metadata.items())}
    for name in sorted(tensors):
        t = tensors[name]
        data = tensor_bytes(t)
        header[name] = {"dtype": DTYPE_NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [offset, offset + len(data)]}
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def write_json(path: Path, value, indent: int | None = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=indent, sort_keys=False) + "\n")


SKIPPED_MODULES = ("Dropout", "Identity", "SiLU", "ReLU", "GELU", "Tanh", "Sigmoid", "QuickGELU", "GELUTanh")


class Capture:
    """Records the output of every module call by dotted path (`path#1` for a second call, `path:0` for tuple items)."""

    def __init__(self, model: torch.nn.Module, prefix: str = "", skip: Callable[[str], bool] = lambda path: False):
        self.outputs: dict = {}
        self.handles = []
        for path, module in model.named_modules():
            if path == "" or type(module).__name__.startswith(SKIPPED_MODULES) or skip(path):
                continue
            self.handles.append(module.register_forward_hook(self.hook(prefix + path)))

    def hook(self, path: str):
        def record(_module, _args, output):
            name, n = path, 0
            while name in self.outputs or f"{name}:0" in self.outputs:
                n += 1
                name = f"{path}#{n}"
            if isinstance(output, torch.Tensor):
                self.outputs[name] = output.detach().clone()
                return
            items = output if isinstance(output, (tuple, list)) else getattr(output, "to_tuple", tuple)()
            tensors = [t for t in items if isinstance(t, torch.Tensor)]
            for i, t in enumerate(tensors):
                self.outputs[name if len(tensors) == 1 else f"{name}:{i}"] = t.detach().clone()

        return record

    def __enter__(self):
        return self.outputs

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def movement(base: Run, mutated: Run) -> float:
    """The largest relative L2 by which a wrong constant moves one of the end outputs."""
    return max(relative_l2(mutated.outputs[k], base.outputs[k]) if k in mutated.outputs else float("inf") for k in base.end)


def apply(golden: Golden, mutation: Mutation) -> Run:
    with mutation.patch() if mutation.patch else contextlib.nullcontext():
        return golden.run(**mutation.overrides)


def check_mutations(golden: Golden, base: Run) -> list:
    """Rows {constant, movement, factor}; raises GoldenRefused when a wrong constant would not be noticed."""
    rows, weak = [], []
    for mutation in golden.mutations:
        moved = movement(base, apply(golden, mutation))
        factor = moved / golden.tolerance
        rows.append({"constant": mutation.label, "movement": float(f"{moved:.3e}"), "timesTolerance": round(factor, 1)})
        if not factor >= MOVEMENT_FACTOR:
            weak.append(f"{mutation.label} moves the end by {moved:.2e}")
    for row in rows:
        if row["movement"] == float("inf"):
            row["movement"], row["timesTolerance"] = "shape", "shape"
    if weak:
        raise GoldenRefused(f"{golden.path}: less than {MOVEMENT_FACTOR} x {golden.tolerance}: " + "; ".join(weak))
    return rows


@torch.no_grad()
def make(golden: Golden) -> None:
    """Run the reference, check that every wrong constant shows, write the golden and its report beside it."""
    base = golden.run()
    again = golden.run()
    for key in base.end:
        if not torch.isfinite(base.outputs[key].double()).all():
            raise GoldenRefused(f"{golden.path}: {key} is not finite")
        if not torch.equal(base.outputs[key], again.outputs[key]):
            raise GoldenRefused(f"{golden.path}: {key} differs between two runs")
    rows = check_mutations(golden, base)
    tensors = {f"in.{k}": v for k, v in base.inputs.items()}
    tensors |= {f"w.{k}": v for k, v in base.weights.items() if not golden.weights_file or k in golden.own_weights}
    tensors |= {f"out.{k}": v for k, v in base.outputs.items()}
    metadata = {
        "reference": version(golden.reference),
        "torch": torch.__version__,
        "config": golden.config,
        "end": base.end,
        "tolerance": str(golden.tolerance),
        "generator": "tools/reference/make.py",
        **golden.extra,
    }
    path = ROOT / golden.path
    if golden.weights_file:
        metadata["weights"] = golden.weights_file
    if golden.weights_file and golden.writes_weights:
        write_safetensors(path.parent / golden.weights_file, {f"w.{k}": v for k, v in base.weights.items()}, {"config": golden.config})
    write_safetensors(path, tensors, metadata)
    report = {"golden": path.name, "reference": metadata["reference"], "torch": torch.__version__, "config": golden.config}
    report |= {"end": base.end, "tolerance": golden.tolerance, "mutations": rows}
    write_json(path.with_suffix(".report.json"), report)
    least = min((r["timesTolerance"] for r in rows if r["timesTolerance"] != "shape"), default=0)
    print(f"{golden.path}: {path.stat().st_size / 1e6:.2f} MB, {len(tensors)} tensors, {len(rows)} mutations, weakest {least} x", file=sys.stderr)


@contextlib.contextmanager
def patched(owner, name: str, value):
    """Replace an attribute while the block runs."""
    old = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, old)


def patch(owner, name: str, value):
    """A patch for a Mutation."""
    return lambda: patched(owner, name, value)


def to_torch(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
