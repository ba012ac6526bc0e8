"""Posteriors over a network's weights: what training hands to deciding.

A new posterior is one class and one name in `POSTERIORS`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from bnn.core.tensors import Shapes, grouped, require, under
from bnn.errors import InputError, choose

Weights = Mapping[str, Tensor]  # by parameter name
Normals = Mapping[str, tuple[Tensor, Tensor]]  # location and scale of every weight by parameter name
MOST_WEIGHT = 1000.0  # location or scale of a weight: what is larger was not learnt, but damaged
DROPPED = 0.1  # share of a layer's inputs
NEARLY = 1e-3  # orthonormal, after rounding
LEAST_SCALE = 1e-4  # of a weight that is to be fitted: none is so sure that no image could move it


class Posterior(ABC):
    """A distribution over the weights of a network, that can be drawn from without Pyro.

    Example:
        >>> from bnn import Classifier
        >>> Classifier.load().posterior.sample(3, seed=0)["out.bias"].shape
        torch.Size([3, 10])
    """

    name: ClassVar[str]

    @property
    def components(self) -> "Sequence[Posterior]":
        """The modes that it is a mixture of, in equal parts; one unless it is a mixture."""
        return (self,)

    @abstractmethod
    def sample(self, draws: int, seed: int) -> dict[str, Tensor]:
        """`draws` networks' weights, stacked: (S, *shape) float32 by name; the same seed gives the same."""

    @classmethod
    def sample_each(cls, components: "Sequence[Posterior]", draws: int, seed: int) -> dict[str, Tensor]:
        """As `sample`, draw s being component s mod M's; faster where draws share their noise."""
        each = [component.sample(draws, seed) for component in components[:draws]]
        return {name: _dealt([weights[name] for weights in each], len(components)) for name in each[0]}

    @abstractmethod
    def mean(self) -> dict[str, Tensor]:
        """The mean network's weights, (*shape) float32 by name."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, as a checkpoint stores it."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], shapes: Shapes) -> Self:
        """The posterior whose `tensors` these are.

        Args:
            tensors: the result of `tensors`; anyone may have made them.
            shapes: of the network's parameters by name.

        Raises:
            InputError: they are not those of such a posterior over such a network.
        """


class MeanField(Posterior):
    """∏ Normal(loc, scale), one factor a weight.

    Args:
        loc, scale: by parameter name, (*shape) float16: rounding to half precision is far below the
            posterior's own width.
    """

    name = "mean-field"

    def __init__(self, loc: Weights, scale: Weights) -> None:
        # Contiguous, as a checkpoint gives it back: some layers round by how their weights lie in memory.
        self.loc = {name: value.half().contiguous() for name, value in loc.items()}
        self.scale = {name: value.half().contiguous() for name, value in scale.items()}

    def sample(self, draws: int, seed: int) -> dict[str, Tensor]:
        return self.sample_each([self], draws, seed)

    @classmethod
    def sample_each(cls, components: Sequence[Posterior], draws: int, seed: int) -> dict[str, Tensor]:
        factors = [component for component in components if isinstance(component, MeanField)]
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.arange(draws) % len(factors)
        weights = {}
        for name in sorted(factors[0].loc):
            loc, scale = (torch.stack([getattr(one, of)[name] for one in factors]) for of in ("loc", "scale"))
            noise = torch.randn(draws, *loc.shape[1:], generator=generator)
            weights[name] = loc.float()[chosen] + scale.float()[chosen] * noise
        return weights

    def mean(self) -> dict[str, Tensor]:
        return {name: value.float() for name, value in self.loc.items()}

    def floats(self) -> Normals:
        """Location and scale of every weight, (*shape) float32 each, to be computed with."""
        return {
            name: (loc.float(), self.scale[name].float().clamp_min(LEAST_SCALE))
            for name, loc in self.loc.items()
        }

    def tensors(self) -> dict[str, Tensor]:
        return under("loc", self.loc) | under("scale", self.scale)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], shapes: Shapes) -> Self:
        groups = grouped(tensors)
        if groups.keys() != {"loc", "scale"} or not shapes:
            raise InputError("a mean-field posterior needs a location and a scale of every weight.")
        for group in groups.values():
            require(group, shapes, torch.float16, "the posterior's weights")
        _require_scales(groups["scale"], "a mean-field posterior's scales")
        for group in groups.values():
            _require_learnt(group, "a mean-field posterior's locations and scales")
        return cls(groups["loc"], groups["scale"])


class LowRank(Posterior):
    """Normal(loc, diag(scale²) + ∑ₖ directionₖ directionₖᵀ) over all weights together.

    Args:
        loc, scale: by parameter name, (*shape) float16.
        directions: along which weights vary together, (K, *shape) float16, K alike for all.
    """

    name = "low-rank"

    def __init__(self, loc: Weights, scale: Weights, directions: Weights) -> None:
        self.loc, self.scale, self.directions = (
            {name: value.half().contiguous() for name, value in part.items()}
            for part in (loc, scale, directions)
        )

    def sample(self, draws: int, seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        rank = len(next(iter(self.directions.values())))
        along = torch.randn(draws, rank, generator=generator)
        weights = {}
        for name in sorted(self.loc):
            loc, scale, directions = (part[name].float() for part in (self.loc, self.scale, self.directions))
            noise = torch.randn(draws, *loc.shape, generator=generator)
            weights[name] = loc + scale * noise + torch.tensordot(along, directions, 1)
        return weights

    def mean(self) -> dict[str, Tensor]:
        return {name: value.float() for name, value in self.loc.items()}

    def tensors(self) -> dict[str, Tensor]:
        return under("loc", self.loc) | under("scale", self.scale) | under("directions", self.directions)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], shapes: Shapes) -> Self:
        what = "a low-rank posterior"
        groups = grouped(tensors)
        if groups.keys() != {"loc", "scale", "directions"} or not shapes:
            raise InputError(f"{what} needs a location, a scale and directions of every weight.")
        ranks = {len(value) if value.ndim else 0 for value in groups["directions"].values()}
        rank = ranks.pop()
        if ranks or rank == 0:
            raise InputError(f"{what} needs as many directions of every weight, at least one.")
        wanted = {"loc": shapes, "scale": shapes}
        wanted["directions"] = {name: (rank, *shape) for name, shape in shapes.items()}
        for part, group in groups.items():
            require(group, wanted[part], torch.float16, "the posterior's weights")
            _require_learnt(group, f"{what}'s weights")
        _require_scales(groups["scale"], f"{what}'s scales")
        return cls(groups["loc"], groups["scale"], groups["directions"])


class Point(Posterior):
    """All mass on one network.

    Args:
        weights: by parameter name, (*shape) float32.
    """

    name = "point"

    def __init__(self, weights: Weights) -> None:
        self._weights = {name: value.contiguous() for name, value in weights.items()}

    def sample(self, draws: int, seed: int) -> dict[str, Tensor]:
        return {name: value.expand(draws, *value.shape) for name, value in self._weights.items()}

    def mean(self) -> dict[str, Tensor]:
        return dict(self._weights)

    def tensors(self) -> dict[str, Tensor]:
        return dict(self._weights)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], shapes: Shapes) -> Self:
        require(tensors, shapes, torch.float32, "the network's weights")
        _require_learnt(tensors, "a point posterior's weights")
        return cls(tensors)


class Dropout(Point):
    """Every layer's inputs kept or not, by one toss of a coin for each input and draw.

    A weight matrix (out, in, ...) is `weights` · diag(kept) / (1 − `DROPPED`), whose mean is `weights`; one
    of a single input is kept whole, and so are biases. Gal & Ghahramani 2016, "Dropout as a Bayesian
    approximation: representing model uncertainty in deep learning", eq. 2.
    """

    name = "dropout"

    def sample(self, draws: int, seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {
            name: value * kept_inputs(value, draws, generator) for name, value in sorted(self.mean().items())
        }


def kept_inputs(weight: Tensor, draws: int, generator: torch.Generator | None = None) -> Tensor:
    """Factors (S, 1, in, 1, ...) of the inputs of a `weight` (out, in, ...): 0, or 1 / (1 − `DROPPED`)."""
    if weight.dim() < 2 or weight.shape[1] == 1:
        return weight.new_ones(draws, *[1] * weight.dim())
    shape = (draws, 1, weight.shape[1], *[1] * (weight.dim() - 2))
    kept = torch.rand(shape, generator=generator, device=weight.device) >= DROPPED
    return kept.to(weight.dtype) / (1 - DROPPED)


class Samples(Posterior):
    """K networks in equal parts, such as a sampler of the posterior keeps.

    Draws are these networks, in an order that the seed decides: all of them once before any comes again.
    More draws than K so add none that is new.

    Args:
        weights: by parameter name, (K, *shape) float16, K alike for all.
    """

    name = "samples"

    def __init__(self, weights: Weights) -> None:
        self.weights = {name: value.half().contiguous() for name, value in weights.items()}

    @property
    def count(self) -> int:
        """Networks, K."""
        return len(next(iter(self.weights.values())))

    def sample(self, draws: int, seed: int) -> dict[str, Tensor]:
        return self.sample_each([self], draws, seed)

    @classmethod
    def sample_each(cls, components: Sequence[Posterior], draws: int, seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        parts = [component for component in components if isinstance(component, Samples)]
        rounds = torch.arange(-(-draws // len(parts)))
        orders = [torch.randperm(part.count, generator=generator)[rounds % part.count] for part in parts]
        return {
            name: torch.stack(
                [part.weights[name].float()[order] for part, order in zip(parts, orders, strict=True)], 1
            ).flatten(0, 1)[:draws]
            for name in parts[0].weights
        }

    def mean(self) -> dict[str, Tensor]:
        """The network nearest to the mean of all: of networks around several modes, a mean would be none."""
        floats = {name: value.float() for name, value in self.weights.items()}
        distances = torch.stack(
            [(value - value.mean(0)).square().flatten(1).sum(1) for value in floats.values()]
        )
        nearest = int(distances.sum(0).argmin())
        return {name: value[nearest] for name, value in floats.items()}

    def tensors(self) -> dict[str, Tensor]:
        return dict(self.weights)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], shapes: Shapes) -> Self:
        counts = {len(value) if value.ndim else 0 for value in tensors.values()}
        if len(counts) != 1 or 0 in counts:
            raise InputError("a posterior of samples needs as many of every weight, at least one.")
        (count,) = counts
        stacked = {name: (count, *shape) for name, shape in shapes.items()}
        require(tensors, stacked, torch.float16, "the sampled weights")
        _require_learnt(tensors, "sampled weights")
        return cls(tensors)


class Kronecker(Posterior):
    """Some layers Normal, their weights independent along axes of rows and columns; the others points.

    A layer's weight as a matrix (out, in·…), its bias for the last column, is loc + left · (scale ∘ ε) ·
    rightᵀ, ε standard Normal. Layers are independent.

    Args:
        loc: by parameter name, (*shape) float32.
        left: orthonormal axes of the outputs by layer, (O, O) float32.
        right: orthonormal axes of the inputs, and of the bias where there is one, by layer, (I, I) float32.
        scale: standard deviations along the axes by layer, (O, I) float32.
    """

    name = "kronecker"

    def __init__(self, loc: Weights, left: Weights, right: Weights, scale: Weights) -> None:
        self.loc, self.left, self.right, self.scale = (
            {name: value.contiguous() for name, value in part.items()} for part in (loc, left, right, scale)
        )

    def sample(self, draws: int, seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        weights = {name: value.expand(draws, *value.shape) for name, value in self.loc.items()}
        for layer in sorted(self.scale):
            noise = torch.randn(draws, *self.scale[layer].shape, generator=generator)
            moved = self.left[layer] @ (self.scale[layer] * noise) @ self.right[layer].mT
            weight, bias = f"{layer}.weight", f"{layer}.bias"
            inputs = self.loc[weight][0].numel()
            weights[weight] = weights[weight] + moved[..., :inputs].reshape(weights[weight].shape)
            if bias in weights:
                weights[bias] = weights[bias] + moved[..., inputs]
        return weights

    def mean(self) -> dict[str, Tensor]:
        return dict(self.loc)

    def tensors(self) -> dict[str, Tensor]:
        parts = {"loc": self.loc, "left": self.left, "right": self.right, "scale": self.scale}
        return {name: value for part, group in parts.items() for name, value in under(part, group).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], shapes: Shapes) -> Self:
        what = "a Kronecker posterior"
        groups = grouped(tensors)
        layers = set(groups.get("scale", {}))
        if groups.keys() != {"loc", "left", "right", "scale"} or not all(
            len(shapes.get(f"{layer}.weight", ())) >= 2 for layer in layers
        ):
            raise InputError(f"{what} needs a location of every weight, and axes and scales of some layers.")
        sizes = {layer: matrix_shape(layer, shapes) for layer in layers}
        wanted: dict[str, Shapes] = {
            "loc": shapes,
            "left": {layer: (rows, rows) for layer, (rows, _) in sizes.items()},
            "right": {layer: (columns, columns) for layer, (_, columns) in sizes.items()},
            "scale": sizes,
        }
        for part, group in groups.items():
            require(group, wanted[part], torch.float32, "the posterior's weights")
            _require_learnt(group, f"{what}'s weights")
        _require_scales(groups["scale"], f"{what}'s scales")
        if not all(map(_is_orthonormal, [*groups["left"].values(), *groups["right"].values()])):
            raise InputError(f"{what}'s axes must be orthonormal.")
        return cls(**groups)


def matrix_shape(layer: str, shapes: Shapes) -> tuple[int, int]:
    """Rows and columns of a layer's weight (out, in, ...) as a matrix, its bias for another column."""
    outputs, *inputs = shapes[f"{layer}.weight"]
    return outputs, math.prod(inputs) + (f"{layer}.bias" in shapes)


