"""Where the recipe reads and writes, the shapes of the parts, and the training pictures."""

import json
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
MODEL = HERE.parents[2] / "packages" / "tiny-zimage" / "model"
DATA = HERE / ".cache"
SIZE = 64

NAMES = [line.split("\t")[:2] for line in (MODEL / "names.txt").read_text().strip().split("\n")]


def config(part: str) -> dict:
    """The config.json of a part of the published model; training makes parts of exactly these shapes."""
    values = json.loads((MODEL / part / "config.json").read_text())
    return {key: value for key, value in values.items() if not key.startswith("_")}


def pictures() -> torch.Tensor:
    """All training pictures, [count, 3, 64, 64] in -1..1."""
    pixels = np.fromfile(DATA / "pictures.bin", dtype=np.uint8).reshape(-1, SIZE, SIZE, 3)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
