"""Prompts to embeddings. A text encoder is read, used once and let go: it never meets the network in memory.

Where each item has a prompt of its own, every prompt is encoded once (`rbctrl.priors.remembered`); the encoders are
then read beside the network, on the host, and stay there unless the memory is on a budget.

Stable Diffusion 1.x, 2.x   last hidden state of one CLIP
XL                          penultimate states of two CLIPs side by side, and the pooled vector of the second
3                           the same padded to T5's width, then T5's states; both pooled vectors
Cascade                     states of one CLIP before its last norm, and its pooled vector
Flux                        T5's states, and the pooled vector of one CLIP
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rbctrl.pretrained import Source
from rbctrl.priors.embedding import Embedding

log = logging.getLogger(__name__)

EncodeAll = Callable[[Sequence[str]], list[Embedding]]  # an embedding of each prompt
_NAMES = ("prompt", "negative_prompt", "pooled", "negative_pooled")


@dataclass(frozen=True)
class Texts:
    """Two prompts, or a file of their embeddings, for which no text encoder is read.

    Args:
        prompt: of the image.
        negative_prompt: what guidance leads away from; None is zeros, as the published pipeline of XL takes them.
        embeddings: a file of `save_embeddings`.

    Raises:
        ValueError: embeddings beside a prompt.
    """

    prompt: str = ""
    negative_prompt: str | None = ""
    embeddings: str | None = None

    def __post_init__(self) -> None:
        if self.embeddings is not None and (self.prompt or self.negative_prompt):
            raise ValueError("give prior.prompt or prior.embeddings, not both")

    def embed(self, encode: EncodeAll) -> tuple[Embedding, Embedding]:
        """Prompt and negative prompt; equal texts are equal to the last bit."""
        if self.embeddings is not None:
            return read_embeddings(self.embeddings)
        prompt, *negative = encode([self.prompt, *self._negative])
        return prompt, negative[0] if negative else prompt.zeros()

    def embed_rows(self, prompts: Sequence[str], encode: EncodeAll) -> tuple[Embedding, Embedding]:
        """The same for a prompt of each row, [B, ...].

        Raises:
            ValueError: there is a file of embeddings, of one prompt for all.
        """
        if self.embeddings is not None:
            raise ValueError("the items of this data have a prompt each: prior.embeddings=null, or other data")
        found = encode([*prompts, *self._negative])
        rows, negative = found[: len(prompts)], found[-1] if self._negative else found[0].zeros()
        return stacked(rows), stacked([negative] * len(rows))

    @property
    def _negative(self) -> list[str]:
        return [] if self.negative_prompt is None else [self.negative_prompt]


def stacked(rows: Sequence[Embedding]) -> Embedding:
    """One embedded prompt of each row."""
    return Embedding(*(torch.stack(parts) for parts in zip(*(tuple(p[0] for p in row.rows(1)) for row in rows))))


def encode_sd(source: Source, prompts: Sequence[str], dtype: torch.dtype) -> list[Embedding]:
    """Stable Diffusion 1.x and 2.x."""
    from transformers import CLIPTextModel

    last, _, _ = clip(source, "text_encoder", prompts, CLIPTextModel)
    return list(map(Embedding, last))


def encode_xl(source: Source, prompts: Sequence[str], dtype: torch.dtype) -> list[Embedding]:
    """Stable Diffusion XL."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    _, first, _ = clip(source, "text_encoder", prompts, CLIPTextModel)
    _, second, pooled = clip(source, "text_encoder_2", prompts, CLIPTextModelWithProjection)
    return list(map(Embedding, torch.cat([first, second], dim=-1), pooled))


def encode_sd3(source: Source, prompts: Sequence[str], dtype: torch.dtype, length: int = 256) -> list[Embedding]:
    """Stable Diffusion 3; `length` tokens of T5, 0 does without it, as a folder without text_encoder_3."""
    from transformers import CLIPTextModelWithProjection

    clips = [clip(source, name, prompts, CLIPTextModelWithProjection) for name in ("text_encoder", "text_encoder_2")]
    (_, first, pooled), (_, second, pooled_2) = clips
    width = source.settings("transformer")["joint_attention_dim"]
    states = torch.cat([first, second], dim=-1)
    states = torch.nn.functional.pad(states, (0, width - states.shape[-1]))
    long = t5(source, "text_encoder_3", prompts, length, dtype) if length else states.new_zeros(len(states), 256, width)
    return list(map(Embedding, torch.cat([states, long.float()], dim=1), torch.cat([pooled, pooled_2], dim=-1)))


