"""Codecs: between images and the space a prior lives in."""

from rbctrl.codecs.autoencoder import Autoencoder, Previewed
from rbctrl.codecs.base import Codec, Identity
from rbctrl.codecs.block_pca import BlockPCA
from rbctrl.codecs.convolutional import ConvCodec
from rbctrl.codecs.previewer import Previewer

__all__ = ["Autoencoder", "BlockPCA", "Codec", "ConvCodec", "Identity", "Previewed", "Previewer"]
