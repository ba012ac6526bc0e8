"""Normals drawn and compared together: as each of them alone."""
# mypy: allow-untyped-defs

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence
from torch.nn.functional import softplus

from bnn.training.joint import JointNormals, flat, joint_divergence, parts

SHAPES = [(3, 2, 5, 4), (4,), (2, 6), (), (1, 1, 3, 3)]


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return [torch.randn(shape) for shape in SHAPES]


def test_parts_are_what_was_joined_and_views_of_it(tensors):
    vector = flat(tensors)
    apart = parts(vector, tensors)
    for part, tensor in zip(apart, tensors, strict=True):
        assert torch.equal(part, tensor)
    vector.zero_()
    assert not any(part.any() for part in apart)


def test_filters_lie_channels_last(tensors):
    filters = parts(flat(tensors), tensors)[0]
    assert filters.is_contiguous(memory_format=torch.channels_last)


def test_each_is_drawn_once_around_its_own_location_with_noise_of_its_own(tensors):
    scales = [softplus(tensor) for tensor in tensors]
    normals = JointNormals(tensors, flat(tensors), flat(scales)).each()
    noise = []
    for normal, loc, scale in zip(normals, tensors, scales, strict=True):
        assert torch.equal(normal.loc, loc)
        assert torch.equal(normal.scale, scale)
        drawn = normal.rsample()
        assert torch.equal(normal.rsample(), drawn)
        noise.append((drawn - loc) / scale)
    every = torch.cat([of.flatten() for of in noise])
    assert len(every.unique()) == len(every)
    assert every.abs().max() < 6


def test_several_draws_of_one_are_independent_of_each_other(tensors):
    normal = JointNormals(tensors, flat(tensors), torch.ones_like(flat(tensors))).each()[1]
    assert len(normal.rsample((50,)).unique()) == 200
    assert len(normal.expand((50, 4)).rsample().unique()) == 200


def each_by_itself(locs, scales):
    return [dist.Normal(*pair) for pair in zip(locs, scales, strict=True)]


def all_together(locs, scales):
    return JointNormals(locs, flat(locs), flat(scales)).each()


def those_of_two(locs, scales):
    first, second = (all_together(locs, scales) for _ in range(2))
    return [*first[:2], *second[2:]]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("made", [each_by_itself, all_together, those_of_two])
def test_the_divergence_of_all_is_the_sum_of_each_with_its_gradients(tensors, made, order):
    tensors = tensors[::order]
    locs = [tensor.clone().requires_grad_() for tensor in tensors]
    scales = [softplus(tensor.flip(0) if tensor.dim() else tensor) for tensor in tensors]
    normals = made(locs[::order], scales[::order])[::order]
    fitted = [dist.Independent(normal, normal.loc.dim()) for normal in normals]
    priors = [dist.Independent(dist.Normal(torch.full_like(x, 0.3), 2.0), x.dim()) for x in tensors]
    together, apart = (
        joint_divergence(fitted, priors),
        torch.stack([*map(kl_divergence, fitted, priors)]).sum(),
    )
    assert together.item() == pytest.approx(apart.item(), rel=1e-5)
    for one, other in zip(*(torch.autograd.grad(kl, locs) for kl in (together, apart)), strict=True):
        torch.testing.assert_close(one, other)
