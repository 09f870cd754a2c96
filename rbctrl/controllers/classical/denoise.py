"""Total-variation denoising, Chambolle's dual algorithm as scikit-image runs it.

    argmin_u  1/2 |u - image|^2 + weight * sum over pixels of |grad u|

The gradient is the forward difference, 0 across the border; |.| is the Euclidean norm of its two components
(isotropic); channels do not see each other.
"""

from __future__ import annotations

import torch
from torch import Tensor


def denoise_tv(image: Tensor, weight: float, n_steps: int = 200) -> Tensor:
    """The TV denoiser of each channel of each row.

    Source: Chambolle, An algorithm for total variation minimization and applications, JMIV 20, 2004;
    skimage.restoration.denoise_tv_chambolle.

    Args:
        image: [B, C, H, W], of any range.
        weight: 0 returns the image; about sigma_y / 2 suits white noise of standard deviation sigma_y.
        n_steps: iterations, at least 2 (scikit-image's first one returns the image itself). All of them are run: its
            stopping rule compares energies whose two terms are not weighted as above.

    Returns:
        [B, C, H, W], dtype and device of the image.
    """
    if weight == 0:
        return image
    from skimage.restoration import denoise_tv_chambolle

    planes = image.detach().flatten(0, 1).cpu().numpy()
    smooth = denoise_tv_chambolle(planes, weight, eps=0, max_num_iter=n_steps, channel_axis=0)
    return torch.from_numpy(smooth).to(image).view_as(image)
