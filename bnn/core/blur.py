"""The Gaussian blur."""

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_blur(images: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """`images` under Gaussians, black beyond their edges.

    Args:
        images: (N, G, H, W).
        sigma: standard deviation in pixels of each channel's Gaussian, (G,).
        reach: pixels to either side that are mixed in.
    """
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    weights = torch.exp(-0.5 * (offsets / sigma[:, None]).square())
    rows = (weights / weights.sum(1, keepdim=True))[:, None, None, :]
    across = F.conv2d(images, rows, padding=(0, reach), groups=len(sigma))
    return F.conv2d(across, rows.transpose(2, 3), padding=(reach, 0), groups=len(sigma))
