"""What is private of PyTorch, or promised by no word of its documentation, and must be used.

Read in PyTorch 2.14.1. With another version, see whether each still is what it is taken for:

- `torch.ops.aten.mkldnn_reorder_conv2d_weight`, which lays filters out as oneDNN multiplies them;
- `torch.ops.mkldnn._convolution_pointwise`, which convolves by such filters, and takes and gives dense
  tensors, channels last: `torch.compile` turns convolutions into it (_inductor/fx_passes/mkldnn_fusion.py).
  What is public, `torch.mkldnn_convolution`, gives another layout, and takes four times as long.
"""

from typing import Any

import torch
from torch import Tensor


def packed_filters(filters: Tensor, *how: Any) -> Tensor:
    """`filters` (O, C, H, W) as oneDNN multiplies them; `how` are padding, stride, dilation and groups."""
    packed: Tensor = torch.ops.aten.mkldnn_reorder_conv2d_weight(filters.to_mkldnn(), *how)
    return packed


def packed_convolution(x: Tensor, packed: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
    """The convolution of `x` (N, C, H, W), channels last, by `packed_filters` of the same options `how`."""
    outputs: Tensor = torch.ops.mkldnn._convolution_pointwise(x, packed, bias, *how, "none", [], "")
    return outputs
