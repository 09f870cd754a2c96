"""Time and peak memory of latent controllers on networks of Stable Diffusion 1.5's size, with random weights.

    python benchmarks/latent_memory.py                     # on a GPU: 512 px, bf16
    python benchmarks/latent_memory.py --device meta       # anywhere: memory by counting (live_bytes.py), no times
    python benchmarks/latent_memory.py --tiny              # a smoke test of the first

Network and autoencoder are made from Stable Diffusion 1.5's configs and the prompt is random: time and memory do not
depend on weights, and nothing is downloaded. Each controller runs with the settings of `conf/controller/`, by the same
solver as the command, on super-resolution by 8; render and encoding are part of it.

Seconds per step: those of `--steps` + 1 steps less those of one, over `--steps`; of ten, one is P2L's projection.
Seconds per image: that times the steps of the literature. Peak: what torch allocated on the GPU, or the live tensors of
one step that were counted (P2L's projects, in closed form), weights included; on a CPU there is no such number.
`--no-checkpoint` shows what recomputing saves.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from pathlib import Path

import diffusers
import torch
from live_bytes import counting, held_by
from timing import save

from rbctrl.codecs import Autoencoder
from rbctrl.config import build, options
from rbctrl.controllers import Controller
from rbctrl.costs import ResidualNorm
from rbctrl.data.base import Item
from rbctrl.data.sources import Memory as Images
from rbctrl.devices import pick_device
from rbctrl.grids import Uniform
from rbctrl.noise import GaussianNoise
from rbctrl.operators import Downsample
from rbctrl.priors.denoisers import UNet
from rbctrl.priors.embedding import Embedding
from rbctrl.priors.memory import Memory
from rbctrl.priors.network import NetworkPrior
from rbctrl.priors.prompted import PromptedPrior
from rbctrl.process import ddim
from rbctrl.schedules import DiscreteVP
from rbctrl.solution import Solution
from rbctrl.solver import Solver

STEPS = {  # of the literature, where it says
    "none": 50,
    "rb_modulation_encode": 50,  # ours, as are the next two
    "rb_modulation_latent": 50,
    "rb_modulation": 50,
    "dps": 1000,  # as psld
    "psld": 1000,  # the released code
    "p2l": 1000,  # as listed by STSL
    "stsl": 50,  # as listed by others
}
UNET = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
TINY_UNET = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
TINY_VAE = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}


def prior(memory: Memory, tiny: bool, device: torch.device) -> PromptedPrior:
    """Stable Diffusion 1.5, or a narrow one, with random weights made on the device."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(77, UNET["cross_attention_dim"], generator=generator)
    with device:
        network = diffusers.UNet2DConditionModel(**(UNET | (TINY_UNET if tiny else {})))
        vae = diffusers.AutoencoderKL(**(VAE | (TINY_VAE if tiny else {})))
    network = UNet(memory.prepare(torch.nn.Module.to(network, memory.dtype)))
    denoiser = NetworkPrior(
        network,
        parameterization="eps",
        time_input="index",
        network_schedule=DiscreteVP.sqrt_linear(),
        value_range=(-1.0, 1.0),
        codec=Autoencoder(vae, checkpoint=memory.vae_checkpoint, slicing=memory.vae_slicing, tiling=memory.vae_tiling),
    )
    return PromptedPrior(denoiser, lambda: (Embedding(tokens), Embedding(tokens)))


def solve(
    prior: PromptedPrior, controller: Controller, size: int, batch: int, n_steps: int, device: torch.device
) -> Solution:
    """One batch of one image's samples, measured by super-resolution."""
    solver = Solver(
        prior=prior,
        operator=Downsample(8),
        noise=GaussianNoise(0.05),
        cost=ResidualNorm(),
        sampler=partial(ddim, n_steps=n_steps, grid=Uniform(), eta=0.0),
        controller=controller,
        device=device,
        dtype=torch.float32,
    )
    solver.check(batch, batch)
    solver.load()
    image = torch.linspace(-1, 1, 3 * size * size).sin().view(3, size, size)
    (rows,) = Images([Item("image", image)]).batches(batch, batch)
    return solver.solve(rows, seed=0)


def measured(prior: PromptedPrior, name: str, given: argparse.Namespace, device: torch.device) -> dict[str, object]:
    """Columns of one controller, run on a GPU or CPU."""
    run = partial(solve, prior, build("controller", name), given.size, given.batch, device=device)
    run(n_steps=1)  # warms up
    one, many = run(n_steps=1), run(n_steps=1 + given.steps)
    per_step = (many.seconds - one.seconds) / given.steps
    counts = {
        f"{kind}_per_step": (getattr(many.evaluations, kind) - getattr(one.evaluations, kind)) / given.steps
        for kind in ("nfe", "vjp", "decoder_vjp", "encoder_vjp")
    }
    return {
        "peak_gib": float(f"{many.peak_memory / 1024:.3g}") if device.type == "cuda" else math.nan,
        "seconds_per_step": round(per_step, 4),
        "steps": STEPS[name],
        "seconds_per_image": round(per_step * STEPS[name], 1),
        **counts,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def counted(prior: PromptedPrior, name: str, given: argparse.Namespace, device: torch.device) -> dict[str, object]:
    """Columns of one controller, counted on the meta device in one step."""
    every = ["controller.project_every=1", "controller.cg_steps=null"] if name == "p2l" else []
    with counting(held_by(prior)) as live:
        solve(prior, build("controller", name, every), given.size, given.batch, 1, device)
    return {"peak_gib": float(f"{live.peak / 2**30:.3g}"), "device": "counted"}


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--controllers", default=",".join(STEPS))
    parser.add_argument("--no-checkpoint", action="store_true", help="keep all activations for the backward pass")
    parser.add_argument("--tiny", action="store_true", help="narrow networks at 64 px")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/latent_memory.csv"))
    given = parser.parse_args()
    given.size = 64 if given.tiny else given.size
    return given


def main() -> None:
    given = arguments()
    counts, checkpoint = given.device == "meta", not given.no_checkpoint
    device = torch.device("meta") if counts else pick_device(given.device)
    memory = Memory(given.precision, checkpoint=checkpoint, vae_checkpoint=checkpoint)
    made = prior(memory, given.tiny, device)
    settings = {"size": given.size, "batch": given.batch, "precision": given.precision, "checkpoint": checkpoint}
    rows, plain = [], math.nan
    for name in given.controllers.split(","):
        if name not in options("controller"):
            print(f"{name}: not there in this version")
            continue
        row = (counted if counts else measured)(made, name, given, device)
        plain = row["peak_gib"] if name == "none" else plain
        ratio = {"peak_over_none": round(row["peak_gib"] / plain, 2)}
        rows.append({"controller": name} | settings | row | ratio | {"torch": torch.__version__})
        print("  ".join(f"{key} {value}" for key, value in ({"controller": name} | row | ratio).items()), flush=True)
    save(rows, given.out)


if __name__ == "__main__":
    main()
