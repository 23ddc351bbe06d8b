"""Repeats a run of bench/full-size.ts with diffusers and transformers in f32, one layer's weights in memory at a time, and compares.

Prints the relative L2 of the latents after every step and the PSNR of the picture. An f32 model of this size does not fit into 24 GB, so
linear layers, embeddings and norms read their weights from the files when they are called and let them go afterwards. Weights that the run
quantized while it loaded are quantized and expanded by the gguf package; so are those of a transformer from a GGUF file.

Usage: python -P full_size_check.py FOLDER (-P keeps tokenizers.py of this folder from hiding the library)
"""

import json
import re
import sys
import time
from pathlib import Path

import gguf
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

    def read(self, name: str, quantized: str | None = None) -> torch.Tensor:
        """As f32; as what is left of it in another format, such as q8_0, where that is asked for."""
        values = self.stored(name)
        if quantized is None:
            return values
        kind = gguf.GGMLQuantizationType[quantized.upper()]
        return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(values.numpy(), kind), kind))

    def stored(self, name: str) -> torch.Tensor:
        # T5 looks its one table up under either name.
        for known in (self.prefix + name, name, name.replace("encoder.embed_tokens", "shared")):
            if known in self.files:
                return self.files[known].get_tensor(known).float()
        raise KeyError(f"no {self.prefix}{name} in the checkpoint")


DOUBLE = {
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "attn.to_q": ("img_attn.qkv", 0, 3),
    "attn.to_k": ("img_attn.qkv", 1, 3),
    "attn.to_v": ("img_attn.qkv", 2, 3),
    "attn.add_q_proj": ("txt_attn.qkv", 0, 3),
    "attn.add_k_proj": ("txt_attn.qkv", 1, 3),
    "attn.add_v_proj": ("txt_attn.qkv", 2, 3),
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "attn.norm_q": "img_attn.norm.query_norm",
    "attn.norm_k": "img_attn.norm.key_norm",
    "attn.norm_added_q": "txt_attn.norm.query_norm",
    "attn.norm_added_k": "txt_attn.norm.key_norm",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
}
SINGLE = {
    "norm.linear": "modulation.lin",
    "attn.to_q": ("linear1", 0, 7),
    "attn.to_k": ("linear1", 1, 7),
    "attn.to_v": ("linear1", 2, 7),
    "proj_mlp": ("linear1", 3, 7),
    "proj_out": "linear2",
    "attn.norm_q": "norm.query_norm",
    "attn.norm_k": "norm.key_norm",
}
OUTER = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}


class GgufTransformer:
    """FLUX.1's transformer from a GGUF file, which has the authors' names, under those of diffusers; expanded tensor by tensor."""

    def __init__(self, path: Path):
        self.tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}

    def read(self, name: str, quantized: str | None = None) -> torch.Tensor:
        path, kind = name.rsplit(".", 1)
        block = re.match(r"(single_)?transformer_blocks\.(\d+)\.(.*)", path)
        place, part, parts = self.place(block, path)
        if "query_norm" in place or "key_norm" in place:
            kind = "scale"
        tensor = self.tensors[f"{place}.{kind}"]
        rows = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy()).reshape(*reversed(tensor.shape.tolist()))
        if path == "norm_out.linear":
            return torch.cat(rows.chunk(2)[::-1])
        one = rows.shape[0] // parts
        # The MLP's part of linear1 is what is left.
        return rows[part * one : None if part == 3 else (part + 1) * one].clone()

    @staticmethod
    def place(block: re.Match | None, path: str) -> tuple[str, int, int]:
        if block is None:
            return OUTER[path], 0, 1
        single, index, leaf = block.groups()
        known = (SINGLE if single else DOUBLE)[leaf]
        place, part, parts = (known, 0, 1) if isinstance(known, str) else known
        return f"{'single' if single else 'double'}_blocks.{index}.{place}", part, parts


# What stays as stored in FLUX.1 when a run quantizes: highPrecision of the model.
KEPT = re.compile(r"(x_embedder|context_embedder|time_text_embed\..*|norm_out\.linear|^proj_out)\.weight$")


def stream(model: torch.nn.Module, checkpoint: Checkpoint | GgufTransformer, dtype: str | None) -> torch.nn.Module:
    """Leaves the weights of large leaf modules in the files until they are called; loads everything else now."""
    streamed = (torch.nn.Linear, torch.nn.Embedding)

    def load(module, prefix):
        for name, _ in list(module.named_parameters(recurse=False)):
            quantized = dtype if isinstance(module, torch.nn.Linear) and name == "weight" and not KEPT.search(prefix + name) else None
            setattr(module, name, torch.nn.Parameter(checkpoint.read(prefix + name, quantized), requires_grad=False))

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


def on_files(build, folder: Path, part: str, asked: dict[str, str], prefix: str = ""):
    with init_empty_weights(include_buffers=False):
        model = build(config(folder, part))
    if part == "transformer" and "transformer" in asked:
        return stream(model, GgufTransformer(folder / asked["transformer"]), None)
    return stream(model, Checkpoint(folder / part, prefix), asked.get("dtype"))


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


def z_image(folder: Path, asked: dict[str, str]) -> ZImagePipeline:
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        vae=AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32),
        text_encoder=on_files(lambda c: Qwen3Model(Qwen3Config(**c)), folder, "text_encoder", asked, "model."),
        tokenizer=QwenTokenizer(folder / "tokenizer"),
        transformer=on_files(ZImageTransformer2DModel.from_config, folder, "transformer", asked),
    )


def flux(folder: Path, asked: dict[str, str]) -> FluxPipeline:
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        vae=AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32),
        text_encoder=on_files(lambda c: CLIPTextModel(CLIPTextConfig(**c)), folder, "text_encoder", asked, "text_model."),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder_2=on_files(lambda c: T5EncoderModel(T5Config(**c)), folder, "text_encoder_2", asked),
        tokenizer_2=T5TokenizerFast.from_pretrained(folder / "tokenizer_2"),
        transformer=on_files(FluxTransformer2DModel.from_config, folder, "transformer", asked),
    )


def main(folder: Path) -> None:
    run = load_file(folder / "run.safetensors")
    with safe_open(folder / "run.safetensors", "pt") as file:
        asked = file.metadata()
    kind = json.loads((folder / "model_index.json").read_text())["_class_name"]
    pipe = (flux if kind == "FluxPipeline" else z_image)(folder, asked)
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
