"""One denoising step of FLUX.1-dev or Z-Image with random weights in PyTorch: the same shapes as gpu-step.ts, with diffusers' classes or,
without diffusers or when asked, the plain PyTorch of torch_plain.py. Prints one line of JSON. Needs torch."""

import argparse
import json
import statistics
import time


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["flux1-dev", "z-image"], default="flux1-dev")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--blocks", type=int)
    parser.add_argument("--text", type=int)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--plain", action="store_true", help="torch_plain.py even where diffusers is installed")
    parser.add_argument("--compile", action="store_true", help="torch.compile the transformer")
    return parser.parse_args()


args = arguments()


def leave(missing: str) -> None:
    """That there is nothing to compare with is a result, not a failure."""
    print(json.dumps({"benchmark": "step", "library": "PyTorch", "missing": missing}))
    raise SystemExit(0)


try:
    import torch
except ImportError as error:
    leave(str(error))
try:
    from diffusers import FluxTransformer2DModel, ZImageTransformer2DModel

    plain = args.plain
except ImportError:
    plain = True
if args.device == "cuda" and not torch.cuda.is_available():
    leave("this PyTorch sees no CUDA device")

LIMIT = args.blocks if args.blocks is not None else 1000
BF16 = {"device": args.device, "dtype": torch.bfloat16}


def flux():
    with torch.device("meta"):
        model = FluxTransformer2DModel(num_layers=min(19, LIMIT), num_single_layers=min(38, LIMIT), guidance_embeds=True)
    side, text = args.size // 16, args.text or 512
    ids = torch.tensor([[0, i // side, i % side] for i in range(side * side)], device=args.device)
    inputs = {
        "hidden_states": torch.rand(1, side * side, 64, **BF16) - 0.5,
        "encoder_hidden_states": torch.rand(1, text, 4096, **BF16) - 0.5,
        "pooled_projections": torch.rand(1, 768, **BF16) - 0.5,
        "timestep": torch.tensor([0.7], **BF16),
        "guidance": torch.tensor([3.5], **BF16),
        "img_ids": ids,
        "txt_ids": torch.zeros(text, 3, device=args.device),
        "return_dict": False,
    }
    return model, lambda m: m(**inputs)[0], side * side + text


def z_image():
    sizes = {"n_layers": min(30, LIMIT), "n_refiner_layers": min(2, LIMIT)}
    with torch.device("meta"):
        model = ZImageTransformer2DModel(**sizes, axes_dims=[32, 48, 48], axes_lens=[1536, 512, 512])
    side, text = args.size // 8, args.text or 128
    latents = [torch.rand(16, 1, side, side, **BF16) - 0.5]
    captions = [torch.rand(text, 2560, **BF16) - 0.5]
    t = torch.tensor([0.3], **BF16)
    return model, lambda m: m(latents, t, captions, return_dict=False)[0][0], (side // 2) ** 2 + text


def plain_flux():
    from torch_plain import Flux

    with torch.device("meta"):
        model = Flux(min(19, LIMIT), min(38, LIMIT))
    side, text = args.size // 16, args.text or 512
    grid = [[0, i // side, i % side] for i in range(side * side)]
    ids = torch.tensor([[0, 0, 0]] * text + grid, device=args.device)
    one = lambda *shape: torch.rand(1, *shape, **BF16) - 0.5  # noqa: E731
    inputs = (one(side * side, 64), one(text, 4096), one(768), torch.tensor([0.7], **BF16), torch.tensor([3.5], **BF16), ids)
    return model, lambda m: m(*inputs), side * side + text


def plain_z_image():
    from torch_plain import ZImage

    with torch.device("meta"):
        model = ZImage(min(30, LIMIT), min(2, LIMIT))
    side, text = args.size // 16, args.text or 128
    image_ids = torch.tensor([[text + 1, i // side, i % side] for i in range(side * side)], device=args.device)
    caption_ids = torch.tensor([[1 + i, 0, 0] for i in range(text)], device=args.device)
    one = lambda *shape: torch.rand(1, *shape, **BF16) - 0.5  # noqa: E731
    inputs = (one(side * side, 64), one(text, 2560), torch.tensor([0.3], **BF16), image_ids, caption_ids)
    return model, lambda m: m(*inputs), side * side + text


def filled(build):
    """The model built without memory, then with random weights of deviation 0.02 on the device."""
    model, forward, tokens = build()
    model = model.to(torch.bfloat16).to_empty(device=args.device)
    for name, p in model.named_parameters():
        p.data.fill_(1) if p.dim() == 1 and "norm" in name else p.data.normal_(std=0.02)
    return model.eval(), forward, tokens


BUILDERS = {
    ("flux1-dev", False): flux,
    ("flux1-dev", True): plain_flux,
    ("z-image", False): z_image,
    ("z-image", True): plain_z_image,
}


def synchronize() -> None:
    if args.device == "cuda":
        torch.cuda.synchronize()


def timed(step) -> float:
    start = time.perf_counter()
    out = step()
    synchronize()
    elapsed = (time.perf_counter() - start) * 1000
    if not torch.isfinite(out.float()).all():
        raise SystemExit("the result is not finite")
    return elapsed


@torch.inference_mode()
def main() -> None:
    model, forward, tokens = filled(BUILDERS[args.model, plain])
    if args.compile:
        model = torch.compile(model)
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    cold = timed(lambda: forward(model))
    times = [timed(lambda: forward(model)) for _ in range(args.steps)]
    result = {
        "benchmark": "step",
        "library": "PyTorch" + (" (compiled)" if args.compile else ""),
        "version": torch.__version__,
        "implementation": "plain PyTorch" if plain else "diffusers",
        "device": torch.cuda.get_device_name() if args.device == "cuda" else args.device,
        "model": args.model,
        "blocks": args.blocks or "all",
        "size": args.size,
        "tokens": tokens,
        "dtype": "bf16",
        "coldMs": cold,
        "medianMs": statistics.median(times),
        "lowMs": min(times),
        "highMs": max(times),
        "peakDeviceBytes": torch.cuda.max_memory_allocated() if args.device == "cuda" else None,
    }
    print(json.dumps(result))


main()
