"""softmax, logSoftmax, layerNorm, rmsNorm, groupNorm; rows of small values make the epsilons show."""

import torch
from torch.nn import functional as F

from .rows import FLOATS, Rows, View, base, views


def softmaxes(rows: Rows) -> None:
    for op, fn in (("softmax", F.softmax), ("logSoftmax", F.log_softmax)):
        for dtype in FLOATS:
            for x in views(op, dtype, -5, 5)[:4]:
                for dim in (-1, 0, 1):
                    rows.add(op, lambda x, d=dim, f=fn: f(x, dim=d), [x], {"dim": dim}, "accumulate")
            for shape in ((0, 4), (3, 0), (3, 1)):
                rows.add(op, lambda x, f=fn: f(x, dim=-1), [View(base(op, shape, dtype))], {"dim": -1}, "accumulate", case="x".join(map(str, shape)))
            rows.add(op, lambda x, f=fn: f(x, dim=-1), [View(base(op + "long", (3, 4099), dtype, -8, 8))], {"dim": -1}, "accumulate", case="large")
        inf, nan = float("inf"), float("nan")
        hard = torch.tensor([[1e4, 1e4 - 1, -1e4], [-inf, 0, 1], [-inf, -inf, -inf], [inf, 0, 1], [nan, 0, 1], [88, 89, -200], [3e38, -3e38, 0]])
        rows.add(op, lambda x, f=fn: f(x, dim=-1), [View(hard)], {"dim": -1}, "special", case="special")


def layer(x, *wb, eps=1e-6):
    return F.layer_norm(x, x.shape[-1:], *wb, eps=eps)


def rms(x, *w, eps=1e-6):
    return F.rms_norm(x, x.shape[-1:], *w, eps=eps)


def row_norms(rows: Rows) -> None:
    for dtype in FLOATS:
        for op, fn, affine in (("layerNorm", layer, 2), ("rmsNorm", rms, 1)):
            for i, x in enumerate(views(op, dtype, -2, 3)[:4]):
                small = View((x.base.double() * 2e-3).to(x.base.dtype), x.kind, x.args)
                extra = [View(base("normw", (7,), dtype, 0.5, 1.5), name="weight"), View(base("normb", (7,), dtype, -0.5, 0.5), name="bias")][:affine]
                if x.kind != "broadcast" or op == "rmsNorm":
                    wrong = {"eps 1e-6 -> 1e-5": lambda *t, f=fn: f(*t, eps=1e-5)} if dtype == "f32" and x.kind != "broadcast" else None
                    rows.add(op, fn, [small], {"eps": 1e-6}, "accumulate", case="small", wrong=wrong)
                rows.add(op, fn, [x, *extra], {"eps": 1e-6}, "accumulate", case="affine")
                rows.add(op, lambda *t, f=fn: f(*t, eps=1e-5), [x, extra[0]], {"eps": 1e-5}, "accumulate", case="weight")
            for shape in ((0, 8), (3, 1), (2, 3, 3072), (5, 130)):
                rows.add(op, fn, [View(base(op, shape, dtype, -1, 2))], {"eps": 1e-6}, "accumulate", case="x".join(map(str, shape)))
        big = View(base("bigmean", (3, 64), dtype, 99, 101))
        rows.add("layerNorm", layer, [big], {"eps": 1e-6}, "largeMean" if dtype == "f32" else "accumulate", case="large-mean")
    mixed = [View(base("mixed", (3, 8), "f16")), View(base("mixedw", (8,), "f32", 0.5, 1.5), name="weight")]
    rows.add("rmsNorm", lambda x, w: (F.rms_norm(x.double(), (8,), eps=1e-6) * w.double()).to(x.dtype), mixed, {"eps": 1e-6}, "accumulate", case="f32-weight")


def group_norms(rows: Rows) -> None:
    for dtype in FLOATS:
        w, b = View(base("gw", (6,), dtype, 0.5, 1.5), name="weight"), View(base("gb", (6,), dtype, -0.5, 0.5), name="bias")
        sources = [
            View(base("g", (2, 6, 5, 3), dtype)),
            View(base("g", (2, 5, 3, 6), dtype), "transposed", {"permute": [0, 3, 1, 2]}),
            View(base("g", (2, 9, 5, 3), dtype), "slice", {"narrow": [1, 2, 6]}),
            View(base("g", (1, 6, 5, 3), dtype), "broadcast", {"expand": [2, 6, 5, 3]}),
        ]
        for x in sources:
            for groups in (1, 2, 3, 6):
                wrong = {"other groups": lambda x, w, b, g=groups: F.group_norm(x, 6 // g if g not in (2, 3) else 5 - g, w, b, 1e-6)} if dtype == "f32" else None
                rows.add("groupNorm", lambda x, w, b, g=groups: F.group_norm(x, g, w, b, 1e-6), [x, w, b], {"groups": groups, "eps": 1e-6}, "accumulate", wrong=wrong)
        small = View((sources[0].base.double() * 2e-3).to(sources[0].base.dtype))
        wrong = {"eps 1e-6 -> 1e-5": lambda x: F.group_norm(x, 2, eps=1e-5)} if dtype == "f32" else None
        rows.add("groupNorm", lambda x: F.group_norm(x, 2, eps=1e-6), [small], {"groups": 2, "eps": 1e-6}, "accumulate", case="small", wrong=wrong)
        rows.add("groupNorm", lambda x: F.group_norm(x, 2, eps=1e-5), [View(base("g3", (3, 4), dtype))], {"groups": 2, "eps": 1e-5}, "accumulate", case="2d")
        rows.add("groupNorm", lambda x: F.group_norm(x, 2, eps=1e-5), [View(base("g1", (2, 4, 9), dtype))], {"groups": 2, "eps": 1e-5}, "accumulate", case="1d")
        rows.add("groupNorm", lambda x: F.group_norm(x, 4, eps=1e-6), [View(base("glarge", (1, 8, 67, 61), dtype, -1, 3))], {"groups": 4, "eps": 1e-6}, "accumulate", case="large")


def rows() -> Rows:
    r = Rows("norm")
    softmaxes(r)
    row_norms(r)
    group_norms(r)
    return r
