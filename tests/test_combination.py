"""Joining scores: surprises that are p-values, Fisher's statistic by hand, and a way of one's own."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, kstest
from torch import Tensor

from bnn.classifier import Classifier
from bnn.core.checkpoint import Checkpoint
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.ood.combination import (
    COMBINATIONS,
    SHARES,
    TAIL,
    WEIGHTS,
    Bonferroni,
    Combination,
    Fisher,
    Named,
    Survival,
    Weighted,
    total,
)
from bnn.ood.scores import EntropyScore
from bnn.training.train import train

references = st.lists(st.integers(0, 40).map(float), min_size=2, max_size=400)


def survival_and_tail(reference: list[float]) -> tuple[Survival, float]:
    """The survival function, and the highest score below its tail."""
    beyond = max(1, round(TAIL * len(reference)))
    return Survival(torch.tensor(reference)), sorted(reference)[-beyond - 1]


@given(references)
def test_below_the_tail_a_surprise_is_that_of_the_share_of_references_as_high(reference: list[float]) -> None:
    survival, highest = survival_and_tail(reference)
    scores = sorted({score + shift for score in reference for shift in (-0.5, 0, 0.5)})
    scores = [score for score in scores if score <= highest]
    shares = [sum(other >= score for other in reference) / len(reference) for score in scores]
    expected = torch.tensor([-math.log(share) for share in shares])
    torch.testing.assert_close(survival.surprise(torch.tensor(scores)), expected, rtol=1e-6, atol=1e-7)


@given(references, st.lists(st.floats(-(2.0**66), 2.0**66), min_size=2, max_size=30))
def test_a_higher_score_is_never_less_surprising(reference: list[float], scores: list[float]) -> None:
    survival, _ = survival_and_tail(reference)
    ordered = torch.tensor(sorted([*scores, *reference, *(score + 0.25 for score in reference)]))
    surprises = survival.surprise(ordered)
    assert surprises.isfinite().all()
    assert (surprises >= 0).all()
    assert (surprises.diff() >= 0).all()
    assert surprises[0] == 0


@given(st.floats(0.1, 1000), st.floats(-50, 50), st.integers(0, 999))
def test_beyond_the_references_the_surprise_grows_by_the_mean_excess(
    scale: float, shift: float, seed: int
) -> None:
    excess = torch.empty(3000, dtype=torch.float64).exponential_(
        generator=torch.Generator().manual_seed(seed)
    )
    reference = excess * scale + shift
    survival, highest = survival_and_tail(reference.tolist())
    tail = reference[reference > highest]
    assert len(tail) == 30
    slope = 1 / (tail.mean() - highest).item()
    far = reference.max() + scale * torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    expected = -math.log(TAIL) + slope * (far - highest)
    torch.testing.assert_close(survival.surprise(far).double(), expected, rtol=1e-4, atol=1e-4)


def test_of_exponential_scores_the_tail_goes_on_as_they_would() -> None:
    reference = torch.empty(200_000).exponential_(generator=torch.Generator().manual_seed(0))
    far = torch.tensor([2.0, 5.0, 8.0, 15.0])  # an exponential score x has the surprise x
    torch.testing.assert_close(Survival(reference).surprise(far), far, rtol=0.05, atol=0)


@pytest.mark.parametrize("reference", [[0.0] * 500, [1.0, 1.0, 1.0, 2.0], [3.0, 3.0]])
def test_references_that_are_alike_still_give_finite_surprises(reference: list[float]) -> None:
    surprises = Survival(torch.tensor(reference)).surprise(torch.tensor([-1.0, 0.0, 1.0, 3.0, 1e6]))
    assert surprises.isfinite().all()
    assert (surprises.diff() >= 0).all()


def test_what_is_not_a_number_is_no_surprise_but_stays_what_it_is() -> None:
    surprises = Survival(torch.arange(500.0)).surprise(torch.tensor([math.nan, 3.0, math.inf, -math.inf]))
    assert surprises.isnan().tolist() == [True, False, False, True]  # as −∞ it would be the most familiar
    assert surprises[2] == math.inf


@given(st.integers(0, 999))
def test_a_surprise_depends_on_its_image_alone(seed: int) -> None:
    scores = torch.randn(400, generator=torch.Generator().manual_seed(seed))
    survival = Survival(scores[:300])
    together = survival.surprise(scores)
    assert torch.cat([survival.surprise(one) for one in scores.split(1)]).equal(together)


def test_fishers_statistic_by_hand() -> None:
    fisher = Fisher(dict.fromkeys(("a", "b", "c"), torch.rand(10)))
    p_values = torch.tensor([[1.0, 0.5], [1.0, 0.1], [1.0, 0.2]])
    joined = fisher.joined(dict(zip("abc", -p_values.log(), strict=True)))
    torch.testing.assert_close(joined, torch.tensor([0.0, -2 * math.log(0.01)]))


def test_fishers_surprises_are_each_scores_own() -> None:
    generator = torch.Generator().manual_seed(0)
    reference = {name: torch.randn(150, generator=generator) for name in ("one", "two")}
    scores = {name: torch.randn(20, generator=generator) for name in ("two", "one", "unasked")}
    fisher = Fisher.fit(reference)
    surprises = fisher.surprises(scores)
    assert list(surprises) == ["one", "two"]
    for name, surprise in surprises.items():
        assert surprise.equal(Survival(reference[name]).surprise(scores[name]))
    assert fisher.joined(surprises).equal(2 * (surprises["one"] + surprises["two"]))


def test_fishers_statistic_of_independent_digits_is_chi_squared_with_6_degrees_of_freedom() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 20_000, generator=generator)
    fisher = Fisher(dict(zip("abc", scores[:3], strict=True)))
    joined = fisher.joined(fisher.surprises(dict(zip("abc", scores[3:], strict=True))))
    assert kstest(joined.numpy(), chi2(6).cdf).statistic < 0.02
    assert joined.mean().item() == pytest.approx(6, abs=0.15)


def test_the_total_is_taken_from_the_first_to_the_last() -> None:
    parts = [torch.tensor([value]) for value in (1e8, 1.0, -1e8, 1.0)]
    assert total(parts).item() == ((1e8 + 1.0) - 1e8) + 1.0 - 1.0  # 1e8 + 1 is 1e8 in single precision
    assert total(parts[::-1]).item() == 0


def test_fisher_comes_back_from_its_tensors() -> None:
    reference = {name: torch.randn(50) for name in ("a", "b")}
    fisher = Fisher.fit(reference)
    again = Fisher.from_tensors(fisher.tensors(), ("a", "b"))
    scores = {name: torch.randn(9) for name in ("a", "b")}
    surprises = fisher.surprises(scores)
    assert all(value.equal(again.surprises(scores)[name]) for name, value in surprises.items())
    assert again.joined(surprises).equal(fisher.joined(surprises))


@pytest.mark.parametrize(
    ("tensors", "names"),
    [
        ({}, ()),
        ({}, ("a",)),
        ({"a": torch.ones(3)}, ()),
        ({"a": torch.ones(3)}, ("b",)),
        ({"a": torch.ones(3)}, ("a", "b")),
        ({"a": torch.ones(3), "b": torch.ones(3)}, ("a",)),
        ({"a": torch.ones(3), "b": torch.ones(4)}, ("a", "b")),
        ({"a": torch.ones(1)}, ("a",)),
        ({"a": torch.ones(0)}, ("a",)),
        ({"a": torch.ones(())}, ("a",)),
        ({"a": torch.ones(2, 2)}, ("a",)),
        ({"a": torch.ones(3).half()}, ("a",)),
        ({"a": torch.ones(3).double()}, ("a",)),
        ({"a": torch.tensor([1, 2, 3])}, ("a",)),
        ({"a": torch.tensor([1, math.nan, 3])}, ("a",)),
        ({"a": torch.tensor([1, math.inf, 3])}, ("a",)),
    ],
)
def test_hostile_references_are_refused(tensors: Mapping[str, Tensor], names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"^the reference scores of training images are missing[^\n]*\.$"):
        Fisher.from_tensors(tensors, names)


class Strangest(Combination):
    """The greatest of the scores in units of their standard deviation."""

    name = "strangest"

    def __init__(self, reference: Named) -> None:
        self._reference = dict(reference)

    @classmethod
    def fit(cls, reference: Named) -> Self:
        return cls({name: torch.stack([one.mean(), one.std()]) for name, one in reference.items()})

    def surprises(self, scores: Named) -> dict[str, Tensor]:
        return {name: ((scores[name] - at[0]) / at[1]).clamp_min(0) for name, at in self._reference.items()}

    def joined(self, surprises: Named) -> Tensor:
        return torch.stack(list(surprises.values())).amax(0)

    def tensors(self) -> dict[str, Tensor]:
        return self._reference

    @classmethod
    def from_tensors(cls, tensors: Named, names: tuple[str, ...]) -> Self:
        return cls({name: tensors[name] for name in names})


def test_a_combination_added_in_one_place_goes_through_a_checkpoint(
    make_checkpoint: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(COMBINATIONS, "strangest", Strangest)
    sound = make_checkpoint()
    reference = {
        name.removeprefix("combination/"): value
        for name, value in sound.detector.items()
        if name.startswith("combination/")
    }
    fitted = {f"combination/{name}": value for name, value in Strangest.fit(reference).tensors().items()}
    checkpoint = make_checkpoint(
        parts=replace(sound.parts, combination="strangest"), detector={**sound.detector, **fitted}
    )
    classifier = Classifier(checkpoint)
    images = np.random.default_rng(0).random((5, 28, 28), np.float32)
    evidence = classifier.evidence(torch.from_numpy(images)[:, None])
    assert evidence.ood.equal(torch.stack(list(evidence.surprises.values())).amax(0))
    assert not evidence.ood.equal(Classifier(sound).evidence(torch.from_numpy(images)[:, None]).ood)
    classifier.save(tmp_path / "own.safetensors")
    again = Classifier.load(tmp_path / "own.safetensors")
    assert again.predict(images).plain() == classifier.predict(images).plain()


@pytest.mark.slow
def test_training_joins_scores_as_it_is_told_and_other_scores_are_joined_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(COMBINATIONS, "strangest", Strangest)
    trained = train(
        "digits",
        network="mlp",
        network_options={"hidden": 16},
        epochs=1,
        draws=3,
        rule="entropy",
        combination="strangest",
    )
    images = ImageSet.from_name("digits", limit=20)
    for classifier in (trained, trained.with_scores(EntropyScore(), reference=images)):
        assert classifier.parts.combination == "strangest"
        evidence = classifier.evidence(images.images)
        assert evidence.ood.equal(torch.stack(list(evidence.surprises.values())).amax(0))


def test_weighted_surprises_by_hand() -> None:
    weighted = Weighted.fit({name: torch.rand(10) for name in ("contrast", "mine")})
    joined = weighted.joined({"contrast": torch.tensor([1.0, 2.0]), "mine": torch.tensor([10.0, 0.0])})
    torch.testing.assert_close(joined, torch.tensor([11.0, 2.0]))
    reference = {name: torch.rand(10) for name in ("pixels", "contrast")}
    own = Weighted(reference, {"contrast": torch.tensor(3.0), "pixels": torch.tensor(0.5)})
    torch.testing.assert_close(
        own.joined({"contrast": torch.tensor([1.0]), "pixels": torch.tensor([4.0])}), torch.tensor([5.0])
    )


def test_weights_are_stored_and_those_that_are_none_are_refused() -> None:
    names = ("contrast", "entropy", "mine")
    weighted = Weighted.fit({name: torch.rand(10) for name in names})
    stored = weighted.tensors()
    surprises = {name: torch.rand(4) for name in names}
    assert Weighted.from_tensors(stored, names).joined(surprises).equal(weighted.joined(surprises))
    assert {name: stored[f"weight/{name}"].item() for name in names} == {
        name: pytest.approx(WEIGHTS.get(name, 1.0)) for name in names
    }
    for value in (torch.tensor(0.0), torch.tensor(-1.0), torch.tensor(math.nan), torch.ones(1), None):
        spoilt = {name: tensor for name, tensor in stored.items() if name != "weight/mine"}
        if value is not None:
            spoilt["weight/mine"] = value
        with pytest.raises(InputError, match="weights of the OOD scores"):
            Weighted.from_tensors(spoilt, names)
    with pytest.raises(InputError):
        Weighted.from_tensors(stored | {"weight/more": torch.tensor(1.0)}, names)
    with pytest.raises(InputError):
        Weighted.from_tensors(stored | {"more": torch.rand(10)}, names)


NAMES = ("contrast", "turned", "pixels")


def scores_of(count: int, seed: int, names: tuple[str, ...] = NAMES) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(count, generator=generator) for name in names}


def test_the_least_p_value_over_its_share_by_hand() -> None:
    reference, scores = scores_of(400, 0), scores_of(60, 1)
    joining = Bonferroni.fit(reference)
    surprises = joining.surprises(scores)
    each = {name: Survival(reference[name]) for name in NAMES}
    for name in NAMES:
        assert surprises[name].equal(each[name].surprise(scores[name]))
    of_reference = each["contrast"].surprise(reference["contrast"]) + WEIGHTS["pixels"] * each[
        "pixels"
    ].surprise(reference["pixels"])
    summed = Survival(of_reference).surprise(surprises["contrast"] + WEIGHTS["pixels"] * surprises["pixels"])
    share = SHARES["turned"]
    p_values = torch.stack([(-summed).exp() / (1 - share), (-surprises["turned"]).exp() / share])
    least = p_values.amin(0).clamp_max(1)
    torch.testing.assert_close(joining.joined(surprises), -least.log(), rtol=1e-5, atol=1e-6)
    by_itself = joining.decided_by("turned", surprises, joining.joined(surprises))
    assert by_itself.equal((p_values[1] <= p_values[0]) & (p_values[1] < 1))
    assert 0 < by_itself.sum() < len(by_itself)
    assert not joining.decided_by("contrast", surprises, joining.joined(surprises)).any()


@pytest.mark.parametrize("level", [0.01, 0.05, 0.2])
def test_no_more_is_refused_than_asked_and_by_each_part_no_more_than_its_share(level: float) -> None:
    joining = Bonferroni.fit(scores_of(100_000, 0))
    surprises = joining.surprises(scores_of(100_000, 1))
    refused = joining.joined(surprises) > -math.log(level)
    for_it = (
        (refused & joining.decided_by("turned", surprises, joining.joined(surprises))).float().mean().item()
    )
    error = 4 * math.sqrt(2 * level / 100_000)
    assert refused.float().mean().item() <= level + error
    assert refused.float().mean().item() >= 0.95 * level - error  # hardly less, of independent scores
    assert for_it <= SHARES["turned"] * level + error


def test_one_score_by_itself_dilutes_no_other() -> None:
    """Of the sum's order nothing changes, as far as the other has nothing to say."""
    reference = scores_of(500, 0)
    joining, weighted = Bonferroni.fit(reference), Weighted.fit({n: reference[n] for n in NAMES[::2]})
    scores = scores_of(200, 1) | {"turned": torch.full((200,), -9.0)}
    summed = weighted.joined(weighted.surprises(scores))
    joined = joining.joined(joining.surprises(scores))
    assert (joined[summed.argsort()].diff() >= 0).all()


