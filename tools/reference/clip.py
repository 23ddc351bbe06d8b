"""CLIP text goldens: causal, quick GELU, pooled at the first end token after the final norm; the projection is not applied."""

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from golden import Capture, Golden, Mutation, Run, make
from weights import fill, integers

FOLDER = "packages/encoders/test/goldens"
CONFIG = {
    "vocab_size": 99,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "max_position_embeddings": 24,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 2,
    "bos_token_id": 97,
    "pad_token_id": 98,
}
RULES = [(r"embedding", 0.1), (r"out_proj|fc2", 0.5)]


def run(pool=None, edit=lambda model: None, **changes) -> Run:
    """Two prompts of 24 tokens that end at 10 and at 23; the end token, which is also the padding, has the largest id."""
    model = CLIPTextModel(CLIPTextConfig(**{**CONFIG, **changes}))
    fill(model, RULES)
    edit(model)
    ids = integers("clip.ids", 1, 97, 2, 24)
    ids[:, 0], ids[0, 10:], ids[1, 23] = 97, 98, 98
    prefix = "" if any(n.startswith("text_model.") for n, _ in model.named_modules()) else "text_model."
    with Capture(model, prefix, skip=lambda path: path.endswith("layers") or path.endswith(("encoder", "text_model"))) as outputs:
        result = model(input_ids=ids, output_hidden_states=True)
    for i, state in enumerate(result.hidden_states):
        outputs[f"hidden_states.{i}"] = state
    outputs["last_hidden_state"] = result.last_hidden_state
    outputs["pooler_output"] = result.pooler_output if pool is None else pool(result.last_hidden_state)
    weights = {prefix + k: v for k, v in model.state_dict().items() if not k.endswith("position_ids")}
    return Run({"input_ids": ids.int()}, weights, outputs, ["last_hidden_state", "pooler_output"])


def unscaled(model) -> None:
    for m in model.modules():
        if hasattr(m, "q_proj"):
            m.scale = 1.0
            m.scaling = 1.0


MUTATIONS = [
    Mutation("layer_norm_eps 1e-5 -> 1e-6", {"layer_norm_eps": 1e-6}),
    Mutation("hidden_act quick_gelu -> gelu", {"hidden_act": "gelu"}),
    Mutation("hidden_act quick_gelu -> gelu_new", {"hidden_act": "gelu_new"}),
    Mutation("heads 3 -> 6", {"num_attention_heads": 6}),
    Mutation("scores unscaled", {"edit": unscaled}),
    Mutation("pooled at the last position", {"pool": lambda h: h[:, -1]}),
    Mutation("pooled at the first position", {"pool": lambda h: h[:, 0]}),
    Mutation("pooled by a mean", {"pool": lambda h: h.mean(1)}),
]


def generate() -> None:
    torch.manual_seed(0)
    make(Golden(f"{FOLDER}/clip.safetensors", "transformers CLIPTextModel", CONFIG, run, MUTATIONS, tolerance=1e-5))
