"""LoRA goldens: PEFT on a Linear, and the adapter dialects of FLUX.1 and Z-Image, which must all give one output in diffusers."""

import re

import torch
from diffusers.loaders import FluxLoraLoaderMixin, ZImageLoraLoaderMixin
from peft import LoraConfig, get_peft_model
from torch import nn

import flux1
import z_image
from golden import ROOT, Golden, GoldenRefused, Mutation, Run, make, relative_l2, write_safetensors
from weights import fill, normal

FOLDER = "packages/nn/test/goldens"
RANK, ALPHA = 3, 2.0


def run_linear(scale: float = 1.0, alpha: float = ALPHA, swapped: bool = False) -> Run:
    """y = (W + scale alpha / rank up down) x + b: plain, with rank-stabilised scaling, and merged."""
    x = normal("lora.x", 4, 10)
    outputs, weights, stored = {}, {}, {}
    for name, options in (("plain", {}), ("rslora", {"use_rslora": True})):
        base = nn.Sequential()
        base.add_module("proj", nn.Linear(10, 7))
        weights = fill(base)
        model = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=alpha, target_modules=["proj"], **options))
        layer = model.base_model.model.proj
        down, up = normal("lora.down", RANK, 10, scale=0.3), normal("lora.up", 7, RANK, scale=0.3)
        layer.lora_A["default"].weight.data = down
        layer.lora_B["default"].weight.data = up
        layer.set_scale("default", scale)
        outputs[name] = model(x)
        outputs[f"{name}.weight"] = weights["proj.weight"] + layer.get_delta_weight("default")
        merged = model.merge_and_unload()
        outputs[f"{name}.merged"] = merged(x)
        stored = {"x": x, "down": down, "up": up}
    return Run(stored, weights, outputs, ["plain", "rslora"])


LINEAR = [
    Mutation("lora_alpha 2 -> 3 (= rank, as when alpha is forgotten)", {"alpha": 3.0}),
    Mutation("scale 1 -> 0.99", {"scale": 0.99}),
]


def pair(module: str, out_features: int, in_features: int, rank: int = RANK) -> tuple:
    return normal(f"lora.{module}.down", rank, in_features, scale=0.3), normal(f"lora.{module}.up", out_features, rank, scale=0.3)


def flux_modules(fixed_widths: bool = True) -> dict:
    """Authors' module name -> (down, up) over fused and plain layers.

    diffusers' converters split linear1 at the widths of the released model, so tiny adapters can only be converted without it.
    """
    d = flux1.CONFIG["hidden_size"]
    sizes = {
        "double_blocks.0.img_attn.qkv": (3 * d, d),
        "double_blocks.0.txt_attn.qkv": (3 * d, d),
        "double_blocks.0.img_attn.proj": (d, d),
        "double_blocks.1.txt_mlp.0": (4 * d, d),
        "double_blocks.1.img_mlp.2": (d, 4 * d),
        "double_blocks.1.img_mod.lin": (6 * d, d),
        "single_blocks.0.linear1": (7 * d, d),
        "single_blocks.0.linear2": (d, 5 * d),
        "single_blocks.1.modulation.lin": (3 * d, d),
    }
    return {name: pair(name, *size) for name, size in sizes.items() if fixed_widths or not name.endswith("linear1")}


def diffusers_pairs(modules: dict) -> dict:
    """Authors' fused pairs -> diffusers modules: the rows of `up` are split, `down` is shared."""
    out = {}
    for name, (down, up) in modules.items():
        for target, rows in flux1.diffusers_weights({f"{name}.weight": up}).items():
            out[target.removesuffix(".weight")] = (down, rows)
    return out


def as_peft(pairs: dict, prefix: str, factor: float = 1.0) -> dict:
    out = {}
    for name, (down, up) in pairs.items():
        out |= {f"{prefix}{name}.lora_A.weight": down.clone(), f"{prefix}{name}.lora_B.weight": (up * factor).clone()}
    return out


