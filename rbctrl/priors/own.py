"""A network of one's own with weights from safetensors, and the same for EDM's.

The class is yours and is named by its dotted path; every convention is named, too, since none can be read off a file.
`rbctrl check prior=...` says whether the declaration is right.

Pickles are refused, since opening one can run any code. Where you trust one, convert it once, beside the code that it
needs. A network of EDM, in a checkout of https://github.com/NVlabs/edm:

    import pickle
    from safetensors.torch import save_file
    net = pickle.load(open("edm-ffhq-64x64-uncond-vp.pkl", "rb"))["ema"]
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, "edm-ffhq64.safetensors")
    print(net.init_args, net.init_kwargs)

The arguments it prints are those of the class, training.networks.EDMPrecond, in `prior.network`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile, fill, read_tensors
from rbctrl.priors.labels import ClassLabel, labelled
from rbctrl.priors.network import NetworkPrior, Parameterization, TimeInput
from rbctrl.schedules import VE, VP, NoiseSchedule

_PUBLISHED = "it is the file you trained or converted (pickles are refused; rbctrl/priors/own.py says how to convert)"


def class_conditional(
    network: Callable[[], nn.Module],
    path: str,
    *,
    label: int | None,
    classes: int | None,
    parameterization: Parameterization,
    time_input: TimeInput,
    network_schedule: NoiseSchedule,
    value_range: tuple[float, float],
    label_argument: str = "class_labels",
    label_form: Literal["index", "one_hot"] = "index",
    schedule: NoiseSchedule | None = None,
    clip: tuple[float, float] | None = None,
    channels: int | None = 3,
    stride: int = 1,
    learned_variance: bool = False,
    sign: Literal[1, -1] = 1,
    trained_at: int | None = None,
    published: str = _PUBLISHED,
    compile: bool = False,
) -> NetworkPrior:
    """A network(x, time, label) of your own, with weights from safetensors, bound to one class.

    Args:
        network: builds the module; in YAML, `_target_` and `_partial_: true`.
        path: of the safetensors file, which has to fit the module to the last tensor.
        label: the class, from 0; None with classes=None is a network without classes.
        classes: how many there are.
        parameterization: as in `NetworkPrior`, and so are the arguments that are not named here.
        time_input: what it is told of the time.
        network_schedule: the schedule it was trained with.
        value_range: (low, high) of its images.
        label_argument: the name under which it takes the label.
        label_form: integers [B], or one-hot floats [B, classes].
        schedule: of the process.
        clip: (low, high) for x0_hat.
        channels: of its images.
        stride: sides are multiples of it.
        learned_variance: whether half of its output is a variance.
        sign: of its output.
        trained_at: side of its training images in px.
        published: where the file can be had, for the sentence that says it is missing.
        compile: torch.compile for the network (`rbctrl.priors.compiled`).

    Raises:
        ValueError: the file is no safetensors, the label is out of range, or a convention is none.
    """
    file = _safetensors(path, published)
    bound = _label(label, classes, label_argument, label_form)
    return NetworkPrior(
        partial(_build, network, file, partial(labelled, label=bound)),
        parameterization=parameterization,
        time_input=time_input,
        network_schedule=network_schedule,
        value_range=value_range,
        schedule=schedule,
        clip=clip,
        channels=channels,
        stride=stride,
        learned_variance=learned_variance,
        sign=sign,
        trained_at=trained_at,
        compile=compile,
        fingerprint=file.fingerprint,
        files=(file,),
    )


def edm(
    network: Callable[[], nn.Module],
    path: str,
    *,
    preconditioning: Literal["included", "edm"],
    label: int | None = None,
    classes: int | None = None,
    sigma_data: float = 0.5,
    sigma_max: float = 80.0,
    schedule: NoiseSchedule | None = None,
    clip: tuple[float, float] | None = None,
    channels: int | None = 3,
    stride: int = 1,
    trained_at: int | None = None,
    published: str = _PUBLISHED,
    compile: bool = False,
) -> NetworkPrior:
    """A network of EDM (Karras et al., NeurIPS 2022), images in [-1, 1].

    Args:
        network: builds the module; in YAML, `_target_` and `_partial_: true`.
        path: of the safetensors file, which has to fit the module to the last tensor.
        preconditioning: "included" if the module is D(x, sigma), as EDMPrecond is; "edm" if it is the raw F(x, c_noise)
            and D is made of it here (`Preconditioned`).
        label: the class, from 0, which the module takes one-hot as class_labels; None without classes.
        classes: how many there are.
        sigma_data: of the preconditioning.
        sigma_max: the largest noise of the training.
        schedule: of the process; None is VP, since any will do: the network is told sigma / alpha.
        clip: (low, high) for x0_hat.
        channels: of its images.
        stride: sides are multiples of it.
        trained_at: side of its training images in px; EDM's networks run at this one.
        published: where the file can be had, for the sentence that says it is missing.
        compile: torch.compile for the network (`rbctrl.priors.compiled`).

    Raises:
        ValueError: the file is no safetensors, the label is out of range, or the preconditioning is none of the two.
    """
    if preconditioning not in ("included", "edm"):
        raise ValueError(f"preconditioning is 'included' or 'edm', got {preconditioning!r}")
    file = _safetensors(path, published)
    bound = _label(label, classes, "class_labels", "one_hot")

    def wrap(module: nn.Module) -> nn.Module:
        module = labelled(module, bound)
        return module if preconditioning == "included" else Preconditioned(module, sigma_data)

    return NetworkPrior(
        partial(_build, network, file, wrap),
        parameterization="x0",
        time_input="sigma",
        network_schedule=VE(sigma_max),
        value_range=(-1.0, 1.0),
        schedule=VP() if schedule is None else schedule,
        clip=clip,
        channels=channels,
        stride=stride,
        trained_at=trained_at,
        compile=compile,
        fingerprint=file.fingerprint,
        files=(file,),
    )


class Preconditioned(nn.Module):
    """D(x; sigma) = c_skip x + c_out F(c_in x; log(sigma) / 4) (Karras et al., NeurIPS 2022, table 1)."""

    def __init__(self, network: nn.Module, sigma_data: float = 0.5) -> None:
        super().__init__()
        self.network, self.sigma_data = network, sigma_data

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x [B, ...] = x_0 + sigma eps and sigma [B] to the estimate of x_0."""
        s = sigma.view(-1, *[1] * (x.ndim - 1))
        total = (s.square() + self.sigma_data**2).sqrt()
        out = self.network(x / total, sigma.log() / 4)
        return (self.sigma_data / total).square() * x + (s * self.sigma_data / total) * getattr(out, "sample", out)


def _safetensors(path: str, published: str) -> RequiredFile:
    if not path.endswith(".safetensors"):
        raise ValueError(
            f"{path} is no safetensors file, and a pickle can run code when it is opened: "
            "convert it once where you trust it (rbctrl/priors/own.py says how)"
        )
    return RequiredFile(path, published)


def _label(label: int | None, classes: int | None, argument: str, form: str) -> ClassLabel | None:
    if label is None and classes is None:
        return None
    if label is None or classes is None:
        raise ValueError(f"a class-conditional network needs label and classes, got label={label}, classes={classes}")
    return ClassLabel(label, classes, argument, form)


def _build(network: Callable[[], nn.Module], file: RequiredFile, wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """The module, filled to the last tensor, and what makes it a function of x and time."""
    state = read_tensors(file)
    module = network()
    if not isinstance(module, nn.Module):
        raise ValueError(f"prior.network builds {type(module).__name__}, which is no torch.nn.Module")
    return wrap(fill(module, state, file.place))
