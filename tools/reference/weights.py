"""Deterministic shaped tensors: each depends on its name and shape only, so that a changed config keeps the weights of the others."""

import hashlib
import math
import re

import torch

SEED = "wick-1"


def generator(name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{SEED}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def normal(name: str, *shape: int, scale: float = 1.0) -> torch.Tensor:
    """Gaussian input tensor of a stated scale, drawn from a stream of its own."""
    return torch.randn(*shape, generator=generator(name)) * scale


def integers(name: str, low: int, high: int, *shape: int) -> torch.Tensor:
    """Integers in [low, high)."""
    return torch.randint(low, high, shape, generator=generator(name))


def shaped(name: str, shape: tuple, rules: list) -> torch.Tensor:
    """One weight. Scales differ from tensor to tensor, norms lie around 1, biases are not 0.

    `rules` is a list of (pattern, factor): the factors of all patterns that are found in the name are multiplied in.
    """
    g = generator(name + str(tuple(shape)))
    noise = torch.randn(*shape, generator=g)
    gain = 2 ** (torch.rand(1, generator=g).item() * 1.5 - 0.75)
    factor = math.prod(f for pattern, f in rules if re.search(pattern, name))
    is_norm = len(shape) == 1 and re.search(r"(norm|cap_embedder\.0|layer_norm\d?|ln_\d).*(weight|scale)$", name)
    if is_norm:
        return (1 + 0.25 * noise) * factor
    if len(shape) <= 1 or name.endswith("bias"):
        return 0.1 * gain * noise * factor
    fan_in = math.prod(shape[1:])
    return noise * gain / math.sqrt(fan_in) * factor


def fill(model: torch.nn.Module, rules: list = ()) -> dict:
    """Give every parameter its shaped values in place; returns name -> tensor of the state dict."""
    for name, p in model.named_parameters():
        p.data = shaped(name, tuple(p.shape), list(rules)).to(p.dtype)
        p.requires_grad_(False)
    model.eval()
    return {k: v.detach().clone() for k, v in model.state_dict().items()}
