"""Whole pipelines at tiny widths: diffusers' FluxPipeline and ZImagePipeline from given latents and embeddings, latents after every step, image."""

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, ZImageImg2ImgPipeline, ZImageInpaintPipeline, ZImagePipeline
from diffusers.pipelines.flux import pipeline_flux

import flux1
import vae
import z_image
from PIL import Image

from golden import Golden, Mutation, Run, make, patch
from weights import integers, normal

FLUX_FOLDER, ZIMAGE_FOLDER = flux1.FOLDER, z_image.FOLDER
VAE_WEIGHTS = "packages/vae/test/goldens/kl-tiled.safetensors"
HEIGHT, WIDTH, STEPS = 48, 80, 8


def tiny_vae():
    return vae.build_kl()


def recorder(outputs: dict):
    def record(_pipe, i, _t, given):
        outputs[f"latents.{i}"] = given["latents"].clone()
        return {}

    return record


def decoded(outputs: dict, latents: torch.Tensor, model, config: dict) -> None:
    outputs["image"] = model.decode(latents / config["scaling_factor"] + config["shift_factor"]).sample


def run_flux(dev: bool = True, guidance: float = 3.5, cfg: float = 1.0, steps: int = STEPS, shift=None, sigmas=None) -> Run:
    """`dev` uses dynamic shifting and embedded guidance; `cfg` above 1 adds a negative prompt."""
    changes = {} if dev else {"guidance_embed": False}
    weights = flux1.build(**changes).state_dict()
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=dev, shift=(shift or 3.0) if dev else (shift or 1.0), base_shift=0.5, max_shift=1.15)
    pipe = FluxPipeline(scheduler=scheduler, vae=tiny_vae(), text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None, transformer=flux1.diffusers_model(weights, **changes))
    pipe.set_progress_bar_config(disable=True)
    given = {
        "latents": normal("pipe.flux.latents", 1, 15, 64),
        "txt": normal("pipe.flux.txt", 1, 9, 24),
        "y": normal("pipe.flux.y", 1, 20),
    }
    negative = {}
    if cfg > 1:
        given |= {"negative_txt": normal("pipe.flux.negative", 1, 9, 24), "negative_y": normal("pipe.flux.ny", 1, 20)}
        negative = {"negative_prompt_embeds": given["negative_txt"], "negative_pooled_prompt_embeds": given["negative_y"], "true_cfg_scale": cfg}
    outputs: dict = {}
    final = pipe(
        prompt_embeds=given["txt"],
        pooled_prompt_embeds=given["y"],
        latents=given["latents"],
        height=HEIGHT,
        width=WIDTH,
        num_inference_steps=steps,
        sigmas=sigmas,
        guidance_scale=guidance,
        output_type="latent",
        callback_on_step_end=recorder(outputs),
        **negative,
    ).images
    outputs["unpacked"] = FluxPipeline._unpack_latents(final, HEIGHT, WIDTH, 8)
    decoded(outputs, outputs["unpacked"], pipe.vae, vae.KL)
    outputs["sigmas"] = scheduler.sigmas
    return Run(given, weights, outputs, [f"latents.{steps - 1}", "image"])


def run_z_image(guidance: float = 0.0, truncation: float = 1.0, normalization=False, batch: int = 1, shift: float = 3.0, steps: int = STEPS) -> Run:
    model = z_image.build()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    pipe = ZImagePipeline(scheduler=scheduler, vae=tiny_vae(), text_encoder=None, tokenizer=None, transformer=model)
    pipe.set_progress_bar_config(disable=True)
    latents = normal("pipe.z.latents", batch, 16, 6, 10)
    prompts = [normal(f"pipe.z.cap.{n}", n, 24, scale=0.02) for n in (19, 37)][:batch]
    negatives = [normal(f"pipe.z.neg.{n}", n, 24, scale=0.02) for n in (8, 11)][:batch]
    given = {"latents": latents} | {f"cap.{i}": p for i, p in enumerate(prompts)}
    negative = {}
    if guidance > 0:
        given |= {f"negative.{i}": p for i, p in enumerate(negatives)}
        negative = {"negative_prompt_embeds": list(negatives)}
    outputs: dict = {}
    final = pipe(
        prompt_embeds=list(prompts),
        latents=latents,
        height=HEIGHT,
        width=WIDTH,
        num_inference_steps=steps,
        guidance_scale=guidance,
        cfg_truncation=truncation,
        cfg_normalization=normalization,
        output_type="latent",
        callback_on_step_end=recorder(outputs),
        **negative,
    ).images
    decoded(outputs, final, pipe.vae, vae.KL)
    outputs["sigmas"] = scheduler.sigmas
    return Run(given, model.state_dict(), outputs, [f"latents.{steps - 1}", "image"])


