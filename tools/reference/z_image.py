"""Z-Image transformer goldens: unequal prompts and sizes that need padding, and lengths that need none; checked against the authors' class."""

import contextlib

import torch
from diffusers import ZImageTransformer2DModel
from diffusers.models.transformers import transformer_z_image as module
from torch import nn

import official
from golden import Capture, Golden, GoldenRefused, Mutation, Run, make, patch, patched, relative_l2
from weights import fill, normal

FOLDER = "packages/models-zimage/test/goldens"
WEIGHTS_FILE = "z-image.weights.safetensors"
CONFIG = {
    "all_patch_size": [2],
    "all_f_patch_size": [1],
    "in_channels": 16,
    "dim": 48,
    "n_layers": 2,
    "n_refiner_layers": 2,
    "n_heads": 3,
    "n_kv_heads": 3,
    "norm_eps": 1e-5,
    "qk_norm": True,
    "cap_feat_dim": 24,
    "rope_theta": 256.0,
    "t_scale": 1000.0,
    "axes_dims": [4, 6, 6],
    "axes_lens": [160, 32, 32],
}
# The residual stream stays near 0.05, and so do the inputs of the sandwich norms: their epsilons then show.
RULES = [
    (r"all_x_embedder|cap_embedder\.1", 0.05),
    (r"pad_token", 0.2),
    (r"norm2\.weight", 0.04),
    (r"to_out|w2", 0.05),
    (r"to_q|to_k", 0.05),
    (r"t_embedder", 1.5),
]
DETAILED = ("layers.0", "noise_refiner.0", "context_refiner.0")


def recorded(path: str) -> bool:
    """Everything outside the blocks, whole blocks, and the inside of the first block of each kind."""
    if path in ("layers", "noise_refiner", "context_refiner", "all_x_embedder", "all_final_layer"):
        return False
    block = path.split(".")[0] in ("layers", "noise_refiner", "context_refiner") and path.count(".") > 1
    return (not block or path.startswith(DETAILED)) and not path.endswith(("to_out", "w1", "w3"))


def build(qk_eps: float = 1e-5, final_eps: float = 1e-6, **changes) -> ZImageTransformer2DModel:
    model = ZImageTransformer2DModel(**{**CONFIG, **changes})
    fill(model, RULES)
    for name, m in model.named_modules():
        if name.endswith(("norm_q", "norm_k")):
            m.eps = qk_eps
        if name.endswith("norm_final"):
            m.eps = final_eps
    return model


def inputs_batch() -> tuple:
    """Two items: 19 and 37 caption tokens (padded to 32 and 64), 3 x 5 image tokens (padded to 32)."""
    latents = normal("zimage.latents", 2, 16, 1, 6, 10)
    return latents, [normal(f"zimage.cap.{n}", n, 24, scale=0.02) for n in (19, 37)], torch.tensor([0.25, 0.90625])


def inputs_exact() -> tuple:
    """One item: 32 caption tokens and 4 x 8 image tokens; nothing is padded."""
    return normal("zimage.exact", 1, 16, 1, 8, 16), [normal("zimage.cap.32", 32, 24, scale=0.02)], torch.tensor([0.0])


def run_with(inputs, edit=lambda model: None, **changes) -> Run:
    model = build(**changes)
    edit(model)
    latents, captions, t = inputs()
    with Capture(model, skip=lambda path: not recorded(path)) as outputs:
        velocity = model(list(latents.unbind(0)), t, captions, return_dict=False)[0]
    outputs["output"] = torch.stack(velocity)
    stored = {"latents": latents, "t": t} | {f"cap.{i}": c for i, c in enumerate(captions)}
    return Run(stored, model.state_dict(), outputs, ["output"])


def swap_gate_and_scale(model) -> None:
    for name, m in model.named_modules():
        if name.endswith("adaLN_modulation.0") and "final" not in name:
            for p in (m.weight, m.bias):
                a, b, c, d = p.data.chunk(4)
                p.data = torch.cat([b, a, d, c])


def zero_pads(model) -> None:
    model.x_pad_token.data.zero_()
    model.cap_pad_token.data.zero_()


