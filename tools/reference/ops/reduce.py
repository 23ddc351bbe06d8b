"""Reductions over any dimensions, running sums, the index of an extreme."""

import torch

from .rows import FLOATS, INTS, Rows, View, base, special, views

DIMS = [None, -1, 0, 1, [0, 2], [0, 1, 2]]


def over(fn, dims, keepdim, rank):
    """Calls `fn(x, dim=list, keepdim=...)`; None means all dimensions."""
    axes = list(range(rank)) if dims is None else dims
    return lambda x: fn(x, dim=axes, keepdim=keepdim)


def prod(x, dim, keepdim):
    for d in sorted([dim] if isinstance(dim, int) else dim, key=lambda d: d % x.dim(), reverse=True):
        x = x.prod(d % x.dim(), keepdim=keepdim)
    return x


def boolean(fn):
    return lambda x, dim, keepdim: fn(x.bool(), dim=tuple([dim] if isinstance(dim, int) else dim), keepdim=keepdim)


KINDS = {
    "sum": torch.sum,
    "mean": torch.mean,
    "prod": prod,
    "max": torch.amax,
    "min": torch.amin,
    "var": lambda x, dim, keepdim: torch.var(x, dim=dim, keepdim=keepdim),
    "std": lambda x, dim, keepdim: torch.std(x, dim=dim, keepdim=keepdim),
    "logSumExp": torch.logsumexp,
    "norm": lambda x, dim, keepdim: torch.linalg.vector_norm(x, dim=dim, keepdim=keepdim),
    "any": boolean(torch.any),
    "all": boolean(torch.all),
}
EXACT = {"max", "min", "any", "all"}
FOR_INTS = ["sum", "prod", "max", "min", "any", "all"]


def all_kinds(rows: Rows) -> None:
    for kind, fn in KINDS.items():
        for dtype in FLOATS + INTS:
            if dtype in INTS and kind not in FOR_INTS:
                continue
            low, high = (0.5, 1.4) if kind == "prod" and dtype in FLOATS else (0, 1) if kind in ("any", "all") else (1, 2) if kind == "prod" else (-3, 3)
            tolerance = "exact" if kind in EXACT or dtype in INTS else "accumulate"
            out = [torch_out(kind, dtype)]
            for view in views(kind, dtype, low, high)[:4]:
                if kind in ("any", "all"):
                    view = View(view.base.double().round().to(view.base.dtype) if dtype in FLOATS else view.base, view.kind, view.args)
                for dims in DIMS:
                    keepdim = dims in (1, [0, 2])
                    rows.add(kind, over(fn, dims, keepdim, 3), [view], arguments(dims, keepdim), tolerance, out=out)
            empty(rows, kind, fn, dtype, out)


def torch_out(kind: str, dtype: str) -> str:
    """Sums of integers are i32 with us (torch widens to i64)."""
    if kind in ("any", "all"):
        return "u8"
    return "i32" if dtype in INTS and kind in ("sum", "prod") else dtype


def arguments(dims, keepdim: bool) -> dict:
    return ({} if dims is None else {"dims": dims}) | ({"keepdim": True} if keepdim else {})


def empty(rows: Rows, kind: str, fn, dtype: str, out: list) -> None:
    """Over nothing: the identity; over something with an empty rest: nothing."""
    x = View(base("emptyr", (3, 0), dtype))
    tolerance = "exact" if kind in EXACT or dtype in INTS else "special"
    if kind not in ("max", "min"):
        rows.add(kind, over(fn, 1, False, 2), [x], {"dims": 1}, tolerance, out=out, case="identity")
    rows.add(kind, over(fn, 0, False, 2), [x], {"dims": 0}, tolerance, out=out, case="empty")
    if kind not in ("any", "all"):
        rows.add(kind, over(fn, 0, False, 1), [View(base("single", (1,), dtype, 1, 3))], {"dims": 0}, tolerance, out=out, case="single")