def picture() -> torch.Tensor:
    """A smooth u8 picture [h, w, 3] with some noise."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, HEIGHT), torch.linspace(0, 1, WIDTH), indexing="ij")
    smooth = torch.stack([rows, columns, 1 - rows * columns], -1) * 200
    return (smooth + integers("pipe.picture", 0, 56, HEIGHT, WIDTH, 3)).to(torch.uint8)


def mask_of(threshold: int = 128) -> torch.Tensor:
    """A grey mask [h, w]: dark to the left, bright to the right, with a slanted edge."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return ((columns * 3 + rows).clamp(0, 255) + 128 - threshold).clamp(0, 255).to(torch.uint8)


def run_z_image_picture(mask: bool = False, strength: float = 0.6, seed: int = 5, batch: int = 1, threshold: int = 128, posterior: bool = True, steps: int = STEPS, shift: float = 3.0) -> Run:
    """Image-to-image, or inpainting with `mask`; a sample of the posterior and the noise come from one generator."""
    model = z_image.build()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    kind = ZImageInpaintPipeline if mask else ZImageImg2ImgPipeline
    pipe = kind(scheduler=scheduler, vae=tiny_vae(), text_encoder=None, tokenizer=None, transformer=model)
    pipe.set_progress_bar_config(disable=True)
    prompts = [normal(f"pipe.z.cap.{n}", n, 24, scale=0.02) for n in (19, 37)][:batch]
    given = {"picture": picture()} | {f"cap.{i}": p for i, p in enumerate(prompts)}
    extra = {}
    if mask:
        given["mask"] = mask_of()
        extra["mask_image"] = Image.fromarray(mask_of(threshold).numpy())
    if not posterior:
        real = pipe.vae.encode

        def encode(x):
            out = real(x)
            out.latent_dist.sample = lambda generator=None: out.latent_dist.mean
            return out

        pipe.vae.encode = encode
    outputs: dict = {}
    final = pipe(
        prompt_embeds=list(prompts),
        image=Image.fromarray(np.asarray(picture())),
        strength=strength,
        height=HEIGHT,
        width=WIDTH,
        num_inference_steps=steps,
        guidance_scale=0.0,
        generator=torch.Generator().manual_seed(seed),
        output_type="latent",
        callback_on_step_end=recorder(outputs),
        **extra,
    ).images
    decoded(outputs, final, pipe.vae, vae.KL)
    outputs["sigmas"] = scheduler.sigmas
    return Run(given, model.state_dict(), outputs, [sorted(k for k in outputs if k.startswith("latents."))[-1], "image"])


def call(fn, **fixed):
    return lambda **changes: fn(**{**fixed, **changes})


def flux_cases() -> dict:
    shift_base = pipeline_flux.calculate_shift
    other_mu = patch(pipeline_flux, "calculate_shift", lambda *a: shift_base(*a) + 0.01)
    return {
        "dev": (
            {"steps": STEPS, "guidance": 3.5},
            [
                Mutation("mu + 0.01", patch=other_mu),
                Mutation("guidance 3.5 -> 3.6", {"guidance": 3.6}),
                Mutation("static shift 3 instead of mu", {"sigmas": [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]}),
            ],
        ),
        "dev-cfg": ({"cfg": 2.0}, [Mutation("true_cfg_scale 2 -> 2.02", {"cfg": 2.02}), Mutation("true_cfg_scale off", {"cfg": 1.0}), Mutation("guidance 3.5 -> 3.6", {"guidance": 3.6})]),
        "schnell": ({"dev": False, "steps": 4, "guidance": 0.0}, [Mutation("shift 1 -> 1.02", {"shift": 1.02}), Mutation("shift 1 -> 3", {"shift": 3.0})]),
    }


