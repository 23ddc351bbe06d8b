"""gather, scatter, scatterAdd, indexSelect, indexAdd, embedding, argsort, sort, topk."""

import torch
from torch.nn import functional as F

from weights import integers

from .rows import FLOATS, INTS, Rows, View, base, special, views


def indices(name: str, high: int, *shape: int) -> View:
    return View(integers("ops/index/" + name, 0, high, *shape).int(), name="index")


def elements(rows: Rows) -> None:
    for dtype in FLOATS + INTS:
        for x in views("gather", dtype)[:4]:
            for dim, shape in ((0, (4, 5, 7)), (1, (3, 9, 7)), (-1, (2, 4, 6))):
                index = indices(f"g{dim}", x.tensor().shape[dim], *shape)
                rows.add("gather", lambda x, i, d=dim: x.gather(d, i.long()), [x, index], {"dim": dim})
            wide = View(integers("ops/index/gt", 0, 5, 7, 2, 3).int(), "transposed", {"permute": [2, 1, 0]}, "index")
            rows.add("gather", lambda x, i: x.gather(1, i.long()), [x, wide], {"dim": 1}, case="index-transposed")
            unique = torch.stack([torch.randperm(5, generator=torch.Generator().manual_seed(i)) for i in range(21)]).reshape(3, 7, 5).transpose(1, 2)[:, :4].contiguous().int()
            src = View(base("scattersrc", (3, 4, 7), dtype), name="src")
            rows.add("scatter", lambda x, i, s: x.clone().scatter(1, i.long(), s), [x, View(unique, name="index"), src], {"dim": 1})
            tolerance = "accumulate" if dtype in FLOATS else "exact"
            for dim, shape in ((0, (4, 5, 7)), (2, (3, 5, 9))):
                adds = View(base(f"sa{dim}", shape, dtype), name="src")
                index = indices(f"s{dim}", (3, 5, 7)[dim], *shape)
                rows.add("scatterAdd", lambda x, i, s, d=dim: x.clone().scatter_add(d, i.long(), s), [x, index, adds], {"dim": dim}, tolerance)
        none = View(torch.zeros((3, 0), dtype=torch.int32), name="index")
        x = View(base("none", (3, 4), dtype))
        rows.add("gather", lambda x, i: x.gather(1, i.long()), [x, none], {"dim": 1}, case="empty")
        rows.add("scatter", lambda x, i, s: x.clone().scatter(1, i.long(), s), [x, none, View(base("none2", (3, 0), dtype), name="src")], {"dim": 1}, case="empty")


def slices(rows: Rows) -> None:
    for dtype in FLOATS + INTS:
        for x in views("select", dtype)[:4]:
            for dim in (0, 1, -1):
                n = x.tensor().shape[dim]
                index = indices(f"i{dim}", n, 6)
                rows.add("indexSelect", lambda x, i, d=dim: x.index_select(d, i.long()), [x, index], {"dim": dim})
                shape = list(x.tensor().shape)
                shape[dim] = 6
                src = View(base("addsrc", tuple(shape), dtype), name="src")
                rows.add("indexAdd", lambda x, i, s, d=dim: x.clone().index_add(d, i.long(), s), [x, index, src], {"dim": dim}, "accumulate" if dtype in FLOATS else "exact")
        empty = View(torch.zeros((0,), dtype=torch.int32), name="index")
        rows.add("indexSelect", lambda x, i: x.index_select(0, i.long()), [View(base("sel", (3, 4), dtype)), empty], {"dim": 0}, case="empty")
    unsigned = View(torch.tensor([2, 0, 2]).to(torch.uint32), name="index")
    rows.add("indexSelect", lambda x, i: x.index_select(0, i.long()), [View(base("sel", (3, 4), "f32")), unsigned], {"dim": 0}, case="u32")
    for dtype in FLOATS:
        table = View(base("table", (11, 6), dtype), name="table")
        for shape in ((4,), (2, 3), (), (0,), (2, 0)):
            ids = indices("ids", 11, *shape).named("ids")
            rows.add("embedding", lambda t, i: F.embedding(i.long(), t), [table, ids], case="x".join(map(str, shape)) or "scalar")
        part = View(base("tablewide", (11, 9), dtype), "slice", {"narrow": [1, 2, 6]}, "table")
        rows.add("embedding", lambda t, i: F.embedding(i.long(), t), [part, indices("ids", 11, 4).named("ids")])


def order(rows: Rows) -> None:
    for dtype in FLOATS + INTS:
        for x in views("sort", dtype, -5 if dtype != "f32" else -3, 5)[:4]:
            for dim in (-1, 0, 1):
                for descending in (False, True):
                    args = {"dim": dim, "descending": descending}
                    rows.add("argsort", lambda x, d=dim, r=descending: x.argsort(dim=d, descending=r, stable=True), [x], args, out=["i32"])
                    rows.add("sort", lambda x, d=dim, r=descending: x.sort(dim=d, descending=r, stable=True), [x], args, out=[dtype, "i32"])
    s = View(torch.cat([special("f32"), special("f32").flip(0)]))
    for descending in (False, True):
        args = {"dim": 0, "descending": descending}
        rows.add("sort", lambda x, r=descending: x.sort(dim=0, descending=r, stable=True), [s], args, out=["f32", "i32"], case="special")
    for shape in ((1000,), (3, 257), (2, 64), (1,), (3, 0)):
        x = View((base("longsort", shape, "f32") * 8).round() / 8)
        rows.add("argsort", lambda x: x.argsort(dim=-1, stable=True), [x], {"dim": -1, "descending": False}, out=["i32"], case="x".join(map(str, shape)))
    distinct = View(torch.randperm(60, generator=torch.Generator().manual_seed(3)).reshape(3, 20).float() / 7)
    rows.add("topk", lambda x: tuple(x.topk(4, -1)), [distinct], {"k": 4, "dim": -1}, out=["f32", "i32"])
    rows.add("topk", lambda x: tuple(x.topk(2, 0)), [distinct], {"k": 2, "dim": 0}, out=["f32", "i32"], case="first")


def rows() -> Rows:
    r = Rows("index")
    elements(r)
    slices(r)
    order(r)
    return r