def _is_orthonormal(axes: Tensor) -> bool:
    return bool((axes.mT @ axes - torch.eye(len(axes))).abs().max() < NEARLY)


class Mixture(Posterior):
    """Several posteriors of one kind in equal parts, such as those of independently trained guides.

    Draw s is component s mod M's, so that every component is drawn equally often.

    Args:
        components: posteriors of one kind over one network, M of them, at least one.

    Raises:
        InputError: there is none, or they are of several kinds.
    """

    name = "mixture"

    def __init__(self, components: Sequence[Posterior]) -> None:
        if len({type(component) for component in components}) != 1:
            raise InputError("a mixture needs at least one component, and all of one kind.")
        self._components = tuple(components)

    @property
    def components(self) -> Sequence[Posterior]:
        return self._components

    def sample(self, draws: int, seed: int) -> dict[str, Tensor]:
        return self._components[0].sample_each(self._components, draws, seed)

    def mean(self) -> dict[str, Tensor]:
        means = [component.mean() for component in self._components]
        return {name: torch.stack([mean[name] for mean in means]).mean(0) for name in means[0]}

    def tensors(self) -> dict[str, Tensor]:
        """`component/NAME` stacked over the components, (M, ...)."""
        each = [component.tensors() for component in self._components]
        stacked = {name: torch.stack([tensors[name] for tensors in each]) for name in each[0]}
        return under(self._components[0].name, stacked)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], shapes: Shapes) -> Self:
        groups = grouped(tensors)
        counts = {len(value) if value.ndim else 0 for group in groups.values() for value in group.values()}
        if len(groups) != 1 or len(counts) != 1 or 0 in counts:
            raise InputError("a mixture needs as many components of every weight, all of one kind.")
        ((kind, stacked),) = groups.items()
        component = choose(POSTERIORS, kind, "posterior")
        parts = [{name: value[m] for name, value in stacked.items()} for m in range(counts.pop())]
        return cls([component.from_tensors(part, shapes) for part in parts])