@contextlib.contextmanager
def half_split_rope():
    """Pairs element i with i + half instead of 2i with 2i + 1, by reordering around the complex product."""
    real_complex, real_real = torch.view_as_complex, torch.view_as_real

    def as_complex(x):
        return real_complex(x.flatten(-2).unflatten(-1, (2, -1)).transpose(-1, -2).contiguous())

    def as_real(x):
        return real_real(x).transpose(-1, -2).flatten(-2).unflatten(-1, (-1, 2))

    with patched(torch, "view_as_complex", as_complex), patched(torch, "view_as_real", as_real):
        yield


def shifted_positions(model) -> None:
    """Caption positions from 0 instead of 1."""
    real = model.create_coordinate_grid

    def grid(size, start=None, device=None):
        return real(size, (max(start[0] - 1, 0), *start[1:]), device)

    model.create_coordinate_grid = grid


def silu_before(model) -> None:
    for name, m in model.named_modules():
        if name.endswith("adaLN_modulation.0") and "final" not in name:
            m.register_forward_pre_hook(lambda _m, args: (nn.functional.silu(args[0]),))


def mutations(run, padded: bool) -> list:
    """`run` takes an extra `edit` of the built model."""
    rows = [
        Mutation("norm_eps 1e-5 -> 1e-6", {"norm_eps": 1e-6}),
        Mutation("qk norm eps 1e-5 -> 1e-6", {"qk_eps": 1e-6}),
        Mutation("final norm eps 1e-6 -> 1e-5", {"final_eps": 1e-5}),
        Mutation("rope_theta 256 -> 10000", {"rope_theta": 10000.0}),
        Mutation("rope_theta 256 -> 250", {"rope_theta": 250.0}),
        Mutation("axes_dims [4,6,6] -> [6,4,6]", {"axes_dims": [6, 4, 6]}),
        Mutation("tanh of the gates left out", patch=patch(torch.Tensor, "tanh", lambda self: self)),
        Mutation("SiLU before the block modulation", {"edit": silu_before}),
        Mutation("modulation order scale, gate -> gate, scale", {"edit": swap_gate_and_scale}),
        Mutation("SwiGLU silu -> gelu", patch=patch(module.FeedForward, "_forward_silu_gating", lambda self, a, b: nn.functional.gelu(a) * b)),
        Mutation("RoPE pairing interleaved -> half-split", patch=half_split_rope),
    ]
    if padded:
        rows += [
            Mutation("t_scale 1000 -> 999", {"t_scale": 999.0}),
            Mutation("pad tokens zero", {"edit": zero_pads}),
            Mutation("padding to 32 -> 16", patch=patch(module, "SEQ_MULTI_OF", 16)),
            Mutation("positions from 0 instead of 1", {"edit": shifted_positions}),
        ]
    return rows


def cross_check_official() -> None:
    """The authors' class with the same weights gives the same output for both inputs."""
    with official.source("Z-Image"):
        from zimage import transformer as theirs

        model = theirs.ZImageTransformer2DModel(**{k: v for k, v in CONFIG.items()}).eval()
        model.load_state_dict(build().state_dict(), strict=True)
        for inputs in (inputs_batch, inputs_exact):
            latents, captions, t = inputs()
            actual = torch.stack(list(model(list(latents.unbind(0)), t, captions)[0]))
            error = relative_l2(actual, run_with(inputs).outputs["output"])
            if error > 1e-5:
                raise GoldenRefused(f"z-image {inputs.__name__}: Tongyi-MAI/Z-Image and diffusers differ by {error:.2e}")


@torch.no_grad()
def generate() -> None:
    cross_check_official()
    for name, inputs in (("batch", inputs_batch), ("exact", inputs_exact)):

        def run(inputs=inputs, **changes):
            return run_with(inputs, **changes)

        path = f"{FOLDER}/z-image-{name}.safetensors"
        rows = mutations(run, padded=name == "batch")
        make(Golden(path, "diffusers ZImageTransformer2DModel", CONFIG, run, rows, weights_file=WEIGHTS_FILE))
