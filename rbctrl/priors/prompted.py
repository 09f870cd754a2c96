"""Priors that listen to a prompt: a network with two embedded prompts, guided from one towards the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import Tensor

from rbctrl.attention import Attention, NoAttention
from rbctrl.attention.base import ITEM, lacking
from rbctrl.checkpoints import RequiredFile
from rbctrl.offload import SAMPLING, Part
from rbctrl.priors.base import Estimate, Prior
from rbctrl.priors.embedding import Embedding
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.network import NetworkPrior

_WAITS = "attention to an image of each item needs data whose items bring one, and a prompt: name a file"
EmbedRows = Callable[[Sequence[str], Mapping[str, Tensor]], tuple[Embedding, Embedding]]


class PromptedPrior(Prior):
    """A `TextPrior`: classifier-free guidance around a network of x_t, time, tokens and, for some, a pooled vector.

    One prompt for all rows that is the negative prompt, too, is evaluated once. Where each row has a prompt of its own
    (`bind`) both are evaluated for every row, whatever the prompts: what a row costs does not depend on its batch.

    Args:
        denoiser: its network is network(x, time, tokens [B, L, D]) or network(x, time, tokens, pooled [B, P]).
        embed: gives prompt and negative prompt. `load` calls it before the network is read, so that text encoders are
            gone when the network comes.
        guidance: from the negative prompt to the prompt.
        files: what `embed` reads.
        attention: what the network attends to besides; its images are part of the embedded prompts. Only of networks
            that say how many tokens an image has (`StageC.tail`).
        embed_rows: (prompts, references) gives both for prompts and reference images of each row (`bind`); None: this
            prior takes one prompt for all.
    """

    def __init__(
        self,
        denoiser: NetworkPrior,
        embed: Callable[[], tuple[Embedding, Embedding]],
        guidance: Guidance | None = None,
        files: tuple[RequiredFile, ...] = (),
        attention: Attention | None = None,
        embed_rows: EmbedRows | None = None,
    ) -> None:
        super().__init__(denoiser.schedule, denoiser.codec)
        self.attention, self._inside = NoAttention() if attention is None else attention, False
        self.denoiser, self.guidance = denoiser, Guidance() if guidance is None else guidance
        self._embed, self._files, self._embed_rows = embed, files, embed_rows
        self._waits = ITEM in self.attention.images.values()  # for `bind`
        self.prompt: Embedding | None = None
        self.negative: Embedding | None = None
        self.single: Embedding | None = None

    def load(self) -> None:
        if self.prompt is None and not self._waits:
            self.prompt, self.negative = self._embed()
            name = self.guidance.single(self.prompt.same(self.negative))
            self.single = None if name is None else getattr(self, name)
        self.denoiser.load()

    def parts(self) -> tuple[Part, ...]:
        return (Part("network", SAMPLING, self.denoiser.network), *self.codec.parts())

    def check_item(self, prompted: bool, references: Collection[str]) -> str | None:
        if not prompted:
            return _WAITS if self._waits else None
        if self._embed_rows is None:
            return (
                "this prior has one prompt for all, and the items of this data have a prompt each: "
                "prior.embeddings=null, or other data"
            )
        return lacking(self.attention.images, references)

    def bind(self, prompts: Sequence[str], references: Mapping[str, Tensor]) -> PromptedPrior:
        if self._embed_rows is None:
            return super().bind(prompts, references)
        embed = partial(self._embed_rows, prompts, references)
        bound = type(self)(self.denoiser, embed, self.guidance, self._files, self.attention)
        bound._waits = False
        bound.load()
        if self.residency is not None:
            self.residency.need(SAMPLING)
        place = next(self.denoiser.network.parameters()).device
        for embedding in (bound.prompt, bound.negative):
            embedding.to(place)
        bound.codec = self.codec.under((bound.prompt, bound.negative))
        return bound

    @property
    def trained_at(self) -> int | None:
        """Side of the images that its network was trained on, if it says so."""
        return self.denoiser.trained_at

    @property
    def evaluations(self) -> int:
        """Of the network in one `predict`, of each row."""
        return 2 if self.single is None else 1

    @contextmanager
    def scope(self) -> Iterator[None]:
        if self._inside or not self.attention.active:
            yield
            return
        self._loaded()
        network = self.denoiser.network
        with self.attention.scope(network.model, network.tail(self.attention.images)):
            self._inside = True
            try:
                yield
            finally:
                self._inside = False

    def predict(self, x_t: Tensor, t: Tensor) -> Estimate:
        with self._attending(x_t):
            return self._predict(x_t, t)

    def _predict(self, x_t: Tensor, t: Tensor) -> Estimate:
        if self.single is not None:
            return self.denoiser.predict(x_t, t, *self.single.rows(len(x_t)))

        def evaluate(x: Tensor, *condition: Tensor) -> Tensor:
            return self.denoiser.output(x, t, *condition)

        prompt, negative = (embedding.rows(len(x_t)) for embedding in (self._loaded(), self.negative))
        return self.denoiser.estimate(x_t, t, self.guidance(evaluate, x_t, prompt, negative))

    def prompt_embedding(self) -> Tensor:
        return self._loaded().tokens

    def predict_prompted(self, x_t: Tensor, t: Tensor, prompt: Tensor) -> Estimate:
        with self._attending(x_t, prompt):
            return self.denoiser.predict(x_t, t, *self._loaded().under(prompt))

    def _attending(self, *tensors: Tensor) -> AbstractContextManager[None]:
        """The scope of one evaluation, where none of a whole run is open."""
        differentiated = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        if differentiated and self.attention.active and not self._inside:
            raise RuntimeError(
                "a gradient through an attention method needs it at work until the backward pass is done: "
                "with prior.scope(): ..."
            )
        return self.scope()

    def state_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.denoiser.state_shape(image_shape)

    def fingerprint(self) -> str:
        return self.denoiser.fingerprint()

    def files(self) -> tuple[RequiredFile, ...]:
        return (*self._files, *self.denoiser.files())

    def _loaded(self) -> Embedding:
        if self._waits:
            raise ValueError(_WAITS)
        if self.prompt is None:
            raise RuntimeError("the prompt is not embedded yet: call load() before the first use of the prior")
        return self.prompt