def z_image_cases() -> dict:
    shifted = Mutation("shift 3 -> 3.05", {"shift": 3.05})
    scaled = Mutation("guidance 4 -> 4.02", {"guidance": 4.02})
    return {
        "turbo": ({}, [shifted]),
        "cfg": ({"guidance": 4.0, "batch": 2}, [shifted, scaled, Mutation("neg + g (pos - neg)", {"guidance": 3.0})]),
        "cfg-truncation": ({"guidance": 4.0, "truncation": 0.4}, [scaled, Mutation("truncation 0.4 -> 0.6", {"truncation": 0.6}), Mutation("truncation off", {"truncation": 1.0})]),
        "cfg-normalization": ({"guidance": 4.0, "normalization": 1.0}, [Mutation("normalization 1 -> 1.01", {"normalization": 1.01}), Mutation("normalization off", {"normalization": False}), scaled]),
    }


def z_image_picture_cases() -> dict:
    shared = [Mutation("seed 5 -> 6", {"seed": 6}), Mutation("the mean instead of a sample", {"posterior": False}), Mutation("shift 3 -> 3.05", {"shift": 3.05})]
    return {
        "img2img": ("ZImageImg2ImgPipeline", {"strength": 0.7, "batch": 2}, [*shared, Mutation("strength 0.7 -> 0.6", {"strength": 0.6})]),
        "inpaint": ("ZImageInpaintPipeline", {"strength": 1.0, "mask": True}, [*shared, Mutation("mask threshold", {"threshold": 152}), Mutation("strength 1 -> 0.8", {"strength": 0.8})]),
    }


@torch.no_grad()
def generate_z_image_pictures() -> None:
    extra = {"vaeWeights": VAE_WEIGHTS, "height": str(HEIGHT), "width": str(WIDTH)}
    for name, (kind, options, mutations) in z_image_picture_cases().items():
        call_options = {"options": {"steps": STEPS, "seed": 5} | options}
        path = f"{ZIMAGE_FOLDER}/pipeline-{name}.safetensors"
        make(Golden(path, f"diffusers {kind}", z_image.CONFIG, call(run_z_image_picture, **options), mutations, extra=extra | call_options, weights_file=z_image.WEIGHTS_FILE, writes_weights=False))


@torch.no_grad()
def generate() -> None:
    generate_z_image_pictures()
    extra = {"vaeWeights": VAE_WEIGHTS, "height": str(HEIGHT), "width": str(WIDTH)}
    for name, (options, mutations) in flux_cases().items():
        config = flux1.CONFIG | ({} if options.get("dev", True) else {"guidance_embed": False})
        path = f"{FLUX_FOLDER}/pipeline-{name}.safetensors"
        call_options = {"options": {"steps": STEPS, "guidance": 3.5, "cfg": 1.0} | options}
        make(Golden(path, "diffusers FluxPipeline", config, call(run_flux, **options), mutations, extra=extra | call_options, weights_file=flux1.WEIGHTS_FILE, writes_weights=False))
    for name, (options, mutations) in z_image_cases().items():
        path = f"{ZIMAGE_FOLDER}/pipeline-{name}.safetensors"
        call_options = {"options": {"steps": STEPS, "guidance": 0, "truncation": 1, "normalization": False, "shift": 3} | options}
        make(Golden(path, "diffusers ZImagePipeline", z_image.CONFIG, call(run_z_image, **options), mutations, extra=extra | call_options, weights_file=z_image.WEIGHTS_FILE, writes_weights=False))
