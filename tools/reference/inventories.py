"""Names and shapes of the released checkpoints, made from the reference classes at full size on the meta device (no weights)."""

import json
import sys

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, FluxTransformer2DModel, ZImageTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, Qwen3Config, Qwen3Model, SiglipVisionConfig, SiglipVisionModel, T5Config, T5EncoderModel

import flux1
import vae
from golden import ROOT

FOLDER = "packages/testing/inventories"
FLUX = {
    "in_channels": 64,
    "out_channels": 64,
    "vec_in_dim": 768,
    "context_in_dim": 4096,
    "hidden_size": 3072,
    "mlp_ratio": 4.0,
    "num_heads": 24,
    "depth": 19,
    "depth_single_blocks": 38,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": True,
}
VARIANTS = {"dev": {}, "schnell": {"guidance_embed": False}, "fill": {"in_channels": 384}, "control": {"in_channels": 128}}
KL = {**vae.KL, "block_out_channels": [128, 256, 512, 512], "norm_num_groups": 32, "sample_size": 1024}
T5_XXL = {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"}
CLIP_L = {"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "projection_dim": 768}
SIGLIP_SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16, "image_size": 384, "patch_size": 14}
QWEN3_4B = {
    "vocab_size": 151936,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
}
Z_IMAGE = {"axes_lens": [1536, 512, 512]}
# Parameter and tensor counts as published with the checkpoints; a mismatch refuses the inventory.
EXPECTED = {
    "flux1-dev": (780, 11_901_408_320),
    "flux1-schnell": (776, 11_891_178_560),
    "flux1-fill": (780, 11_902_391_360),
    "flux1-control": (780, 11_901_604_928),
    "flux1-dev-diffusers": (1160, 11_901_408_320),
    "flux1-schnell-diffusers": (1156, 11_891_178_560),
    "z-image": (521, 6_154_908_736),
    "z-image-fused": (453, 6_154_908_736),
    "autoencoder-kl": (244, 83_819_683),
    "autoencoder-kl-bfl": (244, 83_819_683),
    "taef1": (134, 2_458_899),
    "t5-xxl": (219, 4_762_310_656),
    "clip-l": (196, 123_060_480),
    "qwen3-4b": (398, 4_022_468_096),
    "siglip-so400m": (448, 428_225_600),
}


def shapes(build, prefix: str = "", drop: tuple = ()) -> dict:
    """name -> shape of the state dict of what `build` makes."""
    with torch.device("meta"):
        model = build()
    return {prefix + k: list(v.shape) for k, v in model.state_dict().items() if k not in drop and not k.endswith("position_ids")}


def bfl_flux(**changes):
    model, _, _ = flux1.theirs()
    return model.Flux(model.FluxParams(**{**FLUX, **changes}))


def diffusers_flux(**changes):
    c = {**FLUX, **changes}
    return FluxTransformer2DModel(in_channels=c["in_channels"], out_channels=64, guidance_embeds=c["guidance_embed"], patch_size=1)


def bfl_autoencoder(kl: dict) -> dict:
    """The names of `ae.safetensors`; the attention projections are 1 x 1 convolutions there."""
    names = vae.bfl_names(list(kl))
    conv = (".attn_1.q.weight", ".attn_1.k.weight", ".attn_1.v.weight", ".attn_1.proj_out.weight")
    return {names[k]: [*s, 1, 1] if names[k].endswith(conv) else s for k, s in kl.items()}


def fused_z_image(split: dict) -> dict:
    """The single-file layout: qkv fused, the patch size not in the names."""
    out = {}
    for name, shape in split.items():
        if ".attention.to_k." in name or ".attention.to_v." in name:
            continue
        if ".attention.to_q." in name:
            name, shape = name.replace("to_q", "qkv"), [3 * shape[0], shape[1]]
        for old, new in (("all_x_embedder.2-1", "x_embedder"), ("all_final_layer.2-1", "final_layer"), ("to_out.0", "out"), ("norm_q", "q_norm"), ("norm_k", "k_norm")):
            name = name.replace(old, new)
        out[name] = shape
    return out


def clip_prefix(found: dict) -> dict:
    return {k if k.startswith("text_model.") else f"text_model.{k}": v for k, v in found.items()}


def siglip_prefix(found: dict) -> dict:
    return {k if k.startswith("vision_model.") else f"vision_model.{k}": v for k, v in found.items()}


def inventories() -> dict:
    out = {}
    for name, changes in VARIANTS.items():
        out[f"flux1-{name}"] = shapes(lambda c=changes: bfl_flux(**c))
        out[f"flux1-{name}-diffusers"] = shapes(lambda c=changes: diffusers_flux(**c))
    out["z-image"] = shapes(lambda: ZImageTransformer2DModel(**Z_IMAGE))
    out["z-image-fused"] = fused_z_image(out["z-image"])
    out["autoencoder-kl"] = shapes(lambda: AutoencoderKL(**KL))
    out["autoencoder-kl-bfl"] = bfl_autoencoder(out["autoencoder-kl"])
    out["taef1"] = shapes(lambda: AutoencoderTiny(latent_channels=16))
    out["t5-xxl"] = shapes(lambda: T5EncoderModel(T5Config(**T5_XXL)), drop=("encoder.embed_tokens.weight",))
    out["clip-l"] = clip_prefix(shapes(lambda: CLIPTextModel(CLIPTextConfig(**CLIP_L))))
    out["qwen3-4b"] = shapes(lambda: Qwen3Model(Qwen3Config(**QWEN3_4B)), prefix="model.")
    out["siglip-so400m"] = siglip_prefix(shapes(lambda: SiglipVisionModel(SiglipVisionConfig(**SIGLIP_SO400M))))
    return out


def count(found: dict) -> tuple:
    return len(found), sum(torch.Size(s).numel() for s in found.values())


def generate() -> None:
    for name, found in inventories().items():
        if name in EXPECTED and count(found) != EXPECTED[name]:
            raise ValueError(f"{name}: {count(found)} tensors and parameters, the checkpoint has {EXPECTED[name]}")
        path = ROOT / FOLDER / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in found.items()) + "\n}\n")
        print(f"inventory {name}: {count(found)[0]} tensors, {count(found)[1]} parameters", file=sys.stderr)
