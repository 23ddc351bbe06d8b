"""Goldens of the layers in packages/nn: transformers' and diffusers' own modules at tiny widths."""

import torch
from diffusers.models.attention_processor import Attention, JointAttnProcessor2_0
from diffusers.models.normalization import AdaLayerNormZero
from torch import nn
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3MLP, Qwen3RotaryEmbedding

from golden import Golden, Mutation, Run, make
from weights import fill, normal

WIDTH, HEADS, KV_HEADS, HEAD_WIDTH = 24, 4, 2, 6


def qwen_config(theta: float, eps: float) -> Qwen3Config:
    config = Qwen3Config(
        hidden_size=WIDTH, intermediate_size=40, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=HEAD_WIDTH,
        rms_norm_eps=eps, rope_parameters={"rope_type": "default", "rope_theta": theta}, max_position_embeddings=64, attention_bias=False,
    )
    config._attn_implementation = "sdpa"
    return config


def run(theta: float = 100.0, eps: float = 1e-3, approximate: str = "tanh", scale: float = HEAD_WIDTH**-0.5, norm_eps: float = 1e-6) -> Run:
    x, context, condition = normal("layers.x", 2, 7, WIDTH), normal("layers.context", 2, 3, WIDTH), normal("layers.condition", 2, WIDTH)
    config = qwen_config(theta, eps)
    modules = nn.ModuleDict({
        "mlp": nn.Sequential(nn.Linear(WIDTH, 40), nn.GELU(approximate=approximate), nn.Linear(40, WIDTH)),
        "swiglu": Qwen3MLP(config),
        "causal": Qwen3Attention(config, 0),
        "joint": Attention(
            query_dim=WIDTH, added_kv_proj_dim=WIDTH, heads=HEADS, dim_head=HEAD_WIDTH, out_dim=WIDTH, bias=True, context_pre_only=False,
            qk_norm="rms_norm", eps=eps, processor=JointAttnProcessor2_0(),
        ),
        "zero": AdaLayerNormZero(WIDTH),
    })
    weights = fill(modules, [(r"norm_k|k_norm", 0.1)])
    modules["causal"].scaling = scale
    modules["zero"].norm.eps = norm_eps
    modules["zero"].emb = None
    cos, sin = Qwen3RotaryEmbedding(config)(x, torch.arange(7)[None])
    shifted, gate, shift2, scale2, gate2 = modules["zero"](x * 1e-2, emb=condition)
    joint = modules["joint"](x, encoder_hidden_states=context)
    mask = torch.full((7, 7), float("-inf")).triu(1)[None, None]
    outputs = {
        "mlp": modules["mlp"](x),
        "swiglu": modules["swiglu"](x),
        "causal": modules["causal"](x, (cos, sin), mask)[0],
        "joint.0": joint[0],
        "joint.1": joint[1],
        "zero.x": shifted, "zero.gate": gate, "zero.shift2": shift2, "zero.scale2": scale2, "zero.gate2": gate2,
    }
    return Run({"x": x, "context": context, "condition": condition}, weights, outputs, list(outputs))


MUTATIONS = [
    Mutation("rope theta 100 -> 200", {"theta": 200.0}),
    Mutation("qk-norm eps 1e-3 -> 2e-3", {"eps": 2e-3}),
    Mutation("gelu tanh -> erf", {"approximate": "none"}),
    Mutation("attention scale x 1.01", {"scale": 1.01 * HEAD_WIDTH**-0.5}),
    Mutation("layer norm eps 1e-6 -> 2e-6", {"norm_eps": 2e-6}),
]


@torch.no_grad()
def generate() -> None:
    config = {"width": WIDTH, "heads": HEADS, "kvHeads": KV_HEADS, "headWidth": HEAD_WIDTH}
    make(Golden("packages/nn/test/goldens/layers.safetensors", "transformers and diffusers modules", config, run, MUTATIONS, tolerance=1e-5))
