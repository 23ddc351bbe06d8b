"""Step 3: transformer and text encoder together, by flow matching on the frozen latents. Writes .cache/dit.pt (moving averages)."""

import argparse
import json
import random
import time

import torch
from transformers import PreTrainedTokenizerFast

from parts import encode_prompts, new_text_encoder, new_transformer, predict, prompt_ids
from paths import DATA

BLOCKS = ("noise_refiner.", "context_refiner.", "layers.")


def orthogonalise(update: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Newton-Schulz iteration of the Muon optimizer (constants from KellerJordan/Muon)."""
    x = update.bfloat16()
    x = x if x.shape[0] <= x.shape[1] else x.T
    x = x / (x.float().norm() + 1e-7).bfloat16()
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x if update.shape[0] <= update.shape[1] else x.T).float()


class Muon:
    """Momentum with orthogonalised updates, for the matrices of the blocks."""

    def __init__(self, parameters: list[torch.nn.Parameter]):
        self.parameters = parameters
        self.momenta = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, rate: float, momentum: float = 0.95) -> None:
        for p, m in zip(self.parameters, self.momenta):
            m.lerp_(p.grad, 1 - momentum)
            update = orthogonalise(p.grad.lerp(m, momentum))
            p.add_(update, alpha=-rate * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


def learning_rate(progress: float, step: int) -> float:
    """Warm-up over 60 steps, constant until 45 % of the time, then linear decay to 2 %."""
    return min(1, (step + 1) / 60) * (1 if progress < 0.45 else max(0.02, (1 - progress) / 0.55))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1410)
    parser.add_argument("--batch", type=int, default=96)
    args = parser.parse_args()
    torch.manual_seed(1)
    random.seed(1)
    latents = torch.load(DATA / "vae.pt")["latents"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(DATA / "tokenizer/tokenizer.json"))
    captions = [[(prompt_ids(tokenizer, text), weight) for text, weight in group] for group in json.loads((DATA / "captions.json").read_text())]
    empty = prompt_ids(tokenizer, "")
    transformer, encoder = new_transformer(), new_text_encoder()
    encoder.layers[-1].requires_grad_(False)  # Z-Image reads the states before the last layer
    encoder.norm.requires_grad_(False)
    named = list(transformer.named_parameters())
    matrices = [p for name, p in named if name.startswith(BLOCKS) and p.dim() == 2 and "adaLN" not in name]
    taken = {id(p) for p in matrices}
    trained = [p for _, p in named] + [p for p in encoder.parameters() if p.requires_grad]
    muon, adam = Muon(matrices), torch.optim.AdamW([p for p in trained if id(p) not in taken], lr=0, betas=(0.9, 0.97), weight_decay=0.0)
    average = [p.detach().clone() for p in trained]

    started, step = time.time(), 0
    while (progress := (time.time() - started) / args.seconds) < 1:
        index = torch.randint(len(latents), (args.batch,))
        groups = [captions[i] for i in index.tolist()]
        ids = [empty if random.random() < 0.1 else random.choices(*zip(*group))[0] for group in groups]
        u = (torch.randperm(args.batch) + torch.rand(args.batch)) / args.batch
        sigma = 3 * u / (1 + 2 * u)
        clean = latents[index]
        noise = torch.randn_like(clean)
        s = sigma[:, None, None, None]
        out = predict(transformer, (1 - s) * clean + s * noise, 1 - sigma, encode_prompts(encoder, ids))
        loss = (out + noise - clean).square().mean()
        for p in trained:
            p.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in trained if id(p) not in taken], 1.0)
        factor = learning_rate(progress, step)
        adam.param_groups[0]["lr"] = 1.5e-3 * factor
        adam.step()
        muon.step(0.02 * factor)
        step += 1
        keep = min(0.999, (1 + step) / (20 + step))
        torch._foreach_mul_(average, keep)
        torch._foreach_add_(average, [p.data for p in trained], alpha=1 - keep)
        if step % 50 == 0:
            print(f"step {step}, {time.time() - started:.0f} s, loss {loss.item():.4f}", flush=True)
    for p, a in zip(trained, average):
        p.data.copy_(a)
    torch.save({"transformer": transformer.state_dict(), "text_encoder": encoder.state_dict()}, DATA / "dit.pt")
    print(f"{step} steps; last loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
