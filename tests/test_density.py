"""Densities of classes: against PyTorch's Normal and closed forms, and what fitting them recovers."""

import math
from dataclasses import asdict
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from bnn.errors import InputError
from bnn.ood import fitting
from bnn.ood.density import LARGE, ClassDensity
from bnn.ood.fitting import PER_DIRECTION, fit_density


def random_density(classes: int, components: int, rank: int, size: int, seed: int) -> ClassDensity:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    noise = draw(classes, components).exp()
    return ClassDensity(
        log_weight=draw(classes, components).log_softmax(-1),
        mean=3 * draw(classes, components, size),
        basis=torch.linalg.qr(draw(classes, components, size, rank)).Q.mT,
        variance=noise[..., None] * (1 + draw(classes, components, rank).exp()),
        noise=noise,
    )


def normals(density: ClassDensity) -> MultivariateNormal:
    """The components as Normals of full covariance, (C, K)."""
    excess = torch.diag_embed(density.variance - density.noise[..., None])
    eye = torch.eye(density.mean.shape[-1], dtype=torch.float64)
    covariance = density.noise[..., None, None] * eye + density.basis.mT @ excess @ density.basis
    return MultivariateNormal(density.mean, covariance)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(5, 9), st.integers(0, 999))
def test_it_is_the_mixture_of_normals_with_these_covariances(
    classes: int, components: int, rank: int, size: int, seed: int
) -> None:
    density = random_density(classes, components, rank, size, seed)
    generator = torch.Generator().manual_seed(seed)
    x = 4 * torch.randn(6, size, generator=generator, dtype=torch.float64)
    joint = normals(density).log_prob(x[:, None, None]) + density.log_weight
    torch.testing.assert_close(density.log_joint(x), joint, rtol=1e-9, atol=1e-8)
    mixture = MixtureSameFamily(Categorical(logits=density.log_weight), normals(density))
    torch.testing.assert_close(density.log_prob(x), mixture.log_prob(x[:, None]), rtol=1e-9, atol=1e-8)


