"""The shipped prior: a small convolutional denoiser of photographs (see weights/photo.md, its model card).

It knows edges, colours and textures, not scenes: large holes get plausible blur, not content.
"""

from __future__ import annotations

import ast
import hashlib
from functools import partial
from pathlib import Path

from safetensors import SafetensorError, safe_open

from rbctrl.networks import ConvUNet
from rbctrl.priors.network import NetworkPrior
from rbctrl.schedules import VE, VP, NoiseSchedule

SHIPPED = Path(__file__).parent / "weights" / "photo.safetensors"
SIGMA_TRAINED = 80.0  # the largest noise level of the training


def load_network(path: Path) -> ConvUNet:
    """A ConvUNet from safetensors as `rbctrl train` writes them: architecture in the metadata, fp16 weights.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such checkpoint, or its tensors do not fit the architecture it names.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: make them with `rbctrl train`, or fix prior.weights")
    try:
        with safe_open(path, framework="pt") as file:
            metadata, state = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error})") from error
    names = ("channels", "blocks", "patch", "embedding", "image_channels")
    missing = [name for name in names if name not in metadata]
    if missing:
        raise ValueError(
            f"{path} does not name its architecture ({', '.join(missing)}): it was not made by rbctrl train"
        )
    network = ConvUNet(**{name: ast.literal_eval(metadata[name]) for name in names})
    expected = {name: tuple(w.shape) for name, w in network.state_dict().items()}
    found = {name: tuple(w.shape) for name, w in state.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise ValueError(
            f"{path} does not fit the architecture it names; first differing tensors: {', '.join(wrong[:3])}"
        )
    network.load_state_dict({name: w.float() for name, w in state.items()})
    return network


def photo(
    weights: str | None = None,
    schedule: NoiseSchedule | None = None,
    clip: tuple[float, float] | None = None,
    stride: int = 8,
) -> NetworkPrior:
    """The shipped prior of photographs, RGB images in [-1, 1] whose sides are multiples of `stride` px.

    Args:
        weights: safetensors of `rbctrl train`; None takes the shipped ones.
        schedule: of the process; None is VP(0.1, 20). Any will do: the network is told sigma / alpha.
        clip: (low, high) for x0_hat; None does not clip.
        stride: of the network; 8 for the shipped one.
    """
    path = SHIPPED if weights is None else Path(weights)
    return NetworkPrior(
        partial(load_network, path),
        parameterization="x0",
        time_input="sigma",
        network_schedule=VE(SIGMA_TRAINED),
        value_range=(-1.0, 1.0),
        schedule=VP() if schedule is None else schedule,
        clip=clip,
        channels=3,
        stride=stride,
        memory_format="channels_last",
        fingerprint=partial(_digest, path),
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""
