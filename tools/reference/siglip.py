"""SigLIP vision goldens: a picture through the image processor and the tower; the last hidden state is what FLUX.1 Redux reads."""

import numpy as np
import torch
from PIL import Image
from transformers import SiglipVisionConfig, SiglipVisionModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip.modeling_siglip import SiglipVisionEmbeddings

from golden import Capture, Golden, Mutation, Run, make, patch
from weights import fill, integers

FOLDER = "packages/encoders/test/goldens"
# Heads of 72 as released; two rows and columns of pixels lie beyond the last whole patch.
CONFIG = {
    "model_type": "siglip_vision_model",
    "hidden_size": 144,
    "intermediate_size": 86,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_channels": 3,
    "image_size": 30,
    "patch_size": 7,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "vision_use_head": False,
}
RULES = [(r"embedding", 0.1), (r"out_proj|fc2", 0.5)]


def build(**changes) -> SiglipVisionModel:
    """The tower with shaped weights."""
    config = {k: v for k, v in {**CONFIG, **changes}.items() if k != "model_type"}
    model = SiglipVisionModel(SiglipVisionConfig(**config))
    fill(model, RULES)
    return model


def picture(name: str, width: int, height: int) -> torch.Tensor:
    """Smooth colour with noise and a hard edge, u8 [h, w, 3]."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    smooth = torch.stack([rows, columns, 1 - rows * columns], -1) * 160
    edge = ((rows + columns) > 1.1).float()[..., None] * 40
    return (smooth + edge + integers(name, 0, 56, height, width, 3)).to(torch.uint8)


def pixels(pictures: list, size: int = CONFIG["image_size"], **changes) -> torch.Tensor:
    """[b, 3, size, size] as SiglipImageProcessor prepares them on Pillow."""
    processor = SiglipImageProcessorPil(size={"height": size, "width": size}, **changes)
    return processor.preprocess(images=[Image.fromarray(np.asarray(p)) for p in pictures], return_tensors="pt")["pixel_values"]


def run(edit=lambda model: None, processor: dict | None = None, **changes) -> Run:
    """Two pictures, a wide one to be shrunk and a tall one to be shrunk in one direction and widened in the other."""
    model = build(**changes)
    edit(model)
    given = {"picture.0": picture("siglip.wide", 83, 41), "picture.1": picture("siglip.tall", 23, 57)}
    values = pixels(list(given.values()), **(processor or {}))
    prefix = "" if any(n.startswith("vision_model.") for n, _ in model.named_modules()) else "vision_model."
    with Capture(model, prefix, skip=lambda path: path.endswith(("layers", "encoder", "vision_model", "head"))) as outputs:
        result = model(pixel_values=values)
    outputs["last_hidden_state"] = result.last_hidden_state
    weights = {prefix + k: v for k, v in model.state_dict().items() if not k.endswith("position_ids")}
    return Run(given | {"pixel_values": values}, weights, outputs, ["last_hidden_state"])


def unscaled(model) -> None:
    for m in model.modules():
        if hasattr(m, "q_proj"):
            m.scale = 1.0


def by_columns(self, pixel_values, interpolate_pos_encoding=False):
    patches = self.patch_embedding(pixel_values).transpose(2, 3).flatten(2).transpose(1, 2)
    return patches + self.position_embedding(self.position_ids)


MUTATIONS = [
    Mutation("layer_norm_eps 1e-6 -> 1e-5", {"layer_norm_eps": 1e-5}),
    Mutation("hidden_act gelu_pytorch_tanh -> gelu", {"hidden_act": "gelu"}),
    Mutation("heads 2 -> 4", {"num_attention_heads": 4}),
    Mutation("scores unscaled", {"edit": unscaled}),
    Mutation("patches by columns", patch=patch(SiglipVisionEmbeddings, "forward", by_columns)),
    Mutation("no norm after the last layer", {"edit": lambda m: setattr(m, "post_layernorm", torch.nn.Identity())}),
    Mutation("bicubic -> bilinear", {"processor": {"resample": 2}}),
    Mutation("bicubic -> lanczos", {"processor": {"resample": 1}}),
    Mutation("not normalized", {"processor": {"do_normalize": False}}),
]


def generate() -> None:
    torch.manual_seed(0)
    make(Golden(f"{FOLDER}/siglip.safetensors", "transformers SiglipVisionModel", CONFIG, run, MUTATIONS, tolerance=1e-5))
