"""Noise levels and solvers: sigma lists of the reference schedulers (JSON), and the latents of every solver step on a small velocity field."""

import math
from typing import Callable

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.schedulers import scheduling_flow_match_euler_discrete as euler_module

import official
from golden import ROOT, Golden, GoldenRefused, Mutation, Run, make, patched, version, write_json
from weights import normal

FOLDER = "packages/diffusion/test/goldens"
STEPS = [1, 2, 4, 8, 28, 50]
TOKENS = [256, 1024, 2304, 4096, 7000]


def row(label: str, config: dict, steps: int, mu: float | None = None, given: list | None = None) -> dict:
    """FlowMatchEulerDiscreteScheduler as pipelines call it; `given` None lets the scheduler choose its own grid."""
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    arguments = {"mu": mu} if mu is not None else {}
    scheduler.set_timesteps(**({"num_inference_steps": steps} if given is None else {"sigmas": given}), **arguments)
    result = {"id": label, "config": config, "steps": steps, "mu": mu, "given": given}
    return result | {"sigmas": [float(s) for s in scheduler.sigmas], "timesteps": [float(t) for t in scheduler.timesteps]}


def grid(steps: int) -> list:
    return [float(s) for s in np.linspace(1.0, 1 / steps, steps)]


def euler_rows() -> list:
    rows = []
    for shift in (1.0, 3.0, 6.0):
        for steps in STEPS:
            rows.append(row(f"static-{shift:g}-{steps}", {"shift": shift}, steps, given=grid(steps)))
        rows.append(row(f"static-{shift:g}-8-own-grid", {"shift": shift}, 8))
    for kind in ("exponential", "linear"):
        for tokens in TOKENS:
            for steps in (4, 8, 28, 50):
                mu = calculate_shift(tokens, 256, 4096, 0.5, 1.15)
                config = {"use_dynamic_shifting": True, "time_shift_type": kind, "shift": 3.0}
                rows.append(row(f"dynamic-{kind}-{tokens}-{steps}", config, steps, mu, grid(steps)) | {"tokens": tokens})
    user = [1.0, 0.8, 0.55, 0.3, 0.05]
    rows.append(row("user-static-3", {"shift": 3.0}, 5, given=user))
    rows.append(row("user-dynamic", {"use_dynamic_shifting": True}, 5, 1.15, user))
    rows.append(row("terminal", {"shift": 3.0, "shift_terminal": 0.1}, 8, given=grid(8)))
    rows.append(row("karras", {"shift": 3.0, "use_karras_sigmas": True}, 8, given=grid(8)))
    rows.append(row("exponential", {"shift": 3.0, "use_exponential_sigmas": True}, 8, given=grid(8)))
    return rows


def official_rows() -> tuple:
    """The authors' own schedules: get_schedule of black-forest-labs/flux and the scheduler of Tongyi-MAI/Z-Image."""
    # sampling.py as a whole imports depth and image encoders, so only its schedule functions are read.
    source = (official.CACHE / "flux/src/flux/sampling.py").read_text()
    names = {"torch": torch, "math": math, "Callable": Callable, "Tensor": torch.Tensor}
    exec(compile(source[source.index("def time_shift") : source.index("def denoise")], "sampling.py", "exec"), names)
    flux = []
    for steps in (4, 8, 28, 50):
        flux.append({"id": f"flux-schnell-{steps}", "steps": steps, "shifted": False, "sigmas": names["get_schedule"](steps, 4096, shift=False)})
        for tokens in TOKENS:
            flux.append({"id": f"flux-dev-{tokens}-{steps}", "steps": steps, "tokens": tokens, "shifted": True, "sigmas": names["get_schedule"](steps, tokens)})
    with official.source("Z-Image"):
        from zimage.scheduler import FlowMatchEulerDiscreteScheduler as Theirs

        zimage = []
        for shift in (3.0, 6.0):
            for steps in (4, 8, 28, 50):
                scheduler = Theirs(num_train_timesteps=1000, shift=shift)
                scheduler.sigma_min = 0.0
                scheduler.set_timesteps(steps, device="cpu", mu=1.0)
                zimage.append({"id": f"z-image-{shift:g}-{steps}", "steps": steps, "shift": shift, "sigmas": [float(s) for s in scheduler.sigmas]})
    return flux, zimage


