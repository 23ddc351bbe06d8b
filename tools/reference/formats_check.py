"""Reads files written by this project with the reference libraries (safetensors, gguf, numpy, torch) and compares them byte for byte with what
tools/reference/formats-write.ts says it wrote. Usage: tsx --conditions=@wick/source tools/reference/formats-write.ts DIR && formats_check.py DIR"""
import json
import pathlib
import sys

import gguf
import numpy as np
import safetensors
import safetensors.torch
import torch


def check(what: str, got: bytes, want: pathlib.Path) -> None:
    assert got == want.read_bytes(), what


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    raw = folder / "raw"
    count = 0
    tensors = safetensors.torch.load_file(folder / "a.safetensors")
    for name, t in tensors.items():
        check(name, t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(), raw / f"{name}.bin")
        count += 1
    with safetensors.safe_open(folder / "a.safetensors", "pt") as f:
        assert f.metadata() == {"format": "pt", "note": "ünï"}, f.metadata()
    with np.load(folder / "a.npz") as z:
        for name in z.files:
            check(name, z[name].tobytes(), raw / f"{name}.bin")
            count += 1
    reader = gguf.GGUFReader(folder / "a.gguf")
    for t in reader.tensors:
        shape = json.loads((raw / f"{t.name}.json").read_text())
        assert list(reversed(t.shape.tolist())) == shape, (t.name, t.shape, shape)
        check(t.name, t.data.tobytes(), raw / f"{t.name}.bin")
        values = raw / f"{t.name}.f32"
        if values.exists():
            decoded = gguf.quants.dequantize(t.data, t.tensor_type)
            assert decoded.astype(np.float32).tobytes() == values.read_bytes(), f"{t.name}: values differ"
        count += 1
    fields = {key: f.contents() for key, f in reader.fields.items() if not key.startswith("GGUF.")}
    want = {"general.architecture": "flux", "n": 7, "text": "ünï", "on": True, "below": -5, "half": 0.5, "list": ["a", "b"], "ints": [1, -2]}
    assert fields == want, fields
    g = torch.Generator()
    g.set_state(torch.from_numpy(np.fromfile(folder / "rng.state", np.uint8)))
    ours = np.fromfile(folder / "rng.next", np.float32)
    assert torch.randn(40, generator=g).numpy().tobytes() == ours.tobytes(), "the random stream continued from our state differs"
    print(f"formats_check: {count} tensors, GGUF key-values and a generator state agree")


main()
