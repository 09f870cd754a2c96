"""The weights of an IP-Adapter beside its U-Net, read once by diffusers' own loader and attached for a while.

That loader is private, and changes the network; here everything it changes is undone, and what it made is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile, check_fit, read_tensors, shapes
from rbctrl.unwarned import unwarned

_PINNED = "0.42.1"  # diffusers whose private loader this was tested with
_CASTS = "diffusers.models.modeling_utils"  # warns when the loader casts the network to the precision that it has


class Adapter(nn.Module):
    """An IP-Adapter beside its network.

    Args:
        processors: by the name of the block in the network.
        projection: of embeddings to tokens.
        tokens: of one image.
    """

    def __init__(self, processors: Mapping[str, nn.Module], projection: nn.Module, tokens: int) -> None:
        super().__init__()
        self.names, self.tokens = tuple(processors), tokens
        self.processors, self.projection = nn.ModuleList(processors.values()), projection

    @contextmanager
    def attached(self, network: nn.Module) -> Iterator[None]:
        """The network listens to image tokens; afterwards it is as before, also after an exception."""
        with _kept(network):
            for name, processor in zip(self.names, self.processors):
                network.get_submodule(name).set_processor(processor)
            network.encoder_hid_proj, network.config.encoder_hid_dim_type = self.projection, "ip_image_proj"
            yield


def read_adapter(path: Path, network: nn.Module, tokens: int) -> Adapter:
    """The weights of a file, strictly, by diffusers' loader; the network is as before.

    Raises:
        ValueError: they are not those of an adapter of this network.
        RuntimeError: this version of diffusers has no such loader.
    """
    load = getattr(network, "_load_ip_adapter_weights", None)
    if load is None:
        raise RuntimeError(
            "IP-Adapters are read by UNet2DConditionModel._load_ip_adapter_weights, which this diffusers does not have "
            f"any more: install diffusers {_PINNED}"
        )
    tensors = read_tensors(RequiredFile(str(path), "", "prior.ip_adapter.weights"))
    state = {part: _below(part, tensors) for part in ("image_proj", "ip_adapter")}
    layers = _expected(network)
    left_over = {name for name in tensors if not name.startswith(("image_proj.", "ip_adapter."))}
    check_fit(
        path, f"{len(layers) // 2} cross-attentions", layers, shapes(state["ip_adapter"]) | dict.fromkeys(left_over, ())
    )
    with _kept(network), unwarned(_CASTS):
        try:
            load([state], low_cpu_mem_usage=False)
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"{path} does not fit an IP-Adapter: {' '.join(str(error).split())[:300]}") from error
        processors = {
            name.removesuffix(".processor"): processor
            for name, processor in network.attn_processors.items()
            if hasattr(processor, "to_k_ip")
        }
        return Adapter(processors, network.encoder_hid_proj, tokens)


def _expected(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the layers: numbered 1, 3, 5, ... in the order of `attn_processors`."""
    blocks = [name.removesuffix(".processor") for name in network.attn_processors if name.endswith("attn2.processor")]
    return {
        f"{2 * k + 1}.to_{part}_ip.weight": tuple(network.get_submodule(name).to_k.weight.shape)
        for k, name in enumerate(blocks)
        for part in "kv"
    }


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


@contextmanager
def _kept(network: nn.Module) -> Iterator[None]:
    """Processors and projection of a network are what they were, when this ends."""
    processors = {name.removesuffix(".processor"): processor for name, processor in network.attn_processors.items()}
    projection, kind = network.encoder_hid_proj, network.config.encoder_hid_dim_type
    try:
        yield
    finally:
        del network.encoder_hid_proj  # a module that becomes None would leave its name behind
        network.encoder_hid_proj, network.config.encoder_hid_dim_type = projection, kind
        for name, processor in processors.items():
            network.get_submodule(name).set_processor(processor)