POSTERIORS: MutableMapping[str, type[Posterior]] = {
    kind.name: kind for kind in (MeanField, LowRank, Point, Dropout, Samples, Kronecker, Mixture)
}


def posterior_from(name: str, tensors: Mapping[str, Tensor], shapes: Shapes) -> Posterior:
    """The posterior called `name` whose `tensors` these are, over a network of parameters of `shapes`.

    Raises:
        InputError: no posterior has that name, or they are not its.
    """
    return choose(POSTERIORS, name, "posterior").from_tensors(tensors, shapes)


def _require_scales(scales: Weights, what: str) -> None:
    if not all((value >= 0).all() for value in scales.values()):
        raise InputError(f"{what} must be 0 or more.")


def _require_learnt(weights: Weights, what: str) -> None:
    if not all((value.abs() <= MOST_WEIGHT).all() for value in weights.values()):
        raise InputError(
            f"{what} must be at most {MOST_WEIGHT:g} in size: these are damaged, or of a training that "
            "diverged."
        )


def _dealt(weights: Sequence[Tensor], count: int) -> Tensor:
    """Draw s of what component s mod `count` drew, each (S, *shape)."""
    result = torch.empty_like(weights[0])
    for m, drawn in enumerate(weights):
        result[m::count] = drawn[m::count]
    return result
