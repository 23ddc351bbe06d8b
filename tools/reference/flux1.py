"""FLUX.1 transformer goldens from the authors' class: guidance, no guidance, a Kontext reference, Fill channels; diffusers must agree."""

import contextlib

import torch
from diffusers import FluxTransformer2DModel
from torch import nn
from torch.nn import functional as F

import official
from golden import ROOT, Capture, Golden, GoldenRefused, Mutation, Run, make, patch, patched, relative_l2, write_safetensors
from weights import fill, normal

FOLDER = "packages/models-flux/test/goldens"
WEIGHTS_FILE = "flux1.weights.safetensors"
REFERENCE = "black-forest-labs/flux @ 802fb47 src/flux/model.py"
CONFIG = {
    "in_channels": 64,
    "out_channels": 64,
    "vec_in_dim": 20,
    "context_in_dim": 24,
    "hidden_size": 48,
    "mlp_ratio": 4.0,
    "num_heads": 3,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [4, 6, 6],
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": True,
}
# A residual stream near 0.03 and small q and k rows make the epsilons of the norms show. The inputs of GELU lie around -2.3, where its tanh and
# erf forms differ most (by 5e-4 of values near 0.02).
RULES = [(r"img_in|txt_in", 0.03), (r"attn\.proj", 0.2), (r"mlp\.0\.weight", 0.5), (r"mlp\.2|linear2", 1.0)]
GELU_OFFSET = -2.3
DETAILED = ("double_blocks.0", "single_blocks.0")


def theirs():
    with official.source("flux"):
        from flux import math, model
        from flux.modules import layers

        return model, layers, math


def build(**changes) -> nn.Module:
    model, _, _ = theirs()
    flux = model.Flux(model.FluxParams(**{**CONFIG, **changes}))
    fill(flux, RULES)
    rows = 2 * CONFIG["hidden_size"]
    for name, p in flux.named_parameters():
        if "qkv" in name or "linear1" in name:
            p.data[:rows] *= 0.02
        if name.endswith("mlp.0.bias"):
            p.data += GELU_OFFSET
        if name.endswith("linear1.bias"):
            p.data[3 * CONFIG["hidden_size"] :] += GELU_OFFSET
    return flux


def image_ids(first: int, rows: int, columns: int) -> torch.Tensor:
    """Ids [rows * columns, 3] of a grid of packed tokens."""
    ids = torch.zeros(rows, columns, 3)
    ids[..., 0], ids[..., 1], ids[..., 2] = first, torch.arange(rows)[:, None], torch.arange(columns)[None]
    return ids.reshape(-1, 3)


def inputs(channels: int = 64, batch: int = 2, reference: bool = False, guidance: bool = True) -> dict:
    """3 x 5 image tokens and 7 text tokens; a reference adds 2 x 4 tokens with first id 1."""
    ids = image_ids(0, 3, 5)
    if reference:
        ids = torch.cat([ids, image_ids(1, 2, 4)])
    given = {
        "img": normal(f"flux.img.{channels}.{reference}", batch, len(ids), channels),
        "img_ids": ids.expand(batch, -1, -1).contiguous(),
        "txt": normal("flux.txt", batch, 7, 24),
        "txt_ids": torch.zeros(batch, 7, 3),
        "timesteps": torch.tensor([0.75, 0.3125])[:batch],
        "y": normal("flux.y", batch, 20),
    }
    return given | ({"guidance": torch.tensor([3.5, 2.0])[:batch]} if guidance else {})


def recorded(path: str) -> bool:
    if path in ("double_blocks", "single_blocks") or path.endswith(("_mlp", "adaLN_modulation")):
        return False
    inside = path.startswith(("double_blocks", "single_blocks")) and path.count(".") > 1
    return not inside or path.startswith(DETAILED)


def run_with(given: dict, edit=lambda model: None, **changes) -> Run:
    model = build(**changes)
    edit(model)
    with Capture(model, skip=lambda path: not recorded(path)) as outputs:
        outputs["output"] = model(**given)
    return Run(given, model.state_dict(), outputs, ["output"])


