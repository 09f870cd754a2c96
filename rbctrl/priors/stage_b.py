"""Stable Cascade's stages B and A: from a latent of stage C to the final image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rbctrl.integrators import DDIM
from rbctrl.offload import Part
from rbctrl.pretrained import Source
from rbctrl.priors.base import Estimate
from rbctrl.priors.cascade_networks import StageB
from rbctrl.priors.embedding import Embedding
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.memory import Memory
from rbctrl.priors.network import NetworkPrior
from rbctrl.rng import ImageRNG
from rbctrl.schedules import Cosine

UPSCALING = 10.67  # latent pixels of stage B per one of stage C


@dataclass(frozen=True)
class Rendering:
    """How stage B samples; the defaults are RB-Modulation's demo.

    Args:
        n_steps: of its DDPM sampler, equal steps in t.
        guidance: from the negative prompt and no latent to the prompt and the latent.
        schedule: its noise schedule.
    """

    n_steps: int = 10
    guidance: Guidance = field(default_factory=lambda: Guidance(1.1))
    schedule: Cosine = field(default_factory=lambda: Cosine(alpha_bar_max=0.9999))


class Stages(nn.Module):
    """Stages B and A.

    Args:
        source: of both.
        part: name of stage B in it, "decoder" or "decoder_lite".
        embed: prompt and negative prompt, with their pooled vectors; called by `load`.
        rendering: of stage B.
        memory: precision of stage B; stage A is fp32.
    """

    def __init__(
        self,
        source: Source,
        part: str,
        embed: Callable[[], tuple[Embedding, Embedding]],
        rendering: Rendering,
        memory: Memory,
    ) -> None:
        super().__init__()
        self.source, self.part, self.rendering = source, part, rendering
        self._embed, self._memory = embed, memory
        self.prior = NetworkPrior(
            self._network,
            parameterization="eps",
            time_input="log_snr",
            network_schedule=rendering.schedule,
            value_range=(-1.0, 1.0),
        )
        self.stage_a: nn.Module | None = None
        self.prompts = nn.ModuleList()

    def _network(self) -> nn.Module:
        from diffusers import StableCascadeUNet

        return StageB(self._memory.prepare(self.source.part(StableCascadeUNet, self.part, self._memory.dtype)))

    def load(self) -> None:
        """Reads the weights, once."""
        if self.stage_a is None:
            self.prompts.extend(self._embed())
            self.prior.load()
            self.stage_a = self.source.part(_stage_a(), "vqgan", torch.float32).requires_grad_(False)

    def fingerprint(self) -> str:
        """Identifies the weights."""
        return self.source.fingerprint(self.part, "vqgan")

    def parts(self) -> tuple[Part, ...]:
        """What can be moved to and from a GPU on its own."""
        return Part("stage B", "stage B", self.prior.network), Part("stage A", "stage A", self.stage_a)

    @torch.no_grad()
    def __call__(self, latent: Tensor, rng: ImageRNG, prompts: Sequence[Embedding] | None = None) -> Tensor:
        """Images [B, 3, H, W], near [-1, 1], of latents [B, 16, h, w]; noise under the keys "stage_b/...".

        Args:
            latent: of stage C.
            rng: of the rows.
            prompts: embedded prompt and negative prompt, of each row or of all; None: those that `load` embedded.

        Raises:
            ValueError: each row has a prompt, and these are other rows.
        """
        prompts = self.prompts if prompts is None else prompts
        rendering, schedule = self.rendering, self.rendering.schedule
        shape = (self.prior.network.model.config.in_channels, *(int(side * UPSCALING) for side in latent.shape[2:]))
        times = torch.linspace(1, 0, rendering.n_steps + 1, dtype=torch.float64)
        levels = list(zip(*(level.tolist() for level in schedule.levels(times))))
        x = levels[0][1] * rng.normal("stage_b/init", shape)
        for i, (now, after) in enumerate(zip(levels, levels[1:])):
            est = self._estimate(x, times[i], latent, prompts)
            c_x0, c_eps, c_z = DDIM(1.0).coefficients(*now, *after)
            x = c_x0 * est.x0_hat + c_eps * est.eps_hat + c_z * rng.normal(f"stage_b/{i}", shape)
        decoded = self.stage_a.decode(est.x0_hat.float() * self.stage_a.config.scale_factor).sample
        return (2 * decoded - 1).to(latent.dtype)

    def _estimate(self, x: Tensor, t: Tensor, latent: Tensor, prompts: Sequence[Embedding]) -> Estimate:
        def evaluate(x: Tensor, *condition: Tensor) -> Tensor:
            return self.prior.output(x, t, *condition)

        pooled = (embedding.rows(len(x))[1] for embedding in prompts)
        prompt, negative = zip(pooled, (latent, torch.zeros_like(latent)))
        single = {"prompt": prompt, "negative": negative}.get(self.rendering.guidance.single(False))
        out = evaluate(x, *single) if single else self.rendering.guidance(evaluate, x, prompt, negative)
        return self.prior.estimate(x, t, out)


def _stage_a() -> type[nn.Module]:
    """Where diffusers keeps it: not a public name, and moved in 0.36."""
    try:
        from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
    except ImportError:
        from diffusers.pipelines.wuerstchen.modeling_paella_vq_model import PaellaVQModel
    return PaellaVQModel
