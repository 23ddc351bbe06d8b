"""Small files written by the reference libraries (safetensors, numpy, torch, gguf), for the readers' tests, with the values expected of them.
Writes packages/tensor/test/goldens/formats/. Stored values that a reader converts (f64, i8, ...) are expected in the converted type."""
import collections
import io
import json
import pathlib
import shutil
import zipfile

import gguf
import numpy as np
import safetensors.torch
import torch
from safetensors.numpy import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "packages/tensor/test/goldens/formats"
expected: dict[str, np.ndarray] = {}


def safetensors_files() -> None:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(3, 5, generator=g)
    tensors = {
        "a.f32": x,
        "a.f16": x.half(),
        "a.bf16": x.bfloat16(),
        "a.f8e4m3": x.to(torch.float8_e4m3fn),
        "a.f8e5m2": x.to(torch.float8_e5m2),
        "a.f64": x.double() / 3,
        "a.i64": torch.tensor([-(2**53), 0, 2**53]),
        "a.i32": torch.tensor([-(2**31), 7, 2**31 - 1], dtype=torch.int32),
        "a.i16": torch.tensor([-(2**15), 2**15 - 1], dtype=torch.int16),
        "a.i8": torch.tensor([-128, 127, 3], dtype=torch.int8),
        "a.u8": torch.tensor([0, 255], dtype=torch.uint8),
        "a.u16": torch.tensor([0, 65535], dtype=torch.uint16),
        "a.u32": torch.tensor([0, 2**32 - 1], dtype=torch.uint32),
        "a.bool": torch.tensor([True, False, True]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "naïve.重み": torch.ones(2, 2),
    }
    safetensors.torch.save_file(tensors, OUT / "all.safetensors", {"format": "pt", "note": "ünï"})
    for name, t in tensors.items():
        wide = {torch.float64: torch.float32, torch.int16: torch.int32, torch.int8: torch.int32, torch.bool: torch.uint8}.get(t.dtype, t.dtype)
        wide = torch.uint32 if t.dtype == torch.uint16 else wide
        expected[f"st/{name}"] = np.frombuffer(t.to(wide).contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(), np.uint8)
    shards = {"m-00001-of-00002.safetensors": ["w.0", "w.1"], "m-00002-of-00002.safetensors": ["w.2"]}
    weight_map = {}
    for file, names in shards.items():
        safetensors.torch.save_file({n: torch.full((2, 3), float(n[-1])) for n in names}, OUT / file)
        weight_map |= {n: file for n in names}
    (OUT / "m.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 72}, "weight_map": weight_map}))


def numpy_files() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 4))
    arrays = {
        "f4": x.astype("<f4"), "f8": x, "f2": x.astype("<f2"), "i1": np.array([-128, 127], "i1"), "i2": np.array([-5, 300], "<i2"),
        "i4": np.array([[1, -2]], "<i4"), "i8": np.array([2**40, -1], "<i8"), "u1": np.array([0, 255], "u1"), "u2": np.array([65535], "<u2"),
        "u4": np.array([2**32 - 1], "<u4"), "u8": np.array([2**62], "<u8"), "b1": np.array([True, False]),
        "be_f4": x.astype(">f4"), "be_i4": np.array([1, -2], ">i4"), "be_f8": x.astype(">f8"), "fortran": np.asfortranarray(x.astype("<f4")),
        "fortran3": np.asfortranarray(rng.standard_normal((2, 3, 4)).astype("<f4")), "zero_d": np.array(1.5, "<f4"), "empty": np.zeros((0, 3), "<f4"),
    }
    np.savez(OUT / "stored.npz", **arrays)
    np.savez_compressed(OUT / "deflated.npz", **arrays)
    np.save(OUT / "one.npy", arrays["f4"])
    wide = {"f8": "<f4", "be_f8": "<f4", "i1": "<i4", "i2": "<i4", "u2": "<u4", "b1": "u1", "be_f4": "<f4", "be_i4": "<i4"}
    for name, a in arrays.items():
        expected[f"np/{name}"] = np.frombuffer(np.ascontiguousarray(a).astype(wide.get(name, a.dtype)).tobytes(), np.uint8)


