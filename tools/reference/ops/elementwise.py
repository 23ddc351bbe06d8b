"""Unary and binary ops, comparisons, where, clamp, the activations and the small fused forms of diffusion transformers; creation."""

import math

import torch
from torch.nn import functional as F

from .rows import FLOATS, INTS, Rows, View, base, like, special, views


def gelu(x):
    return F.gelu(x, approximate="tanh")


def quick(x):
    return x * torch.sigmoid(1.702 * x)


def square(x):
    return x * x


# op -> torch call, low, high, extra float inputs that must propagate NaN and infinity as torch
UNARY = {
    "neg": (torch.neg, -3, 3),
    "abs": (torch.abs, -3, 3),
    "sign": (torch.sign, -3, 3),
    "exp": (torch.exp, -4, 4),
    "expm1": (torch.expm1, -1, 1),
    "log": (torch.log, 0.05, 9),
    "log1p": (torch.log1p, -0.5, 3),
    "log2": (torch.log2, 0.05, 9),
    "sqrt": (torch.sqrt, 0.05, 9),
    "rsqrt": (torch.rsqrt, 0.05, 9),
    "square": (square, -3, 3),
    "reciprocal": (torch.reciprocal, 0.3, 3),
    "sin": (torch.sin, -6, 6),
    "cos": (torch.cos, -6, 6),
    "tan": (torch.tan, -1.2, 1.2),
    "asin": (torch.asin, -0.95, 0.95),
    "acos": (torch.acos, -0.95, 0.95),
    "atan": (torch.atan, -5, 5),
    "sinh": (torch.sinh, -3, 3),
    "cosh": (torch.cosh, -3, 3),
    "tanh": (torch.tanh, -4, 4),
    "sigmoid": (torch.sigmoid, -6, 6),
    "silu": (F.silu, -6, 6),
    "relu": (F.relu, -3, 3),
    "gelu": (gelu, -4, 4),
    "geluErf": (F.gelu, -4, 4),
    "geluQuick": (quick, -4, 4),
    "softplus": (F.softplus, -6, 6),
    "erf": (torch.erf, -2.5, 2.5),
    "floor": (torch.floor, -5, 5),
    "ceil": (torch.ceil, -5, 5),
    "round": (torch.round, -5, 5),
    "trunc": (torch.trunc, -5, 5),
    "isNan": (torch.isnan, -3, 3),
    "isInf": (torch.isinf, -3, 3),
    "isFinite": (torch.isfinite, -3, 3),
}
EXACT = {"neg", "abs", "sign", "relu", "floor", "ceil", "round", "trunc", "isNan", "isInf", "isFinite"}
WRONG = {
    "gelu": {"erf form": F.gelu, "quick form": quick},
    "geluErf": {"tanh form": gelu, "quick form": quick},
    "geluQuick": {"1.702 -> 1.7": lambda x: x * torch.sigmoid(1.7 * x), "tanh form": gelu},
    "round": {"half away from zero": lambda x: torch.sign(x) * torch.floor(x.abs() + 0.5)},
}
# Values where a naive formula overflows or cancels; the torch result is the truth.
EXTREME = [-1e4, -100.0, -88.0, -20.0, -10.0, -5.5, -1e-3, -1e-6, 1e-6, 1e-3, 5.5, 10.0, 20.0, 88.0, 100.0, 1e4]
EXTREME_OPS = {"exp", "expm1", "tanh", "sigmoid", "silu", "gelu", "geluErf", "geluQuick", "softplus", "erf", "log1p", "atan", "rsqrt", "sqrt", "log"}
INT_UNARY = {"i32": ["neg", "abs", "sign", "square", "relu", "exp", "sqrt", "sigmoid", "not"], "u32": ["square", "sqrt", "not"], "u8": ["square", "neg", "exp", "sqrt", "not"]}