def details(rows: Rows) -> None:
    x = views("details", "f32")[0]
    rows.add("var", lambda t: t.var(1, correction=0), [x], {"dims": 1, "correction": 0}, "accumulate", wrong={"correction 1": lambda t: t.var(1)})
    rows.add("std", lambda t: t.std((0, 2), correction=0), [x], {"dims": [0, 2], "correction": 0}, "accumulate", wrong={"correction 1": lambda t: t.std((0, 2))})
    offset = View(base("offset", (5, 301), "f32", 999, 1001))
    rows.add("var", lambda t: t.var(1), [offset], {"dims": 1}, "largeMean", case="large-mean")
    for p in (1, 3, 0.5, 0, float("inf"), float("-inf")):
        name = {float("inf"): "Infinity", float("-inf"): "-Infinity"}.get(p, p)
        rows.add("norm", lambda t, p=p: torch.linalg.vector_norm(t, p, 1), [x], {"dims": 1, "p": name}, "accumulate", case=f"p{name}")
    large = View(torch.tensor([[1000.0, 1000.5, -3.0], [-1000.0, -1001.0, -1000.25], [float("-inf"), 1.0, 2.0], [float("-inf")] * 3, [float("inf"), 0.0, 1.0]]))
    rows.add("logSumExp", lambda t: t.logsumexp(1), [large], {"dims": 1}, "special", case="stable")
    s = special("f32")
    grid = View(torch.stack([s.roll(1), torch.linspace(-1, 1.5, len(s)), torch.cat([s[1:3], s[5:].abs(), s[:0], torch.ones(len(s) - 2 - len(s[5:]))])]))
    for kind in ("sum", "mean", "max", "min", "prod", "norm", "var"):
        rows.add(kind, over(KINDS[kind], -1, False, 2), [grid], {"dims": -1}, "exact" if kind in EXACT else "special", case="special")
    for dtype in FLOATS:
        for shape, dims in (((3, 20011), 1), ((20011, 3), 0), ((70001,), None)):
            big = View(base("big", shape, dtype, -1, 1.5))
            for kind in ("sum", "mean", "max", "norm", "logSumExp"):
                rows.add(kind, over(KINDS[kind], dims, False, len(shape)), [big], arguments(dims, False), "exact" if kind == "max" else "accumulate", case="large")
    rows.add("sum", lambda t: t.sum(), [View(base("scalarsum", (), "f32"))], {}, "accumulate", case="scalar")


def positions(rows: Rows) -> None:
    """argmax and argmin: the first of equals, NaN wins."""
    for op, fn in (("argmax", torch.argmax), ("argmin", torch.argmin)):
        for dtype in FLOATS + INTS:
            for view in views(op, dtype, -3, 3)[:4]:
                for dim in (None, -1, 0, 1):
                    first = first_extreme(fn)
                    rows.add(op, lambda x, d=dim, k=dim == 1, f=first: f(x, d, k), [view], ({} if dim is None else {"dim": dim}) | ({"keepdim": True} if dim == 1 else {}), out=["i32"])
        ties = View(torch.tensor([[1.0, 3.0, 3.0, 1.0], [2.0, 2.0, 2.0, 2.0], [0.0, float("nan"), 9.0, float("nan")], [float("-inf"), 1.0, float("inf"), float("inf")]]))
        rows.add(op, lambda x, f=first_extreme(fn): f(x, 1, False), [ties], {"dim": 1}, case="ties")
        big = View(base("bigarg", (3, 20011), "f32"))
        rows.add(op, lambda x, f=first_extreme(fn): f(x, 1, False), [big], {"dim": 1}, case="large")


def first_extreme(fn):
    """torch's value, checked to be the first of equals by comparing with the value at the position."""

    def call(x, dim, keepdim):
        flat, d = (x.reshape(-1), 0) if dim is None else (x, dim)
        at = fn(flat, d, keepdim=True)
        hit = flat.gather(d, at)
        same = (flat == hit) | (flat.isnan() & hit.isnan())
        first = same.to(torch.int64).argmax(d, keepdim=True)
        first = torch.minimum(first, at)
        return first if keepdim and dim is not None else first.squeeze(d)

    return call


def running(rows: Rows) -> None:
    for op, fn in (("cumsum", torch.cumsum), ("cumprod", torch.cumprod)):
        for dtype in FLOATS + INTS:
            low, high = ((0.6, 1.5) if dtype in FLOATS else (1, 2)) if op == "cumprod" else (-2, 3)
            for view in views(op, dtype, low, high)[:4]:
                for dim in (0, 1, -1):
                    rows.add(op, lambda x, d=dim, f=fn: f(x, d), [view], {"dim": dim}, "accumulate" if dtype in FLOATS else "exact", out=["i32" if dtype in INTS else dtype])
        rows.add(op, lambda x, f=fn: f(x, 1), [View(base("cumempty", (3, 0), "f32"))], {"dim": 1}, case="empty")
        rows.add(op, lambda x, f=fn: f(x, 0), [View(special("f32").roll(-3))], {"dim": 0}, "special", case="special")
    rows.add("cumsum", lambda x: x.cumsum(1), [View(base("bigcum", (2, 5003), "f32", 0, 1))], {"dim": 1}, "accumulate", case="large")


def rows() -> Rows:
    r = Rows("reduce")
    all_kinds(r)
    details(r)
    positions(r)
    running(r)
    return r
