"""The export to ArviZ: each chain is one component's draws, and says of itself what it is."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnn.core.checkpoint import Checkpoint
from bnn.core.ensemble import draw_weights
from bnn.core.export import dimensions, inference_data
from bnn.core.networks import NETWORKS, build_network
from bnn.errors import InputError

MakeCheckpoint = Callable[..., Checkpoint]
DRAWS = 40


@pytest.fixture(scope="module")
def arviz() -> Any:
    return pytest.importorskip("arviz", reason="ArviZ, which is optional, is not installed")


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint: MakeCheckpoint) -> Checkpoint:
    """Two components, of which no two parameters have one scale."""
    sound = make_checkpoint()
    generator = torch.Generator().manual_seed(1)
    scale = {
        name: (0.05 + torch.rand(value.shape, generator=generator)).half()
        for name, value in sound.loc.items()
    }
    return make_checkpoint(scale=scale, record={"config": {"beta": 0.25}})


@pytest.mark.usefixtures("arviz")
def test_variables_have_a_chain_for_each_component_and_named_dimensions(checkpoint: Checkpoint) -> None:
    posterior = inference_data(checkpoint, DRAWS)["posterior"]
    assert set(posterior.data_vars) == set(checkpoint.loc)
    assert posterior["hidden.weight"].dims == ("chain", "draw", "hidden_out", "hidden_in")
    assert posterior["hidden.bias"].dims == ("chain", "draw", "hidden_out")
    for name, loc in checkpoint.loc.items():
        assert posterior[name].shape == (len(loc), DRAWS, *loc.shape[1:])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_networks_parameters_have_a_name_for_each_dimension(name: str) -> None:
    sizes: dict[str, int] = {}
    for parameter, value in build_network(name).named_parameters():
        axes = dimensions(parameter, value.ndim)
        assert len(set(axes)) == value.ndim
        for axis, size in zip(axes, value.shape, strict=True):
            assert sizes.setdefault(axis, size) == size  # one name, one meaning


@pytest.mark.usefixtures("arviz")
def test_moments_are_the_components_loc_and_scale(checkpoint: Checkpoint) -> None:
    """Standardised by loc and scale, a chain's draws are N standard Normals: of mean 0 and variance 1."""
    posterior = inference_data(checkpoint, DRAWS)["posterior"]
    for name, loc in checkpoint.loc.items():
        centre, spread = loc.float().numpy()[:, None], checkpoint.scale[name].float().numpy()[:, None]
        for chain in (posterior[name].to_numpy() - centre) / spread:
            assert abs(chain.mean()) < 4 / np.sqrt(chain.size)
            assert abs((chain**2).mean() - 1) < 4 * np.sqrt(2 / chain.size)


@pytest.mark.usefixtures("arviz")
def test_the_chains_are_the_ensembles_draws_each_with_its_component(checkpoint: Checkpoint) -> None:
    posterior = inference_data(checkpoint, DRAWS, seed=3)["posterior"]
    components = len(checkpoint.loc["out.bias"])
    for name, drawn in draw_weights(checkpoint.loc, checkpoint.scale, components * DRAWS, 3).items():
        for chain in range(components):
            assert np.array_equal(posterior[name][chain], drawn[chain::components].numpy())


@pytest.mark.usefixtures("arviz")
def test_without_spread_every_draw_of_a_chain_is_its_components_loc(checkpoint: Checkpoint) -> None:
    still = {name: torch.zeros_like(value) for name, value in checkpoint.scale.items()}
    fixed = Checkpoint(**{**vars(checkpoint), "scale": still})
    posterior = inference_data(fixed, 3)["posterior"]
    for name, loc in checkpoint.loc.items():
        assert (posterior[name].to_numpy() == loc.float().numpy()[:, None]).all()


@pytest.mark.usefixtures("arviz")
def test_the_seed_decides_the_draws(checkpoint: Checkpoint) -> None:
    first, same, other = (inference_data(checkpoint, DRAWS, seed)["posterior"] for seed in (5, 5, 6))
    assert first.equals(same)
    assert not first.equals(other)


@pytest.mark.usefixtures("arviz")
def test_it_says_what_it_is(checkpoint: Checkpoint, make_checkpoint: MakeCheckpoint) -> None:
    told = inference_data(checkpoint, 2, seed=9)["posterior"].attrs
    assert (told["network"], told["beta"], told["seed"]) == ("mlp", 0.25, 9)
    assert "SVI" in told["inference_method"]
    assert "not whether a sampler converged" in told["note"]
    assert "beta" not in inference_data(make_checkpoint(), 2)["posterior"].attrs  # whose record tells none


def test_a_netcdf_file_gives_it_back(checkpoint: Checkpoint, arviz: Any, tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf", reason="h5netcdf, which writes netCDF, is not installed")
    written = inference_data(checkpoint, DRAWS)
    written.to_netcdf(str(tmp_path / "draws.nc"))
    read = arviz.from_netcdf(str(tmp_path / "draws.nc"))
    assert read["posterior"].equals(written["posterior"])
    assert read["posterior"].attrs == written["posterior"].attrs


def test_no_draws_are_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="at least 1, and 0 is not"):
        inference_data(checkpoint, draws=0)


def test_without_arviz_it_says_what_to_install(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "arviz", None)  # Python's own sign for: cannot be imported
    with pytest.raises(InputError, match="pip install"):
        inference_data(checkpoint, draws=1)