def as_kohya(pairs: dict, alpha: float, rank: int = RANK) -> dict:
    out = {}
    for name, (down, up) in pairs.items():
        key = "lora_unet_" + name.replace(".", "_")
        out |= {f"{key}.lora_down.weight": down.clone(), f"{key}.lora_up.weight": up.clone(), f"{key}.alpha": torch.tensor(alpha)}
    return out


def as_xlabs(modules: dict) -> dict:
    """Double blocks only: 1 is the image stream, 2 the text stream."""
    out = {}
    for name, (down, up) in modules.items():
        found = re.match(r"double_blocks\.(\d+)\.(img|txt)_attn\.(qkv|proj)$", name)
        if found:
            key = f"double_blocks.{found[1]}.processor.{found[3]}_lora{1 if found[2] == 'img' else 2}"
            out |= {f"{key}.down.weight": down.clone(), f"{key}.up.weight": up.clone()}
    return out


def loaded(model, mixin, state: dict):
    """The model with an adapter file loaded by diffusers' own loader for that family, whatever its dialect."""
    converted = mixin.lora_state_dict({k: v.clone() for k, v in state.items()}, return_alphas=True)
    converted, alphas = converted if isinstance(converted, tuple) else (converted, None)
    model.load_lora_adapter(converted, prefix="transformer", network_alphas=alphas or None, adapter_name="test")
    return model


def run_flux_model(model, given: dict) -> torch.Tensor:
    return model(
        hidden_states=given["img"],
        encoder_hidden_states=given["txt"],
        pooled_projections=given["y"],
        timestep=given["timesteps"],
        img_ids=given["img_ids"][0],
        txt_ids=given["txt_ids"][0],
        guidance=given["guidance"],
        return_dict=False,
    )[0]


def flux_dialects(fixed_widths: bool = True) -> dict:
    """All but XLabs describe the same change of the weights. diffusers does not read the `bfl` form: it is `kohya` with dotted names."""
    modules = flux_modules(fixed_widths)
    return {
        "kohya": as_kohya(modules, ALPHA),
        "bfl": as_peft(modules, "diffusion_model.", ALPHA / RANK),
        "diffusers": as_peft(diffusers_pairs(modules), "transformer.", ALPHA / RANK),
        "xlabs": as_xlabs(modules),
    }


def run_flux(dialects: dict | None = None, scale: float = 1.0, names: tuple = ("diffusers", "xlabs")) -> Run:
    given = flux1.inputs(batch=1)
    weights = flux1.build().state_dict()
    outputs = {"base": run_flux_model(flux1.diffusers_model(weights), given)}
    chosen = {n: s for n, s in (dialects or flux_dialects()).items() if n in names}
    for name, state in chosen.items():
        model = loaded(flux1.diffusers_model(weights), FluxLoraLoaderMixin, state)
        model.set_adapters(["test"], [scale])
        outputs[name] = run_flux_model(model, given)
    return Run(given, {}, outputs, [n for n in outputs if n != "base"])


def z_image_modules() -> dict:
    d, f = z_image.CONFIG["dim"], 128
    sizes = {
        "layers.0.attention.to_q": (d, d),
        "layers.0.attention.to_k": (d, d),
        "layers.0.attention.to_v": (d, d),
        "layers.0.attention.to_out.0": (d, d),
        "layers.0.feed_forward.w1": (f, d),
        "layers.1.feed_forward.w2": (d, f),
        "layers.1.feed_forward.w3": (f, d),
        "layers.1.adaLN_modulation.0": (4 * d, d),
        "noise_refiner.0.attention.to_q": (d, d),
        "context_refiner.1.feed_forward.w1": (f, d),
    }
    pairs = {name: pair(name, *size) for name, size in sizes.items()}
    shared = pairs["layers.0.attention.to_q"][0]
    return {name: (shared if name.startswith("layers.0.attention.to_") and name[-1] in "qkv" else p[0], p[1]) for name, p in pairs.items()}


