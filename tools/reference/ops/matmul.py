"""matmul with batch broadcasting and every operand layout, and linear."""

import torch
from torch.nn import functional as F

from .rows import FLOATS, Rows, View, base


def operand(name: str, shape: tuple, dtype: str, kind: str = "contiguous") -> View:
    """The layouts of a matrix operand of `shape`: the last two dimensions swapped, a part of a wider matrix, every second row."""
    *lead, m, k = shape
    scale = 1.5
    if kind == "transposed":
        order = [*range(len(lead)), len(lead) + 1, len(lead)]
        return View(base(name, (*lead, k, m), dtype, -scale, scale), "transposed", {"permute": order}, name)
    if kind == "slice":
        return View(base(name, (*lead, m, k + 5), dtype, -scale, scale), "slice", {"narrow": [len(lead) + 1, 3, k]}, name)
    if kind == "broadcast":
        return View(base(name, (*lead, 1, k), dtype, -scale, scale), "broadcast", {"expand": list(shape)}, name)
    return View(base(name, shape, dtype, -scale, scale), name=name)


def rows() -> Rows:
    r = Rows("matmul")
    kinds = ["contiguous", "transposed", "slice", "broadcast"]
    for dtype in FLOATS:
        for ka in kinds:
            for kb in kinds:
                a, b = operand("a", (5, 13), dtype, ka), operand("b", (13, 7), dtype, kb)
                r.add("matmul", torch.matmul, [a, b], tolerance="accumulate", case=kb)
        for sa, sb in (
            ((2, 3, 5, 4), (2, 3, 4, 6)),
            ((2, 1, 5, 4), (3, 4, 6)),
            ((3, 5, 4), (4, 6)),
            ((5, 4), (2, 3, 4, 6)),
            ((1, 1, 1), (1, 1, 1)),
            ((1, 37), (37, 65)),
            ((65, 1), (1, 33)),
            ((33, 67), (67, 1)),
            ((0, 4), (4, 3)),
            ((3, 0), (0, 4)),
            ((2, 0, 4), (4, 3)),
            ((2, 3, 4), (4, 0)),
            ((65, 130), (130, 67)),
            ((2, 1500), (1500, 3)),
            ((130, 64), (64, 64)),
        ):
            case = "x".join(map(str, sa)) + "@" + "x".join(map(str, sb))
            r.add("matmul", torch.matmul, [operand("a", sa, dtype), operand("b", sb, dtype)], tolerance="accumulate", case=case)
        swapped = View(base("bt", (3, 2, 6, 4), dtype), "transposed", {"permute": [1, 0, 3, 2]}, "b")
        r.add("matmul", torch.matmul, [operand("a", (2, 3, 5, 4), dtype, "slice"), swapped], tolerance="accumulate", case="batched-layouts")
        heads = View(base("heads", (2, 5, 3, 4), dtype), "transposed", {"permute": [0, 2, 1, 3]}, "a")
        r.add("matmul", torch.matmul, [heads, operand("b", (2, 3, 4, 6), dtype)], tolerance="accumulate", case="heads")
        x, w = operand("x", (2, 5, 13), dtype), operand("weight", (9, 13), dtype)
        bias = View(base("bias", (9,), dtype), name="bias")
        r.add("linear", F.linear, [x, w], tolerance="accumulate")
        r.add("linear", F.linear, [x, w, bias], tolerance="accumulate", case="bias")
        r.add("linear", F.linear, [operand("x", (2, 5, 13), dtype, "slice"), w, bias], tolerance="accumulate", case="bias")
        r.add("linear", F.linear, [operand("x", (0, 13), dtype), w, bias], tolerance="accumulate", case="empty")
    nan = base("nan", (4, 5), "f32")
    nan[1, 2], nan[2, 3] = float("nan"), float("inf")
    r.add("matmul", torch.matmul, [View(nan, name="a"), operand("b", (5, 3), "f32")], tolerance="special", case="special")
    return r
