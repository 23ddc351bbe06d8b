"""Repeats a run of bench/full-size.ts with diffusers and transformers in f32, one layer's weights in memory at a time, and compares.

Prints the relative L2 of the latents after every step and the PSNR of the picture. An f32 model of this size does not fit into 24 GB, so
linear layers, embeddings and norms read their weights from the files when they are called and let them go afterwards.

Usage: python -P full_size_check.py FOLDER (-P keeps tokenizers.py of this folder from hiding the library)
"""

import json
import sys
import time
from pathlib import Path

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel, ZImagePipeline, ZImageTransformer2DModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3Model, T5Config, T5EncoderModel, T5TokenizerFast


class Checkpoint:
    """The tensors of a folder of safetensors files, read one by one."""

    def __init__(self, folder: Path, prefix: str = ""):
        self.prefix = prefix
        self.files = {}
        for path in sorted(folder.glob("*.safetensors")):
            file = safe_open(path, "pt")
            self.files |= {name: file for name in file.keys()}

    def read(self, name: str) -> torch.Tensor:
        # T5 looks its one table up under either name.
        for known in (self.prefix + name, name, name.replace("encoder.embed_tokens", "shared")):
            if known in self.files:
                return self.files[known].get_tensor(known).float()
        raise KeyError(f"no {self.prefix}{name} in the checkpoint")


def stream(model: torch.nn.Module, checkpoint: Checkpoint) -> torch.nn.Module:
    """Leaves the weights of large leaf modules in the files until they are called; loads everything else now."""
    streamed = (torch.nn.Linear, torch.nn.Embedding)

    def load(module, prefix):
        for name, _ in list(module.named_parameters(recurse=False)):
            setattr(module, name, torch.nn.Parameter(checkpoint.read(prefix + name), requires_grad=False))

    def unload(module):
        # One zero in the parameter's shape, not a meta tensor: pipelines ask parameters where to compute.
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, torch.nn.Parameter(torch.zeros(1).expand(parameter.shape), requires_grad=False))

    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        if isinstance(module, streamed):
            unload(module)
            module.register_forward_pre_hook(lambda m, _, prefix=prefix: load(m, prefix))
            module.register_forward_hook(lambda m, _args, _out: unload(m))
        else:
            load(module, prefix)
    return model.eval()


def config(folder: Path, part: str) -> dict:
    """JavaScript writes 1.0 as 1, which transformers refuses where it expects a float."""
    floats = {"attention_dropout", "dropout", "dropout_rate", "initializer_factor"}
    given = json.loads((folder / part / "config.json").read_text())
    return {key: float(value) if key in floats else value for key, value in given.items()}


def on_files(build, folder: Path, part: str, prefix: str = ""):
    with init_empty_weights(include_buffers=False):
        model = build(config(folder, part))
    return stream(model, Checkpoint(folder / part, prefix))


class QwenTokenizer(PreTrainedTokenizerFast):
    """Special tokens keep the ids of tokenizer.json: the library numbers them anew where, as here, the vocabulary before them is shortened."""

    def __init__(self, folder: Path):
        config = json.loads((folder / "tokenizer_config.json").read_text())
        super().__init__(tokenizer_file=str(folder / "tokenizer.json"), chat_template=config["chat_template"], pad_token=config["pad_token"])
        added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
        self.given = {self.convert_tokens_to_ids(token["content"]): token["id"] for token in added}

    def __call__(self, *args, **kwargs):
        encoded = super().__call__(*args, **kwargs)
        ids = encoded["input_ids"]
        encoded["input_ids"] = ids.clone().apply_(lambda i: self.given.get(i, i))
        return encoded


def z_image(folder: Path) -> ZImagePipeline:
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        vae=AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32),
        text_encoder=on_files(lambda c: Qwen3Model(Qwen3Config(**c)), folder, "text_encoder", "model."),
        tokenizer=QwenTokenizer(folder / "tokenizer"),
        transformer=on_files(ZImageTransformer2DModel.from_config, folder, "transformer"),
    )


def flux(folder: Path) -> FluxPipeline:
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        vae=AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32),
        text_encoder=on_files(lambda c: CLIPTextModel(CLIPTextConfig(**c)), folder, "text_encoder", "text_model."),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder_2=on_files(lambda c: T5EncoderModel(T5Config(**c)), folder, "text_encoder_2"),
        tokenizer_2=T5TokenizerFast.from_pretrained(folder / "tokenizer_2"),
        transformer=on_files(FluxTransformer2DModel.from_config, folder, "transformer"),
    )


def main(folder: Path) -> None:
    run = load_file(folder / "run.safetensors")
    with safe_open(folder / "run.safetensors", "pt") as file:
        asked = file.metadata()
    kind = json.loads((folder / "model_index.json").read_text())["_class_name"]
    pipe = flux(folder) if kind == "FluxPipeline" else z_image(folder)
    size = int(asked["size"])
    # schnell's model card asks for 256 tokens; the pipeline's default is 512.
    # The released pipelines run in bf16 and draw their noise in it; so does Wick.
    noise = torch.randn(1, 16, size // 8, size // 8, generator=torch.Generator("cpu").manual_seed(1), dtype=torch.bfloat16).float()
    packed = FluxPipeline._pack_latents(noise, 1, 16, size // 8, size // 8)
    text = {"max_sequence_length": 256, "latents": packed} if kind == "FluxPipeline" else {}
    since = time.perf_counter()

    def compare(_pipe, i, _t, given):
        nonlocal since
        expected, actual = given["latents"].double(), run[f"latents.{i}"].double()
        if kind == "FluxPipeline":
            expected = FluxPipeline._unpack_latents(expected, size, size, pipe.vae_scale_factor)
        error = (actual - expected).norm() / expected.norm()
        print(f"step {i + 1}: relative L2 {error.item():.3g}, norm {expected.norm().item():.4g} ({time.perf_counter() - since:.1f} s)", flush=True)
        since = time.perf_counter()
        return {}

    with torch.inference_mode():
        image = pipe(
            prompt=asked["prompt"],
            height=size,
            width=size,
            num_inference_steps=int(asked["steps"]),
            guidance_scale=0.0,
            generator=torch.Generator("cpu").manual_seed(1),
            callback_on_step_end=compare,
            output_type="pt",
            **text,
        ).images[0]
    expected = (image.permute(1, 2, 0) * 255).round().double()
    noise = (expected - run["image"].double()).square().mean()
    print(f"picture: PSNR {10 * torch.log10(255**2 / noise).item():.1f} dB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