def torch_files() -> None:
    g = torch.Generator().manual_seed(2)
    base = torch.randn(4, 6, generator=g)
    state = collections.OrderedDict(
        [
            ("layer.weight", base),
            ("layer.transposed", base.t()),
            ("layer.window", base[1:3, ::2]),
            ("layer.shared", base.view(-1)[6:18].view(3, 4)),
            ("layer.expanded", torch.tensor([1.0, 2.0]).unsqueeze(1).expand(2, 3)),
            ("bf16", base.bfloat16()),
            ("f16", base.half()),
            ("f64", base.double()),
            ("i64", torch.arange(5)),
            ("u8", torch.arange(5, dtype=torch.uint8)),
            ("bool", torch.tensor([True, False])),
            ("f8", base.to(torch.float8_e4m3fn)),
            ("scalar", torch.tensor(3.0)),
            ("empty", torch.zeros(0, 2)),
            ("param", torch.nn.Parameter(torch.ones(2))),
        ]
    )
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    nested = {"epoch": 3, "lr": 1e-4, "tag": "ünï", "none": None, "flags": (True, False), "state_dict": state, "list": [torch.zeros(2), [torch.ones(1)]]}
    for protocol in (2, 3, 4, 5):
        torch.save(nested, OUT / f"nested-p{protocol}.pth", pickle_protocol=protocol)
    torch.save(nested, OUT / "legacy.pth", _use_new_zipfile_serialization=False)
    old = io.BytesIO()
    with zipfile.ZipFile(OUT / "nested-p2.pth") as new, zipfile.ZipFile(old, "w") as z:
        for item in new.infolist():
            parts = item.filename.split("/", 1)
            if not parts[1].startswith((".", "byteorder")):
                z.writestr(f"archive/{parts[1]}", new.read(item))
    (OUT / "like-1.6.pth").write_bytes(old.getvalue())
    for name, t in state.items():
        wide = {torch.float64: torch.float32, torch.bool: torch.uint8}.get(t.dtype, t.dtype)
        flat = t.detach().to(wide).contiguous().reshape(-1)
        expected[f"pth/{name}"] = np.frombuffer(flat.view(torch.uint8).numpy().tobytes(), np.uint8)


def gguf_file() -> None:
    rng = np.random.default_rng(5)
    w = gguf.GGUFWriter(OUT / "all.gguf", "flux")
    w.add_uint8("k.u8", 200)
    w.add_int8("k.i8", -100)
    w.add_uint16("k.u16", 60000)
    w.add_int16("k.i16", -30000)
    w.add_uint32("k.u32", 4_000_000_000)
    w.add_int32("k.i32", -2_000_000_000)
    w.add_float32("k.f32", 0.5)
    w.add_float64("k.f64", 0.1)
    w.add_uint64("k.u64", 2**63)
    w.add_int64("k.i64", -(2**40))
    w.add_bool("k.bool", True)
    w.add_string("k.string", "ünï")
    w.add_array("k.ints", [1, 2, 3])
    w.add_array("k.strings", ["a", "", "ç"])
    x = rng.standard_normal((3, 512)).astype(np.float32)
    w.add_tensor("t.f32", x)
    w.add_tensor("t.f16", x.astype(np.float16))
    w.add_tensor("t.f64", x.astype(np.float64))
    w.add_tensor("t.i8", np.array([-1, 5], np.int8))
    w.add_tensor("t.i16", np.array([-1, 5], np.int16))
    w.add_tensor("t.i32", np.array([-1, 5], np.int32))
    w.add_tensor("t.i64", np.array([-1, 5], np.int64))
    w.add_tensor("t.bf16", gguf.quants.quantize(x, gguf.GGMLQuantizationType.BF16), raw_dtype=gguf.GGMLQuantizationType.BF16)
    for name in "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS".split():
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        data = rng.integers(0, 256, (3, 512 // block * size), dtype=np.uint8)
        w.add_tensor(f"t.{name}", data, raw_dtype=kind)
        expected[f"gguf/{name}"] = data.reshape(-1)
    expected["gguf/f32"] = np.frombuffer(x.tobytes(), np.uint8)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    safetensors_files()
    numpy_files()
    torch_files()
    gguf_file()
    save_file(expected, OUT / "expected.safetensors")
    for path in OUT.iterdir():
        path.chmod(0o644)


main()
