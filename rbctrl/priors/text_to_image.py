"""One assembly for all families of latent text-to-image models: network, text encoders, autoencoder of one source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rbctrl.attention import Attention, NoAttention
from rbctrl.checkpoints import RequiredFile
from rbctrl.codecs import Codec, Previewed
from rbctrl.pretrained import Folder, Source
from rbctrl.pretrained.base import content_hash
from rbctrl.priors.content_words import TextTower
from rbctrl.priors.embedding import Embedding
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.image_embeddings import fingerprint, required
from rbctrl.priors.ip_adapter import AdaptedPrior, AdaptedUNet, AdapterFiles
from rbctrl.priors.memory import Memory
from rbctrl.priors.network import NetworkPrior, Parameterization
from rbctrl.priors.prompted import PromptedPrior
from rbctrl.priors.remembered import Encode, Remembered
from rbctrl.priors.text import EncodeAll, Texts
from rbctrl.schedules import NoiseSchedule


@dataclass(frozen=True)
class Family:
    """What one family of models is made of.

    Args:
        network: name of the part.
        kind: of the network, a class of diffusers.
        adapter: makes it a network(x, time, tokens, ...).
        time_input: what that network is told.
        encoders: names of the text encoders.
        encode: prompts to embeddings.
        patch: the sides of latents are multiples of it.
        tiny: where a tiny autoencoder of its latents is published.
        tower: name of the text encoder that is of one CLIP with the image encoder of its IP-Adapter.
    """

    network: str
    kind: str
    adapter: Callable[[nn.Module], nn.Module]
    time_input: Literal["index", "t"]
    encoders: tuple[str, ...]
    encode: Encode
    patch: int = 1
    tiny: str = "madebyollin/taesd"
    tower: str | None = None


@dataclass(frozen=True)
class TextToImage:
    """A model of a family and what is asked of it; `prior` makes the prior.

    Args:
        family: of the model.
        source: of its parts.
        schedule: of the training, and of the process.
        parameterization: of the network.
        check: (config of the model's scheduler, source), raises ValueError where it contradicts the two above.
        texts: prompt and negative prompt.
        guidance: between them.
        memory: precision, checkpointing and the like.
        preview: folder or repository of an AutoencoderTiny that costs look through; None: the full autoencoder.
        attention: with its reference images.
        ip_adapter: what makes tokens of them; of U-Nets.

    Raises:
        ValueError: reference images without an IP-Adapter, or words to subtract from one without a text encoder.
    """

    family: Family
    source: Source
    schedule: NoiseSchedule
    parameterization: Parameterization
    check: Callable[[Mapping[str, Any], object], None]
    texts: Texts = field(default_factory=Texts)
    guidance: Guidance | None = None
    memory: Memory | None = None
    preview: str | None = None
    attention: Attention = field(default_factory=NoAttention)
    ip_adapter: AdapterFiles | None = None

    def __post_init__(self) -> None:
        if self.attention.active and self.ip_adapter is None:
            raise ValueError(
                f"attention={type(self.attention).__name__} shows this network images, for which it needs an "
                "IP-Adapter: say with prior.ip_adapter where one of its size is, or take prior=sdxl or prior=sd15"
            )
        if self.attention.subtracted and self._tower is None:
            raise ValueError(
                "attention.neg_content_prompt is read by the text half of the CLIP of the adapter's image encoder, "
                "which this model does not have: say with prior.ip_adapter.text_encoder=... where it is"
            )

    def prior(self) -> PromptedPrior:
        """The prior; its `load` reads everything."""
        denoiser = NetworkPrior(
            self._network,
            parameterization=self.parameterization,
            time_input=self.family.time_input,
            network_schedule=self.schedule,
            value_range=(-1.0, 1.0),
            codec=self._codec(),
            stride=self.family.patch,
            fingerprint=self._fingerprint,
        )
        kind = AdaptedPrior if self.attention.active else PromptedPrior
        words, encoders = Remembered(self.family.encode, self._text_dtype), self._saving.encoders
        reading = partial(words, self.source), partial(words, encoders(self.source))
        adapter = None if self.ip_adapter is None else encoders(self.ip_adapter.source)
        less = cache(self._subtracted)
        embed, embed_rows = partial(self._embed, reading[0], less), partial(self._embed_rows, reading[1], less, adapter)
        rows = embed_rows if self.texts.embeddings is None else None
        prior = kind(denoiser, embed, self.guidance, self._files(), self.attention, rows)
        prior.budget = self._saving.budget
        return prior

    @property
    def _saving(self) -> Memory:
        return Memory() if self.memory is None else self.memory

    def _network(self) -> nn.Module:
        import diffusers

        self._check_model()  # here, too: where items have the prompts, none is embedded before
        kind = getattr(diffusers, self.family.kind)
        model = self.source.part(kind, self.family.network, self._saving.dtype)
        if not self.attention.active:
            return self.family.adapter(self._saving.prepare(model))
        adapter = self.ip_adapter.read(model)
        return AdaptedUNet(self._saving.prepare(model), adapter)

    def _check_model(self) -> None:
        self.check(self.source.settings("scheduler"), self.source.files()[0].place)

    def _codec(self) -> Codec:
        full = self._saving.autoencoder(self.source, "AutoencoderKL", "vae")
        if self.preview is None:
            return full
        return Previewed(full, self._saving.autoencoder(self._tiny, "AutoencoderTiny", ""))

    @property
    def _tiny(self) -> Folder:
        return Folder(self.preview or "", self.family.tiny, "prior.preview")

    def _embed(self, encode: EncodeAll, less: Callable[[], Tensor | float]) -> tuple[Embedding, Embedding]:
        """Both prompts; before that, whether the model is what this prior says it is."""
        self._check_model()
        prompts = self.texts.embed(encode)
        if not self.attention.active:
            return prompts
        images = self.ip_adapter.embed(self.attention.images)
        return prompts[0].beside(images[0] - less()), prompts[1].beside(images[1])

    def _embed_rows(
        self,
        encode: EncodeAll,
        less: Callable[[], Tensor | float],
        adapter: Source | None,
        prompts: Sequence[str],
        references: Mapping[str, Tensor],
    ) -> tuple[Embedding, Embedding]:
        """The same for a prompt and the reference images of each row."""
        pair = self.texts.embed_rows(prompts, encode)
        if not self.attention.active:
            return pair
        images = self.ip_adapter.embed_rows(adapter, self.attention.images, references, len(prompts))
        return pair[0].beside(images[0] - less()), pair[1].beside(images[1])

    def _subtracted(self) -> Tensor | float:
        """From the embeddings of the images."""
        return self.ip_adapter.subtracted(self.attention, self._tower) if self.attention.subtracted else 0.0

    @property
    def _tower(self) -> TextTower | None:
        own = None if self.family.tower is None else TextTower(self.source, self.family.tower)
        return self.ip_adapter.tower(own)

    @property
    def _text_dtype(self) -> torch.dtype:
        """Of T5, which overflows in fp16."""
        return torch.float32 if self._saving.precision == "float32" else torch.bfloat16

    def _files(self) -> tuple[RequiredFile, ...]:
        more = (self.ip_adapter.files() if self.attention.active else ()) + (self._tiny.files() if self.preview else ())
        if self.attention.subtracted and self.ip_adapter.text_encoder is not None:
            more += self._tower.files()
        return (*self.source.files(), *more, *required(self.attention.images))

    def _fingerprint(self) -> str:
        read = [self.family.network, *(self.family.encoders if self.texts.embeddings is None else ())]
        more = [] if self.texts.embeddings is None else [content_hash(Path(self.texts.embeddings).expanduser())[:16]]
        if self.attention.active:
            more += [self.ip_adapter.fingerprint(), fingerprint(self.attention.images)]
        if self.attention.subtracted:
            more.append(self._tower.fingerprint())
        return "+".join([self.source.fingerprint(*read), *more])
