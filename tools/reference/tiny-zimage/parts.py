"""The transformer and the text encoder of the recipe, and sampling with them."""

import torch
from diffusers import ZImageTransformer2DModel
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from paths import config

TOKENS = 64


def new_transformer() -> ZImageTransformer2DModel:
    """A fresh transformer; final layer and modulation start small, pad tokens near zero, gates a little open."""
    model = ZImageTransformer2DModel.from_config(config("transformer"))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("pad_token"):
                p.normal_(std=0.02)
            elif "adaLN_modulation" in name or "all_final_layer" in name:
                p.mul_(0.1 if p.dim() > 1 else 0)
        for block in [*model.noise_refiner, *model.layers]:
            _, gate_attention, _, gate_mlp = block.adaLN_modulation[0].bias.chunk(4)
            gate_attention.fill_(0.4)
            gate_mlp.fill_(0.4)
    return model


def new_text_encoder() -> Qwen3Model:
    model = Qwen3Model(Qwen3Config(**config("text_encoder")))
    torch.nn.init.normal_(model.embed_tokens.weight, std=0.5)
    return model.float()


def prompt_ids(tokenizer: PreTrainedTokenizerFast, prompt: str) -> list[int]:
    """Ids of a prompt in the chat form of Z-Image, without thinking."""
    text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    return tokenizer(text, add_special_tokens=False)["input_ids"][:TOKENS]


def encode_prompts(encoder: Qwen3Model, ids: list[list[int]]) -> list[torch.Tensor]:
    """hidden_states[-2] of every prompt, [tokens, width] each."""
    longest = max(map(len, ids))
    padded = torch.tensor([one + [0] * (longest - len(one)) for one in ids])  # causal: what follows a token does not change it
    states = encoder(padded, output_hidden_states=True).hidden_states[-2]
    return [state[: len(one)] for state, one in zip(states, ids)]


def predict(transformer: ZImageTransformer2DModel, x: torch.Tensor, t: torch.Tensor, states: list[torch.Tensor]) -> torch.Tensor:
    """Output for latents x [b, 16, 8, 8] at t = 1 - sigma [b]: minus the velocity."""
    out = transformer([one[:, None] for one in x], t, states, return_dict=False)[0]
    return torch.stack([one[:, 0] for one in out])


def sigmas(steps: int, shift: float = 3.0) -> torch.Tensor:
    """linspace(1, 0, steps + 1) without its end, shifted, then 0 (the Z-Image repository's schedule)."""
    s = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return (shift * s / (1 + (shift - 1) * s)).float()


@torch.no_grad()
def sample(transformer, encoder, tokenizer, prompts: list[str], seed: int, guidance: float, steps: int) -> torch.Tensor:
    """Normalised latents [prompts, 16, 8, 8]; noise is torch.randn on the CPU."""
    states = encode_prompts(encoder, [prompt_ids(tokenizer, prompt) for prompt in prompts])
    empty = encode_prompts(encoder, [prompt_ids(tokenizer, "")]) * len(prompts)
    x = torch.randn(len(prompts), 16, 8, 8, generator=torch.Generator().manual_seed(seed))
    schedule = sigmas(steps)
    for now, then in zip(schedule, schedule[1:]):
        t = (1 - now).expand(len(prompts))
        out = predict(transformer, x, t, states)
        if guidance > 0:
            out = out + guidance * (out - predict(transformer, x, t, empty))
        x = x - (then - now) * out
    return x
