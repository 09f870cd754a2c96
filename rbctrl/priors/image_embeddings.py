"""Reference images to embeddings; an image encoder is read, used once and let go, as text encoders are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from rbctrl.attention.base import ITEM, of_items, setting
from rbctrl.checkpoints import RequiredFile, read_tensors
from rbctrl.data.files import Unreadable, read_image
from rbctrl.pretrained import Source
from rbctrl.pretrained.base import content_hash

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training


@torch.no_grad()
def embed_images(
    source: Source, places: Mapping[str, str | None], width: int, part: str = "image_encoder", states: bool = False
) -> Tensor:
    """One embedding of each place, [k, width]; or states [k, S, width].

    Args:
        source: of the image encoder.
        places: kind to a picture, to a .safetensors file of one tensor [width], or to None, which is zeros.
        width: of an embedding.
        part: name of the encoder, a CLIPVisionModelWithProjection.
        states: its states before the last layer, all positions, instead of its embedding; None is then an image of
            zeros, after standardisation.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, or an embedding of another width.
    """
    files = {file.place: file for file in required(places)}
    found: dict[str | None, Tensor] = {place: _read(file) for place, file in files.items() if _is_embedding(place)}
    pictures = [file for place, file in files.items() if not _is_embedding(place)]
    blank = states and None in places.values()
    if pictures or blank:
        encoded = _clip(source, part, [_picture(file) for file in pictures], blank, states)
        found |= zip([*(file.place for file in pictures), *([None] if blank else [])], encoded)
    found.setdefault(None, torch.zeros(width))
    for kind, place in places.items():
        shape = list(found[place].shape)
        if shape[-1] != width or len(shape) != 1 + states:
            wanted = f"states [n, {width}]" if states else f"[{width}]"
            raise ValueError(f"{setting(kind)}={place} is an embedding {shape}, and the network takes {wanted}")
    return torch.stack([found[place] for place in places.values()])


def embed_references(
    source: Source,
    places: Mapping[str, str | None],
    references: Mapping[str, Tensor],
    n: int,
    width: int,
    part: str = "image_encoder",
    states: bool = False,
) -> Tensor:
    """As `embed_images`, for each of n rows, [n, k, ...]: where a place is `ITEM`, of the row's own picture.

    Args:
        source: of the image encoder.
        places: as there, or `ITEM`.
        references: pictures [n, 3, H, W] in [-1, 1] by kind.
        n: rows.
        width: of an embedding.
        part: name of the encoder.
        states: its states instead of its embedding.

    Raises:
        ValueError: there are no such pictures.
    """
    own = of_items(places, references)
    fixed = {kind: place for kind, place in places.items() if place != ITEM}
    found = dict(zip(fixed, embed_images(source, fixed, width, part, states))) if fixed else {}
    rows = {kind: value.expand(n, *value.shape) for kind, value in found.items()}
    if own:
        with torch.no_grad():
            pictures = [picture for brought in own.values() for picture in brought.cpu().float()]
            rows |= zip(own, _clip(source, part, pictures, False, states).unflatten(0, (len(own), n)))
    return torch.stack([rows[kind] for kind in places], dim=1)


def required(places: Mapping[str, str | None]) -> tuple[RequiredFile, ...]:
    """The files of the places."""
    return tuple(
        RequiredFile(place, "a reference image of yours", setting(kind))
        for kind, place in places.items()
        if place not in (None, ITEM)
    )


def fingerprint(places: Mapping[str, str | None]) -> str:
    """Of the content of the files, in their order."""
    return "+".join(content_hash(file.find())[:16] for file in required(places))


def preprocess(image: Tensor, size: int) -> Tensor:
    """CLIP's input [3, size, size] of an image [3, H, W] in [-1, 1]: short side resized, centre cropped, standardised.

    The resize is Pillow's bicubic one on 8 bits, that of CLIP.
    """
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(((image + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy())
    short = min(picture.size)
    picture = picture.resize(tuple(int(side * size / short) for side in picture.size), Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in picture.size)
    pixels = np.array(picture.crop((left, top, left + size, top + size)))
    scaled = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    return (scaled - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def _picture(file: RequiredFile) -> Tensor:
    path = file.find()
    try:
        return read_image(path)
    except Unreadable as error:
        raise ValueError(f"{path} {error}") from error


def _clip(source: Source, part: str, images: list[Tensor], blank: bool, states: bool) -> Tensor:
    from transformers import CLIPVisionModelWithProjection

    encoder = source.part(CLIPVisionModelWithProjection, part, torch.float32)
    size = encoder.config.image_size
    pixels = [*(preprocess(image, size) for image in images), *([torch.zeros(3, size, size)] if blank else [])]
    out = encoder(torch.stack(pixels), output_hidden_states=states)
    return out.hidden_states[-2] if states else out.image_embeds


def _is_embedding(place: str) -> bool:
    return Path(place).suffix == ".safetensors"


def _read(file: RequiredFile) -> Tensor:
    tensors = read_tensors(file)
    if len(tensors) != 1:
        raise ValueError(f"{file.place} holds {len(tensors)} tensors; an embedding is a file of one")
    return next(iter(tensors.values())).float()
