"""How good is our posterior: the reference is the posterior, the measures are right, it runs as written."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro import poutine
from pyro.infer import HMC
from torch import Tensor

pytest.importorskip("arviz", reason="ArviZ, which the examples need, is not installed")

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))  # its scripts import one another as scripts do
import fits  # noqa: E402
import posterior_quality as lesson  # noqa: E402
import reference  # noqa: E402
from coin import of_draws  # noqa: E402
from diagnostics import diagnose  # noqa: E402
from digits import Digits, letters, noise  # noqa: E402

from bnn.training.elbo import MeanFieldELBO  # noqa: E402
from bnn.training.guide import MeanFieldGuide  # noqa: E402
from bnn.training.model import BayesianNeuralNetwork  # noqa: E402

pytestmark = pytest.mark.examples

ERRORS = 4  # standard errors that an estimate may lie from the truth
SMALL = fits.Size(train=60, hidden=3, steps=300)
ENOUGH = reference.Length(chains=1, warmup=60, draws=120)  # for small Monte Carlo errors

Given = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def data() -> Digits:
    return Digits.split(SMALL.train, seed=0)


@pytest.fixture(scope="module")
def known(data: Digits) -> Given:
    return fits.as_input(data.train), torch.tensor(data.train_labels)


@pytest.fixture(scope="module")
def chain(known: Given) -> reference.Chain:
    return run_chain(known, ENOUGH, seed=0)


def run_chain(known: Given, length: reference.Length, seed: int, number: int = 0) -> reference.Chain:
    network = fits.small_network(SMALL.hidden)
    return reference.run_chain(network, *known, length, seed, [0] * (number + 1), number)


def energy(weights: reference.Weights, known: Given) -> Tensor:
    return reference.potential(weights, fits.small_network(SMALL.hidden), *known)


def within(found: Any, mean: float, sd: float) -> bool:
    """Whether both lie within their Monte Carlo errors of the known values."""
    return abs(found.mean - mean) < ERRORS * found.mean_error and abs(found.sd - sd) < ERRORS * found.sd_error


def test_it_runs_as_written(tmp_path: Path, run_script: Callable[..., str]) -> None:
    shown = run_script(EXAMPLES / "posterior_quality.py", "--tiny", "--out", str(tmp_path))
    for row in ("HMC", "its two halves", "guide, beta 1", "2 guides, beta 0.1", "MAP", "2 MAPs"):
        assert f"│ {row} " in shown
    assert (tmp_path / "posterior_quality.png").read_bytes().startswith(b"\x89PNG")


def test_the_potential_is_that_of_pyros_model(known: Given) -> None:
    """Up to a constant, that is: the same number is missing for any weights."""
    network = fits.small_network(SMALL.hidden)
    model = BayesianNeuralNetwork(network, SMALL.train, reference.PRIOR_SCALE)
    missing = []
    for _ in range(3):
        weights = reference.from_prior(network)
        sites = {f"network.{name}": value for name, value in weights.items()}
        trace = poutine.trace(poutine.condition(model, sites)).get_trace(*known)
        missing.append(float(energy(weights, known) + trace.log_prob_sum()))
    assert missing == pytest.approx([missing[0]] * 3, abs=1e-2)


def test_without_data_hmc_draws_from_the_prior() -> None:
    nothing = torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.long)
    chain = run_chain(nothing, ENOUGH, seed=0)
    standardised = [
        value.flatten(1).T / reference.PRIOR_SCALE for value in chain.weights.values()
    ]  # each weight as a chain
    some = torch.cat(standardised)[::2]  # for ArviZ doubts more chains than draws
    assert within(of_draws("HMC", some.double().numpy()), 0, 1)


def test_hmc_keeps_the_prior_where_the_data_say_nothing(chain: reference.Chain) -> None:
    assert within(lesson.along_ignored("HMC", [chain.weights]), 0, 1)


def test_a_chain_is_the_same_alone_and_beside_others(known: Given) -> None:
    length = reference.Length(2, 5, 5)
    network = fits.small_network(SMALL.hidden)
    both = reference.sample(network, *known, length, seed=3)
    for number, chain in enumerate(both):
        alone = run_chain(known, length, 3, number)
        assert all(torch.equal(alone.weights[name], chain.weights[name]) for name in chain.weights)
    assert not torch.equal(both[0].weights["out.bias"], both[1].weights["out.bias"])


def test_divergences_of_draws_are_counted(known: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Pyro's kernel tells them; these networks have none of their own."""
    monkeypatch.setattr(HMC, "diagnostics", lambda kernel: {"divergences": [3, 5]})
    assert run_chain(known, reference.Length(1, 2, 2), seed=0).divergences == 2