def test_in_single_precision_it_keeps_what_double_precision_says_of_images() -> None:
    exact = random_density(2, 2, 20, 784, seed=0)
    single = ClassDensity(**{name: tensor.float() for name, tensor in asdict(exact).items()})
    x = torch.rand(20, 784, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(single.log_prob(x.float()).double(), exact.log_prob(x), rtol=1e-5, atol=0.1)


def one_class(count: int, seed: int, size: int = 8) -> Tensor:
    """Vectors (count, size) of two clusters that vary along three directions each."""
    mixture = random_density(1, 2, 3, size, seed=5)
    torch.manual_seed(seed)
    return MixtureSameFamily(Categorical(logits=mixture.log_weight[0]), _first(normals(mixture))).sample(
        (count,)
    )


def _first(components: MultivariateNormal) -> MultivariateNormal:
    return MultivariateNormal(components.mean[0], components.covariance_matrix[0])


def labels_of(x: Tensor) -> Tensor:
    return torch.zeros(len(x), dtype=torch.long)


def test_one_component_is_probabilistic_pca_in_closed_form() -> None:
    x, rank = one_class(500, seed=0), 3
    density = fit_density(x, labels_of(x), 1, rank, seed=0)
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    torch.testing.assert_close(density.mean[0, 0], x.mean(0), rtol=0, atol=1e-6)
    torch.testing.assert_close(density.variance[0, 0], values[-rank:].flip(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(density.noise[0, 0], values[:-rank].mean(), rtol=1e-6, atol=0)
    overlap = density.basis[0, 0] @ vectors[:, -rank:].flip(1)
    torch.testing.assert_close(overlap.abs(), torch.eye(rank, dtype=x.dtype), rtol=0, atol=1e-5)
    assert density.log_weight.item() == pytest.approx(0)


def test_one_component_agrees_with_scikit_learns_probabilistic_pca() -> None:
    x, fresh = one_class(2000, seed=0), one_class(50, seed=1)
    ours = fit_density(x, labels_of(x), 1, 3, seed=0).log_prob(fresh)[:, 0]
    theirs = PCA(3, svd_solver="full").fit(x.numpy()).score_samples(fresh.numpy())
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=0.01, atol=0.02)  # n − 1 for n


def test_the_bases_are_orthonormal_and_the_weights_sum_to_1() -> None:
    x = torch.randn(900, 40, generator=torch.Generator().manual_seed(0))
    density = fit_density(x, torch.arange(900) % 3, 2, 6, seed=0)
    assert density.basis.shape == (3, 2, 6, 40)
    torch.testing.assert_close(
        density.basis @ density.basis.mT, torch.eye(6).expand(3, 2, 6, 6), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(density.log_weight.exp().sum(-1), torch.ones(3))
    assert (density.variance >= density.noise[..., None]).all()


def test_a_known_mixture_is_recovered() -> None:
    truth = random_density(1, 2, 3, 8, seed=5)
    x, fresh = one_class(4000, seed=0), one_class(4000, seed=1)
    of_truth = truth.log_prob(fresh).mean().item()
    of_two = fit_density(x, labels_of(x), 2, 3, seed=0).log_prob(fresh).mean().item()
    of_one = fit_density(x, labels_of(x), 1, 3, seed=0).log_prob(fresh).mean().item()
    assert of_truth - 0.05 < of_two < of_truth + 0.01
    assert of_one < of_truth - 0.3  # and two components are what it takes


def test_each_class_gets_its_own_density_whatever_the_order_of_the_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (600,), generator=generator)
    x[:, 0] += 20 * labels
    density = fit_density(x, labels, 1, 2, seed=0)
    assert density.log_prob(x).argmax(-1).equal(labels)
    for label in range(3):
        torch.testing.assert_close(density.mean[label, 0], x[labels == label].mean(0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_no_step_of_em_makes_the_training_vectors_less_likely(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = one_class(1500, seed)
    likelihoods = []
    for steps in range(9):
        monkeypatch.setattr(fitting, "EM_STEPS", steps)
        likelihoods.append(fit_density(x, labels_of(x), 3, 3, seed).log_prob(x).sum().item())
    # A weight is kept above 0, for which the likelihood may give way by less than a nat.
    assert min(after - before for before, after in pairwise(likelihoods)) > -0.5
    assert likelihoods[-1] > likelihoods[0]


@pytest.mark.parametrize(
    ("smallest", "shape"),
    [(400, (4, 20)), (80, (1, 20)), (160, (2, 20)), (40, (1, 10)), (4, (1, 1)), (1, (1, 1))],
)
def test_small_classes_get_fewer_components_and_directions(smallest: int, shape: tuple[int, int]) -> None:
    labels = torch.cat([torch.zeros(400), torch.ones(smallest)]).long()
    x = torch.randn(len(labels), 30, generator=torch.Generator().manual_seed(0))
    density = fit_density(x, labels, 4, 20, seed=0)
    components, rank = density.variance.shape[1:]
    assert (components, rank) == shape
    assert smallest < PER_DIRECTION or components * rank * PER_DIRECTION <= smallest
    assert density.log_prob(x).isfinite().all()


def test_what_never_varies_is_unlikely_to_change_but_not_impossible() -> None:
    x = torch.zeros(200, 12)
    x[:, :4] = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    density = fit_density(x, torch.zeros(200, dtype=torch.long), 1, 4, seed=0)
    changed = x.clone()
    changed[:, 11] = 1
    assert density.log_prob(changed).isfinite().all()
    assert (density.log_prob(changed) < density.log_prob(x) - 10).all()
    constant = fit_density(torch.ones(50, 12), torch.zeros(50, dtype=torch.long), 2, 4, seed=0)
    assert constant.log_prob(torch.rand(5, 12)).isfinite().all()


def test_the_seed_alone_chooses_the_start() -> None:
    x = one_class(300, seed=0)
    torch.manual_seed(1)
    first = fit_density(x, labels_of(x), 2, 3, seed=9)
    state = torch.get_rng_state()
    again = fit_density(x, labels_of(x), 2, 3, seed=9)
    assert torch.get_rng_state().equal(state)  # and nobody else's randomness is used up
    assert all(tensor.equal(getattr(again, name)) for name, tensor in asdict(first).items())
    assert math.isfinite(first.log_prob(x).sum().item())


def test_what_is_stored_is_what_a_rounded_density_says() -> None:
    exact = random_density(3, 2, 2, 7, seed=1)
    single = ClassDensity(**{name: tensor.float() for name, tensor in asdict(exact).items()})
    stored = single.tensors()
    assert {name for name, tensor in stored.items() if tensor.dtype == torch.float16} == set(LARGE)
    again = ClassDensity.from_tensors(stored, 3, 7)
    for name, tensor in asdict(single.rounded()).items():
        assert getattr(again, name).equal(tensor)
        assert tensor.dtype == torch.float32
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert again.log_prob(x).equal(single.rounded().log_prob(x))
    assert not again.log_prob(x).equal(single.log_prob(x))


@pytest.mark.parametrize(("classes", "size"), [(2, 7), (4, 7), (3, 6), (3, 8)])
def test_a_density_of_another_task_or_of_other_vectors_is_refused(classes: int, size: int) -> None:
    stored = ClassDensity(
        **{name: tensor.float() for name, tensor in asdict(random_density(3, 2, 2, 7, seed=1)).items()}
    ).tensors()
    with pytest.raises(InputError, match=r"^the checkpoint's densities of training images [^\n]+\.$"):
        ClassDensity.from_tensors(stored, classes, size)
