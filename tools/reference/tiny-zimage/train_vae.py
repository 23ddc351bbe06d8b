"""Step 2: the autoencoder. Trains encoder and decoder, freezes the encoder with normalised channels, then trains the decoder alone
on the frozen latents. Writes .cache/vae.pt (weights, scale, shift, latents)."""

import argparse
import math
import time

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from paths import DATA, config, pictures

BATCH = 16
KL_WEIGHT = 3e-4


def batches(count: int):
    while True:
        order = torch.randperm(count)
        for start in range(0, count - BATCH + 1, BATCH):
            yield order[start : start + BATCH]


def picture_loss(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """L1 of the pixels, of their differences to the right and below, and of 4x4 means."""
    error = made.float() - wanted
    right, below = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    return error.abs().mean() + 0.5 * (right.abs().mean() + below.abs().mean()) + 0.4 * F.avg_pool2d(error, 4).abs().mean()


def moved(x: torch.Tensor) -> torch.Tensor:
    """Now and then mirrored and shifted by up to three pixels."""
    if torch.rand(()) >= 0.15:
        return x
    down, right = torch.randint(0, 7, (2,)).tolist()
    x = x.flip(3) if torch.rand(()) < 0.5 else x
    return F.pad(x, (3, 3, 3, 3), value=1.0)[:, :, down : down + 64, right : right + 64]


def train(parameters, seconds: float, peak: float, loss_of) -> int:
    """Runs AdamW with warm-up and cosine decay for `seconds`, leaves the moving average in the parameters, returns the steps."""
    parameters = list(parameters)
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    started, step = time.time(), 0
    while (progress := (time.time() - started) / seconds) < 1:
        rate = peak * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-5
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        keep = min(0.998, (1 + step) / (10 + step))
        torch._foreach_mul_(average, keep)
        torch._foreach_add_(average, [p.data for p in parameters], alpha=1 - keep)
        if step % 100 == 0:
            print(f"step {step}, {time.time() - started:.0f} s, loss {loss.item():.4f}", flush=True)
    for p, a in zip(parameters, average):
        p.data.copy_(a)
    return step


@torch.no_grad()
def encode_all(vae: AutoencoderKL, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([vae.encode(part).latent_dist.mean for part in x.split(64)])


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, x: torch.Tensor) -> tuple[float, float, torch.Tensor]:
    """Gives every latent channel mean 0.125 and deviation 2 by folding an affine map into encoder and decoder (so that scale and shift
    are not trivial), rounds the encoder to bf16, and returns scale, shift and the normalised latents."""
    z = encode_all(vae, x)
    mean, deviation = z.mean((0, 2, 3)), z.std((0, 2, 3))
    gain, offset = 2 / deviation, 0.125 - 2 * mean / deviation
    out, back = vae.encoder.conv_out, vae.decoder.conv_in
    out.weight[:16] *= gain[:, None, None, None]
    out.bias[:16] = out.bias[:16] * gain + offset
    out.bias[16:] += 2 * gain.log()
    back.bias -= (back.weight.sum((2, 3)) * (offset / gain)).sum(1)
    back.weight /= gain[None, :, None, None]
    for p in vae.encoder.parameters():
        p.copy_(p.bfloat16().float())
        p.requires_grad_(False)
    z = encode_all(vae, x)
    scale, shift = round(1 / z.std().item(), 6), round(z.mean().item(), 6)
    return scale, shift, (z - shift) * scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=975, help="for encoder and decoder")
    parser.add_argument("--decoder-seconds", type=float, default=900, help="for the decoder on frozen latents")
    args = parser.parse_args()
    torch.manual_seed(0)
    x = pictures()
    vae = AutoencoderKL.from_config(config("vae"))
    with torch.no_grad():
        vae.encoder.conv_out.bias[16:] = -4  # start nearly without noise
    order = batches(len(x))

    def autoencoder_loss() -> torch.Tensor:
        wanted = moved(x[next(order)])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            latents = vae.encode(wanted).latent_dist
            made = vae.decode(latents.sample()).sample
        return picture_loss(made, wanted) + KL_WEIGHT * latents.kl().mean() / latents.mean[0].numel()

    def decoder_loss() -> torch.Tensor:
        index = next(order)
        noise = torch.rand(BATCH, 1, 1, 1) * 0.25 * torch.randn_like(z[index])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            made = vae.decode((z[index] + noise) / scale + shift).sample
        return picture_loss(made, x[index])

    steps = train(vae.parameters(), args.seconds, 1.2e-3, autoencoder_loss)
    vae.eval()
    scale, shift, z = normalise_latents(vae, x)
    decoder_steps = train(vae.decoder.parameters(), args.decoder_seconds, 1.5e-3, decoder_loss)
    torch.save({"weights": vae.state_dict(), "scale": scale, "shift": shift, "latents": z}, DATA / "vae.pt")
    with torch.no_grad():
        error = torch.cat([vae.decode(part / scale + shift).sample for part in z.split(64)]) - x
    print(f"{steps} + {decoder_steps} steps; mean absolute pixel error {error.abs().mean() / 2:.4f} of the range")


if __name__ == "__main__":
    main()
