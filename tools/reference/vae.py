"""Autoencoder goldens: AutoencoderKL with the FLUX.1 = Z-Image shape (both name layouts, tiling) and AutoencoderTiny (TAEF1)."""

import contextlib

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import nn

import official
from golden import ROOT, Capture, Golden, GoldenRefused, Mutation, Run, make, patch, patched, relative_l2, write_json
from weights import fill, normal

FOLDER = "packages/vae/test/goldens"
LEVELS = 4
KL = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * LEVELS,
    "up_block_types": ["UpDecoderBlock2D"] * LEVELS,
    "block_out_channels": [8, 16, 24, 24],
    "layers_per_block": 2,
    "act_fn": "silu",
    "latent_channels": 16,
    "norm_num_groups": 4,
    "sample_size": 32,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "force_upcast": True,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
# Small first activations make the epsilon of the norms matter.
RULES = [(r"encoder\.conv_in\.weight", 0.01), (r"decoder\.conv_in\.weight", 0.01), (r"conv_in\.bias", 0.05), (r"conv2\.weight", 0.5)]


def build_kl(eps: float = 1e-6, groups: int = 4, heads: int = 1, **changes) -> AutoencoderKL:
    model = AutoencoderKL(**{**KL, **changes})
    fill(model, RULES)
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.eps, module.num_groups = eps, groups
    for half in (model.encoder, model.decoder):
        half.mid_block.attentions[0].heads = heads
        half.mid_block.attentions[0].scale = (24 // heads) ** -0.5
    return model


def encoder_weights(model, half: str) -> dict:
    return {k: v for k, v in model.state_dict().items() if k.startswith(half)}


def run_encode(**changes) -> Run:
    """An image whose sides are not multiples of 8, to moments and to model latents."""
    model = build_kl(**changes)
    image = normal("vae.image", 1, 3, 21, 27, scale=0.5).clamp(-1, 1)
    with Capture(model) as outputs:
        posterior = model.encode(image).latent_dist
    outputs["mean"], outputs["std"] = posterior.mean, posterior.std
    outputs["latents"] = (posterior.mode() - model.config.shift_factor) * model.config.scaling_factor
    return Run({"image": image}, encoder_weights(model, "encoder"), outputs, ["latents", "std"])


def run_decode(**changes) -> Run:
    """Model latents of odd size to an image in [-1, 1] (not clamped)."""
    model = build_kl(**changes)
    latents = normal("vae.latents", 1, 16, 3, 2)
    with Capture(model) as outputs:
        image = model.decode(latents / model.config.scaling_factor + model.config.shift_factor).sample
    outputs["image"] = image
    return Run({"latents": latents}, encoder_weights(model, "decoder"), outputs, ["image"])


def run_tiled(overlap: float = 0.25, tile: int = 32, **changes) -> Run:
    """Tiled encode and decode with tiles of 32 px / 4 latents and blending over a quarter."""
    model = build_kl(sample_size=tile, **changes)
    model.tile_overlap_factor = overlap
    model.enable_tiling()
    image = normal("vae.tiled.image", 1, 3, 56, 40, scale=0.5).clamp(-1, 1)
    latents = normal("vae.tiled.latents", 1, 16, 7, 5)
    outputs = {"mean": model.encode(image).latent_dist.mean, "image": model.decode(latents).sample}
    model.disable_tiling()
    outputs["untiled.mean"], outputs["untiled.image"] = model.encode(image).latent_dist.mean, model.decode(latents).sample
    return Run({"image": image, "z": latents}, model.state_dict(), outputs, ["mean", "image"])


def symmetric_padding():
    """Pads the downsample convolution on all sides instead of right and bottom only."""
    from torch.nn import functional as F

    real = F.pad

    def wrong(x, pad, *args, **kwargs):
        return real(x, (1, 0, 1, 0) if tuple(pad) == (0, 1, 0, 1) else pad, *args, **kwargs)

    return patched(F, "pad", wrong)


def wrong_upsampling():
    from torch.nn import functional as F

    real = F.interpolate

    def bilinear(x, size=None, scale_factor=None, mode="nearest", *rest, **kwargs):
        return real(x, size=size, scale_factor=scale_factor, mode="bilinear")

    return patched(F, "interpolate", bilinear)


def wrong_activation():
    return patched(nn.SiLU, "forward", lambda self, x: torch.nn.functional.gelu(x))


SHARED = [
    Mutation("GroupNorm eps 1e-6 -> 1e-5", {"eps": 1e-5}),
    Mutation("GroupNorm eps 1e-6 -> 0", {"eps": 0.0}),
    Mutation("norm_num_groups 4 -> 2", {"groups": 2}),
    Mutation("norm_num_groups 4 -> 8", {"groups": 8}),
    Mutation("attention heads 1 -> 2", {"heads": 2}),
    Mutation("scaling_factor 0.3611 -> 0.3621", {"scaling_factor": 0.3621}),
    Mutation("shift_factor 0.1159 -> 0.1209", {"shift_factor": 0.1209}),
    Mutation("SiLU -> GELU", patch=wrong_activation),
]
TILED = [
    Mutation("tile overlap 0.25 -> 0.5", {"overlap": 0.5}),
    Mutation("tile 32 -> 40", {"tile": 40}),
    Mutation("row blending off", patch=patch(AutoencoderKL, "blend_v", lambda self, a, b, n: b)),
    Mutation("column blending off", patch=patch(AutoencoderKL, "blend_h", lambda self, a, b, n: b)),
    Mutation("GroupNorm eps 1e-6 -> 1e-5", {"eps": 1e-5}),
]


def bfl_names(names: list) -> dict:
    """diffusers name -> name in `ae.safetensors`."""
    import re

    def rename(name: str) -> str:
        name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2", name)
        name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm")
        name = re.sub(r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1", name)
        name = name.replace("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out")
        return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")

    return {n: rename(n) for n in names}


def bfl_autoencoder() -> nn.Module:
    """The authors' AutoEncoder at our widths (its 32 groups are hard-coded, so they are changed on the way in)."""
    with official.source("flux"):
        from flux.modules import autoencoder

        real = nn.GroupNorm
        with patched(autoencoder.nn, "GroupNorm", lambda num_groups, **kw: real(num_groups=4, **kw)):
            params = autoencoder.AutoEncoderParams(32, 3, 8, 3, [1, 2, 3, 3], 2, 16, 0.3611, 0.1159)
            return autoencoder.AutoEncoder(params).eval()


def cross_check_bfl() -> dict:
    """The authors' class with the same weights under its own names gives the same latents and image; returns the name map."""
    kl = build_kl()
    names = bfl_names(list(kl.state_dict()))
    bfl = bfl_autoencoder()
    shapes = {k: v.shape for k, v in bfl.state_dict().items()}
    bfl.load_state_dict({names[k]: v.reshape(shapes[names[k]]) for k, v in kl.state_dict().items()})
    encoded, decoded = run_encode(), run_decode()
    for label, actual, expected in (
        ("encode", bfl.encode(encoded.inputs["image"]), encoded.outputs["latents"]),
        ("decode", bfl.decode(decoded.inputs["latents"]), decoded.outputs["image"]),
    ):
        error = relative_l2(actual, expected)
        if error > 1e-6:
            raise GoldenRefused(f"vae {label}: black-forest-labs/flux and diffusers differ by {error:.2e}")
    return {"names": names, "shapes": {k: list(v) for k, v in shapes.items()}}


TAE = {
    "in_channels": 3,
    "out_channels": 3,
    "encoder_block_out_channels": [12, 12, 12, 12],
    "decoder_block_out_channels": [12, 12, 12, 12],
    "latent_channels": 16,
    "num_encoder_blocks": [1, 3, 3, 3],
    "num_decoder_blocks": [3, 3, 3, 1],
    "scaling_factor": 1.0,
    "shift_factor": 0.0,
}


def run_tiny(tile: int = 8, **changes) -> Run:
    """Encode, decode, and decode in tiles of 8 latents that overlap by one."""
    model = AutoencoderTiny(**TAE)
    weights = fill(model, [(r"conv\.4\.weight", 0.5)])
    image = normal("tae.image", 1, 3, 21, 26, scale=0.5).clamp(-1, 1)
    latents = normal("tae.latents", 1, 16, 3, 5, scale=1.5)
    with Capture(model) as outputs:
        outputs["latents"], outputs["image"] = model.encode(image).latents, model.decode(latents).sample
    tiled_latents = normal("tae.tiled", 1, 16, 6, 13, scale=1.5)
    model.tile_sample_min_size, model.tile_latent_min_size = 8 * tile, tile
    model.enable_tiling()
    outputs["tiled.image"] = model.decode(tiled_latents).sample
    inputs = {"image": image, "latents": latents, "tiled.latents": tiled_latents}
    return Run(inputs, weights, outputs, ["latents", "image", "tiled.image"])


def wrong_clamp():
    return patched(torch, "tanh", lambda x: x)


@contextlib.contextmanager
def wrong_relu():
    with patched(nn.ReLU, "forward", lambda self, x: torch.nn.functional.silu(x)):
        yield


TINY = [
    Mutation("latent clamp 3 tanh(z/3) left out", patch=wrong_clamp),
    Mutation("ReLU -> SiLU", patch=wrong_relu),
    Mutation("tile 8 -> 16", {"tile": 16}),
    Mutation("nearest -> bilinear", patch=wrong_upsampling),
]


@torch.no_grad()
def generate() -> None:
    write_json(ROOT / FOLDER / "kl-bfl-names.json", cross_check_bfl())
    kl = "diffusers AutoencoderKL"
    padding = Mutation("downsample padding (0,1,0,1) -> (1,0,1,0)", patch=symmetric_padding)
    nearest = Mutation("nearest -> bilinear", patch=wrong_upsampling)
    make(Golden(f"{FOLDER}/kl-encode.safetensors", kl, KL, run_encode, [*SHARED, padding]))
    make(Golden(f"{FOLDER}/kl-decode.safetensors", kl, KL, run_decode, [*SHARED, nearest]))
    make(Golden(f"{FOLDER}/kl-tiled.safetensors", kl, KL, run_tiled, TILED))
    make(Golden(f"{FOLDER}/tae.safetensors", "diffusers AutoencoderTiny", TAE, run_tiny, TINY))
