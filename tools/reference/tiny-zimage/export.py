"""Step 4: writes the trained parts as a diffusers folder in bf16 (default .cache/model)."""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from paths import DATA, MODEL


def write_weights(path: Path, weights: dict[str, torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.bfloat16().contiguous() for name, tensor in weights.items()}, path, {"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DATA / "model")
    out = parser.parse_args().out
    vae, dit = torch.load(DATA / "vae.pt"), torch.load(DATA / "dit.pt")
    write_weights(out / "transformer/diffusion_pytorch_model.safetensors", dit["transformer"])
    write_weights(out / "text_encoder/model.safetensors", dit["text_encoder"])
    write_weights(out / "vae/diffusion_pytorch_model.safetensors", vae["weights"])
    for name in ("model_index.json", "scheduler/scheduler_config.json", "transformer/config.json", "text_encoder/config.json"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(MODEL / name, out / name)
    config = json.loads((MODEL / "vae/config.json").read_text())
    config.update(scaling_factor=vae["scale"], shift_factor=vae["shift"])
    (out / "vae/config.json").write_text(json.dumps(config, indent=2))
    shutil.copytree(DATA / "tokenizer", out / "tokenizer", dirs_exist_ok=True)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