def unary(rows: Rows) -> None:
    for op, (fn, low, high) in UNARY.items():
        tolerance = "exact" if op in EXACT else "pointwise"
        for dtype in FLOATS:
            for i, view in enumerate(views(op, dtype, low, high)):
                rows.add(op, fn, [view], tolerance=tolerance, wrong=WRONG.get(op) if i == 0 and dtype == "f32" and op != "round" else None)
            if op not in ("sin", "cos", "tan", "sinh", "cosh"):
                # torch's vectorised f32 and bf16 kernel gives NaN for +inf; the definition (and its f16 kernel) gives +inf.
                defined = (lambda t: (0.5 * t.double() * (1 + torch.erf(t.double() / 2**0.5))).to(t.dtype)) if op == "geluErf" else fn
                rows.add(op, defined, [View(special(dtype))], tolerance="exact" if op in EXACT else "special", case="special", wrong=WRONG["round"] if op == "round" else None)
            if op in EXTREME_OPS and dtype == "f32":
                rows.add(op, fn, [View(torch.tensor(EXTREME))], tolerance=tolerance, case="extreme")
    for dtype, ops in INT_UNARY.items():
        for op in ops:
            fn = torch.logical_not if op == "not" else UNARY[op][0]
            low = 0 if op in ("sqrt",) else -4
            exact = op in EXACT or op in ("not", "square")
            for view in views(op + "int", dtype, low, 4):
                rows.add(op, fn, [view], tolerance="exact" if exact else "pointwise")


BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.true_divide,
    "floorDiv": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "remainder": torch.remainder,
    "pow": torch.pow,
    "minimum": torch.minimum,
    "maximum": torch.maximum,
    "eq": torch.eq,
    "ne": torch.ne,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
}
BIT = {"and": torch.bitwise_and, "or": torch.bitwise_or, "xor": torch.bitwise_xor}
COMPARE = {"eq", "ne", "lt", "le", "gt", "ge"}
DISCRETE = {"floorDiv", "remainder", "minimum", "maximum", *COMPARE, *BIT}
WRONG_BINARY = {
    "remainder": {"sign of the dividend": torch.fmod},
    "floorDiv": {"towards zero": lambda x, y: torch.div(x, y, rounding_mode="trunc")},
}


def coarse(view: View) -> View:
    """Rounded to quarters, so that equal values occur and quotients are exact."""
    return View((view.base.double() * 4).round().div(4).to(view.base.dtype), view.kind, view.args, view.name)


def binary(rows: Rows) -> None:
    for op, fn in BINARY.items():
        exact = op in DISCRETE
        for dtype in FLOATS + INTS:
            divisor = op in ("div", "floorDiv", "remainder")
            ylow, yhigh = (1, 4) if divisor or op == "pow" else (-3, 3)
            xlow = 0.2 if op == "pow" else -9 if divisor else -3
            for i, x in enumerate(views(op + "x", dtype, xlow, 9 if divisor else 3)):
                y = like(op + "y", x, dtype, ylow, yhigh)
                if exact and dtype in FLOATS:
                    x, y = coarse(x), coarse(y)
                if dtype in FLOATS and divisor and i % 2:
                    y = View(-y.base, y.kind, y.args, "y")
                signed = i == 0 and dtype == "f32"
                pair = [x, y]
                integer = dtype in INTS and op not in ("div",)
                rows.add(op, fn, pair, tolerance="exact" if exact or integer else "pointwise", wrong=WRONG_BINARY.get(op) if signed else None)
        shapes(rows, op, fn, exact)
        if op not in ("pow", "floorDiv", "remainder"):
            propagate(rows, op, fn)
    for op, fn in BIT.items():
        for dtype in INTS:
            for x in views(op + "x", dtype, 0 if dtype != "i32" else -100, 100):
                rows.add(op, fn, [x, like(op + "y", x, dtype, 0 if dtype != "i32" else -100, 100)])


def shapes(rows: Rows, op: str, fn, exact: bool) -> None:
    """Broadcasting, mixed layouts, mixed dtypes, numbers."""
    low = 1 if op in ("div", "floorDiv", "remainder", "pow") else -3
    x = coarse(View(base(op + "bx", (3, 1, 7), "f32", 0.25, 3)))
    tolerance = "exact" if exact else "pointwise"
    for shape in ((5, 1), (7,), (1,), (), (2, 3, 5, 7)):
        rows.add(op, fn, [x, coarse(View(base(op + "by", shape, "f32", low, 3), name="y"))], tolerance=tolerance, case="broadcast" + "x".join(map(str, shape)))
    wide = coarse(View(base(op + "tx", (5, 3), "f32", 0.25, 3), "transposed", {"permute": [1, 0]}))
    cut = coarse(View(base(op + "ty", (3, 9), "f32", low, 3), "slice", {"narrow": [1, 3, 5]}, "y"))
    rows.add(op, fn, [wide, cut], tolerance=tolerance, case="layouts")
    rows.add(op, fn, [View(base("empty", (0, 7), "f32")), View(base(op + "e", (1, 7), "f32", low, 3), name="y")], tolerance=tolerance, case="empty")
    for a, b in (("f32", "f16"), ("f16", "bf16"), ("f16", "i32"), ("u8", "f32"), ("u8", "i32")):
        pair = [View(base(op + "px", (3, 5), a, 1, 3)), View(base(op + "py", (3, 5), b, 1, 3), name="y")]
        rows.add(op, fn, [coarse(v) for v in pair], tolerance="exact" if exact or (a, b) == ("u8", "i32") and op != "div" else "pointwise", case=f"promote-{b}")
    number(rows, op, fn, tolerance)