def dpm_rows() -> list:
    rows = []
    for shift in (1.0, 3.0):
        for steps in (4, 8, 28):
            scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
            scheduler.set_timesteps(steps)
            rows.append({"id": f"dpm-flow-{shift:g}-{steps}", "steps": steps, "shift": shift, "sigmas": [float(s) for s in scheduler.sigmas]})
    return rows


def strength_rows() -> list:
    """First step of image-to-image: how FluxImg2ImgPipeline cuts a schedule."""
    from diffusers import FluxImg2ImgPipeline

    rows = []
    for steps in (4, 8, 28, 50):
        for strength in (0.01, 0.1, 0.3, 0.5, 0.6, 0.75, 0.9, 1.0):
            scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
            scheduler.set_timesteps(sigmas=grid(steps))
            pipe = type("Pipe", (), {"scheduler": scheduler})()
            _, left = FluxImg2ImgPipeline.get_timesteps(pipe, steps, strength, "cpu")
            rows.append({"steps": steps, "strength": strength, "start": steps - left})
    return rows


TURBO = row("", {"shift": 3.0}, 8, given=grid(8))["sigmas"]
LATE = [0.9, 0.8, 0.6, 0.45, 0.3, 0.15, 0.0]
WIDTH = 12


def velocity(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """v(x, sigma) = tanh(x W) (1 + sigma) - x / 2"""
    return torch.tanh(x @ normal("solver.W", WIDTH, WIDTH, scale=0.4)) * (1 + sigma) - x / 2


def euler(x, sigmas):
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=sigmas[:-1])
    scheduler.sigmas = torch.tensor(sigmas)
    for t in scheduler.timesteps:
        x = scheduler.step(velocity(x, float(t) / 1000), t, x, return_dict=False)[0]
        yield x


def heun(x, sigmas):
    """The outputs after whole steps (two evaluations each, one in the last)."""
    scheduler = FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(len(sigmas) - 1)
    s = torch.tensor(sigmas)
    scheduler.sigmas = torch.cat([s[:1], s[1:-1].repeat_interleave(2), s[-1:]])
    scheduler.timesteps = torch.cat([s[:1], s[1:-1].repeat_interleave(2)]) * 1000
    scheduler.set_begin_index(0)
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.step(velocity(x, float(t) / 1000), t, x, return_dict=False)[0]
        if i % 2 == 1 or i == len(scheduler.timesteps) - 1:
            yield x


def dpm_flow(x, sigmas, **options):
    """DPM-Solver++(2M) with lambda = ln((1 - s) / s)."""
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, **options)
    scheduler.set_timesteps(len(sigmas) - 1)
    scheduler.sigmas = torch.tensor(sigmas)
    scheduler.timesteps = torch.tensor(sigmas[:-1]) * 1000
    scheduler.set_begin_index(0)
    for t, s in zip(scheduler.timesteps, sigmas):
        x = scheduler.step(velocity(x, s), t, x, return_dict=False)[0]
        yield x


def dpm_sigma(x, sigmas):
    """DPM-Solver++(2M) with lambda = -ln s (arXiv:2211.01095 eq. 9 on the k-diffusion ODE), as ComfyUI and stable-diffusion.cpp sample."""
    old, h_old = None, None
    for s, s_next in zip(sigmas, sigmas[1:]):
        denoised = x - s * velocity(x, s)
        if s_next == 0:
            x = denoised
        else:
            h = float(np.log(s) - np.log(s_next))
            mixed = denoised if old is None else (1 + h / (2 * h_old)) * denoised - h / (2 * h_old) * old
            x = (s_next / s) * x - float(np.expm1(-h)) * mixed
            h_old = h
        old = denoised
        yield x


def stochastic(x, sigmas):
    """FlowMatchEuler in stochastic mode with stored noise."""
    scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    scheduler.set_timesteps(sigmas=sigmas[:-1])
    scheduler.sigmas = torch.tensor(sigmas)
    for i, t in enumerate(scheduler.timesteps):
        with patched(euler_module, "randn_tensor", lambda *a, **k: noise(i)) if hasattr(euler_module, "randn_tensor") else patched(torch, "randn_like", lambda *a, **k: noise(i)):
            x = scheduler.step(velocity(x, float(t) / 1000), t, x, return_dict=False)[0]
        yield x


