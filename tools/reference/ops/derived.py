"""einsum, isClose, maskedFill, normalize, nanToNum, oneHot, atan2: ops that have no kernel of their own, or only as one of a family."""

import torch
from torch.nn import functional as F

from .rows import FLOATS, INTS, Rows, View, base, special, views

EQUATIONS = {
    "bld,bmd->blm": [(2, 3, 5), (2, 4, 5)],
    "bnlk,bmnk->bnlm": [(2, 3, 4, 5), (2, 6, 3, 5)],
    "ij,jk,kl->il": [(3, 4), (4, 5), (5, 2)],
    "ij->ji": [(3, 5)],
    "ijk->j": [(2, 3, 4)],
    "i,j->ij": [(3,), (4,)],
    "i,i->": [(7,), (7,)],
    "bij,bij->b": [(2, 3, 4), (2, 3, 4)],
    "abc,d->db": [(2, 3, 4), (5,)],
    "bhwc,oc->bohw": [(2, 3, 2, 5), (4, 5)],
    "...ij,...jk->...ik": [(2, 3, 4, 5), (2, 3, 5, 2)],
    "...d,d->...": [(2, 3, 5), (5,)],
    "b...,...->b": [(2, 3, 4), (3, 4)],
}


def einsums(rows: Rows) -> None:
    for dtype in FLOATS:
        # Permutations and a product: narrow floats differ in the product alone, which has rows of its own.
        for equation, shapes in list(EQUATIONS.items())[: None if dtype == "f32" else 2]:
            inputs = [View(base(f"ein{equation}{i}", s, dtype), name=f"x{i}") for i, s in enumerate(shapes)]
            rows.add("einsum", lambda *t, e=equation: torch.einsum(e, *t), inputs, {"equation": equation}, "accumulate", case=equation.replace(",", "_").replace("->", "_"))
    wide = View(base("einwide", (5, 4, 3), "f32"), "transposed", {"permute": [2, 1, 0]}, "x0")
    other = View(base("einother", (5, 4), "f32"), name="x1")
    swapped = {"summed over the other letter": lambda x, y: torch.einsum("abc,cb->ac", x, y)}
    rows.add("einsum", lambda x, y: torch.einsum("abc,cb->ab", x, y), [wide, other], {"equation": "abc,cb->ab"}, "accumulate", case="transposed", wrong=swapped)


def fills(rows: Rows) -> None:
    for dtype in FLOATS + INTS:
        for x in views("mfill", dtype)[:3]:
            mask = View((torch.arange(x.tensor().shape[-1]) % 3 == 0).to(torch.uint8), name="mask")
            rows.add("maskedFill", lambda t, m: t.masked_fill(m.bool(), 3), [x, mask], {"value": 3})
    row = View(base("mfillinf", (4, 6), "f32"))
    mask = View(torch.tensor([[1], [0], [0], [1]], dtype=torch.uint8), name="mask")
    rows.add("maskedFill", lambda t, m: t.masked_fill(m.bool(), float("-inf")), [row, mask], {"value": "-inf"}, case="minus-infinity")
    for dtype in FLOATS:
        rows.add("nanToNum", torch.nan_to_num, [View(special(dtype))], tolerance="exact", case="special")
        rows.add("nanToNum", lambda t: torch.nan_to_num(t, nan=1.5, posinf=2, neginf=-3), [View(special(dtype))], {"nan": 1.5, "posInf": 2, "negInf": -3}, "exact", case="given")
    rows.add("nanToNum", torch.nan_to_num, [View(base("ntn", (3, 4), "i32"))], tolerance="exact")


def norms(rows: Rows) -> None:
    for dtype in FLOATS:
        for x in (v for v in views("normalize", dtype) if v.tensor().dim() > 0):
            for dim in (-1, 0):
                wrong = {"another dimension": lambda t, d=dim: F.normalize(t, dim=0 if d else -1)} if x.kind == "slice" else None
                rows.add("normalize", lambda t, d=dim: F.normalize(t, dim=d), [x], {"dim": dim, "p": 2, "eps": 1e-12}, "accumulate", case=f"dim{dim}", wrong=wrong)
        rows.add("normalize", lambda t: F.normalize(t, p=1, dim=1), [View(base("norm1", (3, 5), dtype))], {"dim": 1, "p": 1, "eps": 1e-12}, "accumulate", case="p1")
    small = View(torch.tensor([[0.0, 0.0], [1e-3, 0.0], [3.0, 4.0]]))
    rows.add("normalize", lambda t: F.normalize(t, dim=1, eps=1e-2), [small], {"dim": 1, "p": 2, "eps": 1e-2}, "accumulate", case="eps", wrong={"1e-12": lambda t: F.normalize(t, dim=1)})


def closeness(rows: Rows) -> None:
    x = torch.tensor([[1.0, 1.00001, 1.0001, 0.0, 1e-9, 1e-7], [float("nan"), float("inf"), float("-inf"), float("inf"), 1.0, -2.0]])
    y = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0, 0.0], [float("nan"), float("inf"), float("inf"), 1.0, float("nan"), -2.00001]])
    for case, options, ours in (
        ("defaults", {}, {}),
        ("loose", {"rtol": 1e-3, "atol": 1e-6}, {"rtol": 1e-3, "atol": 1e-6}),
        ("exact", {"rtol": 0, "atol": 0}, {"rtol": 0, "atol": 0}),
        ("nan", {"equal_nan": True}, {"equalNan": True}),
    ):
        wrong = {"relative to the other": lambda a, b: torch.isclose(b * 1.001, a, **options)} if case == "defaults" else None
        rows.add("isClose", lambda a, b, o=options: torch.isclose(a, b, **o), [View(x), View(y, name="y")], ours, "exact", case=case, wrong=wrong, out=["u8"])
    for dtype in ("f16", "bf16"):
        a, b = base("close", (3, 8), dtype), base("close", (8,), dtype)
        rows.add("isClose", lambda a, b: torch.isclose(a.float(), b.float(), rtol=0.5), [View(a), View(b, name="y")], {"rtol": 0.5}, "exact", out=["u8"])
    whole = [View(base("closei", (4, 6), "i32")), View(base("closeother", (4, 6), "i32"), name="y")]
    rows.add("isClose", lambda a, b: torch.isclose(a, b, atol=3), whole, {"atol": 3}, "exact", out=["u8"])


def rows() -> Rows:
    r = Rows("derived")
    einsums(r)
    closeness(r)
    fills(r)
    norms(r)
    ids = View(torch.tensor([[0, 3], [2, 1], [3, 3]], dtype=torch.int32))
    r.add("oneHot", lambda t: F.one_hot(t.long(), 5), [ids], {"classes": 5}, out=["u8"])
    for dtype in FLOATS:
        for x in views("atan2", dtype)[:3]:
            other = View(base("atan2y", tuple(x.tensor().shape), dtype), name="y")
            r.add("atan2", torch.atan2, [x, other], tolerance="pointwise", wrong={"swapped": lambda a, b: torch.atan2(b, a)} if dtype == "f32" else None)
    return r
