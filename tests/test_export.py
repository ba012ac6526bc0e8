"""The export to ArviZ: each chain is one component's draws, and says of itself what it is."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnn.classifier import Classifier
from bnn.core.checkpoint import Checkpoint
from bnn.core.networks import NETWORKS, build_network
from bnn.core.posterior import MeanField, Mixture, Samples
from bnn.core.task import DIGITS
from bnn.errors import InputError
from bnn.export import dimensions, inference_data

MakeCheckpoint = Callable[..., Checkpoint]
DRAWS = 40


@pytest.fixture(scope="module")
def arviz() -> Any:
    return pytest.importorskip("arviz", reason="ArviZ, which is optional, is not installed")


def components(classifier: Classifier) -> list[MeanField]:
    found = [component for component in classifier.posterior.components if isinstance(component, MeanField)]
    assert len(found) == len(classifier.posterior.components) == 2
    return found


def of_components(checkpoint: Checkpoint, components: list[MeanField]) -> Checkpoint:
    return replace(checkpoint, posterior=Mixture(components).tensors())


@pytest.fixture(scope="module")
def classifier(make_checkpoint: MakeCheckpoint) -> Classifier:
    """Two components, of which no two parameters have one scale."""
    checkpoint = make_checkpoint(record={"config": {"beta": 0.25}})
    generator = torch.Generator().manual_seed(1)
    wide = [
        MeanField(
            one.loc,
            {name: 0.05 + torch.rand(value.shape, generator=generator) for name, value in one.loc.items()},
        )
        for one in components(Classifier(checkpoint))
    ]
    return Classifier(of_components(checkpoint, wide))


@pytest.mark.usefixtures("arviz")
def test_variables_have_a_chain_for_each_component_and_named_dimensions(classifier: Classifier) -> None:
    posterior = inference_data(classifier, DRAWS)["posterior"]
    shapes = {name: tuple(value.shape) for name, value in classifier.network.named_parameters()}
    assert set(posterior.data_vars) == set(shapes)
    assert posterior["hidden.weight"].dims == ("chain", "draw", "hidden_out", "hidden_in")
    assert posterior["hidden.bias"].dims == ("chain", "draw", "hidden_out")
    for name, shape in shapes.items():
        assert posterior[name].shape == (2, DRAWS, *shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_networks_parameters_have_a_name_for_each_dimension(name: str) -> None:
    sizes: dict[str, int] = {}
    for parameter, value in build_network(name, {}, DIGITS).named_parameters():
        axes = dimensions(parameter, value.ndim)
        assert len(set(axes)) == value.ndim
        for axis, size in zip(axes, value.shape, strict=True):
            assert sizes.setdefault(axis, size) == size  # one name, one meaning


@pytest.mark.usefixtures("arviz")
def test_moments_are_the_components_loc_and_scale(classifier: Classifier) -> None:
    """Standardised by loc and scale, a chain's draws are N standard Normals: of mean 0 and variance 1."""
    posterior = inference_data(classifier, DRAWS)["posterior"]
    for m, component in enumerate(components(classifier)):
        for name, loc in component.loc.items():
            centre, spread = loc.float().numpy(), component.scale[name].float().numpy()
            chain = (posterior[name].to_numpy()[m] - centre) / spread
            assert abs(chain.mean()) < 4 / np.sqrt(chain.size)
            assert abs((chain**2).mean() - 1) < 4 * np.sqrt(2 / chain.size)


@pytest.mark.usefixtures("arviz")
def test_the_chains_are_the_ensembles_draws_each_with_its_component(classifier: Classifier) -> None:
    posterior = inference_data(classifier, DRAWS, seed=3)["posterior"]
    for name, drawn in classifier.posterior.sample(2 * DRAWS, 3).items():
        for chain in range(2):
            assert np.array_equal(posterior[name][chain], drawn[chain::2].numpy())


@pytest.mark.usefixtures("arviz")
def test_without_spread_every_draw_of_a_chain_is_its_components_loc(classifier: Classifier) -> None:
    still = [
        MeanField(one.loc, {name: torch.zeros_like(value) for name, value in one.scale.items()})
        for one in components(classifier)
    ]
    fixed = Classifier(of_components(classifier.checkpoint(), still))
    posterior = inference_data(fixed, 3)["posterior"]
    for m, component in enumerate(still):
        for name, loc in component.loc.items():
            assert (posterior[name].to_numpy()[m] == loc.float().numpy()).all()


@pytest.mark.usefixtures("arviz")
def test_a_posterior_that_is_no_mixture_is_one_chain(classifier: Classifier) -> None:
    checkpoint, alone = classifier.checkpoint(), components(classifier)[0]
    features = {
        name: value[:1] if name.startswith("score/features") else value
        for name, value in checkpoint.detector.items()
    }
    parts = replace(checkpoint.parts, posterior=alone.name)
    single = Classifier(replace(checkpoint, parts=parts, posterior=alone.tensors(), detector=features))
    posterior = inference_data(single, DRAWS, seed=3)["posterior"]
    for name, drawn in alone.sample(DRAWS, 3).items():
        assert np.array_equal(posterior[name], drawn[None].numpy())


@pytest.mark.usefixtures("arviz")
def test_the_seed_decides_the_draws(classifier: Classifier) -> None:
    first, same, other = (inference_data(classifier, DRAWS, seed)["posterior"] for seed in (5, 5, 6))
    assert first.equals(same)
    assert not first.equals(other)


@pytest.mark.usefixtures("arviz")
def test_it_says_what_it_is(classifier: Classifier, make_checkpoint: MakeCheckpoint) -> None:
    told = inference_data(classifier, 2, seed=9)["posterior"].attrs
    assert (told["network"], told["beta"], told["seed"]) == ("mlp", 0.25, 9)
    assert "SVI" in told["inference_method"]
    assert "not whether a sampler converged" in told["note"]
    sampled = replace(
        make_checkpoint(),
        posterior=Mixture(
            [
                Samples({name: value[None] for name, value in one.mean().items()})
                for one in components(classifier)
            ]
        ).tensors(),
        record={"config": {"guide": "sghmc"}},
    )
    told = inference_data(Classifier(sampled), 2)["posterior"].attrs
    assert "Monte Carlo" in told["inference_method"]
    assert "R-hat between chains says whether they agree" in told["note"]
    silent = inference_data(Classifier(make_checkpoint()), 2)["posterior"].attrs  # whose record tells none
    assert "beta" not in silent


def test_a_netcdf_file_gives_it_back(classifier: Classifier, arviz: Any, tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf", reason="h5netcdf, which writes netCDF, is not installed")
    written = inference_data(classifier, DRAWS)
    written.to_netcdf(str(tmp_path / "draws.nc"))
    read = arviz.from_netcdf(str(tmp_path / "draws.nc"))
    assert read["posterior"].equals(written["posterior"])
    assert read["posterior"].attrs == written["posterior"].attrs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "the number of draws must be at least 1, and 0 is not"),
        ({"draws": -3}, "the number of draws must be at least 1, and -3 is not"),
        ({"seed": -1}, "the seed must be at least 0"),
        ({"draws": 10**9}, "do not fit in memory"),
    ],
)
def test_impossible_draws_and_seeds_are_refused(
    classifier: Classifier, options: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        inference_data(classifier, **options)


def test_without_arviz_it_says_what_to_install(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "arviz", None)  # Python's own sign for: cannot be imported
    with pytest.raises(InputError, match="pip install"):
        inference_data(classifier, draws=1)
