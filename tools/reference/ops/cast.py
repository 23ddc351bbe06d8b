"""Casts between all dtypes, with the values where rounding to nearest even, overflow and subnormals show."""

import torch

from .rows import DTYPES, FLOATS, INTS, Rows, View, base, special, views

ALL = [*FLOATS, *INTS, "i64"]


def edges() -> torch.Tensor:
    """f32 values halfway between neighbours of f16 and bf16, at the limits of f16, among its subnormals, and the special ones."""
    ulp16, ulpb = 2.0**-10, 2.0**-7
    near_one = [1 + ulp16 / 2, 1 + ulp16 * 1.5, 1 + ulp16 / 2 + 2**-23, 1 + ulp16 / 2 - 2**-23, 1 + ulpb / 2, 1 + ulpb * 1.5, 1 + ulpb / 2 + 2**-23]
    limits = [65504.0, 65519.0, 65519.996, 65520.0, 65536.0, 1e38, 3.4e38, 3.3895314e38, 3.3961775e38]
    small = [2**-14, 2**-14 - 2**-25, 2**-24, 2**-25, 2**-25 * 1.0001, 2**-24 * 1.5, 2**-24 * 2.5, 2**-26, 6.1e-5, 1e-7]
    values = near_one + limits + small + [torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max]
    return torch.cat([torch.tensor(values + [-v for v in values], dtype=torch.float64).float(), special("f32")])


def rows() -> Rows:
    r = Rows("cast")
    for source in ALL:
        for target in ALL:
            # Values that every target holds: conversions of negative floats to unsigned are undefined in torch.
            for view in views("cast" + source, "i32" if source == "i64" else source, 0, 200):
                if source == "i64":
                    view = View(view.base.long(), view.kind, view.args)
                r.add("to", lambda t, d=DTYPES[target]: t.to(d), [view], {"dtype": target}, out=[target], case=target)
    for target in ("f16", "bf16"):
        r.add("to", lambda t, d=DTYPES[target]: t.to(d), [View(edges())], {"dtype": target}, out=[target], case=target + "-edges")
    for source in ("f16", "bf16"):
        for target in FLOATS:
            r.add("to", lambda t, d=DTYPES[target]: t.to(d), [View(edges().to(DTYPES[source]))], {"dtype": target}, out=[target], case=target + "-edges")
    signed = torch.tensor([-1, -2, -128, -129, 255, 256, 257, 65535, 16777216, 16777217, 16777219, 2147483647, -2147483648, 2049, 2051, 65519, 65520])
    for target in ("f32", "f16", "bf16", "u8", "u32", "i64"):
        r.add("to", lambda t, d=DTYPES[target]: t.to(d), [View(signed.int())], {"dtype": target}, out=[target], case=target + "-edges")
    unsigned = torch.tensor([0, 1, 255, 256, 2147483648, 4294967295, 4294967040, 16777217]).to(torch.uint32)
    for target in ("f32", "f16", "bf16", "u8", "i32"):
        r.add("to", lambda t, d=DTYPES[target]: t.to(d), [View(unsigned)], {"dtype": target}, out=[target], case=target + "-edges")
    fractions = torch.tensor([0.0, 0.5, 0.999, 1.5, 2.5, 100.99, -0.5, -0.999, -1.5, -2.5, -100.99])
    r.add("to", lambda t: t.to(torch.int32), [View(fractions)], {"dtype": "i32"}, out=["i32"], case="i32-truncation", wrong={"rounds": lambda t: t.round()})
    r.add("to", lambda t: t.to(torch.uint8), [View(fractions[:6])], {"dtype": "u8"}, out=["u8"], case="u8-truncation")
    return r
