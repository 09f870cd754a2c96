"""The networks of the world: the denoiser with its text and image embedders, the descriptor, and the classifier.

All normalise within an image. Each names its architecture in `config`, as `rbctrl.shipped` wants it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rbctrl.shapes.words import LENGTH, VOCABULARY
from rbctrl.shapes.world import FACTORS, HARMONICS

IMAGE_TOKENS = 4  # of one reference image, as Stable Cascade and IP-Adapter have it
SIDE = 64  # px, of the drawings of the classifier and of the training
_READ = {name: len(words) for name, words in FACTORS.items() if name != "palette"}


class ShapesDenoiser(nn.Module):
    """v of latents [B, C, h, w], listening to a text and to images: a `UNet2DConditionModel` of two levels.

    Its cross-attentions see the tokens of the text, then `IMAGE_TOKENS` for each image, as those of Stable Cascade
    do; an embedding of zeros stands for no image. The pooled text joins the embedding of the time.

    Args:
        channels: width of the two levels.
        layers: residual blocks per level.
        width: of tokens and pooled vectors.
        latent_channels: of the codec.
        image_width: of an image's embedding.
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 128),
        layers: int = 1,
        width: int = 64,
        latent_channels: int = 4,
        image_width: int = 64,
    ) -> None:
        super().__init__()
        from diffusers import UNet2DConditionModel

        channels = tuple(channels)
        self.config = {
            "channels": channels,
            "layers": layers,
            "width": width,
            "latent_channels": latent_channels,
            "image_width": image_width,
        }
        self.words = nn.Embedding(VOCABULARY, width)
        self.place = nn.Parameter(0.02 * torch.randn(LENGTH, width))
        self.mix = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.pool = nn.Linear(LENGTH * width, width)
        self.project = nn.Linear(image_width, IMAGE_TOKENS * width)
        self.norm = nn.LayerNorm(width)
        self.model = UNet2DConditionModel(
            in_channels=latent_channels,
            out_channels=latent_channels,
            block_out_channels=channels,
            down_block_types=("CrossAttnDownBlock2D",) * len(channels),
            up_block_types=("CrossAttnUpBlock2D",) * len(channels),
            layers_per_block=layers,
            cross_attention_dim=width,
            attention_head_dim=tuple(max(1, c // 32) for c in channels),
            norm_num_groups=8,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=width,
        )

    def text(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Words [n, LENGTH] to tokens [n, LENGTH, width] and a pooled vector [n, width]."""
        tokens = self.words(words) + self.place
        tokens = tokens + self.mix(tokens)
        return tokens, self.pool(tokens.flatten(1))

    def forward(self, x: Tensor, time: Tensor, tokens: Tensor, pooled: Tensor, images: Tensor) -> Tensor:
        """x [B, C, h, w], time [B], tokens [B, L, width], pooled [B, width], images [B, k, image_width]."""
        seen = self.norm(self.project(images).unflatten(2, (IMAGE_TOKENS, -1))).flatten(1, 2)
        context = torch.cat([tokens, seen], dim=1)
        return self.model(x, time, context, class_labels=pooled, return_dict=False)[0]

    def tail(self, kinds: Iterable[str]) -> dict[str, int]:
        """The tokens after those of the text, for images of these kinds."""
        return dict.fromkeys(kinds, IMAGE_TOKENS)


class Trunk(nn.Sequential):
    """Images of 32 px in `channels` channels to features [B, 256]."""

    def __init__(self, channels: int, width: int) -> None:
        def block(before: int, after: int, stride: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1), nn.GroupNorm(8, after), nn.SiLU())

        super().__init__(
            block(channels, width, 1),
            block(width, 2 * width, 2),
            block(2 * width, 3 * width, 2),
            block(3 * width, 4 * width, 2),
            nn.Flatten(),
            nn.Linear(4 * width * 16, 256),
            nn.SiLU(),
        )


class ShapesDescriptor(nn.Module):
    """What a drawing looks like, in unit vectors: its style, its content, and what its words say of it.

    It looks at 32 px, so that a control cannot win by single pixels.

    Args:
        width: of the first layer.
        size: of the vectors.
    """

    HEADS = ("style", "content", "words")

    def __init__(self, width: int = 32, size: int = 64) -> None:
        super().__init__()
        self.config = {"width": width, "size": size}
        self.trunk = Trunk(3, width)
        self.heads = nn.ModuleDict({name: nn.Linear(256, size) for name in self.HEADS})
        self.words = nn.Embedding(VOCABULARY, 64)
        self.text = nn.Sequential(nn.Flatten(), nn.Linear(LENGTH * 64, 256), nn.SiLU(), nn.Linear(256, size))
        self.temperature = nn.Parameter(torch.full((len(self.HEADS),), 2.3))  # logarithms of inverse temperatures

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] in [-1, 1], sides multiples of 32, to unit vectors [B, size] by name."""
        features = self.trunk(F.interpolate(image, (32, 32), mode="area"))
        return {name: F.normalize(head(features), dim=1) for name, head in self.heads.items()}

    def of_words(self, words: Tensor) -> Tensor:
        """Words [n, LENGTH] to unit vectors [n, size], near those of the images they describe."""
        return F.normalize(self.text(self.words(words)), dim=1)


class ShapesClassifier(nn.Module):
    """Reads the factors of a drawing. No method uses it: it judges them.

    Args:
        width: of the first layer.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.config = {"width": width}
        self.trunk = nn.Sequential(nn.PixelUnshuffle(SIDE // 32), Trunk(3 * (SIDE // 32) ** 2, width))
        self.heads = nn.ModuleDict({name: nn.Linear(256, count) for name, count in _READ.items()})
        self.colors = nn.Linear(256, 12)
        self.outline = nn.Linear(256, 2 * HARMONICS)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, 64, 64] in [-1, 1] to logits by factor, colors [B, 4, 3] and outline [B, 8]."""
        features = self.trunk(image)
        read = {name: head(features) for name, head in self.heads.items()}
        return read | {"colors": self.colors(features).unflatten(1, (4, 3)), "outline": self.outline(features)}