def fused_attention(pairs: dict) -> dict:
    """The single-file names: one fused qkv, `out` instead of `to_out.0`."""
    rest = {n.replace("to_out.0", "out"): p for n, p in pairs.items() if not re.match(r"layers\.0\.attention\.to_[qkv]$", n)}
    q, k, v = (pairs[f"layers.0.attention.to_{c}"] for c in "qkv")
    return rest | {"layers.0.attention.qkv": (q[0], torch.cat([q[1], k[1], v[1]]))}


def z_image_dialects() -> dict:
    """All describe the same change. diffusers ignores a fused qkv: `fused` equals the others because its rows are theirs in order."""
    pairs = z_image_modules()
    return {
        "diffusers": as_peft(pairs, "transformer.", ALPHA / RANK),
        "ai-toolkit": as_peft(pairs, "diffusion_model.", ALPHA / RANK),
        "kohya": as_kohya(pairs, ALPHA),
        "fused": as_peft(fused_attention({n: p for n, p in pairs.items() if not n.startswith("noise")}) | {n: p for n, p in pairs.items() if n.startswith("noise")}, "diffusion_model.", ALPHA / RANK),
    }


def run_z_image(dialects: dict | None = None, scale: float = 1.0) -> Run:
    latents, captions, t = z_image.inputs_exact()
    t = t + 0.5
    given = {"latents": latents, "cap.0": captions[0], "t": t}
    outputs = {"base": torch.stack(z_image.build()(list(latents.unbind(0)), t, captions, return_dict=False)[0])}
    for name, state in (dialects or z_image_dialects()).items():
        if name == "fused":
            continue
        model = loaded(z_image.build(), ZImageLoraLoaderMixin, state)
        model.set_adapters(["test"], [scale])
        outputs[name] = torch.stack(model(list(latents.unbind(0)), t, captions, return_dict=False)[0])
    return Run(given, {}, outputs, ["diffusers"])


def same(run: Run, names: list) -> None:
    for name in names[1:]:
        error = relative_l2(run.outputs[name], run.outputs[names[0]])
        if error > 1e-5:
            raise GoldenRefused(f"lora dialects {names[0]} and {name} differ by {error:.2e}")
    if any(relative_l2(run.outputs[n], run.outputs["base"]) < 1e-2 for n in names):
        raise GoldenRefused("the adapter changes nothing")


@torch.no_grad()
def generate() -> None:
    make(Golden(f"{FOLDER}/lora-linear.safetensors", "peft LoraConfig", {"rank": RANK, "alpha": ALPHA}, run_linear, LINEAR, tolerance=1e-5))
    same(run_flux(flux_dialects(False), names=("diffusers", "kohya")), ["diffusers", "kohya"])
    same(run_flux(names=("xlabs",)), ["xlabs"])
    same(run_z_image(), ["diffusers", "ai-toolkit", "kohya"])
    for family, run, dialects, config, weights in (
        ("flux1", run_flux, flux_dialects(), flux1.CONFIG, "packages/models-flux/test/goldens/flux1.weights.safetensors"),
        ("z-image", run_z_image, z_image_dialects(), z_image.CONFIG, "packages/models-zimage/test/goldens/z-image.weights.safetensors"),
    ):
        weaker = {n: {k: (v * 0.99 if k.endswith(("lora_up.weight", "lora_B.weight", ".up.weight")) else v) for k, v in s.items()} for n, s in dialects.items()}
        mutations = [Mutation("up x 0.99", {"dialects": weaker}), Mutation("scale 1 -> 0.98", {"scale": 0.98})]
        extra = {"baseWeights": weights, "dialects": list(dialects)}
        make(Golden(f"{FOLDER}/lora-{family}.safetensors", "diffusers PEFT adapters", config, run, mutations, extra=extra))
        for name, state in dialects.items():
            write_safetensors(ROOT / FOLDER / f"lora-{family}.{name}.safetensors", state, {"format": "pt"})
