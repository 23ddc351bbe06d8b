"""scaledDotProductAttention in all its forms, rope in both pairings, and rope after the norm of every head."""

import math

import torch
from torch.nn import functional as F

from .rows import FLOATS, Rows, View, base

SHAPE = {"b": 2, "n": 4, "l": 7, "s": 9, "k": 8}


def attention(q, k, v, mask=None, lengths=None, causal=False, scale=None):
    """softmax(scale q kT + mask) v with grouped heads; keys from lengths[b] on are ignored; causal is aligned to the top left."""
    groups = q.shape[1] // k.shape[1]
    if lengths is not None:
        keep = torch.arange(k.shape[2])[None, None, None] < lengths.long()[:, None, None, None]
        bias = torch.zeros(q.shape[0], 1, 1, k.shape[2], dtype=q.dtype).masked_fill(~keep, -math.inf)
        mask = bias if mask is None else (bias + mask if mask.is_floating_point() else bias.masked_fill(~mask.bool(), -math.inf))
    if causal and mask is not None:
        mask = mask.to(q.dtype) + torch.zeros(q.shape[2], k.shape[2], dtype=q.dtype).masked_fill(~torch.ones(q.shape[2], k.shape[2]).tril().bool(), -math.inf)
        causal = False
    if mask is not None:
        mask = mask.to(q.dtype) if mask.is_floating_point() else mask.bool()
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale, enable_gqa=groups > 1)


def operand(name: str, shape: tuple, dtype: str, kind: str = "contiguous") -> View:
    """Heads as projections leave them (transposed), as slices of a fused qkv (slice), or plain."""
    b, n, l, k = shape
    if kind == "transposed":
        return View(base(name, (b, l, n, k), dtype, -2, 2), "transposed", {"permute": [0, 2, 1, 3]}, name)
    if kind == "slice":
        return View(base(name, (b, n, l, 3 * k), dtype, -2, 2), "slice", {"narrow": [3, k, k]}, name)
    if kind == "broadcast":
        return View(base(name, (1, n, l, k), dtype, -2, 2), "broadcast", {"expand": list(shape)}, name)
    return View(base(name, shape, dtype, -2, 2), name=name)


def qkv(dtype: str, b=2, n=4, m=4, l=7, s=9, k=8, e=None, kind="contiguous") -> list:
    return [operand("q", (b, n, l, k), dtype, kind), operand("k", (b, m, s, k), dtype, kind), operand("v", (b, m, s, e or k), dtype, kind)]


def call(**options):
    """A torch call whose inputs after q, k, v are the mask or the lengths, by `takes`."""
    takes = options.pop("takes", None)

    def run(q, k, v, *rest):
        named = dict(zip(takes or [], rest))
        return attention(q, k, v, **named, **options)

    return run


def masks(dtype: str) -> list:
    g = torch.Generator().manual_seed(5)
    keep = (torch.rand(2, 4, 7, 9, generator=g) > 0.4).to(torch.uint8)
    keep[..., 0] = 1
    return [
        ("bool", View(keep, name="mask")),
        ("bool-broadcast", View(keep[:, :1, :1].contiguous(), name="mask")),
        ("bool-expanded", View(keep[:, :1].contiguous(), "broadcast", {"expand": [2, 4, 7, 9]}, "mask")),
        ("additive", View(base("mask", (2, 4, 7, 9), dtype, -2, 2), name="mask")),
        ("additive-broadcast", View(base("mask", (1, 4, 7, 9), dtype, -2, 2), name="mask")),
        ("additive-infinite", View(torch.where(keep.bool(), 0.0, -math.inf).to(base("m", (1,), dtype).dtype)[:, :1].contiguous(), name="mask")),
    ]


