"""Convolutions, their transposes, pooling, resampling."""

from torch.nn import functional as F

from .rows import FLOATS, Rows, View, base

CONV2D = [
    ((2, 4, 7, 9), (6, 4, 3, 3), {"padding": 1}),
    ((2, 4, 7, 9), (6, 4, 3, 3), {"stride": 2}),
    ((1, 4, 7, 9), (6, 2, 3, 3), {"groups": 2, "padding": [1, 0]}),
    ((1, 4, 9, 9), (4, 1, 3, 3), {"groups": 4, "dilation": 2, "padding": 2}),
    ((1, 3, 8, 11), (5, 3, 2, 4), {"stride": [2, 3], "padding": [1, 2], "dilation": [1, 2]}),
    ((2, 5, 6, 7), (3, 5, 1, 1), {}),
    ((1, 3, 5, 5), (2, 3, 5, 5), {}),
    ((1, 17, 13, 19), (33, 17, 3, 3), {"padding": 1}),
    ((0, 3, 5, 5), (2, 3, 3, 3), {}),
    # Channels of whole blocks of 16 and 32, as the autoencoder's, which kernels for matrix units treat apart.
    ((1, 32, 11, 16), (24, 32, 3, 3), {"padding": 1}),
    ((1, 32, 13, 24), (40, 32, 3, 3), {"stride": 2, "padding": 1}),
    ((2, 16, 12, 20), (17, 16, 3, 3), {"padding": [2, 1], "dilation": [2, 1]}),
]
TRANSPOSED = [
    ((2, 4, 5, 6), (4, 3, 3, 3), {"stride": 2, "padding": 1, "outputPadding": 1}),
    ((1, 4, 5, 6), (4, 3, 2, 2), {"stride": 2}),
    ((1, 4, 5, 6), (4, 3, 3, 3), {"groups": 2, "padding": 1}),
    ((1, 4, 5, 4), (4, 2, 3, 2), {"stride": [1, 3], "dilation": [2, 1], "padding": [2, 0], "outputPadding": [0, 2]}),
]
CONV1D = [
    ((2, 4, 11), (6, 4, 3), {"padding": 1}),
    ((2, 4, 11), (6, 2, 3), {"groups": 2, "stride": 2, "dilation": 2}),
    ((1, 3, 5), (2, 3, 5), {}),
]
TRANSPOSED1D = [((2, 4, 5), (4, 3, 3), {"stride": 2, "padding": 1, "outputPadding": 1}), ((1, 4, 5), (4, 2, 4), {"groups": 2, "dilation": 2})]


def torch_names(args: dict) -> dict:
    return {{"outputPadding": "output_padding"}.get(k, k): v for k, v in args.items()}


def layouts(name: str, shape: tuple, dtype: str) -> list:
    """Contiguous, channels-last in memory, a part along the last dimension, one image repeated."""
    *lead, last = shape
    order = [0, len(shape) - 1, *range(1, len(shape) - 1)]
    one = base(name, (1, *shape[1:]), dtype)
    return [
        View(base(name, shape, dtype)),
        View(base(name, (shape[0], *shape[2:], shape[1]), dtype), "transposed", {"permute": order}),
        View(base(name, (*lead, last + 3), dtype), "slice", {"narrow": [len(lead), 2, last]}),
        View(one, "broadcast", {"expand": list(shape)}),
    ]


def convolutions(rows: Rows) -> None:
    for op, fn, cases in (
        ("conv2d", F.conv2d, CONV2D),
        ("convTranspose2d", F.conv_transpose2d, TRANSPOSED),
        ("conv1d", F.conv1d, CONV1D),
        ("convTranspose1d", F.conv_transpose1d, TRANSPOSED1D),
    ):
        for dtype in FLOATS:
            for i, (xs, ws, args) in enumerate(cases):
                weight = View(base(op + "w", ws, dtype, -1, 1), name="weight")
                channels = ws[1] * args.get("groups", 1) if "Transpose" in op else ws[0]
                bias = View(base(op + "b", (channels,), dtype), name="bias")
                kw = torch_names(args)
                for x in layouts(op, xs, dtype)[: 4 if i == 0 else 1]:
                    rows.add(op, lambda x, w, b, kw=kw, f=fn: f(x, w, b, **kw), [x, weight, bias], args, "accumulate", case=f"bias-{i}")
                rows.add(op, lambda x, w, kw=kw, f=fn: f(x, w, **kw), [layouts(op, xs, dtype)[0], weight], args, "accumulate", case=str(i))


