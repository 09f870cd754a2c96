"""LPIPS from local weights: nothing is ever downloaded here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from rbctrl.metrics.base import FullReference

_BACKBONES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
_SITE = "https://download.pytorch.org/models"


class LPIPS(FullReference):
    """Zhang, Isola, Efros, Shechtman and Wang, The unreasonable effectiveness of deep features, CVPR 2018.

    https://arxiv.org/abs/1801.03924. Version 0.1 of the authors' package, whose calibrated heads come with it; the
    backbone is a file of torchvision. Lower is better. Gray images are repeated to three channels.

    Args:
        net: backbone; "alex" is the authors' choice for reported numbers.
        weights: the backbone's file; None: where torch.hub keeps it.

    Raises:
        ValueError: the net is unknown.
        ImportError: the packages lpips and torchvision are not installed.
        FileNotFoundError: the file of the backbone is missing.
    """

    def __init__(self, net: Literal["alex", "vgg"] = "alex", weights: str | None = None) -> None:
        if net not in _BACKBONES:
            raise ValueError(f"metrics.lpips.net={net!r} is unknown: use {' or '.join(_BACKBONES)}")
        _check_packages()
        self.model = _load(net, _weights_file(net, weights))

    def compare(self, image: Tensor, truth: Tensor) -> Tensor:
        """Differs from other metrics in that the network runs in fp32."""
        self.model.to(image.device)
        with torch.no_grad():
            return self.model(*(x.float().expand(-1, 3, -1, -1) for x in (image, truth))).squeeze()


def _check_packages() -> None:
    missing = [name for name in ("lpips", "torchvision") if find_spec(name) is None]
    if missing:
        raise ImportError(
            f'LPIPS needs {" and ".join(missing)}, not installed here: run `pip install "rbctrl[lpips]"`, '
            "or use metrics=restoration"
        )


def _weights_file(net: str, weights: str | None) -> Path:
    name = _BACKBONES[net]
    file = Path(torch.hub.get_dir()) / "checkpoints" / name if weights is None else Path(weights).expanduser()
    if not file.is_file():
        raise FileNotFoundError(
            f"LPIPS needs the backbone {file}, which does not exist: fetch {_SITE}/{name} once and put it there, "
            "or name another place by metrics.lpips.weights"
        )
    return file


def _load(net: str, file: Path) -> nn.Module:
    from lpips import LPIPS as Model

    model = Model(net=net, pnet_rand=True, verbose=False)  # pnet_rand keeps it from downloading the backbone
    saved = torch.load(file, map_location="cpu", weights_only=True)
    names = {name: f"features.{name.split('.', 1)[1]}" for name in model.net.state_dict()}  # slice2.3.bias: features.3
    model.net.load_state_dict({name: saved[source] for name, source in names.items()})
    return model.requires_grad_(False).eval()