def number(rows: Rows, op: str, fn, tolerance: str) -> None:
    """A JavaScript number as the right operand: args.other."""
    for dtype, other in (("f32", 1.75), ("f16", 1.75), ("bf16", -1.5 if op != "pow" else 2.0), ("i32", 3), ("u8", 2)):
        x = coarse(View(base(op + "n", (3, 5), dtype, 1, 3)))
        exact = tolerance == "exact" or (dtype in INTS and op != "div")
        call = (lambda f, o: lambda t: f(t, torch.tensor(o, dtype=t.dtype) if op in ("minimum", "maximum") else o))(fn, other)
        rows.add(op, call, [x], {"other": other}, "exact" if exact else "pointwise", case="number")
    if op in ("sub", "div"):
        x = View(base(op + "r", (3, 5), "f32", 1, 3))
        rows.add("r" + op, (lambda t: 2.5 - t) if op == "sub" else (lambda t: 2.5 / t), [x], {"other": 2.5}, tolerance, case="number")


def propagate(rows: Rows, op: str, fn) -> None:
    s = special("f32")
    n = len(s)
    rows.add(op, fn, [View(s.reshape(n, 1)), View(s.clone(), name="y")], tolerance="exact" if op in DISCRETE else "special", case="special")


def choose(rows: Rows) -> None:
    for dtype in FLOATS + INTS:
        for x in views("wherex", dtype):
            y = like("wherey", x, dtype)
            c = View((base("wherec", tuple(x.base.shape), "u8", 0, 1)), x.kind, x.args, "condition")
            rows.add("where", lambda c, x, y: torch.where(c.bool(), x, y), [c, x.named("x"), y], case=dtype)
    c = View(base("wherec2", (3, 1, 7), "u8", 0, 1), name="condition")
    rows.add("where", lambda c, x, y: torch.where(c.bool(), x, y), [c, View(base("wx", (5, 1), "f32"), name="x"), View(special("f32")[:1], name="y")], case="nan")
    rows.add("where", lambda c, x: torch.where(c.bool(), x, -1.5), [c, View(base("wx", (5, 1), "f32"), name="x")], {"y": -1.5}, case="number")
    for dtype in FLOATS + ["i32"]:
        for x in views("clamp", dtype):
            rows.add("clamp", lambda t: t.clamp(-1, 2), [x], {"min": -1, "max": 2})
        rows.add("clamp", lambda t: t.clamp(min=-1), [views("clamp", dtype)[0]], {"min": -1}, case="min")
        rows.add("clamp", lambda t: t.clamp(max=1), [views("clamp", dtype)[0]], {"max": 1}, case="max")
    rows.add("clamp", lambda t: t.clamp(-1, 2), [View(special("f32"))], {"min": -1, "max": 2}, case="special")


