"""FLUX.1 Redux at tiny widths: diffusers' FluxPriorReduxPipeline from two pictures and text, then FluxPipeline, latents after every step."""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxPriorReduxPipeline
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from PIL import Image
from torch import nn
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

import flux1
import siglip
from golden import Golden, Mutation, Run, make
from pipelines import HEIGHT, VAE_WEIGHTS, WIDTH, decoded, recorder, tiny_vae
from weights import fill, normal

STEPS = 4
SIGLIP_WEIGHTS = "packages/encoders/test/goldens/siglip.safetensors"
SCALES, POOLED_SCALES, STRENGTHS = [0.75, 0.5], [0.25, 0.5], [1.0, 1.25]


class GivenText(nn.Module):
    """Stands where CLIP does, so that the prior takes the text embeddings it is given."""

    dtype, device = torch.float32, torch.device("cpu")


class Weighed(ReduxImageEncoder):
    """The tokens of every picture times a strength, as ComfyUI's "Apply Style Model" multiplies them."""

    strengths = STRENGTHS

    def forward(self, x):
        out = super().forward(x)
        out.image_embeds = out.image_embeds * torch.tensor(self.strengths)[:, None, None]
        return out


def embedder(strengths: list) -> ReduxImageEncoder:
    encoder = Weighed(redux_dim=siglip.CONFIG["hidden_size"], txt_in_features=flux1.CONFIG["context_in_dim"])
    # Tokens as large as the text's, so that both count.
    fill(encoder, [(r"redux_up", 2.0), (r"redux_down", 3.0)])
    encoder.strengths = strengths
    return encoder


def run(scales=SCALES, pooled_scales=POOLED_SCALES, strengths=STRENGTHS, guidance: float = 2.5, swapped: bool = False, resample: int = 3) -> Run:
    weights = flux1.build().state_dict()
    text = {"txt": normal("pipe.flux.txt", 1, 9, 24), "y": normal("pipe.flux.y", 1, 20)}
    pictures = {"picture.0": siglip.picture("siglip.wide", 83, 41), "picture.1": siglip.picture("siglip.tall", 23, 57)}
    redux = embedder(strengths)
    prior = FluxPriorReduxPipeline(
        image_encoder=siglip.build(),
        feature_extractor=SiglipImageProcessorPil(size={"height": 30, "width": 30}, resample=resample),
        image_embedder=redux,
        text_encoder=GivenText(),
    )
    order = list(pictures.values())
    embeds = prior(
        [Image.fromarray(p.numpy()) for p in (order[::-1] if swapped else order)],
        prompt_embeds=text["txt"].repeat(2, 1, 1),
        pooled_prompt_embeds=text["y"].repeat(2, 1),
        prompt_embeds_scale=scales,
        pooled_prompt_embeds_scale=pooled_scales,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0, base_shift=0.5, max_shift=1.15)
    parts = {"text_encoder": None, "tokenizer": None, "text_encoder_2": None, "tokenizer_2": None}
    pipe = FluxPipeline(scheduler=scheduler, vae=tiny_vae(), transformer=flux1.diffusers_model(weights), **parts)
    pipe.set_progress_bar_config(disable=True)
    given = text | pictures | {"latents": normal("pipe.flux.latents", 1, 15, 64)}
    outputs: dict = {"prompt_embeds": embeds.prompt_embeds, "pooled_prompt_embeds": embeds.pooled_prompt_embeds}
    final = pipe(
        **embeds,
        latents=given["latents"],
        height=HEIGHT,
        width=WIDTH,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        output_type="latent",
        callback_on_step_end=recorder(outputs),
    ).images
    outputs["unpacked"] = FluxPipeline._unpack_latents(final, HEIGHT, WIDTH, 8)
    decoded(outputs, outputs["unpacked"], pipe.vae, pipe.vae.config)
    outputs["sigmas"] = scheduler.sigmas
    own = {f"image_embedder.{k}": v for k, v in redux.state_dict().items()}
    return Run(given, weights | own, outputs, [f"latents.{STEPS - 1}", "image"])


MUTATIONS = [
    Mutation("prompt_embeds_scale 0.5 -> 0.52", {"scales": [0.75, 0.52]}),
    Mutation("pooled_prompt_embeds_scale 0.5 -> 0.52", {"pooled_scales": [0.25, 0.52]}),
    Mutation("strength 1.25 -> 1.3", {"strengths": [1.0, 1.3]}),
    Mutation("no pictures", {"strengths": [0.0, 0.0]}),
    Mutation("the pictures swapped", {"swapped": True}),
    Mutation("pictures resized by lanczos", {"resample": 1}),
    Mutation("guidance 2.5 -> 2.6", {"guidance": 2.6}),
]


@torch.no_grad()
def generate() -> None:
    options = {"steps": STEPS, "guidance": 2.5, "scales": SCALES, "pooledScales": POOLED_SCALES, "strengths": STRENGTHS}
    extra = {"vaeWeights": VAE_WEIGHTS, "siglipWeights": SIGLIP_WEIGHTS, "height": str(HEIGHT), "width": str(WIDTH), "options": options}
    own = tuple(f"image_embedder.{layer}.{p}" for layer in ("redux_up", "redux_down") for p in ("weight", "bias"))
    path = f"{flux1.FOLDER}/pipeline-redux.safetensors"
    make(Golden(path, "diffusers FluxPriorReduxPipeline", flux1.CONFIG, run, MUTATIONS, extra=extra, weights_file=flux1.WEIGHTS_FILE, own_weights=own, writes_weights=False))
