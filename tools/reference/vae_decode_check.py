"""Repeats a run of bench/vae-decode.ts --out FOLDER with diffusers' AutoencoderKL and prints the relative L2 of the image.

Usage: python -P vae_decode_check.py FOLDER (-P keeps tokenizers.py of this folder from hiding the library)
"""

import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors import safe_open
from safetensors.torch import load_file

# black-forest-labs/FLUX.1-dev vae/config.json, which Tongyi-MAI/Z-Image-Turbo shares.
CONFIG = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 16,
    "sample_size": 1024,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


def main(folder: Path) -> None:
    model = AutoencoderKL(**CONFIG)
    model.load_state_dict(load_file(folder / "weights.safetensors"), strict=True)
    run = load_file(folder / "run.safetensors")
    with safe_open(folder / "run.safetensors", "pt") as file:
        asked = file.metadata() or {}
    if "tile" in asked:
        model.enable_tiling()
        model.tile_sample_min_size = int(asked["tile"])
        model.tile_latent_min_size = int(asked["tile"]) // 8
    with torch.inference_mode():
        latents = run["latents"] / model.config.scaling_factor + model.config.shift_factor
        expected = model.decode(latents).sample
    error = (run["image"] - expected).double().norm() / expected.double().norm()
    print(f"{tuple(expected.shape)}: relative L2 {error.item():.3g}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