def encode_flux(source: Source, prompts: Sequence[str], dtype: torch.dtype, length: int = 512) -> list[Embedding]:
    """Flux; `length` tokens of T5."""
    from transformers import CLIPTextModel

    _, _, pooled = clip(source, "text_encoder", prompts, CLIPTextModel)
    return list(map(Embedding, t5(source, "text_encoder_2", prompts, length, dtype), pooled))


def encode_cascade(source: Source, prompts: Sequence[str], dtype: torch.dtype) -> list[Embedding]:
    """Stable Cascade: states before the last norm, under the mask of the padding, and the projected pooled vector.

    transformers 4 calls these states `hidden_states[-1]`; later versions call the normed ones so.
    """
    from transformers import CLIPTextModelWithProjection

    ids, mask = tokenize(source, "tokenizer", prompts)
    encoder = source.part(CLIPTextModelWithProjection, "text_encoder", torch.float32)
    states: list[Tensor] = []
    last_norm = next(part for name, part in encoder.named_modules() if name.endswith("final_layer_norm"))
    with last_norm.register_forward_pre_hook(lambda _, given: states.append(given[0][0])):
        found = [encoder(row, attention_mask=seen) for row, seen in zip(ids.split(1), mask.split(1))]
    return [Embedding(before, out.text_embeds[0]) for before, out in zip(states, found, strict=True)]


def clip(source: Source, part: str, prompts: Sequence[str], kind: type) -> tuple[Tensor, Tensor, Tensor]:
    """A CLIP text encoder, in fp32, on one prompt at a time: what it gives does not depend on the others.

    Returns:
        Hidden states after the last layer and its norm [n, L, D], those before the last layer [n, L, D], and pooled
        vectors [n, P], projected where the encoder projects.
    """
    ids, mask = tokenize(source, part.replace("text_encoder", "tokenizer"), prompts)
    encoder = source.part(kind, part, torch.float32)
    masks = mask.split(1) if getattr(encoder.config, "use_attention_mask", False) else [None] * len(ids)
    found = [encoder(row, attention_mask=seen, output_hidden_states=True) for row, seen in zip(ids.split(1), masks)]
    pooled = [out.text_embeds if "text_embeds" in out else out.pooler_output for out in found]
    parts = [out.last_hidden_state for out in found], [out.hidden_states[-2] for out in found], pooled
    return tuple(map(torch.cat, parts))


def t5(source: Source, part: str, prompts: Sequence[str], length: int, dtype: torch.dtype) -> Tensor:
    """States of a T5 encoder, padding included, [n, length, D]; one prompt at a time."""
    from transformers import T5EncoderModel

    ids, _ = tokenize(source, part.replace("text_encoder", "tokenizer"), prompts, length)
    encoder = source.part(T5EncoderModel, part, dtype)
    return torch.cat([encoder(row).last_hidden_state for row in ids.split(1)])


def tokenize(source: Source, part: str, prompts: Sequence[str], length: int | None = None) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask [n, length]; a prompt that is too long is cut, which is logged."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.folder(part), local_files_only=True)
    length = length or tokenizer.model_max_length
    for prompt in prompts:
        count = len(tokenizer(prompt).input_ids)
        if count > length:
            log.warning("%s reads %d of the %d tokens of the prompt %r", part, length, count, prompt)
    batch = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return batch.input_ids, batch.attention_mask


def save_embeddings(path: str | Path, prompt: Embedding, negative: Embedding) -> None:
    """Writes embedded prompts (`prior.prompt` and `prior.negative` of a loaded prior) for `prior.embeddings`."""
    from safetensors.torch import save_file

    pairs = zip(_NAMES, (prompt.tokens, negative.tokens, prompt.pooled, negative.pooled))
    save_file({name: value.contiguous() for name, value in pairs if value is not None}, Path(path).expanduser())


def read_embeddings(path: str | Path) -> tuple[Embedding, Embedding]:
    """Embedded prompts: `prompt`, `negative_prompt` [L, D] and, for some networks, `pooled`, `negative_pooled` [P].

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds other tensors.
    """
    from safetensors.torch import load_file

    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there are no embeddings at {path}: rbctrl.priors.text.save_embeddings writes them")
    found = load_file(path)
    if set(found) not in (set(_NAMES), set(_NAMES[:2])):
        raise ValueError(f"{path} holds {', '.join(sorted(found)[:4])} ...; embeddings are {', '.join(_NAMES)}")
    prompt, negative, pooled, negative_pooled = (found.get(name) for name in _NAMES)
    return Embedding(prompt, pooled), Embedding(negative, negative_pooled)
