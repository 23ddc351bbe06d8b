"""T5 v1.1 encoder goldens: gated GELU, unscaled scores, one relative bias table for all layers, distances beyond the last bucket."""

import torch
from transformers import T5Config, T5EncoderModel
from transformers.models.t5 import modeling_t5

from golden import Capture, Golden, Mutation, Run, make, patched
from weights import fill, integers

FOLDER = "packages/encoders/test/goldens"
CONFIG = {
    "vocab_size": 67,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 3,
    "num_heads": 6,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
RULES = [(r"shared|embed_tokens", 0.05), (r"\.o\.|wo", 0.3), (r"relative_attention_bias", 4.0), (r"\.[qk]\.", 0.7), (r"wi_0", 1.5)]


def run(edit=lambda model: None, **changes) -> Run:
    """150 tokens, padded by zeros that are attended as in FLUX pipelines; the second item has no padding."""
    model = T5EncoderModel(T5Config(**{**CONFIG, **changes}))
    fill(model, RULES)
    edit(model)
    ids = integers("t5.ids", 2, 67, 2, 150)
    ids[0, 40] = 1
    ids[0, 41:] = 0

    def skip(path: str) -> bool:
        return not path.endswith(("SelfAttention", "DenseReluDense", "layer_norm", "shared", "layer.0", "layer.1", "o", "relative_attention_bias"))

    with Capture(model, skip=lambda path: skip(path) or (".block.2" in path) or path == "encoder.embed_tokens") as outputs:
        result = model(input_ids=ids, output_hidden_states=True)
    # Modules return the position bias too, which is large.
    outputs = {k.removesuffix(":0"): v for k, v in outputs.items() if not k.endswith((":1", ":2"))}
    for i, state in enumerate(result.hidden_states):
        outputs[f"hidden_states.{i}"] = state
    outputs["last_hidden_state"] = result.last_hidden_state
    weights = {k: v for k, v in model.state_dict().items() if k != "encoder.embed_tokens.weight"}
    return Run({"input_ids": ids.int()}, weights, outputs, ["last_hidden_state"])


def scaled(model) -> None:
    """Scores divided by the square root of the head width, as in other models."""
    for name, p in model.named_parameters():
        if name.endswith("SelfAttention.q.weight"):
            p.data /= CONFIG["d_kv"] ** 0.5


def biased_in_one_layer():
    """The relative bias added in layer 0 only."""
    blocks = modeling_t5.T5Block.forward

    def forward(self, hidden_states, *args, **kwargs):
        if len(args) > 1 and isinstance(args[1], torch.Tensor):
            args = (args[0], torch.zeros_like(args[1]), *args[2:])
        if isinstance(kwargs.get("position_bias"), torch.Tensor):
            kwargs["position_bias"] = torch.zeros_like(kwargs["position_bias"])
        return blocks(self, hidden_states, *args, **kwargs)

    return patched(modeling_t5.T5Block, "forward", forward)


def one_directional(model) -> None:
    for m in model.modules():
        if isinstance(m, modeling_t5.T5Attention):
            m.is_decoder = True


def erf_gelu(model) -> None:
    for m in model.modules():
        if isinstance(m, modeling_t5.T5DenseGatedActDense):
            m.act = torch.nn.GELU()


MUTATIONS = [
    Mutation("layer_norm_epsilon 1e-6 -> 1e-5", {"layer_norm_epsilon": 1e-5}),
    Mutation("layer_norm_epsilon 1e-6 -> 0", {"layer_norm_epsilon": 0.0}),
    Mutation("GELU tanh -> erf", {"edit": erf_gelu}),
    Mutation("scores scaled by 1/sqrt(d_kv)", {"edit": scaled}),
    Mutation("max_distance 128 -> 127", {"relative_attention_max_distance": 127}),
    Mutation("max_distance 128 -> 64", {"relative_attention_max_distance": 64}),
    Mutation("buckets for one direction", {"edit": one_directional}),
    Mutation("relative bias in layer 0 only", patch=biased_in_one_layer),
    Mutation("gate GELU -> SiLU", {"feed_forward_proj": "gated-silu"}),
]


def generate() -> None:
    make(Golden(f"{FOLDER}/t5.safetensors", "transformers T5EncoderModel", CONFIG, run, MUTATIONS, tolerance=1e-5))
