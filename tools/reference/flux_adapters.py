"""What adds an input to FLUX.1 dev: control adapters (the authors' FluxLoraWrapper) and Redux (diffusers' ReduxImageEncoder)."""

import torch
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from torch import nn
from torch.nn import functional as F

import flux1
import official
from golden import ROOT, Golden, Mutation, Run, make, patched, write_safetensors
from weights import fill, normal

ADAPTER = f"{flux1.FOLDER}/control-lora.safetensors"
RANK, SCALE = 3, 0.85


def widened(state: dict, model: nn.Module) -> dict:
    """The image embedder's weight with columns of 0 for the control picture, as src/flux/util.py does it."""
    out = dict(state)
    weight = torch.zeros_like(model.img_in.weight)
    weight[:, : state["img_in.weight"].shape[1]] = state["img_in.weight"]
    return out | {"img_in.weight": weight}


def adapter(model: nn.Module) -> dict:
    """Low-rank pairs with a bias for every layer, and norms that replace the model's."""
    out = {}
    for name, p in model.named_parameters():
        if ".lora_" in name:
            out[name] = normal(f"control.{name}", *p.shape, scale=0.02 if name.endswith("bias") else 0.15)
        elif name.endswith(".scale"):
            out[name] = 1 + normal(f"control.{name}", *p.shape, scale=0.2)
    return out


def run_control(scale: float = SCALE, without: str = "") -> Run:
    """`without`: an ending of names in the adapter file that are left out."""
    with official.source("flux"):
        from flux.model import FluxLoraWrapper, FluxParams

    weights = flux1.build().state_dict()
    model = FluxLoraWrapper(lora_rank=RANK, lora_scale=scale, params=FluxParams(**{**flux1.CONFIG, "in_channels": 128}))
    model.load_state_dict(widened(weights, model), strict=False)
    for name, p in model.named_parameters():
        if ".lora_" in name:
            p.data.zero_()
    given = flux1.inputs(channels=128, batch=1)
    outputs = {"base": model(**given)}
    state = {k: v for k, v in adapter(model).items() if not (without and k.endswith(without))}
    model.load_state_dict(state, strict=False)
    outputs["output"] = model(**given)
    run = Run(given, {}, outputs, ["output"])
    run.adapter = state
    return run


CONTROL = [
    Mutation("scale 0.85 -> 0.86", {"scale": 0.86}),
    Mutation("norms not replaced", {"without": ".scale"}),
    Mutation("no bias of lora_B", {"without": "lora_B.bias"}),
    Mutation("the image embedder left as it is", {"without": "img_in.lora_B.weight"}),
]


def run_redux(gelu: bool = False, appended: bool = True) -> Run:
    """Features of a picture as tokens of dev's text."""
    encoder = ReduxImageEncoder(redux_dim=12, txt_in_features=flux1.CONFIG["context_in_dim"])
    weights = fill(encoder)
    features = normal("redux.features", 1, 6, 12)
    with patched(nn.functional, "silu", F.gelu if gelu else F.silu):
        tokens = encoder(features).image_embeds
    model = flux1.build()
    given = flux1.inputs(batch=1)
    txt = torch.cat([given["txt"], tokens], 1) if appended else given["txt"]
    output = model(**{**given, "txt": txt, "txt_ids": torch.zeros(1, txt.shape[1], 3)})
    return Run(given | {"features": features}, weights, {"tokens": tokens, "output": output}, ["output"])


REDUX = [Mutation("gelu instead of silu", {"gelu": True}), Mutation("no tokens", {"appended": False})]


@torch.no_grad()
def generate() -> None:
    extra = {"baseWeights": flux1.WEIGHTS_FILE, "adapter": "control-lora.safetensors", "scale": str(SCALE)}
    make(Golden(f"{flux1.FOLDER}/flux1-control-lora.safetensors", "black-forest-labs/flux @ 802fb47 src/flux/model.py", flux1.CONFIG, run_control, CONTROL, extra=extra))
    write_safetensors(ROOT / ADAPTER, run_control().adapter, {"format": "pt"})
    make(Golden(f"{flux1.FOLDER}/flux1-redux.safetensors", "diffusers ReduxImageEncoder", flux1.CONFIG, run_redux, REDUX, extra={"baseWeights": flux1.WEIGHTS_FILE}))
