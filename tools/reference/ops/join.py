"""cat, stack, pad, sliceAssign."""

import torch
from torch.nn import functional as F

from .rows import FLOATS, INTS, Rows, View, base, views


def pads(rows: Rows, dtype: str, view: View) -> None:
    for amounts in ([1, 2], [2, 1, 0, 3], [1, 0, 2, 2, 1, 1], [-1, 2], [-2, -1, 1, 0]):
        rows.add("pad", lambda x, a=amounts: F.pad(x, a, value=1.5 if dtype in FLOATS else 3), [view], {"amounts": amounts, "value": 1.5 if dtype in FLOATS else 3}, case="constant")
    if dtype not in FLOATS:
        return
    for mode in ("reflect", "replicate"):
        for amounts in ([2, 3], [1, 2, 2, 1]):
            rows.add("pad", lambda x, a=amounts, m=mode: F.pad(x[None] if len(a) == 4 else x, a, mode=m)[0 if len(a) == 4 else ...], [view], {"amounts": amounts, "mode": mode}, case=mode)


def rows() -> Rows:
    r = Rows("join")
    for dtype in FLOATS + INTS:
        for view in views("join", dtype)[:4]:
            pads(r, dtype, view)
            cut = View(base("join2", (3, 2, 7), dtype), name="y")
            wide = View(base("join3", (7, 4, 3), dtype), "transposed", {"permute": [2, 1, 0]}, "z")
            r.add("cat", lambda x, y, z: torch.cat([x, y, z], 1), [view, cut, wide], {"dim": 1})
            r.add("cat", lambda x, y: torch.cat([x, y], -1), [view, view.named("y")], {"dim": -1}, case="last")
            r.add("stack", lambda x, y: torch.stack([x, y], 1), [view, view.named("y")], {"dim": 1})
            r.add("stack", lambda x, y: torch.stack([x, y], -1), [view, view.named("y")], {"dim": -1}, case="last")
            src = View(base("src", (2, 3, 4), dtype), name="src")

            def assign(x, src):
                out = x.clone()
                out[1:3, 2:5, 0:4] = src
                return out

            r.add("sliceAssign", assign, [view, src], {"starts": [1, 2, 0]})
        empty = View(base("emptycat", (3, 0, 7), dtype))
        r.add("cat", lambda x, y: torch.cat([x, y], 1), [empty, View(base("join2", (3, 2, 7), dtype), name="y")], {"dim": 1}, case="empty")
        r.add("cat", lambda x, y: torch.cat([x, y], 0), [empty, empty.named("y")], {"dim": 0}, case="all-empty")
        r.add("pad", lambda x: F.pad(x, [1, 2]), [View(base("padempty", (3, 0), dtype))], {"amounts": [1, 2], "value": 0}, case="empty")
    many = [View(base(f"many{i}", (2, i + 1), "f32"), name=f"x{i}") for i in range(9)]
    r.add("cat", lambda *t: torch.cat(t, 1), many, {"dim": 1}, case="many")
    for dtype in FLOATS + INTS:
        a, b, c = (View(base(f"mesh{n}", (n,), dtype), name=name) for n, name in ((3, "x"), (4, "y"), (2, "z")))
        for indexing in ("ij", "xy"):
            r.add("meshgrid", lambda *t, i=indexing: torch.meshgrid(*t, indexing=i), [a, b, c], {"indexing": indexing}, case=indexing)
        r.add("meshgrid", lambda t: torch.meshgrid(t, indexing="xy"), [a], {"indexing": "xy"}, case="one")
    mixed = [View(base("mixa", (2, 3), "f16")), View(base("mixb", (2, 3), "f32"), name="y")]
    r.add("cat", lambda x, y: torch.cat([x, y], 0), mixed, {"dim": 0}, case="promote")
    return r
