"""Codecs: between images and the space a prior lives in."""

from rbctrl.codecs.autoencoder import Autoencoder, Previewed
from rbctrl.codecs.base import Codec, Identity

__all__ = ["Autoencoder", "Codec", "Identity", "Previewed"]
