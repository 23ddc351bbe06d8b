"""Regenerates the goldens: `python tools/reference/make.py` for all, or with names (`make.py vae qwen3`); `--list` names them."""

import importlib
import sys
import time

# Installed packages first: a script beside this one may carry the name of a package.
sys.path.append(sys.path.pop(0))

import torch  # noqa: E402

FAMILIES = ["vae", "qwen3", "t5", "clip", "siglip", "z_image", "flux1", "sigmas", "pipelines", "flux_pictures", "flux_adapters", "flux_redux", "lora", "nn_layers", "ops", "inventories", "variants"]


def main(names: list) -> int:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if names == ["--list"]:
        print("\n".join(FAMILIES))
        return 0
    unknown = [n for n in names if n not in FAMILIES]
    if unknown:
        print(f"unknown: {' '.join(unknown)}; known: {' '.join(FAMILIES)}", file=sys.stderr)
        return 2
    for name in names or FAMILIES:
        started = time.monotonic()
        importlib.import_module(name).generate()
        print(f"{name}: {time.monotonic() - started:.1f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