def diffusers_weights(bfl: dict) -> dict:
    """The same weights under diffusers' names: fused rows split, the halves of the final modulation swapped."""
    out = {}
    plain = {
        "img_in": "x_embedder",
        "txt_in": "context_embedder",
        "final_layer.linear": "proj_out",
        **{f"{a}_in.{b}_layer": f"time_text_embed.{c}_embedder.linear_{d}" for a, c in (("time", "timestep"), ("guidance", "guidance"), ("vector", "text")) for b, d in (("in", 1), ("out", 2))},
    }
    double = {
        "img_mod.lin": "norm1.linear",
        "txt_mod.lin": "norm1_context.linear",
        "img_attn.proj": "attn.to_out.0",
        "txt_attn.proj": "attn.to_add_out",
        "img_mlp.0": "ff.net.0.proj",
        "img_mlp.2": "ff.net.2",
        "txt_mlp.0": "ff_context.net.0.proj",
        "txt_mlp.2": "ff_context.net.2",
        "img_attn.norm.query_norm": "attn.norm_q",
        "img_attn.norm.key_norm": "attn.norm_k",
        "txt_attn.norm.query_norm": "attn.norm_added_q",
        "txt_attn.norm.key_norm": "attn.norm_added_k",
    }
    single = {"modulation.lin": "norm.linear", "linear2": "proj_out", "norm.query_norm": "attn.norm_q", "norm.key_norm": "attn.norm_k"}
    d = CONFIG["hidden_size"]
    for name, t in bfl.items():
        module, _, kind = name.rpartition(".")
        kind = "weight" if kind == "scale" else kind
        stack, _, rest = module.partition(".")
        index, _, part = rest.partition(".")
        if stack == "double_blocks" and part.endswith("qkv"):
            targets = ["attn.to_q", "attn.to_k", "attn.to_v"] if part.startswith("img") else ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]
            out |= {f"transformer_blocks.{index}.{n}.{kind}": c for n, c in zip(targets, t.chunk(3))}
        elif stack == "double_blocks":
            out[f"transformer_blocks.{index}.{double[part]}.{kind}"] = t
        elif stack == "single_blocks" and part == "linear1":
            parts = t.split([d, d, d, len(t) - 3 * d])
            out |= {f"single_transformer_blocks.{index}.{n}.{kind}": c for n, c in zip(["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"], parts)}
        elif stack == "single_blocks":
            out[f"single_transformer_blocks.{index}.{single[part]}.{kind}"] = t
        elif module == "final_layer.adaLN_modulation.1":
            out[f"norm_out.linear.{kind}"] = torch.cat(t.chunk(2)[::-1])
        else:
            out[f"{plain[module]}.{kind}"] = t
    return {k: v.contiguous() for k, v in out.items()}


def diffusers_model(weights: dict, **changes) -> FluxTransformer2DModel:
    c = {**CONFIG, **changes}
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=c["in_channels"],
        out_channels=c["out_channels"],
        num_layers=c["depth"],
        num_single_layers=c["depth_single_blocks"],
        attention_head_dim=sum(c["axes_dim"]),
        num_attention_heads=c["num_heads"],
        joint_attention_dim=c["context_in_dim"],
        pooled_projection_dim=c["vec_in_dim"],
        guidance_embeds=c["guidance_embed"],
        axes_dims_rope=tuple(c["axes_dim"]),
    )
    model.load_state_dict(diffusers_weights(weights), strict=True)
    return model.eval()


def cross_check(name: str, run: Run, **changes) -> None:
    given = run.inputs
    model = diffusers_model(run.weights, **changes)
    actual = model(
        hidden_states=given["img"],
        encoder_hidden_states=given["txt"],
        pooled_projections=given["y"],
        timestep=given["timesteps"],
        img_ids=given["img_ids"][0],
        txt_ids=given["txt_ids"][0],
        guidance=given.get("guidance"),
        return_dict=False,
    )[0]
    error = relative_l2(actual, run.outputs["output"])
    if error > 1e-5:
        raise GoldenRefused(f"flux1 {name}: diffusers and black-forest-labs/flux differ by {error:.2e}")


def norm_eps(eps: float):
    def edit(model) -> None:
        for m in model.modules():
            if isinstance(m, nn.LayerNorm):
                m.eps = eps

    return edit


def qk_eps(eps: float):
    layers = theirs()[1]

    def forward(self, x):
        return x * torch.rsqrt(torch.mean(x**2, dim=-1, keepdim=True) + eps) * self.scale

    return patch(layers.RMSNorm, "forward", forward)


