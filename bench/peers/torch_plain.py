"""FLUX.1-dev and Z-Image as plain PyTorch, for torch_step.py on machines without diffusers: the same shapes and order of operations, with
PyTorch's fused attention and norms. Random weights only; no checkpoint names are kept."""

import torch
import torch.nn.functional as F
from torch import nn


def rope_table(ids: torch.Tensor, widths: list[int], theta: float) -> torch.Tensor:
    """Complex rotations [tokens, head width / 2] of positions [tokens, axes]."""
    parts = []
    for axis, width in enumerate(widths):
        frequencies = theta ** (-torch.arange(0, width, 2, dtype=torch.float64, device=ids.device) / width)
        parts.append(ids[:, axis, None].double() * frequencies)
    angles = torch.cat(parts, -1).float()
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: torch.Tensor, rope: torch.Tensor) -> torch.Tensor:
    """x [b, heads, tokens, width], neighbours as pairs."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rope).flatten(-2).type_as(x)


def attend(q, k, v, rope):
    return F.scaled_dot_product_attention(rotate(q, rope), rotate(k, rope), v).transpose(1, 2).flatten(2)


def timestep(t: torch.Tensor, dtype) -> torch.Tensor:
    frequencies = torch.exp(-9.2103404 * torch.arange(128, device=t.device) / 128)
    angles = t.float()[:, None] * 1000 * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1).to(dtype)


def mlp(inside: int, width: int, out: int, act: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inside, width), act, nn.Linear(width, out))


class Stream(nn.Module):
    """One stream's part of a double block of FLUX."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.mod = nn.Linear(width, 6 * width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.q_norm, self.k_norm = nn.Parameter(torch.empty(width // heads)), nn.Parameter(torch.empty(width // heads))
        self.mlp = mlp(width, 4 * width, width, nn.GELU(approximate="tanh"))

    def project(self, x, shift, scale):
        y = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
        q, k, v = self.qkv(y).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return F.rms_norm(q, q.shape[-1:], self.q_norm, 1e-6), F.rms_norm(k, k.shape[-1:], self.k_norm, 1e-6), v

    def finish(self, x, attended, gate, shift, scale, gate_mlp):
        x = x + gate * self.proj(attended)
        return x + gate_mlp * self.mlp(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift)


class DoubleBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.img, self.txt = Stream(width, heads), Stream(width, heads)

    def forward(self, img, txt, vec, rope):
        i = self.img.mod(F.silu(vec))[:, None].chunk(6, -1)
        t = self.txt.mod(F.silu(vec))[:, None].chunk(6, -1)
        joined = [torch.cat(pair, 2) for pair in zip(self.txt.project(txt, *t[:2]), self.img.project(img, *i[:2]))]
        txt_out, img_out = attend(*joined, rope).split([txt.shape[1], img.shape[1]], 1)
        return self.img.finish(img, img_out, *i[2:]), self.txt.finish(txt, txt_out, *t[2:])


class SingleBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.mod = nn.Linear(width, 3 * width)
        self.linear1, self.linear2 = nn.Linear(width, 7 * width), nn.Linear(5 * width, width)
        self.q_norm, self.k_norm = nn.Parameter(torch.empty(width // heads)), nn.Parameter(torch.empty(width // heads))

    def forward(self, x, vec, rope):
        shift, scale, gate = self.mod(F.silu(vec))[:, None].chunk(3, -1)
        width = x.shape[-1]
        qkv, up = self.linear1(F.layer_norm(x, (width,), eps=1e-6) * (1 + scale) + shift).split([3 * width, 4 * width], -1)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = F.rms_norm(q, q.shape[-1:], self.q_norm, 1e-6), F.rms_norm(k, k.shape[-1:], self.k_norm, 1e-6)
        return x + gate * self.linear2(torch.cat([attend(q, k, v, rope), F.gelu(up, approximate="tanh")], -1))


class Flux(nn.Module):
    def __init__(self, double: int, single: int, width: int = 3072, heads: int = 24):
        super().__init__()
        self.img_in, self.txt_in = nn.Linear(64, width), nn.Linear(4096, width)
        self.time, self.guidance = mlp(256, width, width, nn.SiLU()), mlp(256, width, width, nn.SiLU())
        self.vector = mlp(768, width, width, nn.SiLU())
        self.doubles = nn.ModuleList(DoubleBlock(width, heads) for _ in range(double))
        self.singles = nn.ModuleList(SingleBlock(width, heads) for _ in range(single))
        self.mod, self.out = nn.Linear(width, 2 * width), nn.Linear(width, 64)

    def forward(self, img, txt, vector, t, guidance, ids):
        rope = rope_table(ids, [16, 56, 56], 10_000)
        vec = self.time(timestep(t, img.dtype)) + self.guidance(timestep(guidance, img.dtype)) + self.vector(vector)
        img, txt = self.img_in(img), self.txt_in(txt)
        for block in self.doubles:
            img, txt = block(img, txt, vec, rope)
        x = torch.cat([txt, img], 1)
        for block in self.singles:
            x = block(x, vec, rope)
        x = x[:, txt.shape[1] :]
        shift, scale = self.mod(F.silu(vec))[:, None].chunk(2, -1)
        return self.out(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift)


class ZImageBlock(nn.Module):
    def __init__(self, modulated: bool, width: int = 3840, heads: int = 30, hidden: int = 10_240):
        super().__init__()
        self.heads = heads
        linear = lambda i, o: nn.Linear(i, o, bias=False)  # noqa: E731
        self.q, self.k, self.v, self.o = (linear(width, width) for _ in range(4))
        self.q_norm, self.k_norm = nn.Parameter(torch.empty(width // heads)), nn.Parameter(torch.empty(width // heads))
        self.w1, self.w2, self.w3 = linear(width, hidden), linear(hidden, width), linear(width, hidden)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.Parameter(torch.empty(width)) for _ in range(4))
        self.mod = nn.Linear(256, 4 * width) if modulated else None

    def forward(self, x, rope, condition=None):
        norm = lambda y, weight: F.rms_norm(y, y.shape[-1:], weight, 1e-5)  # noqa: E731
        scale_a, gate_a, scale_f, gate_f = (0, 1, 0, 1) if self.mod is None else self.mod(condition)[:, None].chunk(4, -1)
        if self.mod is not None:
            gate_a, gate_f = gate_a.tanh(), gate_f.tanh()
        y = norm(x, self.norm1) * (1 + scale_a)
        q, k, v = (p(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q, self.k, self.v))
        x = x + gate_a * norm(self.o(attend(norm(q, self.q_norm), norm(k, self.k_norm), v, rope)), self.norm2)
        y = norm(x, self.norm3) * (1 + scale_f)
        return x + gate_f * norm(self.w2(F.silu(self.w1(y)) * self.w3(y)), self.norm4)


class ZImage(nn.Module):
    def __init__(self, layers: int, refiners: int, width: int = 3840):
        super().__init__()
        self.x_in, self.caption_in = nn.Linear(64, width), nn.Linear(2560, width)
        self.time = mlp(256, 1024, 256, nn.SiLU())
        self.noise = nn.ModuleList(ZImageBlock(True) for _ in range(refiners))
        self.context = nn.ModuleList(ZImageBlock(False) for _ in range(refiners))
        self.layers = nn.ModuleList(ZImageBlock(True) for _ in range(layers))
        self.mod, self.out = nn.Linear(256, width), nn.Linear(width, 64)

    def forward(self, tokens, caption, t, image_ids, caption_ids):
        condition = self.time(timestep(t, tokens.dtype))
        image_rope, caption_rope = (rope_table(ids, [32, 48, 48], 256) for ids in (image_ids, caption_ids))
        x, c = self.x_in(tokens), self.caption_in(caption)
        for block in self.noise:
            x = block(x, image_rope, condition)
        for block in self.context:
            c = block(c, caption_rope)
        x, rope = torch.cat([x, c], 1), torch.cat([image_rope, caption_rope])
        for block in self.layers:
            x = block(x, rope, condition)
        x = x[:, : tokens.shape[1]]
        return self.out(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + self.mod(F.silu(condition))[:, None]))
