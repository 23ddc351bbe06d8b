"""The cases made of modules for torch_peer.py, with diffusers' classes: one block of each model at its real width, and the included model.
Weights are the same function of name and position as in wick-modules.ts."""

import json
import re
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ZImageTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxPosEmbed, FluxSingleTransformerBlock, FluxTransformerBlock
from diffusers.models.transformers.transformer_z_image import RopeEmbedder, ZImageTransformerBlock

import __main__ as peer

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "packages/tiny-zimage/model"
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def seed_of(name: str) -> int:
    """32-bit FNV-1a of a name."""
    h = 0x811C9DC5
    for byte in name.encode():
        h = ((h ^ byte) * 0x01000193) & 0xFFFFFFFF
    return h


def weight(name: str, *shape: int) -> torch.Tensor:
    count = 1
    for d in shape:
        count *= d
    scale, shift = (3.4 / shape[1] ** 0.5, 0) if len(shape) == 2 else (0.2, 1) if re.search("norm", name) else (0.1, 0)
    return peer.values(count, seed_of(name)).reshape(shape) * scale + shift


def dtype_of(spec: dict) -> torch.dtype:
    if spec["dtype"] not in DTYPES:
        raise peer.Unsupported(f"no product with {spec['dtype']} weights")
    return DTYPES[spec["dtype"]]


def tensor(seed: int, *shape: int) -> torch.Tensor:
    count = 1
    for d in shape:
        count *= d
    return peer.values(count, seed).reshape(shape)


def grid(tokens: int, axis: int) -> torch.Tensor:
    return torch.tensor([[axis, i // 32, i % 32] for i in range(tokens)])


def on_device(module, make):
    """A block without weights, filled with `make(name, shape)` and moved."""
    with torch.device("meta"):
        built = module()
    built.to_empty(device="cpu")
    for name, p in built.named_parameters():
        p.data = make(name, *p.shape)
    return built


def z_image_block(spec: dict, device: str):
    dtype = dtype_of(spec)
    block = on_device(lambda: ZImageTransformerBlock(0, 3840, 30, 30, 1e-5, True), weight).to(device, dtype)
    x, condition = tensor(1, 1, spec["tokens"], 3840).to(device, dtype), tensor(2, 1, 256).to(device, dtype)
    freqs = RopeEmbedder(256.0, [32, 48, 48], [1536, 512, 512])(grid(spec["tokens"], 1))[None].to(device)
    mask = torch.ones(1, spec["tokens"], dtype=torch.bool, device=device)
    return lambda: block(x, mask, freqs, condition)


def text_tokens(tokens: int) -> int:
    return 512 if tokens >= 4608 else tokens // 4


def rope(tokens: int, text: int, device: str):
    ids = torch.cat([torch.zeros(text, 3), grid(tokens - text, 0)])
    return tuple(t.to(device) for t in FluxPosEmbed(10_000, [16, 56, 56])(ids))


def split_rows(name: str, shape: tuple, source: str, rows: int, first: int) -> torch.Tensor:
    """Rows of a tensor that the authors' layout joins."""
    joined = weight(source, rows, *shape[1:])
    return joined[first : first + shape[0]].clone()


def double_weight(name: str, *shape: int) -> torch.Tensor:
    stream = "txt" if re.search(r"context|add_|added", name) else "img"
    kind = name.rsplit(".", 1)[1]
    if match := re.match(r"attn\.(?:to_|add_)([qkv])(?:_proj)?\.", name):
        return split_rows(name, shape, f"{stream}_attn.qkv.{kind}", 3 * 3072, 3072 * "qkv".index(match[1]))
    if match := re.match(r"attn\.norm_(?:added_)?([qk])\.", name):
        return weight(f"{stream}_attn.norm.{'query' if match[1] == 'q' else 'key'}_norm.scale", *shape)
    names = [
        (r"norm1(_context)?\.linear", "mod.lin"),
        (r"attn\.(to_out\.0|to_add_out)", "attn.proj"),
        (r"ff(_context)?\.net\.0\.proj", "mlp.0"),
        (r"ff(_context)?\.net\.2", "mlp.2"),
    ]
    ours = next(to for pattern, to in names if re.match(pattern, name))
    return weight(f"{stream}_{ours}.{kind}", *shape)


def flux_double(spec: dict, device: str):
    dtype, text = dtype_of(spec), text_tokens(spec["tokens"])
    block = on_device(lambda: FluxTransformerBlock(3072, 24, 128), double_weight).to(device, dtype)
    img, txt = tensor(1, 1, spec["tokens"] - text, 3072).to(device, dtype), tensor(2, 1, text, 3072).to(device, dtype)
    vec, table = tensor(3, 1, 3072).to(device, dtype), rope(spec["tokens"], text, device)
    return lambda: block(img, txt, vec, table)[1]


def single_weight(name: str, *shape: int) -> torch.Tensor:
    kind = name.rsplit(".", 1)[1]
    if match := re.match(r"attn\.to_([qkv])\.", name):
        return split_rows(name, shape, f"linear1.{kind}", 7 * 3072, 3072 * "qkv".index(match[1]))
    if name.startswith("proj_mlp"):
        return split_rows(name, shape, f"linear1.{kind}", 7 * 3072, 3 * 3072)
    if match := re.match(r"attn\.norm_([qk])\.", name):
        return weight(f"norm.{'query' if match[1] == 'q' else 'key'}_norm.scale", *shape)
    return weight({"norm.linear": "modulation.lin", "proj_out": "linear2"}[name.rsplit(".", 1)[0]] + f".{kind}", *shape)


def flux_single(spec: dict, device: str):
    dtype, text = dtype_of(spec), text_tokens(spec["tokens"])
    block = on_device(lambda: FluxSingleTransformerBlock(3072, 24, 128), single_weight).to(device, dtype)
    x, vec = tensor(1, 1, spec["tokens"], 3072).to(device, dtype), tensor(3, 1, 3072).to(device, dtype)
    txt, img, table = x[:, :text], x[:, text:], rope(spec["tokens"], text, device)
    return lambda: torch.cat(block(img, txt, vec, table), 1)


def tiny_step(spec: dict, device: str):
    model = ZImageTransformer2DModel.from_pretrained(MODEL / "transformer", torch_dtype=torch.float32).to(device)
    captions = [tensor(1, 24, 128).to(device), tensor(2, 12, 128).to(device)]
    latents, t = tensor(3, 2, 16, 1, 8, 8).to(device), torch.tensor([0.25, 0.25], device=device)
    return lambda: -torch.stack(model(list(latents), t, captions, return_dict=False)[0])


def tiny_picture(spec: dict, device: str):
    if device != "cpu":
        raise peer.Unsupported("the recipe samples on the CPU")
    sys.path.insert(0, str(ROOT / "tools/reference/tiny-zimage"))
    from parts import sample
    from transformers import PreTrainedTokenizerFast, Qwen3Model

    transformer = ZImageTransformer2DModel.from_pretrained(MODEL / "transformer", torch_dtype=torch.float32)
    encoder = Qwen3Model.from_pretrained(MODEL / "text_encoder", dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(MODEL / "vae", torch_dtype=torch.float32)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(MODEL / "tokenizer/tokenizer.json"))
    config = json.loads((MODEL / "vae/config.json").read_text())

    def picture() -> torch.Tensor:
        latents = sample(transformer, encoder, tokenizer, ["a red apple"], 0, 3.0, 12)
        pixels = vae.decode(latents / config["scaling_factor"] + config["shift_factor"]).sample
        return (((pixels.clamp(-1, 1) + 1) * 127.5).round() / 255)[0].permute(1, 2, 0)

    return picture
