"""CLIP's image embedding, from diffusers' and transformers' folder layout."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache

import torch
from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile
from rbctrl.descriptors.base import Descriptor
from rbctrl.descriptors.csd import CLIP_MEAN, CLIP_STD
from rbctrl.descriptors.preprocess import Crop, Preprocess
from rbctrl.pretrained import Folder


class CLIP(Descriptor):
    """Radford et al., ICML 2021: what an image shows, as its captions would say; style is only a part of that.

    Two of one model share the network in memory and, in `Parallel`, one evaluation.

    Args:
        model: folder or hub id of a CLIPModel, whose text half is dropped, or of a CLIPVisionModelWithProjection.
        part: its subfolder, such as "image_encoder"; "" is the folder itself.
        size: side of its images, in pixels.
        crop: "center" cuts the middle square, as in its training; "none" squeezes the whole image into it.
        variant: of the weight files.
        local_files_only: downloads nothing.
    """

    def __init__(
        self,
        model: str,
        part: str = "",
        size: int = 224,
        crop: Crop = "center",
        variant: str | None = None,
        local_files_only: bool = False,
    ) -> None:
        super().__init__(Preprocess(size, crop, CLIP_MEAN, CLIP_STD))
        published = "openai/clip-vit-large-patch14"
        self._source = Folder(model, published, "operator.descriptor.model", variant, local_files_only)
        self.part, self.size = part, size
        self.network: nn.Module | None = None

    def read(self) -> None:
        model = _network(self._source, self.part)
        if model.config.image_size != self.size:
            raise ValueError(
                f"{self._source.model} sees images of {model.config.image_size} px, not {self.size}: "
                f"operator.descriptor.size={model.config.image_size}"
            )
        self.network = model

    def files(self) -> tuple[RequiredFile, ...]:
        return self._source.files()

    def fingerprint(self) -> str:
        return self._source.fingerprint(self.part)

    @property
    def trunk(self) -> Hashable:
        return self if self.network is None else (self.network, self.preprocess.crop)

    def encode(self, x: Tensor) -> Tensor:
        return self.network(pixel_values=x).image_embeds  # type: ignore[misc]


@lru_cache(maxsize=1)  # one is kept, as a GPU may hold no two
def _network(source: Folder, part: str) -> nn.Module:
    """The vision half, a CLIPVisionModelWithProjection."""
    from transformers import CLIPModel, CLIPVisionModelWithProjection

    if source.settings(part).get("model_type") != "clip":
        return source.part(CLIPVisionModelWithProjection, part, torch.float32)
    whole = source.part(CLIPModel, part, torch.float32)
    with torch.device("meta"):
        half = CLIPVisionModelWithProjection(whole.config.vision_config)
    half.vision_model, half.visual_projection = whole.vision_model, whole.visual_projection
    return half.eval()
