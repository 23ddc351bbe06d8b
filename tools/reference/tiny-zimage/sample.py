"""Step 5: draws prompts with a model folder (default: the published one) into a row of pictures."""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ZImageTransformer2DModel
from PIL import Image
from transformers import PreTrainedTokenizerFast, Qwen3Model

from parts import sample
from paths import MODEL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompts", nargs="*", default=["a red apple", "fox", "rocket", "castle"])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--out", default="tiny-zimage.png")
    parser.add_argument("--save-latents", type=Path, help="also write the final latents as a .pt file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warm", action="store_true", help="then draw once more per line on stdin, and print the milliseconds")
    args = parser.parse_args()
    load = {"torch_dtype": torch.float32}
    transformer = ZImageTransformer2DModel.from_pretrained(args.model / "transformer", **load)
    encoder = Qwen3Model.from_pretrained(args.model / "text_encoder", dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(args.model / "vae", **load)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(args.model / "tokenizer/tokenizer.json"))
    config = json.loads((args.model / "vae/config.json").read_text())

    def draw(seed: int) -> torch.Tensor:
        latents = sample(transformer, encoder, tokenizer, args.prompts, seed, args.guidance, args.steps)
        if args.save_latents:
            torch.save(latents, args.save_latents)
        with torch.no_grad():
            pictures = vae.decode(latents / config["scaling_factor"] + config["shift_factor"]).sample
        return torch.cat(list(((pictures.clamp(-1, 1) + 1) * 127.5).round().byte()), 2).permute(1, 2, 0)

    if args.warm:
        draw(args.seed)
        print("ready", flush=True)
        for line in sys.stdin:
            started = time.perf_counter()
            draw(int(line)).numpy()
            print(1000 * (time.perf_counter() - started), flush=True)
        return
    Image.fromarray(draw(args.seed).numpy()).save(args.out)
    print(f"wrote {args.out}: {', '.join(args.prompts)}")


if __name__ == "__main__":
    main()