def attentions(rows: Rows) -> None:
    op = "scaledDotProductAttention"
    for dtype in FLOATS:
        checked = dtype == "f32"
        scale = {"scale 1": call(scale=1.0), "causal": call(causal=True)} if checked else None
        for kind in ("contiguous", "transposed", "slice", "broadcast"):
            rows.add(op, call(), qkv(dtype, kind=kind), {}, "attention", case="none", wrong=scale)
        for case, mask in masks(dtype):
            wrong = {"mask ignored": lambda q, k, v, m: attention(q, k, v)} if checked else None
            rows.add(op, call(takes=["mask"]), [*qkv(dtype), mask], {}, "attention", case=case, wrong=wrong)
        for l, s in ((7, 7), (7, 9), (9, 7)):
            wrong = {"aligned to the bottom right": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.ones(q.shape[2], k.shape[2]).tril(k.shape[2] - q.shape[2]).bool())} if checked and s > l else None
            rows.add(op, call(causal=True), qkv(dtype, l=l, s=s), {"causal": True}, "attention", case=f"causal-{l}x{s}", wrong=wrong)
        for m in (1, 2):
            wrong = {"heads interleaved": lambda q, k, v, m=m: attention(q, k.repeat(1, 4 // m, 1, 1), v.repeat(1, 4 // m, 1, 1))} if checked and m == 2 else None
            rows.add(op, call(), qkv(dtype, m=m), {}, "attention", case=f"grouped-{m}", wrong=wrong)
        rows.add(op, call(causal=True), qkv(dtype, m=2, l=7, s=7, kind="transposed"), {"causal": True}, "attention", case="grouped-causal")
        lengths = View(torch.tensor([4, 9], dtype=torch.int32), name="lengths")
        rows.add(op, call(takes=["lengths"]), [*qkv(dtype), lengths], {}, "attention", case="lengths", wrong={"lengths ignored": lambda q, k, v, n: attention(q, k, v)} if checked else None)
        mask = masks(dtype)[3][1]
        rows.add(op, call(takes=["mask", "lengths"]), [*qkv(dtype), mask, lengths], {}, "attention", case="mask-lengths")
        rows.add(op, call(takes=["mask"], causal=True), [*qkv(dtype, s=7), View(base("cm", (1, 1, 7, 7), dtype, -2, 2), name="mask")], {"causal": True}, "attention", case="mask-causal")
        rows.add(op, call(scale=0.3), qkv(dtype), {"scale": 0.3}, "attention", case="scale")
        rows.add(op, call(scale=1.0), qkv(dtype), {"scale": 1}, "attention", case="scale-1")
        for shape in (dict(l=1, s=1), dict(l=33, s=65, k=16), dict(b=1, n=1, m=1, l=70, s=131, k=64), dict(k=128, n=2, m=2, l=5, s=6), dict(k=5, e=3), dict(l=0), dict(b=0), dict(b=1, n=1, m=1, l=3, s=4, k=512)):
            rows.add(op, call(), qkv(dtype, **shape), {}, "attention", case="-".join(f"{k}{v}" for k, v in shape.items()))
    closed = torch.ones(2, 4, 7, 9, dtype=torch.uint8)
    closed[0, 1, 2] = 0
    rows.add(op, call(takes=["mask"]), [*qkv("f32"), View(closed, name="mask")], {}, "attention", case="row-without-keys")
    rows.add(op, call(takes=["lengths"]), [*qkv("f32"), View(torch.tensor([0, 3], dtype=torch.int32), name="lengths")], {}, "attention", case="length-0")
    q, k, v = qkv("f32")
    hot = View(q.base * 60, name="q")
    rows.add(op, call(), [hot, k, v], {}, "attention", case="large-scores")


def rotate(x, cos, sin, interleaved: bool):
    if interleaved:
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def ropes(rows: Rows) -> None:
    position = torch.arange(7, dtype=torch.float64)[:, None] * (10000.0 ** (-torch.arange(4, dtype=torch.float64) / 4))
    cos, sin = View(position.cos().float(), name="cos"), View(position.sin().float(), name="sin")
    batched = torch.stack([position, position + 3])[:, None]
    bcos, bsin = View(batched.cos().float(), name="cos"), View(batched.sin().float(), name="sin")
    for dtype in FLOATS:
        for interleaved in (True, False):
            for kind in ("contiguous", "transposed", "slice", "broadcast"):
                x = operand("x", (2, 3, 7, 8), dtype, kind)
                for case, c, s in (("shared", cos, sin), ("per-sample", bcos, bsin)):
                    run = lambda x, c, s, i=interleaved: rotate(x.double(), c.double(), s.double(), i).to(x.dtype)  # noqa: E731
                    wrong = {"other pairing": lambda x, c, s, i=interleaved: rotate(x, c, s, not i), "other direction": lambda x, c, s, i=interleaved: rotate(x, c, -s, i)} if dtype == "f32" else None
                    rows.add("rope", run, [x, c, s], {"interleaved": interleaved}, "pointwise", case=("interleaved-" if interleaved else "half-") + case, wrong=wrong)
            rows.add("rope", lambda x, c, s, i=interleaved: rotate(x.double(), c.double(), s.double(), i).to(x.dtype), [operand("x", (0, 3, 7, 8), dtype), cos, sin], {"interleaved": interleaved}, "pointwise", case="empty")


def norm_rope(x, weight, cos, sin, heads: int, eps: float, interleaved: bool):
    """RMS norm of every head in f64, rounded to x's dtype, then rope: x [b, l, n k] -> [b, n, l, k]."""
    y = x.double().unflatten(-1, (heads, -1)).transpose(1, 2)
    y = y / (y.square().mean(-1, keepdim=True) + eps).sqrt()
    y = (y if weight is None else y * weight.double()).to(x.dtype)
    return rotate(y.double(), cos.double(), sin.double(), interleaved).to(x.dtype)


def norm_ropes(rows: Rows) -> None:
    def angles(l: int, half: int, batch: int = 1) -> tuple:
        position = (torch.arange(l, dtype=torch.float64)[:, None] + 3 * torch.arange(batch, dtype=torch.float64)[:, None, None])[:, None]
        angle = position * 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        return View(angle.cos().float(), name="cos"), View(angle.sin().float(), name="sin")

    def add(case: str, dtype: str, heads: int, k: int, l: int, interleaved: bool, kind="contiguous", weight: str | None = None, second: int = 0, batch=2, table=1):
        width = heads * k
        x = View(base("x", (batch, l, 3 * width), dtype, -1, 1), "slice", {"narrow": [2, width, width]}) if kind == "slice" else View(base("x", (batch, l, width), dtype, -1, 1))
        cos, sin = angles(l + second, k // 2, table)
        inputs = [x, *([View(base("w", (k,), weight, 0.5, 1.5), name="weight")] if weight else [])]
        if second:
            inputs += [View(base("y", (batch, second, width), dtype, -1, 1), name="second"), View(base("v", (k,), weight, 0.5, 1.5), name="secondWeight")]

        def run(*t, eps=1e-3, n=heads, i=interleaved, swapped=False, negative=False):
            (c, s), t = t[-2:], t[:-2]
            s = -s if negative else s
            if not second:
                return norm_rope(t[0], t[1] if weight else None, c, s, n, eps, i)
            weights = (t[3], t[1]) if swapped else (t[1], t[3])
            parts = [norm_rope(part, w, c[:, :, a:b], s[:, :, a:b], n, eps, i) for part, w, a, b in ((t[0], weights[0], 0, l), (t[2], weights[1], l, l + second))]
            return torch.cat(parts, 2)

        wrong = None
        if dtype == "f32" and batch * l:
            wrong = {"eps": lambda *t: run(*t, eps=1e-2), "other pairing": lambda *t: run(*t, i=not interleaved), "other direction": lambda *t: run(*t, negative=True)}
            if second:
                wrong["weights swapped"] = lambda *t: run(*t, swapped=True)
        rows.add("qkNormRope", run, [*inputs, cos, sin], {"heads": heads, "eps": 1e-3, "interleaved": interleaved}, "attention", case=f"{case}-{'interleaved' if interleaved else 'half'}", wrong=wrong)

    for dtype in FLOATS:
        for interleaved in (True, False):
            add("qkv", dtype, 3, 16, 5, interleaved, kind="slice", weight="bf16")
            add("streams", dtype, 2, 24, 4, interleaved, weight=dtype, second=3, table=2)
            add("wide", dtype, 2, 128, 9, interleaved, kind="slice", weight="f32", batch=1)
        add("plain", dtype, 2, 8, 3, True)
        add("narrow", dtype, 2, 6, 3, False, kind="slice", weight="f32")
    add("empty", "f32", 2, 16, 0, True)


def rows() -> Rows:
    r = Rows("attention")
    attentions(r)
    ropes(r)
    norm_ropes(r)
    return r
