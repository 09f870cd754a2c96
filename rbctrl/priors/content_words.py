"""Words for what a reference shows, taken out of its image embedding.

    e' = E_image(reference) - k E_text(words),    then the projection of the IP-Adapter; nothing is normalised

Both embeddings have to be of one CLIP. Of XL's base adapter that CLIP's text tower is XL's second text encoder; for
other adapters it is named, `prior.ip_adapter.text_encoder`. Two CLIPs of the same width cannot be told apart from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rbctrl.checkpoints import RequiredFile
from rbctrl.pretrained import Folder, Source
from rbctrl.priors.text import tokenize

Words = Mapping[str, tuple[str, float]]  # kind of image to words and k


@dataclass(frozen=True)
class TextTower:
    """The text half of a CLIP.

    Args:
        source: of it, or of the model that it is a part of.
        part: name of the part; "": all of a CLIPModel or CLIPTextModelWithProjection, its tokenizer beside it.
    """

    source: Source
    part: str

    @torch.no_grad()
    def embed(self, words: str) -> Tensor:
        """[P], the projected state at the end of the words."""
        ids, _ = tokenize(self.source, self.part.replace("text_encoder", "tokenizer"), [words])
        model = self._model()
        return model.text_projection(model.text_model(input_ids=ids).pooler_output)[0]

    def files(self) -> tuple[RequiredFile, ...]:
        """What is read."""
        return self.source.files()

    def fingerprint(self) -> str:
        """Identifies its weights."""
        return self.source.fingerprint(self.part)

    def _model(self) -> nn.Module:
        from transformers import CLIPModel, CLIPTextModelWithProjection

        whole = self.source.settings(self.part).get("model_type") == "clip"
        return self.source.part(CLIPModel if whole else CLIPTextModelWithProjection, self.part, torch.float32)


def tower(model: str, local_files_only: bool) -> TextTower:
    """One of a folder or a repository of its own."""
    return TextTower(Folder(model, model, "prior.ip_adapter.text_encoder", None, local_files_only), "")


def subtracted(words: Words, kinds: tuple[str, ...], found: TextTower, width: int) -> Tensor:
    """k E_text(words) of each kind of image, [len(kinds), width]; zeros where there are no words.

    Raises:
        ValueError: the text tower has another width, so it is of another CLIP.
    """
    parts = {kind: scale * found.embed(text) for kind, (text, scale) in words.items()}
    for part in parts.values():
        if len(part) != width:
            raise ValueError(
                f"attention.neg_content_prompt is embedded in {len(part)} numbers and the images in {width}: name the "
                "text half of the adapter's own CLIP, prior.ip_adapter.text_encoder=..."
            )
    return torch.stack([parts.get(kind, torch.zeros(width)) for kind in kinds])