def reorder(suffix: str, order: list):
    """Reads the chunks of a modulation in another order."""

    def edit(model) -> None:
        for name, m in model.named_modules():
            if name.endswith(suffix):
                for p in (m.weight, m.bias):
                    chunks = p.data.chunk(len(order))
                    p.data = torch.cat([chunks[i] for i in order])

    return edit


@contextlib.contextmanager
def half_split_rope():
    math = theirs()[2]

    def apply(q, k, pe):
        cos, sin = pe[..., 0, 0], pe[..., 1, 0]

        def turn(x):
            a, b = x.chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

        return turn(q), turn(k)

    with patched(math, "apply_rope", apply):
        yield


def wrong_embedding(**constants):
    model = theirs()[0]
    real = model.timestep_embedding
    return patch(model, "timestep_embedding", lambda t, dim: real(t, dim, **constants))


def sine_first():
    model = theirs()[0]
    real = model.timestep_embedding
    return patch(model, "timestep_embedding", lambda t, dim: real(t, dim).roll(dim // 2, -1))


def mutations(given: dict) -> list:
    erf = patch(nn.GELU, "forward", lambda self, x: F.gelu(x))
    rows = [
        Mutation("theta 10000 -> 9000", {"theta": 9000}),
        Mutation("theta 10000 -> 256", {"theta": 256}),
        Mutation("axes_dim [4,6,6] -> [6,4,6]", {"axes_dim": [6, 4, 6]}),
        Mutation("LayerNorm eps 1e-6 -> 1e-5", {"edit": norm_eps(1e-5)}),
        Mutation("QK-norm eps 1e-6 -> 1e-5", patch=qk_eps(1e-5)),
        Mutation("GELU tanh -> erf", patch=erf),
        Mutation("time factor 1000 -> 999", patch=wrong_embedding(time_factor=999.0)),
        Mutation("timestep max_period 10000 -> 9900", patch=wrong_embedding(max_period=9900)),
        Mutation("timestep embedding sine first", patch=sine_first()),
        Mutation("RoPE pairing interleaved -> half-split", patch=half_split_rope),
        Mutation("double modulation order shift, scale -> scale, shift", {"edit": reorder("_mod.lin", [1, 0, 2, 4, 3, 5])}),
        Mutation("single modulation order shift, scale -> scale, shift", {"edit": reorder("modulation.lin", [1, 0, 2])}),
        Mutation("final modulation order shift, scale -> scale, shift", {"edit": reorder("adaLN_modulation.1", [1, 0])}),
    ]
    if "guidance" in given:
        rows.append(Mutation("guidance 3.5 -> 3.51", {"given": given | {"guidance": given["guidance"] + 0.01}}))
    if given["img"].shape[1] > 15:
        ids = given["img_ids"].clone()
        ids[..., 0] = 0
        rows.append(Mutation("first id of the reference 1 -> 0", {"given": given | {"img_ids": ids}}))
    return rows


@torch.no_grad()
def generate() -> None:
    cases = {
        "dev": (inputs(), {}),
        "schnell": (inputs(guidance=False), {"guidance_embed": False}),
        "kontext": (inputs(batch=1, reference=True), {}),
        "fill": (inputs(channels=384, batch=1), {"in_channels": 384}),
        "control": (inputs(channels=128, batch=1), {"in_channels": 128}),
    }
    for name, (stored, changes) in cases.items():

        def run(given=stored, changes=changes, **mutated) -> Run:
            return run_with(given, **{**changes, **mutated})

        base = run()
        cross_check(name, base, **changes)
        own = ("img_in.weight", "img_in.bias") if "in_channels" in changes else ()
        config = {**CONFIG, **changes}
        make(Golden(f"{FOLDER}/flux1-{name}.safetensors", REFERENCE, config, run, mutations(stored), weights_file=WEIGHTS_FILE, own_weights=own, writes_weights=name == "dev"))
        if name == "dev":
            renamed = {f"w.{k}": v for k, v in diffusers_weights(base.weights).items()}
            write_safetensors(ROOT / FOLDER / "flux1.weights-diffusers.safetensors", renamed, {"config": config, "reference": "diffusers FluxTransformer2DModel"})