def test_what_is_not_a_number_stays_so_and_is_decided_by_none() -> None:
    joining = Bonferroni.fit(scores_of(100, 0))
    for name in NAMES:
        surprises = joining.surprises(scores_of(5, 1)) | {name: torch.full((5,), math.nan)}
        assert joining.joined(surprises).isnan().all()
        assert not joining.decided_by("turned", surprises, joining.joined(surprises)).any()


@pytest.mark.parametrize("names", [NAMES, ("contrast", "pixels"), ("turned",), ("turned", "mine")])
def test_shares_are_stored_and_come_back(names: tuple[str, ...]) -> None:
    joining = Bonferroni.fit(scores_of(50, 0, names))
    again = Bonferroni.from_tensors(joining.tensors(), names)
    scores = scores_of(9, 1, names)
    surprises = joining.surprises(scores)
    assert {*surprises} == {*names}
    for name, surprise in again.surprises(scores).items():
        assert surprise.equal(surprises[name])
    assert again.joined(surprises).equal(joining.joined(surprises))
    for name in names:
        assert again.decided_by(name, surprises, again.joined(surprises)).equal(
            joining.decided_by(name, surprises, joining.joined(surprises))
        )


@pytest.mark.parametrize(
    "change",
    [
        {"share/turned": torch.tensor(0.0)},
        {"share/turned": torch.tensor(1.0)},
        {"share/turned": torch.tensor(-0.1)},
        {"share/turned": torch.tensor(math.nan)},
        {"share/turned": torch.ones(1)},
        {"share/turned": torch.tensor(0.1).double()},
        {"share/contrast": torch.tensor(0.1)},
        {"share/pixels": torch.tensor(0.9)},
        {"share/none": torch.tensor(0.1)},
        {"share/": torch.tensor(0.1)},
        {"weight/turned": torch.tensor(1.0)},
        {"turned": torch.rand(1)},
        {"turned": torch.rand(50, 2)},
        {"turned": torch.full((50,), math.inf)},
        {"turned": None},
        {"contrast": None},
        {"weight/contrast": None},
        {"more": torch.rand(50)},
    ],
)
def test_hostile_shares_are_refused(change: Mapping[str, Tensor | None]) -> None:
    spoilt = {**Bonferroni.fit(scores_of(50, 0)).tensors(), **change}
    with pytest.raises(InputError):
        Bonferroni.from_tensors({name: value for name, value in spoilt.items() if value is not None}, NAMES)
