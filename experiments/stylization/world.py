"""How good the networks of the shapes world are, on drawings that no training has seen.

    python experiments/stylization/world.py [--n 1024]

Codec: PSNR. Classifier: accuracy on drawings of combinations that training has seen and has not, and the same after the
codec; mean absolute error of background and foreground colour; root mean square error of a blob's outline beside its
standard deviation. Descriptor: cosine of styles between two drawings that share the style, differ in the colours,
differ in texture and background, or share the content alone; share of drawings whose nearest one has their style.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from rbctrl.autoencoder import ConvAutoencoder
from rbctrl.shapes import draw_scenes, render
from rbctrl.shapes.bank import CONTENTS, GROUP, STYLES, draw_groups
from rbctrl.shapes.networks import SIDE, ShapesClassifier, ShapesDescriptor
from rbctrl.shapes.world import BLOB
from rbctrl.shipped import WEIGHTS, load_shipped

READ = ("count", "shape", "position", "texture", "background")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1024)
    n = parser.parse_args().n
    generator = torch.Generator().manual_seed(99)
    for name, network in {
        "codec": ConvAutoencoder,
        "classifier": ShapesClassifier,
        "descriptor": ShapesDescriptor,
    }.items():
        count = sum(w.numel() for w in load_shipped(WEIGHTS / f"shapes_{name}.safetensors", network).parameters())
        print(f"{name}: {count / 1e6:.2f} million parameters")
    codec = load_shipped(WEIGHTS / "shapes_codec.safetensors", ConvAutoencoder).eval()
    classifier = load_shipped(WEIGHTS / "shapes_classifier.safetensors", ShapesClassifier).eval()
    for split in ("seen", "held_out"):
        scenes = draw_scenes(n, generator, named=1.0, split=split)
        image = render(scenes, SIDE, generator)
        coded = codec.decode(codec.encode(image))
        print(f"{split}: codec {10 * torch.log10(4 / (coded - image).square().mean()):.1f} dB")
        for kind, seen in {"drawn": image, "coded": coded}.items():
            read = classifier(seen)
            right = {name: (read[name].argmax(1) == getattr(scenes, name)).float().mean() for name in READ}
            colors = (read["colors"] - scenes.colors)[:, [0, 2]].abs().mean()
            blobs = scenes.shape == BLOB
            outline = (read["outline"] - scenes.outline)[blobs].square().mean().sqrt()
            accuracy = ", ".join(f"{name} {value:.3f}" for name, value in right.items())
            spread = scenes.outline[blobs].std()
            print(f"  {kind}: {accuracy}; colours {colors:.3f}; outline {outline:.3f} of {spread:.3f}")
    describe(load_shipped(WEIGHTS / "shapes_descriptor.safetensors", ShapesDescriptor).eval(), n // GROUP, generator)


def describe(descriptor: ShapesDescriptor, groups: int, generator: torch.Generator) -> None:
    style = descriptor(render(draw_groups(groups, generator), SIDE, generator))["style"]
    table = style.unflatten(0, (groups, STYLES, CONTENTS))

    def cosine(a: Tensor, b: Tensor) -> float:
        return float((a * b).sum(-1).mean())

    pairs = {"style shared": (0, 1), "recoloured": (1, 0), "repainted": (2, 0), "content shared": (3, 0)}
    for name, other in pairs.items():
        print(f"descriptor, {name}: {cosine(table[:, 0, 0], table[:, other[0], other[1]]):.3f}")
    label = torch.arange(len(style)) // CONTENTS
    nearest = (style @ style.T).fill_diagonal_(-2).argmax(1)
    print(f"descriptor, nearest has the style: {(label[nearest] == label).float().mean():.3f} of {len(style)} drawings")


if __name__ == "__main__":
    main()
