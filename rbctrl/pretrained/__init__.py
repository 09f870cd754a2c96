"""Models of several parts (network, autoencoder, text encoders), read strictly: every tensor has its value, or none.

A model is a folder in diffusers' layout, a repository of that layout on the Hugging Face hub, or one file in the layout
of the original code, whose configs and tokenizers then come from such a folder. Weights are safetensors; pickles in a
folder are refused, and the one file is read as `rbctrl.checkpoints` does.
"""

from __future__ import annotations

from rbctrl.pretrained.base import Source
from rbctrl.pretrained.folder import Folder
from rbctrl.pretrained.kept import Kept
from rbctrl.pretrained.single_file import SingleFile

__all__ = ["Folder", "Kept", "SingleFile", "Source", "source"]


def source(
    model: str, *, published: str, config: str | None = None, variant: str | None = None, local_files_only: bool = False
) -> Source:
    """Where a model is read from; nothing is read yet.

    Args:
        model: a folder, the id of a repository on the hub, or one .safetensors or .ckpt file.
        published: id of the repository it is published in.
        config: for one file: the folder or repository of its configs and tokenizers; None is the published one.
        variant: "fp16" reads the files of that name.
        local_files_only: nothing is downloaded; what the cache of the hub has is used.

    Raises:
        ValueError: a config beside a folder, which has its own.
    """
    if model.endswith((".safetensors", ".ckpt")):
        layout = Folder(config or published, published, "prior.config", None, local_files_only)
        return SingleFile(model, published, layout)
    if config is not None:
        raise ValueError(f"config={config} is for a single file, and {model} brings its own: leave it out")
    return Folder(model, published, "prior.model", variant, local_files_only)
