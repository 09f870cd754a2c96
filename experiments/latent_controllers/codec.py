"""What the codec of photo_latent keeps of the held-out photographs, and how well its latents are denoised.

    python experiments/latent_controllers/codec.py

Prints two tables: PSNR of decode(encode(x)) against the best linear code of as many numbers, its principal components
fitted to training photographs (prior=pca_gaussian); and the mean square error of one evaluation of the denoiser over
that of the best scaling of each latent number by itself.
"""

from __future__ import annotations

import torch

from rbctrl.codecs.block_pca import fitted
from rbctrl.data import Photos
from rbctrl.priors import photo_latent
from rbctrl.rng import ImageRNG

SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


def photographs(size: int) -> torch.Tensor:
    return next(iter(Photos(names="held_out", size=size).batches(4, 1))).image.float()


def psnr(image: torch.Tensor, other: torch.Tensor) -> float:
    return float(-10 * ((image - other.clamp(-1, 1)) / 2).square().flatten(1).mean(1).log10().mean())


@torch.no_grad()
def main() -> None:
    prior = photo_latent()
    prior.load()
    training = next(iter(Photos(names="training", size=128).batches(99, 1))).image.float()
    linear = fitted(list(training), n_components=8)
    print("| px | `photo_latent` | block PCA, 8 components |\n|---:|---:|---:|")
    for size in (128, 256):
        x = photographs(size)
        kept = [psnr(x, codec.decode(codec.encode(x)).float()) for codec in (prior.codec, linear)]
        print(f"| {size} | {kept[0]:.2f} | {kept[1]:.2f} |")
    x = photographs(128)
    z = prior.codec.encode(x)
    rng = ImageRNG(0, tuple((str(k), 0) for k in range(4)), torch.float32)
    noise = rng.normal("codec", tuple(z.shape[1:]))
    variance = float(z.transpose(0, 1).flatten(1).var(1).mean())
    print("\n| sigma | error over that of a scaling | PSNR of the decoded estimate |\n|---:|---:|---:|")
    for sigma in SIGMAS:
        estimate = prior.network(z + sigma * noise, torch.full((4,), sigma))
        scaling = sigma**2 * variance / (sigma**2 + variance)
        error = float((estimate - z).square().mean())
        print(f"| {sigma:g} | {error / scaling:.3f} | {psnr(x, prior.codec.decode(estimate)):.2f} |")


if __name__ == "__main__":
    main()
