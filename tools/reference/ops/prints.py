"""Tensors as torch prints them, for the pretty printer: packages/tensor/test/goldens/print.json."""
import json
from pathlib import Path

import torch

OUT = Path(__file__).resolve().parents[3] / "packages/tensor/test/goldens/print.json"
NAMES = {torch.float32: "f32", torch.int32: "i32", torch.uint8: "u8", torch.float16: "f16", torch.bfloat16: "bf16"}


def cases() -> dict:
    return {
        "whole": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        "fractions": torch.tensor([1.5, -2.25, 0.125]),
        "scalar": torch.tensor(3.14159),
        "wide": torch.tensor([1e-5, 1.0, 1000.0]),
        "large": torch.tensor([1e9, 1.0]),
        "special": torch.tensor([float("nan"), float("inf"), -float("inf"), 1.0]),
        "ints": torch.tensor([[1, -20], [300, 4]], dtype=torch.int32),
        "bytes": torch.tensor([0, 255, 7], dtype=torch.uint8),
        "cube": torch.arange(12.0).reshape(2, 2, 3),
        "rows": torch.arange(40.0) / 8,
        "summary": torch.arange(2000.0).reshape(40, 50),
        "long": torch.arange(1500.0),
        "half": torch.tensor([1.5, 2.25]).half(),
        "brain": torch.tensor([1.5, 2.25]).bfloat16(),
        "empty": torch.zeros(0),
        "negative zero": torch.tensor([-0.0, 0.5]),
        "small": torch.tensor([0.00001, 0.00002]),
        "4d": torch.arange(16.0).reshape(2, 2, 2, 2) / 3,
    }


def value(v: float):
    return str(v) if v != v or abs(v) == float("inf") else v


def generate() -> None:
    rows = []
    for name, t in cases().items():
        text = str(t)
        for dtype, ours in NAMES.items():
            text = text.replace(f"dtype={dtype}", f"dtype={ours}")
        rows.append({"name": name, "dtype": NAMES[t.dtype], "shape": list(t.shape), "values": [value(float(v)) for v in t.flatten().tolist()], "text": text})
    OUT.write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
