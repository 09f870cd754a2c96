"""CLIP's image embedding, from diffusers' and transformers' folder layout."""

from __future__ import annotations

from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile
from rbctrl.descriptors.base import Descriptor
from rbctrl.descriptors.csd import CLIP_MEAN, CLIP_STD
from rbctrl.descriptors.preprocess import Crop, Preprocess
from rbctrl.pretrained import Folder


class CLIP(Descriptor):
    """Radford et al., ICML 2021: what an image shows, as its captions would say; style is only a part of that.

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
        self.vision: nn.Module | None = None
        self.projection: nn.Module | None = None

    def read(self) -> None:
        import torch
        from transformers import CLIPModel, CLIPVisionModelWithProjection

        whole = self._source.settings(self.part).get("model_type") == "clip"
        model = self._source.part(CLIPModel if whole else CLIPVisionModelWithProjection, self.part, torch.float32)
        config = model.config.vision_config if whole else model.config
        if config.image_size != self.size:
            raise ValueError(
                f"{self._source.model} sees images of {config.image_size} px, not {self.size}: "
                f"operator.descriptor.size={config.image_size}"
            )
        self.vision, self.projection = model.vision_model, model.visual_projection

    def files(self) -> tuple[RequiredFile, ...]:
        return self._source.files()

    def fingerprint(self) -> str:
        return self._source.fingerprint(self.part)

    def encode(self, x: Tensor) -> Tensor:
        return self.projection(self.vision(pixel_values=x).pooler_output)  # type: ignore[misc]