def fused(rows: Rows) -> None:
    """swiglu(x, up), modulate(x, shift, scale), gatedAdd(x, gate, branch), affine, lerp."""
    for dtype in FLOATS:
        for x in views("fused", dtype):
            y, z = like("fusedy", x, dtype), like("fusedz", x, dtype)
            rows.add("swiglu", lambda x, up: F.silu(x) * up, [x, y.named("up")], tolerance="pointwise", wrong={"silu on the other half": lambda x, up: x * F.silu(up)} if x.kind == "slice" else None)
            rows.add("affine", lambda x: 1.5 * x - 0.25, [x], {"mul": 1.5, "add": -0.25}, "pointwise")
            rows.add("lerp", lambda x, end: x + 0.3 * (end - x), [x, y.named("end")], {"weight": 0.3}, "pointwise")
            if x.base.dim() == 3:
                rows.add("gatedAdd", lambda x, g, b: x + g * b, [x, y.named("gate"), z.named("branch")], tolerance="pointwise")
        x = View(base("modx", (2, 5, 7), dtype))
        shift, scale, gate = (View(base(n, (2, 1, 7), dtype), name=n) for n in ("shift", "scale", "gate"))
        rows.add("modulate", lambda x, shift, scale: (1 + scale) * x + shift, [x, shift, scale], tolerance="pointwise", wrong={"shift and scale swapped": lambda x, a, b: (1 + a) * x + b, "1 + left out": lambda x, a, b: b * x + a})
        rows.add("modulate", lambda x, scale: (1 + scale) * x, [x, scale], tolerance="pointwise", case="scale")
        rows.add("gatedAdd", lambda x, g, b: x + g * b, [x, gate, View(base("branch", (2, 5, 7), dtype), name="branch")], tolerance="pointwise", case="broadcast")


def parametrised(rows: Rows) -> None:
    """elu(x, alpha), round(x, decimals)."""
    for dtype in FLOATS:
        for alpha in (1.0, 0.7):
            for x in views("elu", dtype, -4, 4)[: None if alpha == 1.0 else 2]:
                wrong = {"celu": lambda t, a=alpha: F.celu(t, a)} if alpha != 1.0 and dtype == "f32" else None
                rows.add("elu", lambda t, a=alpha: F.elu(t, a), [x], {"alpha": alpha}, "pointwise", case=f"alpha-{alpha}", wrong=wrong)
        rows.add("elu", lambda t: F.elu(t), [View(special(dtype))], {"alpha": 1.0}, "special", case="special")
    rows.add("elu", lambda t: F.elu(t), [View(torch.tensor(EXTREME))], {"alpha": 1.0}, "pointwise", case="extreme")
    for decimals in (2, 1, -1):
        for x in views("decimals", "f32", -60, 60)[:3]:
            wrong = {"0 decimals": torch.round} if x.kind == "contiguous" else None
            rows.add("round", lambda t, d=decimals: torch.round(t, decimals=d), [x], {"decimals": decimals}, "pointwise", case=f"decimals{decimals}", wrong=wrong)


def creation(rows: Rows) -> None:
    from .rows import DTYPES

    for dtype in FLOATS + INTS:
        d = DTYPES[dtype]
        for shape in ([3, 5], [0, 4], [], [1]):
            rows.append("zeros", [], {"shape": shape, "dtype": dtype}, [torch.zeros(shape, dtype=d)], "exact", "x".join(map(str, shape)))
            rows.append("ones", [], {"shape": shape, "dtype": dtype}, [torch.ones(shape, dtype=d)], "exact", "x".join(map(str, shape)))
            rows.append("full", [], {"shape": shape, "value": 3.25 if dtype in FLOATS else 3, "dtype": dtype}, [torch.full(shape, 3.25 if dtype in FLOATS else 3, dtype=d)], "exact", "x".join(map(str, shape)))
        rows.append("arange", [], {"start": 2, "end": 11, "step": 3, "dtype": dtype}, [torch.arange(2, 11, 3, dtype=torch.int64).to(d)], "exact", "")
        rows.append("eye", [], {"n": 4, "dtype": dtype}, [torch.eye(4).to(d)], "exact", "")
    rows.append("arange", [], {"start": 0, "end": 1, "step": 0.1, "dtype": "f32"}, [torch.arange(0, 1, 0.1, dtype=torch.float64).float()], "pointwise", "fraction")
    rows.append("arange", [], {"start": 5, "end": -3, "step": -2, "dtype": "i32"}, [torch.arange(5, -3, -2, dtype=torch.int32)], "exact", "down")
    rows.append("full", [], {"shape": [3], "value": "inf", "dtype": "f32"}, [torch.full((3,), math.inf)], "exact", "infinity")
    for count in (0, 1, 2, 7, 50):
        rows.append("linspace", [], {"start": 1, "end": 0.02, "count": count, "dtype": "f32"}, [torch.linspace(1, 0.02, count, dtype=torch.float64).float()], "pointwise", str(count))


def rows() -> Rows:
    r = Rows("elementwise")
    unary(r)
    binary(r)
    choose(r)
    fused(r)
    parametrised(r)
    creation(r)
    return r
