"""FLUX.1 pipelines that take pictures, at tiny widths: image-to-image, inpainting, Kontext, Fill, control, with diffusers' own random draws."""

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxControlPipeline, FluxFillPipeline, FluxImg2ImgPipeline, FluxInpaintPipeline, FluxKontextPipeline
from PIL import Image, ImageOps

import flux1
from golden import Golden, Mutation, Run, make
from pipelines import HEIGHT, VAE_WEIGHTS, WIDTH, call, decoded, recorder, tiny_vae
from weights import normal

STEPS = 5
SEED = 7


def picture(name: str, width: int, height: int) -> Image.Image:
    """Smooth noise, so that resizing matters."""
    coarse = normal(f"picture.{name}", height // 4 + 1, width // 4 + 1, 3).numpy()
    small = Image.fromarray((np.clip(coarse * 0.3 + 0.5, 0, 1) * 255).astype(np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def mask_picture(width: int, height: int) -> Image.Image:
    """A grey ramp with a bright box: some pixels on either side of one half."""
    ramp = np.tile(np.linspace(0, 200, width), (height, 1)).astype(np.uint8)
    ramp[height // 4 : height // 2, width // 8 : width // 3] = 255
    return Image.fromarray(np.stack([ramp, ramp // 2 + 40, ramp], -1))


KINDS = {
    "img2img": (FluxImg2ImgPipeline, {}, {}),
    "inpaint": (FluxInpaintPipeline, {}, {}),
    "kontext": (FluxKontextPipeline, {}, {"max_area": HEIGHT * WIDTH, "_auto_resize": False}),
    "fill": (FluxFillPipeline, {"in_channels": 384}, {}),
    "control": (FluxControlPipeline, {"in_channels": 128}, {}),
}


def run(kind: str, strength: float | None = None, guidance: float = 3.5, seed: int = SEED, inverted: bool = False, mirrored: bool = False) -> Run:
    pipeline, changes, options = KINDS[kind]
    weights = flux1.build(**changes).state_dict()
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0, base_shift=0.5, max_shift=1.15)
    parts = {"text_encoder": None, "tokenizer": None, "text_encoder_2": None, "tokenizer_2": None}
    pipe = pipeline(scheduler=scheduler, vae=tiny_vae(), transformer=flux1.diffusers_model(weights, **changes), **parts)
    pipe.set_progress_bar_config(disable=True)
    given = {"txt": normal("pipe.flux.txt", 1, 9, 24), "y": normal("pipe.flux.y", 1, 20)}
    image = picture(kind, 70, 67) if kind == "kontext" else picture(kind, 101, 67)
    mask = mask_picture(97, 55)
    given["image_rgb"] = torch.from_numpy(np.array(image))
    arguments = dict(options)
    arguments["control_image" if kind == "control" else "image"] = ImageOps.mirror(image) if mirrored else image
    if kind in ("inpaint", "fill"):
        given["mask_rgb"] = torch.from_numpy(np.array(mask))
        arguments["mask_image"] = ImageOps.invert(mask) if inverted else mask
    if strength is not None:
        arguments["strength"] = strength
    outputs: dict = {}
    final = pipe(
        prompt_embeds=given["txt"],
        pooled_prompt_embeds=given["y"],
        height=HEIGHT,
        width=WIDTH,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        generator=torch.Generator("cpu").manual_seed(seed),
        output_type="latent",
        callback_on_step_end=recorder(outputs),
        **arguments,
    ).images
    outputs["unpacked"] = pipe._unpack_latents(final, HEIGHT, WIDTH, 8)
    decoded(outputs, outputs["unpacked"], pipe.vae, pipe.vae.config)
    outputs["sigmas"] = scheduler.sigmas
    return Run(given, weights, outputs, ["unpacked", "image"])


def cases() -> dict:
    common = [Mutation("guidance 3.5 -> 3.6", {"guidance": 3.6}), Mutation("seed", {"seed": SEED + 1}), Mutation("the picture mirrored", {"mirrored": True})]
    inverted = Mutation("the mask inverted", {"inverted": True})
    stronger = Mutation("strength 0.6 -> 0.8", {"strength": 0.8})
    return {
        "img2img": ({"strength": 0.6}, [*common, stronger]),
        "inpaint": ({"strength": 0.6}, [*common, stronger, inverted]),
        "kontext": ({}, common),
        "fill": ({}, [*common, inverted]),
        "control": ({}, common),
    }


@torch.no_grad()
def generate() -> None:
    for kind, (options, mutations) in cases().items():
        changes = KINDS[kind][1]
        own = ("img_in.weight", "img_in.bias") if changes else ()
        extra = {"vaeWeights": VAE_WEIGHTS, "height": str(HEIGHT), "width": str(WIDTH), "options": {"steps": STEPS, "guidance": 3.5, "seed": SEED} | options}
        path = f"{flux1.FOLDER}/pipeline-{kind}.safetensors"
        reference = f"diffusers {KINDS[kind][0].__name__}"
        golden = Golden(path, reference, flux1.CONFIG | changes, call(run, kind=kind, **options), mutations, extra=extra, weights_file=flux1.WEIGHTS_FILE, own_weights=own, writes_weights=False)
        make(golden)