POOLS = [
    {"kernel": 2},
    {"kernel": 3, "stride": 2, "padding": 1},
    {"kernel": [2, 3], "stride": [1, 2], "padding": [0, 1]},
]


def pooling(rows: Rows) -> None:
    for dtype in FLOATS:
        for i, args in enumerate(POOLS):
            kw = {"stride": args.get("stride"), "padding": args.get("padding", 0)}
            for x in layouts("pool", (2, 3, 7, 9), dtype):
                rows.add("maxPool2d", lambda x, k=args["kernel"], kw=kw: F.max_pool2d(x, k, **kw), [x], args, case=str(i))
                rows.add("avgPool2d", lambda x, k=args["kernel"], kw=kw: F.avg_pool2d(x, k, **kw), [x], args, "accumulate", case=str(i))
            inner = lambda x, k=args["kernel"], kw=kw: F.avg_pool2d(x, k, count_include_pad=False, **kw)  # noqa: E731
            wrong = {"counts the padding": lambda x, k=args["kernel"], kw=kw: F.avg_pool2d(x, k, **kw)} if "padding" in args and dtype == "f32" else None
            rows.add("avgPool2d", inner, [layouts("pool", (2, 3, 7, 9), dtype)[0]], args | {"countPad": False}, "accumulate", case=f"{i}-inner", wrong=wrong)
    nan = base("poolnan", (1, 1, 5, 5), "f32")
    nan[0, 0, 2, 2], nan[0, 0, 4, 4] = float("nan"), float("-inf")
    rows.add("maxPool2d", lambda x: F.max_pool2d(x, 2, 1), [View(nan)], {"kernel": 2, "stride": 1}, case="special")


def resampling(rows: Rows) -> None:
    for dtype in FLOATS:
        for size in ([10, 14], [7, 3], [5, 7], [1, 1], [13, 9], [2, 29]):
            for x in layouts("resample", (2, 3, 5, 7), dtype):
                rows.add("interpolate", lambda x, s=size: F.interpolate(x, size=s, mode="nearest"), [x], {"size": size, "mode": "nearest"}, case="nearest")
                for align in (False, True):
                    call = lambda x, s=size, a=align: F.interpolate(x, size=s, mode="bilinear", align_corners=a)  # noqa: E731
                    other = {"alignCorners flipped": lambda x, s=size, a=align: F.interpolate(x, size=s, mode="bilinear", align_corners=not a)}
                    check = dtype == "f32" and x.kind == "contiguous" and size in ([10, 14], [13, 9])
                    rows.add("interpolate", call, [x], {"size": size, "mode": "bilinear", "alignCorners": align}, "accumulate", case="bilinear", wrong=other if check else None)
        one = View(base("one", (1, 2, 1, 1), dtype))
        rows.add("interpolate", lambda x: F.interpolate(x, size=[3, 2], mode="bilinear"), [one], {"size": [3, 2], "mode": "bilinear", "alignCorners": False}, "accumulate", case="from-one")


def resampling1d(rows: Rows) -> None:
    for dtype in FLOATS:
        for size in ([14], [4], [1]):
            for x in layouts("resample1d", (2, 3, 7), dtype)[:2]:
                rows.add("interpolate", lambda x, s=size: F.interpolate(x, size=s, mode="nearest"), [x], {"size": size, "mode": "nearest"}, case="nearest-1d")
                for align in (False, True):
                    call = lambda x, s=size, a=align: F.interpolate(x, size=s, mode="linear", align_corners=a)  # noqa: E731
                    rows.add("interpolate", call, [x], {"size": size, "mode": "linear", "alignCorners": align}, "accumulate", case="linear-1d")


def rows() -> Rows:
    r = Rows("conv")
    convolutions(r)
    pooling(r)
    resampling(r)
    resampling1d(r)
    return r
