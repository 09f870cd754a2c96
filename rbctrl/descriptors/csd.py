"""CSD, contrastive style descriptors: CLIP's ViT-L/14 with a style and a content head of 768 channels.

    Psi_head(x) = f(x) W_head / |f(x) W_head|,      f(x) the class token after ln_post, [1024]

Published are training checkpoints, {"model_state_dict": {"module.backbone.conv1.weight": ...}, ...}, and copies of the
table alone in safetensors; the backbone is in OpenAI's layout (`openai_vit`) or in that of transformers. What else a
checkpoint holds (optimiser, settings) is not read. No class of a pickle is ever run.

Note:
    With the defaults of the published training code its content head gets no gradient. If the released weights were
    trained so, that head is still CLIP's own projection [uncertain].
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile, check_fit, fill, read_tensors, shapes
from rbctrl.descriptors.base import Descriptor
from rbctrl.descriptors.openai_vit import Dimensions, to_transformers
from rbctrl.descriptors.preprocess import Crop, Preprocess
from rbctrl.pretrained.base import content_hash

Head = Literal["style", "content"]
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_PUBLISHED = (
    "it is published as pytorch_model.bin (2.4 GB, CC-BY-4.0) at https://huggingface.co/tomg-group-umd/CSD-ViT-L "
    "(hf download tomg-group-umd/CSD-ViT-L pytorch_model.bin --local-dir FOLDER)"
)
_SIDE, _CHANNELS = 224, 768
_LEVEL = "vision_model."  # of transformers 4


class CSD(Descriptor):
    """Somepalli et al., Measuring Style Similarity in Diffusion Models, 2024. https://arxiv.org/abs/2404.01292.

    Two of them on one file, for style and for content, share the network in memory and, in `Parallel`, one evaluation.

    Args:
        path: the checkpoint, .bin, .pth or .safetensors.
        head: "style" or "content".
        crop: "center" cuts the middle square, as published; "none" squeezes the whole image into it.

    Raises:
        ValueError: no such head.
    """

    def __init__(self, path: str, head: Head = "style", crop: Crop = "center") -> None:
        super().__init__(Preprocess(_SIDE, crop, CLIP_MEAN, CLIP_STD))
        if head not in get_args(Head):
            raise ValueError(f"head is 'style' or 'content', got {head!r}")
        self.head = head
        self.network: CSDNetwork | None = None
        self._file = RequiredFile(path, _PUBLISHED, "operator.descriptor.path")

    def read(self) -> None:
        path = self._file.find()
        self.network = _network(self._file, content_hash(path))
        self.preprocess.size = self.network.side

    def files(self) -> tuple[RequiredFile, ...]:
        return (self._file,)

    def fingerprint(self) -> str:
        return content_hash(self._file.path)[:16] if self._file.path.is_file() else ""

    @property
    def trunk(self) -> Hashable:
        return self if self.network is None else (self.network, self.preprocess.crop)

    def encode(self, x: Tensor) -> Tensor:
        return self.network.backbone(pixel_values=x).pooler_output  # type: ignore[union-attr]

    def project(self, features: Tensor) -> Tensor:
        return F.normalize(features @ getattr(self.network, f"last_layer_{self.head}"), dim=1)


class CSDNetwork(nn.Module):
    """Backbone and both heads.

    Args:
        backbone: transformers' CLIPVisionModel.
        side: of its images, in pixels.
        channels: of a head.
    """

    def __init__(self, backbone: nn.Module, width: int, side: int, channels: int) -> None:
        super().__init__()
        self.backbone, self.side = backbone, side
        self.last_layer_style, self.last_layer_content = (
            nn.Parameter(torch.empty(width, channels, device="meta")) for _ in range(2)
        )


@lru_cache(maxsize=1)  # one is kept, as a GPU may hold no two
def _network(file: RequiredFile, content: str) -> CSDNetwork:
    return read_csd(file).requires_grad_(False).eval()


def read_csd(file: RequiredFile) -> CSDNetwork:
    """The network of a checkpoint, its dimensions read from the tensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such checkpoint; names the first tensors that do not fit.
    """
    state = _backbone_and_heads(read_tensors(file))
    backbone = {name.removeprefix("backbone."): v for name, v in state.items() if name.startswith("backbone.")}
    heads = {name: value for name, value in state.items() if not name.startswith("backbone.")}
    dimensions = Dimensions.of(backbone)
    style = heads.get("last_layer_style")
    channels = _CHANNELS if style is None or style.ndim != 2 else style.shape[1]
    network = CSDNetwork(dimensions.network(), dimensions.width, dimensions.side, channels)
    own = {name.replace(_LEVEL, "", 1): name for name in network.state_dict()}
    expected = {name: shape for name, shape in shapes(network.state_dict()).items() if not name.startswith("backbone.")}
    if _of_transformers(backbone):
        expected |= {short: tuple(network.state_dict()[name].shape) for short, name in own.items()}
        check_fit(file.place, "CSD", expected, shapes(state))
    else:
        expected |= {f"backbone.{name}": shape for name, shape in dimensions.layout().items()}
        check_fit(file.place, "CSD", expected, shapes(state))
        state = {f"backbone.{name}": value for name, value in to_transformers(backbone).items()} | heads
    return fill(network, {own[name]: value for name, value in state.items()}, file.place)  # type: ignore[return-value]


def _backbone_and_heads(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the levels that wrappers add to the names."""
    short = {name.removeprefix("module.").replace(_LEVEL, "", 1): value for name, value in tensors.items()}
    return {name: value for name, value in short.items() if not name.endswith(".position_ids")}  # 0, 1, 2, ...


def _of_transformers(backbone: Mapping[str, Tensor]) -> bool:
    return any(name.startswith(("embeddings.", "encoder.")) for name in backbone)