def noise(i: int) -> torch.Tensor:
    return normal(f"solver.noise.{i}", 3, WIDTH)


def ancestral(x, sigmas, eta: float = 1.0):
    """Flow form of Euler ancestral: step down to s_down, then renoise so that x = (1 - s) x0 + s n keeps its variance."""
    for i, (s, s_next) in enumerate(zip(sigmas, sigmas[1:])):
        v = velocity(x, s)
        if s_next == 0:
            x = x - s * v
        else:
            down = s_next * (1 + (s_next / s - 1) * eta)
            alpha = (1 - s_next) / (1 - down)
            up = s_next * (1 - (down * alpha / s_next) ** 2) ** 0.5
            x = alpha * (x + (down - s) * v) + up * noise(i)
        yield x


SOLVERS = {"euler": euler, "heun": heun, "dpmpp2m-flow": dpm_flow, "dpmpp2m-sigma": dpm_sigma, "euler-stochastic": stochastic, "euler-ancestral": ancestral}


def run_solvers(skew: float = 0.0, replaced: dict | None = None) -> Run:
    outputs, end = {}, []
    start = normal("solver.x", 3, WIDTH)
    for name, solver in {**SOLVERS, **(replaced or {})}.items():
        for label, sigmas in (("turbo", TURBO), ("late", LATE)):
            moved = [sigmas[0], *[s + skew if s else s for s in sigmas[1:]]]
            for i, x in enumerate(solver(start, moved)):
                outputs[f"{name}.{label}.{i}"] = x.float()
            end.append(f"{name}.{label}.{len(sigmas) - 2}")
    inputs = {"x": start, "W": normal("solver.W", WIDTH, WIDTH, scale=0.4)}
    inputs |= {"sigmas.turbo": torch.tensor(TURBO), "sigmas.late": torch.tensor(LATE), "noise": torch.stack([noise(i) for i in range(8)])}
    return Run(inputs, {}, outputs, end)


def check_each_solver_differs(run: Run) -> None:
    """No two solvers may give the same latents, or a test could not tell them apart."""
    for label, last in (("turbo", 7), ("late", 5)):
        ends = {n: run.outputs[f"{n}.{label}.{last}"] for n in SOLVERS}
        for a in ends:
            for b in ends:
                if a < b and (ends[a] - ends[b]).norm() / ends[a].norm() < 5e-4:
                    raise GoldenRefused(f"solvers {a} and {b} end alike on {label}")


@torch.no_grad()
def generate() -> None:
    flux, zimage = official_rows()
    schedules = {
        "flowMatchEuler": {"reference": version("diffusers FlowMatchEulerDiscreteScheduler"), "rows": euler_rows()},
        "flux": {"reference": "black-forest-labs/flux @ 802fb47 src/flux/sampling.py", "rows": flux},
        "zImage": {"reference": "Tongyi-MAI/Z-Image @ c7ec135 src/zimage/scheduler.py", "rows": zimage},
        "dpmFlow": {"reference": version("diffusers DPMSolverMultistepScheduler"), "rows": dpm_rows()},
        "strength": {"reference": version("diffusers FluxImg2ImgPipeline.get_timesteps"), "rows": strength_rows()},
    }
    write_json(ROOT / FOLDER / "sigmas.json", schedules, indent=None)
    check_each_solver_differs(run_solvers())
    mutations = [
        Mutation("sigmas after the first + 0.001", {"skew": 0.001}),
        Mutation("DPM++ solver_type midpoint -> heun", {"replaced": {"dpmpp2m-flow": lambda x, s: dpm_flow(x, s, solver_type="heun")}}),
        Mutation("ancestral eta 1 -> 0.99", {"replaced": {"euler-ancestral": lambda x, s: ancestral(x, s, 0.99)}}),
    ]
    config = {"velocity": "tanh(x W) (1 + sigma) - x / 2", "solvers": list(SOLVERS)}
    make(Golden(f"{FOLDER}/solvers.safetensors", "diffusers schedulers", config, run_solvers, mutations, tolerance=1e-6))
