"""More random streams of torch 2.13 than the fixtures hold: other seeds, odd shapes, rand in narrow formats, randint, randperm, and states.
Writes packages/tensor/test/goldens/rng.json (hashes of the bytes and the scalar draw that follows)."""
import hashlib
import json
import pathlib

import torch

OUT = pathlib.Path(__file__).resolve().parents[2] / "packages/tensor/test/goldens/rng.json"
DTYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16}
SEEDS = [3, 2024, 2**31, 2**32 + 7, 2**53 + 1, -1, 123456789012345]
SIZES = [1, 2, 7, 16, 18, 63, 255, 4097, 65536 + 5]


def digest(t: torch.Tensor) -> str:
    return hashlib.sha256(t.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def main() -> None:
    cases = []
    for seed in SEEDS:
        for size in SIZES:
            for name, dtype in DTYPES.items():
                for op in ("randn", "rand"):
                    g = torch.Generator().manual_seed(seed)
                    t = getattr(torch, op)(size, generator=g, dtype=dtype)
                    cases.append({"op": op, "seed": str(seed), "size": size, "dtype": name, "sha256": digest(t), "next": torch.randn(1, generator=g).item()})
    mixed = []
    for seed in (5, 99):
        g = torch.Generator().manual_seed(seed)
        parts = [torch.randn(5, generator=g), torch.randn(16, generator=g), torch.randn(3, generator=g), torch.rand(9, generator=g)]
        parts += [torch.randn(20, generator=g, dtype=torch.bfloat16), torch.randn(1, generator=g)]
        mixed.append({"seed": seed, "sha256": [digest(t) for t in parts], "state": hashlib.sha256(g.get_state().numpy().tobytes()).hexdigest()})
    ints = []
    for low, high in ((0, 1000), (-5, 5), (0, 2**28 - 1), (0, 2**28), (-(2**31), 2**31 - 1)):
        g = torch.Generator().manual_seed(8)
        ints.append({"low": low, "high": high, "values": torch.randint(low, high, (12,), generator=g).tolist()})
    perms = [{"n": n, "values": torch.randperm(n, generator=torch.Generator().manual_seed(4)).tolist()} for n in (0, 1, 2, 10, 300)]
    states = [hashlib.sha256(torch.Generator().manual_seed(s).get_state().numpy().tobytes()).hexdigest() for s in SEEDS]
    fresh = [{"seed": str(s), "sha256": h} for s, h in zip(SEEDS, states)]
    OUT.write_text(json.dumps({"torch": torch.__version__, "cases": cases, "mixed": mixed, "randint": ints, "randperm": perms, "fresh": fresh}))


main()