def test_a_chain_that_fails_is_heard_of(known: Given) -> None:
    images, labels = known
    with pytest.raises(ValueError, match="batch_size"):
        reference.sample(fits.small_network(2), images, labels[:-1], reference.Length(1, 1, 1), seed=0)


def test_the_ignored_directions_change_no_prediction() -> None:
    network = fits.small_network(SMALL.hidden)
    weights = {name: value[None] for name, value in reference.from_prior(network).items()}
    moved = dict(weights)
    moved["out.weight"] = weights["out.weight"] + torch.tensor([1.0, -2.0, 3.0])
    moved["out.bias"] = weights["out.bias"] + 4.0
    images = {"digits": fits.as_input(noise(20, 0))}
    before, after = (lesson.answers(some, images)["digits"].mean for some in (weights, moved))
    assert np.allclose(before, after, atol=1e-5)
    shifts = lesson.ignored_directions(moved) - lesson.ignored_directions(weights)
    steps = np.array([1, -2, 3, 4]) / reference.PRIOR_SCALE
    assert shifts.ravel() == pytest.approx(10 * steps / np.sqrt(10), abs=1e-4)


def test_r_hat_tells_chains_that_disagree() -> None:
    noise = np.random.default_rng(0).standard_normal((4, 1000, 3))
    assert diagnose("the same", noise).passed
    apart = noise + np.arange(4)[:, None, None] * np.array([0, 0, 1])
    assert not diagnose("one of three is apart", apart).passed


def test_the_map_is_likelier_than_any_draw(data: Digits, known: Given, chain: reference.Chain) -> None:
    best = {name: value[0] for name, value in fits.fit_map(data, SMALL, seed=0).items()}
    draws = [{name: value[draw] for name, value in chain.weights.items()} for draw in range(ENOUGH.draws)]
    assert energy(best, known) < min(energy(weights, known) for weights in draws)


def test_tempering_fits_better_at_a_higher_divergence(data: Digits, known: Given) -> None:
    """Minimising NLL + beta · KL, a smaller beta buys NLL with KL."""
    model = BayesianNeuralNetwork(fits.small_network(SMALL.hidden), SMALL.train, reference.PRIOR_SCALE)
    whole, tempered = (
        MeanFieldELBO().terms(model, fits.fit_guide(data, SMALL, beta, seed=0), *known) for beta in (1.0, 0.1)
    )
    assert tempered[0] < whole[0]
    assert tempered[1] > whole[1]


def test_joined_ensembles_predict_the_mean_of_theirs() -> None:
    network = fits.small_network(SMALL.hidden)
    ensembles = [
        {name: value[None] for name, value in reference.from_prior(network).items()} for _ in range(3)
    ]
    images = {"digits": fits.as_input(noise(20, 0))}
    each = [lesson.answers(weights, images)["digits"].mean for weights in ensembles]
    together = lesson.answers(fits.joined(ensembles), images)["digits"].mean
    assert np.allclose(together, np.mean(each, 0), atol=1e-6)


def test_a_mixture_draws_from_its_guides_in_equal_parts() -> None:
    guides = [MeanFieldGuide(fits.small_network(SMALL.hidden)) for _ in range(2)]
    with torch.no_grad():
        for shift, guide in zip((-100, 100), guides, strict=True):
            getattr(guide, "out/bias_loc").add_(shift)
    signs = fits.drawn(guides, 40, seed=0)["out.bias"].sign()
    assert (signs.sum(0) == 0).all()


probabilities = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).dirichlet(np.full(10, 0.3), (2, 30))
)


@given(probabilities)
def test_distances_between_predictives(pair: np.ndarray[Any, Any]) -> None:
    one, other = pair
    apart = lesson.total_variation(one, other)
    assert 0 < apart <= 1
    assert apart == pytest.approx(lesson.total_variation(other, one))
    assert lesson.total_variation(one, one) == 0
    assert lesson.agreement(one, one) == 1
    # Half of the sum of distances is what one gives more than the other.
    assert apart == pytest.approx(np.maximum(one - other, 0).sum(-1).mean())


def test_predictives_that_share_no_class_are_as_far_apart_as_can_be() -> None:
    sure = np.eye(10)
    assert lesson.total_variation(sure, np.roll(sure, 1, 1)) == 1
    assert lesson.agreement(sure, np.roll(sure, 1, 1)) == 0
    assert lesson.agreement(sure, np.where(np.arange(10)[:, None] < 3, sure, np.roll(sure, 1, 1))) == 0.3


def test_strangers_are_images_like_the_digits(data: Digits) -> None:
    for strangers in (noise(20, 0), letters()):
        assert strangers.shape[1:] == data.test.shape[1:]
        assert strangers.min() >= 0
        assert 0.5 < strangers.max() <= 1
    drawn = letters().reshape(len(letters()), -1)
    assert len(np.unique(drawn, axis=0)) == len(drawn)  # no letter is drawn twice alike
