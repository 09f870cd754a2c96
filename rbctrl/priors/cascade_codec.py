"""Images of Stable Cascade's latents: a preview for costs, stages B and A for the result."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile
from rbctrl.codecs import Codec, Previewer
from rbctrl.codecs.effnet import ImageEncoder
from rbctrl.codecs.previewer import SCALE
from rbctrl.offload import SAMPLING, Part
from rbctrl.priors.stage_b import Stages
from rbctrl.rng import ImageRNG

COMPRESSION = 42.67  # pixels per latent pixel of stage C
MULTIPLE = 128  # px: sides for which the stages give back what was asked for


class CascadeCodec(Codec):
    """Costs see a preview, which is smaller than the image; the result is rendered by stages B and A.

    Args:
        preview: decodes latents of stage C, with gradients.
        stages: None: the preview is the result, too.
        encoder: None: images cannot be encoded.
        previewed: items are measured as previews of their encoding, as the released code of RB-Modulation does with its
            references: what costs see of an image is then compared with what they would see of the reference.
        prompts: embedded prompt and negative prompt that the result is rendered under; None: those of `stages`.

    Raises:
        ValueError: `previewed` without an encoder.
    """

    def __init__(
        self,
        preview: Codec,
        stages: Stages | None,
        encoder: ImageEncoder | None = None,
        previewed: bool = False,
        prompts: Sequence[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if previewed and encoder is None:
            raise ValueError("prior.previewed encodes the references, for which it needs prior.encoder")
        self.preview, self.stages, self.encoder, self.previewed = preview, stages, encoder, previewed
        self.prompts = None if prompts is None else nn.ModuleList(prompts)

    def under(self, prompts: Sequence[nn.Module]) -> CascadeCodec:
        return CascadeCodec(self.preview, self.stages, self.encoder, self.previewed, prompts)

    def load(self) -> None:
        for part in (self.preview, self.stages, self.encoder):
            if part is not None:
                part.load()

    def fingerprint(self) -> str:
        parts = (self.preview.fingerprint(), "" if self.stages is None else self.stages.fingerprint())
        encoder = "" if self.encoder is None else self.encoder.file.fingerprint()
        return "+".join(part for part in (*parts, encoder) if part)

    def files(self) -> tuple[RequiredFile, ...]:
        stages = () if self.stages is None else self.stages.source.files()
        return (*self.preview.files(), *stages, *(() if self.encoder is None else (self.encoder.file,)))

    def parts(self) -> tuple[Part, ...]:
        encoder = () if self.encoder is None else (Part("encoder", SAMPLING, self.encoder.network),)
        return (*self.preview.parts(), *encoder, *(() if self.stages is None else self.stages.parts()))

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(image_shape) != 3 or image_shape[0] != 3 or any(side % MULTIPLE for side in image_shape[1:]):
            raise ValueError(
                f"Stable Cascade runs on RGB images of multiples of {MULTIPLE} px, got {tuple(image_shape)}: "
                "crop to such a size (data.size=1024, or load(path, size=1024))"
            )
        return (16, *(-int(-side // COMPRESSION) for side in image_shape[1:]))

    def decoded_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (3, *(side * self.preview_scale for side in self.state_shape(image_shape)[1:]))

    @property
    def preview_scale(self) -> int:
        """Pixels of a preview per latent pixel and side."""
        return SCALE if isinstance(self.preview, Previewer) else self.preview.downscaling

    def encode(self, image: Tensor) -> Tensor:
        if self.encoder is None:
            raise ValueError(
                "this method encodes images, and prior.encoder is null: say where effnet_encoder.safetensors of "
                "https://huggingface.co/stabilityai/stable-cascade is, or take a method that only decodes "
                "(rb_modulation, dps, none)"
            )
        return self.encoder(image, self.state_shape(tuple(image.shape[1:]))[1:])

    def decode(self, x0: Tensor) -> Tensor:
        return self.preview.decode(x0)

    def measured(self, image: Tensor) -> Tensor:
        return self.decode(self.encode(image)) if self.previewed else image

    def render(self, x0: Tensor, rng: ImageRNG | None = None) -> Tensor:
        if self.stages is None:
            return self.decode(x0)
        if rng is None:
            raise ValueError("stage B draws noise: render(x0, rng), with the random numbers of the run")
        return self.stages(x0, rng, self.prompts)
