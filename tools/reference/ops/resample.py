"""interpolate where it has no kernel of its own (bicubic, antialias), and gridSample."""

import torch
from torch.nn import functional as F

from .rows import FLOATS, Rows, View, base

SIZES = [[10, 14], [3, 4], [5, 7], [1, 1], [13, 2]]


def layouts(name: str, shape: tuple, dtype: str) -> list:
    b, c, h, w = shape
    return [
        View(base(name, shape, dtype)),
        View(base(name, (w, h, c, b), dtype), "transposed", {"permute": [3, 2, 1, 0]}),
        View(base(name, (b, 1, h, w), dtype), "broadcast", {"expand": list(shape)}),
        View(base(name, (b, c, h + 4, w), dtype), "slice", {"narrow": [2, 2, h]}),
    ]


def resampled(size: list, mode: str, align: bool, antialias: bool):
    def call(x: torch.Tensor) -> torch.Tensor:
        # torch's CPU kernels of antialiasing know f32 and f64 only.
        wide = x.float() if antialias and x.dtype in (torch.float16, torch.bfloat16) else x
        return F.interpolate(wide, size=size, mode=mode, align_corners=align, antialias=antialias).to(x.dtype)

    return call


def filters(rows: Rows) -> None:
    for dtype in FLOATS:
        for mode, antialias in (("bicubic", False), ("bicubic", True), ("bilinear", True)):
            for i, size in enumerate(SIZES if dtype == "f32" else SIZES[:2]):
                for align in (False, True):
                    for x in layouts("filtered", (2, 3, 5, 7), dtype)[: 4 if i < 2 and dtype == "f32" else 1]:
                        wrong = {}
                        if dtype == "f32" and x.kind == "contiguous" and i < 2:
                            wrong = {"alignCorners flipped": resampled(size, mode, not align, antialias)}
                            if i == 1:
                                wrong["antialias flipped"] = resampled(size, mode, align, not antialias)
                        args = {"size": size, "mode": mode, "alignCorners": align, "antialias": antialias}
                        case = f"{mode}{'-antialias' if antialias else ''}"
                        rows.add("interpolate", resampled(size, mode, align, antialias), [x], args, "accumulate", case=case, wrong=wrong)
    large = View(base("shrunk", (1, 2, 37, 50), "f32"))
    for size in ([5, 6], [37, 9], [80, 3]):
        args = {"size": size, "mode": "bicubic", "alignCorners": False, "antialias": True}
        rows.add("interpolate", resampled(size, "bicubic", False, True), [large], args, "accumulate", case="shrunk")
    hole = base("nan", (1, 1, 9, 9), "f32")
    hole[0, 0, 4, 4] = float("nan")
    args = {"size": [18, 18], "mode": "bicubic", "alignCorners": False, "antialias": False}
    rows.add("interpolate", resampled([18, 18], "bicubic", False, False), [View(hole)], args, "special", case="nan")


def grids(name: str, b: int, rows: int, columns: int, dtype: str, reach: float = 1.6) -> View:
    """Places inside and outside, none within rounding of where nearest changes its mind."""
    return View(base(name, (b, rows, columns, 2), dtype, -reach, reach), name="grid")


def sampling(rows: Rows) -> None:
    for dtype in FLOATS:
        for mode in ("bilinear", "nearest", "bicubic"):
            for padding in ("zeros", "border", "reflection"):
                for align in (False, True):
                    call = lambda x, g, m=mode, p=padding, a=align: F.grid_sample(x, g, mode=m, padding_mode=p, align_corners=a)  # noqa: E731
                    grid = grids("grid", 2, 3, 4, "f32" if dtype == "f32" else dtype)
                    wrong = {}
                    if dtype == "f32":
                        wrong["alignCorners flipped"] = lambda x, g, m=mode, p=padding, a=align: F.grid_sample(x, g, mode=m, padding_mode=p, align_corners=not a)
                        wrong["x and y swapped"] = lambda x, g, f=call: f(x, g.flip(-1))
                        other = "border" if padding != "border" else "zeros"
                        wrong["another padding"] = lambda x, g, m=mode, p=other, a=align: F.grid_sample(x, g, mode=m, padding_mode=p, align_corners=a)
                    args = {"mode": mode, "paddingMode": padding, "alignCorners": align}
                    for x in layouts("sampled", (2, 3, 5, 7), dtype)[: 4 if dtype == "f32" and padding == "zeros" else 1]:
                        rows.add("gridSample", call, [x, grid], args, "attention", case=f"{mode}-{padding}", wrong=wrong if x.kind == "contiguous" else None)
    far = grids("far", 1, 5, 5, "f32", 6.0)
    for padding in ("zeros", "reflection"):
        call = lambda x, g, p=padding: F.grid_sample(x, g, padding_mode=p, align_corners=False)  # noqa: E731
        rows.add("gridSample", call, [View(base("farx", (1, 2, 4, 3), "f32")), far], {"mode": "bilinear", "paddingMode": padding, "alignCorners": False}, "attention", case="far")
    one = View(base("onepixel", (1, 2, 1, 1), "f32"))
    for padding in ("zeros", "border", "reflection"):
        call = lambda x, g, p=padding: F.grid_sample(x, g, padding_mode=p, align_corners=True)  # noqa: E731
        rows.add("gridSample", call, [one, grids("gridone", 1, 2, 2, "f32", 0.9)], {"mode": "bilinear", "paddingMode": padding, "alignCorners": True}, "attention", case="one-pixel")


def rows() -> Rows:
    r = Rows("resample")
    filters(r)
    sampling(r)
    return r
