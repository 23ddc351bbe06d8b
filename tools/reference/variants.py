"""Goldens for the models that examples/variants compose from parts: Lumina 2 and Chroma of diffusers, end to end at tiny widths, and their names."""

import json

import torch
from diffusers import ChromaTransformer2DModel, Lumina2Transformer2DModel

from golden import ROOT, Golden, Mutation, Run, make
from inventories import shapes
from weights import fill, normal

FOLDER = "examples/test/goldens"
LUMINA2 = {"in_channels": 4, "hidden_size": 48, "num_layers": 2, "num_refiner_layers": 1, "num_attention_heads": 4, "num_kv_heads": 2, "multiple_of": 16, "axes_dim_rope": [4, 4, 4], "cap_feat_dim": 20}
CHROMA = {"in_channels": 16, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 12, "num_attention_heads": 3, "joint_attention_dim": 20, "axes_dims_rope": [4, 4, 4], "approximator_num_channels": 64, "approximator_hidden_dim": 24, "approximator_layers": 2}
# The released sizes: Alpha-VLLM/Lumina-Image-2.0 and lodestones/Chroma1-HD transformer/config.json.
LUMINA2_FULL = {"in_channels": 16, "hidden_size": 2304, "num_layers": 26, "num_refiner_layers": 2, "num_attention_heads": 24, "num_kv_heads": 8, "axes_dim_rope": [32, 32, 32], "cap_feat_dim": 2304}
CHROMA_FULL = {}


def run_lumina2(**changes) -> Run:
    config = {**LUMINA2, **changes}
    model = Lumina2Transformer2DModel(**config).eval()
    fill(model, [])
    given = {"latents": normal("lumina2.latents", 1, 4, 6, 10), "cap": normal("lumina2.cap", 1, 7, 20), "t": torch.tensor([0.3125])}
    mask = torch.ones(1, 7, dtype=torch.int64)
    out = model(given["latents"], given["t"], given["cap"], mask, return_dict=False)[0]
    return Run(given, model.state_dict(), {"output": out}, ["output"])


def run_chroma(swap: bool = False, **changes) -> Run:
    model = ChromaTransformer2DModel(**{**CHROMA, **changes}).eval()
    fill(model, [])
    given = {"img": normal("chroma.img", 1, 15, 16), "txt": normal("chroma.txt", 1, 7, 20), "t": torch.tensor([0.3125])}
    rows, columns = torch.meshgrid(torch.arange(3.0), torch.arange(5.0), indexing="ij")
    first, second = (columns, rows) if swap else (rows, columns)
    ids = torch.stack([torch.zeros(15), first.flatten(), second.flatten()], -1)
    out = model(given["img"], given["txt"], given["t"], ids, torch.zeros(7, 3), return_dict=False)[0]
    return Run(given, model.state_dict(), {"output": out}, ["output"])


@torch.no_grad()
def generate() -> None:
    make(Golden(f"{FOLDER}/lumina2.safetensors", "diffusers Lumina2Transformer2DModel", LUMINA2, run_lumina2, [Mutation("norm_eps 1e-5 -> 1e-2", {"norm_eps": 1e-2}), Mutation("axes [4,4,4] -> [2,4,6]", {"axes_dim_rope": [2, 4, 6]})]))
    make(Golden(f"{FOLDER}/chroma.safetensors", "diffusers ChromaTransformer2DModel", CHROMA, run_chroma, [Mutation("axes [4,4,4] -> [2,4,6]", {"axes_dims_rope": [2, 4, 6]}), Mutation("rows and columns swapped", {"swap": True})]))
    for name, build in (("lumina2", lambda: Lumina2Transformer2DModel(**LUMINA2_FULL)), ("chroma", lambda: ChromaTransformer2DModel(**CHROMA_FULL))):
        found = shapes(build)
        rows = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in found.items())
        (ROOT / "packages/testing/inventories" / f"{name}.json").write_text("{\n" + rows + "\n}\n")
        print(f"inventory {name}: {len(found)} tensors")
