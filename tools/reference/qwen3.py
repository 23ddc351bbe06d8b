"""Qwen3 text encoder goldens: every hidden state of a batch with right padding, grouped heads, per-head q/k norms, rotate-half RoPE."""

import torch
from transformers import Qwen3Config, Qwen3Model
from transformers.models.qwen3 import modeling_qwen3

from golden import Capture, Golden, Mutation, Run, make, patch
from weights import fill, integers

FOLDER = "packages/encoders/test/goldens"
CONFIG = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "max_position_embeddings": 64,
    "attention_bias": False,
    "tie_word_embeddings": True,
}
RULES = [(r"embed_tokens", 0.1), (r"o_proj|down_proj", 0.5)]
LENGTHS = [23, 14]


def build(scale: float = 1.0, **changes) -> Qwen3Model:
    config = {**CONFIG, **changes}
    theta = config.pop("rope_theta")
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
    model = Qwen3Model(Qwen3Config(**config, attn_implementation="eager"))
    fill(model, RULES)
    for layer in model.layers:
        layer.self_attn.scaling *= scale
    return model


def run(masked: bool = True, **changes) -> Run:
    model = build(**changes)
    ids = integers("qwen3.ids", 1, 97, 2, max(LENGTHS))
    mask = torch.tensor([[1] * n + [0] * (max(LENGTHS) - n) for n in LENGTHS])
    with Capture(model, "model.", skip=lambda path: path in ("layers", "rotary_emb")) as outputs:
        states = model(input_ids=ids, attention_mask=mask if masked else None, output_hidden_states=True).hidden_states
    for i, state in enumerate(states):
        outputs[f"hidden_states.{i}"] = state
    weights = {f"model.{k}": v for k, v in model.state_dict().items()}
    end = [f"hidden_states.{len(states) - 2}", f"hidden_states.{len(states) - 1}"]
    return Run({"input_ids": ids.int(), "attention_mask": mask.int()}, weights, outputs, end)


def interleaved(x: torch.Tensor) -> torch.Tensor:
    return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)


MUTATIONS = [
    Mutation("rms_norm_eps 1e-6 -> 1e-5", {"rms_norm_eps": 1e-5}),
    Mutation("rms_norm_eps 1e-6 -> 0", {"rms_norm_eps": 0.0}),
    Mutation("rope_theta 1e6 -> 5e5", {"rope_theta": 5e5}),
    Mutation("rope_theta 1e6 -> 1e4", {"rope_theta": 1e4}),
    Mutation("attention scale x 1.01", {"scale": 1.01}),
    Mutation("hidden_act silu -> gelu", {"hidden_act": "gelu"}),
    Mutation("attention mask ignored", {"masked": False}),
    Mutation("RoPE pairing half-split -> interleaved", patch=patch(modeling_qwen3, "rotate_half", interleaved)),
    Mutation("grouped heads interleaved instead of consecutive", patch=patch(modeling_qwen3, "repeat_kv", lambda x, n: x.repeat(1, n, 1, 1))),
    Mutation("q/k norm left out", patch=lambda: patched_norm()),
]


def patched_norm():
    from golden import patched

    real = modeling_qwen3.Qwen3RMSNorm.forward

    def forward(self, x):
        return x if x.dim() == 4 else real(self, x)

    return patched(modeling_qwen3.Qwen3RMSNorm, "forward", forward)


def generate() -> None:
    make(Golden(f"{FOLDER}/qwen3.safetensors", "transformers Qwen3Model", CONFIG, run, MUTATIONS))
