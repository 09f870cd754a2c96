"""ADM, the pixel-space networks of Dhariwal and Nichol (NeurIPS 2021), from their published files.

They put out eps and, in as many channels more, where the variance of a step lies between its bounds; their time is the
index 0..999 of the linear beta table. `conf/prior/adm_*.yaml` names the published ones.
"""

from __future__ import annotations

from torch import nn

from rbctrl.checkpoints import RequiredFile, read_tensors
from rbctrl.priors.labels import ClassLabel, labelled
from rbctrl.priors.memory import Memory
from rbctrl.priors.network import NetworkPrior
from rbctrl.priors.unet_checkpoint import load as load_unet
from rbctrl.priors.unet_layout import UNetLayout
from rbctrl.schedules import DiscreteVP, NoiseSchedule


def adm(
    path: str,
    layout: UNetLayout,
    published: str = "ask whoever trained it",
    schedule: NoiseSchedule | None = None,
    clip: tuple[float, float] | None = None,
    label: int | None = None,
    trained_at: int | None = 256,
    memory: Memory | None = None,
) -> NetworkPrior:
    """A network of guided-diffusion, RGB images in [-1, 1] whose sides are multiples of `layout.stride` px.

    Args:
        path: of the checkpoint, under its original names of tensors.
        layout: the size of the network.
        published: where the file can be had, for the sentence that says it is missing.
        schedule: of the process; None is the one it was trained with, the linear beta table of 1000 steps.
        clip: (low, high) for x0_hat; DPS as released clips to (-1, 1).
        label: the class, of a class-conditional network.
        trained_at: side of its training images in px; other sizes run.
        memory: precision and checkpointing of the network; what it says of an autoencoder has no object here. None is
            fp32 without checkpointing.

    Raises:
        ValueError: a label without classes, or classes without a label; memory.gpu, as it is one network.
    """
    if (label is None) != (layout.classes is None):
        raise ValueError(
            f"label is {label} and the layout has classes={layout.classes}: a class-conditional network needs both, "
            "any other none"
        )
    file = RequiredFile(path, published)
    bound = None if layout.classes is None else ClassLabel(label, layout.classes)

    saving = Memory(checkpoint=False) if memory is None else memory
    if saving.budget is not None:
        raise ValueError("ADM is one network, and no parts of it can take turns: memory.gpu=null")

    def network() -> nn.Module:
        unet = load_unet(layout, read_tensors(file), path)
        return labelled(saving.prepare(nn.Module.to(unet, saving.dtype)), bound)  # that of diffusers warns of nothing

    return NetworkPrior(
        network,
        parameterization="eps",
        time_input="index",
        network_schedule=DiscreteVP.linear(),
        value_range=(-1.0, 1.0),
        schedule=schedule,
        channels=layout.in_channels,
        stride=layout.stride,
        learned_variance=layout.out_channels == 2 * layout.in_channels,
        clip=clip,
        fingerprint=file.fingerprint,
        files=(file,),
        trained_at=trained_at,
    )
