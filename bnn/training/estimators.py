"""Gradient estimators with less noise than drawing the weights, as Pyro effect handlers.

Under a handler a Normal weight is not drawn but handed on undrawn, as a tensor that answers `F.linear`
and the convolutions by sampling what follows from it. Nothing of PyTorch is patched: the tensor speaks
PyTorch's own `__torch_function__` protocol. Any other operation on it draws the weight, once, and goes
on with the draw, so that every network stays right, if noisier.

A new estimator is one tensor class here and one name in `bnn.training.elbo.ELBOS`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Self

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor

from bnn.training.pyro_private import ValuesInstead

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_TINY = 1e-16  # keeps the square root's gradient finite where no signal arrives

# A layer's linear map with its options filled in: (x, weight, bias) to pre-activations.
LinearMap = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class UndrawnNormal(Tensor):
    """A Normal(loc, scale) weight that has not been drawn; reads as a tensor of `loc`'s shape."""

    loc: Tensor
    scale: Tensor
    _drawn: Tensor | None

    @classmethod
    def of(cls, loc: Tensor, scale: Tensor) -> Self:
        """The undrawn weight with these parameters, which have the weight's own shape."""
        undrawn = loc.as_subclass(cls)
        undrawn.loc, undrawn.scale, undrawn._drawn = loc, scale, None
        return undrawn

    def draw(self) -> Tensor:
        """A reparameterised draw, the same one at every call."""
        if self._drawn is None:
            self._drawn = _sample_normal(self.loc, self.scale)
        return self._drawn

    @classmethod
    def pre_activations(
        cls, layer: LinearMap, x: Tensor, weight: Self, bias: Tensor | None, channel: int
    ) -> Tensor:
        """`layer(x, weight, bias)` with the weight still undrawn; channels stand in dim `channel`."""
        raise TypeError(f"{cls.__name__} does not say how to sample pre-activations")

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _METADATA:
            return super().__torch_function__(func, types, args, kwargs)
        if (func is F.linear or func in _CONVOLUTIONS) and isinstance(args[1], cls):
            x, weight, bias, *options = (*args, kwargs.pop("bias", None)) if len(args) == 2 else args
            channel = -1 if func is F.linear else 1
            return cls.pre_activations(
                lambda x, w, b: func(x, w, b, *options, **kwargs), x, weight, bias, channel
            )
        return func(*map(_draw, args), **{key: _draw(value) for key, value in kwargs.items()})


class LocallyReparameterized(UndrawnNormal):
    """Samples pre-activations: Normal(f(x, loc), f(x², scale²)), independently for every datum.

    Exact for linear layers (Kingma et al. 2015, "Variational dropout and the local reparameterization
    trick", sec. 2.3). For convolutions the mean and variance at every position are exact, while the
    noise of neighbouring positions is drawn independently (Molchanov et al. 2017, sec. 4.2).
    """

    @classmethod
    def pre_activations(
        cls, layer: LinearMap, x: Tensor, weight: Self, bias: Tensor | None, channel: int
    ) -> Tensor:
        bias_loc, bias_scale = _loc_scale(bias)
        variance = layer(
            x.square(), weight.scale.square(), None if bias_scale is None else bias_scale.square()
        )
        return _sample_normal(layer(x, weight.loc, bias_loc), (variance + _TINY).sqrt())


class Flipped(UndrawnNormal):
    """Flipout: f(x, loc) + r ⊙ f(s ⊙ x, scale ⊙ ε), with signs r, s = ±1 drawn for every datum.

    Each datum sees a fair draw of the whole weight, the same at all positions of a convolution, and
    draws of different data are uncorrelated. Wen et al. 2018, "Flipout: efficient pseudo-independent
    weight perturbations on mini-batches", eq. 3–4.
    """

    @classmethod
    def pre_activations(
        cls, layer: LinearMap, x: Tensor, weight: Self, bias: Tensor | None, channel: int
    ) -> Tensor:
        bias_loc, bias_scale = _loc_scale(bias)
        mean = layer(x, weight.loc, bias_loc)
        noise = weight.scale * torch.randn_like(weight.scale)
        mean = mean + _signs(mean, channel) * layer(x * _signs(x, channel), noise, None)
        if bias_scale is None:
            return mean
        per_datum = torch.randn_like(_signs(mean, channel))
        return mean + per_datum * bias_scale.view(
            [-1 if d == channel % mean.dim() else 1 for d in range(mean.dim())]
        )


class Estimator(ValuesInstead):
    """Effect handler under which Normal sample sites stay undrawn.

    >>> with Estimator(LocallyReparameterized):
    ...     loss = TraceMeanField_ELBO().differentiable_loss(model, guide, images, labels)
    """

    def __init__(self, undrawn: type[UndrawnNormal]) -> None:
        super().__init__(partial(_undrawn, undrawn))


def _undrawn(kind: type[UndrawnNormal], distribution: Any) -> UndrawnNormal | None:
    normal = distribution.base_dist if isinstance(distribution, dist.Independent) else distribution
    return kind.of(normal.loc, normal.scale) if isinstance(normal, dist.Normal) else None


def _sample_normal(loc: Tensor, scale: Tensor) -> Tensor:
    return loc + scale * torch.randn_like(loc)


def _draw(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(_draw, value))
    return value.draw() if isinstance(value, UndrawnNormal) else value


def _loc_scale(bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    return (bias.loc, bias.scale) if isinstance(bias, UndrawnNormal) else (bias, None)


def _signs(x: Tensor, channel: int) -> Tensor:
    """±1 for every datum and channel of `x`, broadcastable to it."""
    shape = [size if dim in (0, channel % x.dim()) else 1 for dim, size in enumerate(x.shape)]
    return torch.randint(0, 2, shape, device=x.device, dtype=x.dtype).mul_(2).sub_(1)


_METADATA = frozenset(
    getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "requires_grad", "layout")
) | {Tensor.dim, Tensor.size, Tensor.numel}
