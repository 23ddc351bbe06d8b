"""Views and copies: the results are exact, the layouts of inputs and outputs vary."""

import torch
from einops import rearrange

from .rows import FLOATS, INTS, Rows, View, base, views

# op, args, torch call, on tensors of shape [3, 5, 7]
CALLS = [
    ("reshape", {"shape": [15, 7]}, lambda x: x.reshape(15, 7)),
    ("reshape", {"shape": [7, -1]}, lambda x: x.reshape(7, -1)),
    ("flatten", {"start": 1, "end": 2}, lambda x: x.flatten(1, 2)),
    ("flatten", {}, lambda x: x.flatten()),
    ("unflatten", {"dim": -1, "sizes": [7, 1]}, lambda x: x.unflatten(-1, (7, 1))),
    ("unsqueeze", {"dim": 1}, lambda x: x.unsqueeze(1)),
    ("unsqueeze", {"dim": -1}, lambda x: x.unsqueeze(-1)),
    ("permute", {"order": [2, 0, 1]}, lambda x: x.permute(2, 0, 1)),
    ("transpose", {"a": 0, "b": -1}, lambda x: x.transpose(0, -1)),
    ("movedim", {"from": 0, "to": 2}, lambda x: x.movedim(0, 2)),
    ("narrow", {"dim": 1, "start": 1, "length": 3}, lambda x: x.narrow(1, 1, 3)),
    ("narrow", {"dim": 2, "start": 7, "length": 0}, lambda x: x.narrow(2, 7, 0)),
    ("index", {"specs": [1]}, lambda x: x[1]),
    ("index", {"specs": [":", [1, 4], -1]}, lambda x: x[:, 1:4, -1]),
    ("index", {"specs": ["...", [None, None, 2]]}, lambda x: x[..., ::2]),
    ("index", {"specs": [[-2, None], None, ":", [0, -1, 3]]}, lambda x: x[-2:, None, :, 0:-1:3]),
    ("split", {"sizes": [2, 4, 1], "dim": 2}, lambda x: x.split([2, 4, 1], 2)),
    ("chunk", {"n": 5, "dim": 1}, lambda x: x.chunk(5, 1)),
    ("unbind", {"n": 3, "dim": 0}, lambda x: x.unbind(0)),
    ("rearrange", {"pattern": "a b c -> (a c) b"}, lambda x: rearrange(x, "a b c -> (a c) b")),
    ("rearrange", {"pattern": "a b (c p) -> b c a p", "sizes": {"p": 7}}, lambda x: rearrange(x, "a b (c p) -> b c a p", p=7)),
    ("unfold", {"dim": 2, "size": 3, "step": 2}, lambda x: x.unfold(2, 3, 2)),
    ("unfold", {"dim": 1, "size": 5, "step": 1}, lambda x: x.unfold(1, 5, 1)),
    ("flip", {"dims": [0]}, lambda x: x.flip(0)),
    ("flip", {"dims": [2, 1]}, lambda x: x.flip(2, 1)),
    ("contiguous", {}, lambda x: x.contiguous()),
    ("repeat", {"counts": [2, 1, 3]}, lambda x: x.repeat(2, 1, 3)),
    ("repeat", {"counts": [2, 1, 1, 1]}, lambda x: x.repeat(2, 1, 1, 1)),
    ("repeatInterleave", {"n": 2, "dim": 1}, lambda x: x.repeat_interleave(2, 1)),
    ("roll", {"shift": 2, "dim": 1}, lambda x: x.roll(2, 1)),
    ("roll", {"shift": -3, "dim": 2}, lambda x: x.roll(-3, 2)),
    ("tril", {"diagonal": 0}, torch.tril),
    ("tril", {"diagonal": -2}, lambda x: x.tril(-2)),
    ("triu", {"diagonal": 1}, lambda x: x.triu(1)),
    ("triu", {"diagonal": -1}, lambda x: x.triu(-1)),
]


def rows() -> Rows:
    r = Rows("movement")
    for dtype in FLOATS + INTS:
        for view in views("movement", dtype)[:4]:
            for op, args, fn in CALLS:
                if dtype in ("f32", "u8", "f16") or view.kind == "slice":
                    r.add(op, fn, [view], args)
    for dtype in FLOATS + INTS:
        one = View(base("expand", (3, 1, 7), dtype))
        r.add("expand", lambda x: x.expand(3, 5, 7), [one], {"shape": [3, 5, 7]})
        r.add("expand", lambda x: x.expand(2, 3, 4, 7), [one], {"shape": [2, 3, 4, 7]})
        r.add("squeeze", lambda x: x.squeeze(1), [one], {"dim": 1})
        r.add("squeeze", lambda x: x.squeeze(), [View(base("squeeze", (1, 3, 1), dtype))], {})
        empty = View(base("empty", (0, 4, 3), dtype))
        r.add("permute", lambda x: x.permute(2, 0, 1), [empty], {"order": [2, 0, 1]}, case="empty")
        r.add("reshape", lambda x: x.reshape(4, 0), [empty], {"shape": [4, 0]}, case="empty")
        r.add("flip", lambda x: x.flip(0), [empty], {"dims": [0]}, case="empty")
        r.add("reshape", lambda x: x.reshape(()), [View(base("one", (1, 1), dtype))], {"shape": []}, case="scalar")
    odd = View(base("odd", (2, 3, 41, 67), "f16"), "transposed", {"permute": [0, 2, 3, 1]})
    r.add("contiguous", lambda x: x.contiguous(), [odd], case="odd")
    r.add("rearrange", lambda x: rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2), [View(base("patch", (2, 3, 6, 10), "f32"))], {"pattern": "b c (h p) (w q) -> b (h w) (c p q)", "sizes": {"p": 2, "q": 2}}, case="patchify")
    return r
