"""The posterior's draws as an ArviZ `InferenceData`, for its plots, tables and files."""

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bnn.classifier import Classifier, require_drawable
from bnn.core.posterior import Samples
from bnn.errors import InputError

if TYPE_CHECKING:
    import arviz

AXES = ("out", "in", "row", "column")  # of a layer's weight; its bias has the first alone
METHODS = {  # by the guide; the others are variational
    "map": "maximum a posteriori (MAP)",
    "swag": "stochastic weight averaging, Gaussian (SWAG)",
    "laplace": "Laplace's approximation of the last layer",
    "sghmc": "stochastic-gradient Hamiltonian Monte Carlo",
    "nuts": "Hamiltonian Monte Carlo (NUTS)",
}
WARNING = (
    "Each chain is one component of a mixture. R-hat between chains says how differently the components were "
    "fitted, not whether a sampler converged; within a chain draws are independent."
)
SAMPLED = (
    "Each chain is one component: networks that a sampler kept, in random order, and again from the first "
    "where more are asked for than it kept. R-hat between chains says whether they agree; an effective "
    "sample size goes by the order, and says nothing here."
)


def inference_data(classifier: Classifier, draws: int = 100, seed: int = 0) -> "arviz.InferenceData":
    """Networks drawn from the classifier's posterior, as an ArviZ posterior group.

    Every parameter is a variable of the group, of dimensions chain, draw and its own: `out.weight` has
    `out_out` and `out_in`, which `out.bias` shares; a convolution's weight has `conv1_row` and
    `conv1_column` too. Chain m is the mixture's component m. Together the M chains are the ensemble of
    `Classifier.load(path, draws=M * draws, seed=seed)`. Networks have many weights: 100 draws of each of the
    shipped classifier's six components fill half a gigabyte.

    Args:
        classifier: whose posterior is drawn from.
        draws: how many of each component.
        seed: of the draws; the same seed gives the same draws.

    Raises:
        InputError: ArviZ is not installed, `draws` or `seed` is out of its range, or the draws do not fit in
            memory.
    """
    components = len(classifier.posterior.components)
    require_drawable(draws, seed, classifier.network, components)
    weights = classifier.posterior.sample(components * draws, seed)
    # Draw s is component s mod M's: rows of M draws, turned so that a chain holds one component's.
    chains = {
        name: value.unflatten(0, (draws, components)).transpose(0, 1).numpy()
        for name, value in weights.items()
    }
    return _arviz().from_dict(
        posterior=chains,
        dims={name: dimensions(name, value.ndim - 2) for name, value in chains.items()},
        posterior_attrs=_attributes(classifier, seed),
    )


def dimensions(name: str, count: int) -> list[str]:
    """Names of the `count` dimensions of the parameter `name`: those of `out.bias` are `["out_out"]`."""
    layer = name.rpartition(".")[0]
    return [f"{layer}_{axis}" for axis in AXES[:count]]


def _attributes(classifier: Classifier, seed: int) -> Mapping[str, Any]:
    """What a reader of the file must know, as values that netCDF can hold."""
    config = classifier.record.get("config", {})
    attributes = {
        "network": classifier.parts.network,
        "beta": config.get("beta"),
        "seed": seed,
        "inference_method": METHODS.get(config.get("guide"), "stochastic variational inference (SVI)"),
        "note": SAMPLED if isinstance(classifier.posterior.components[0], Samples) else WARNING,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _arviz() -> ModuleType:
    try:
        import arviz
    except ImportError as error:
        raise InputError(
            "ArviZ, in whose form the draws are handed over, is not installed: get it by "
            "`pip install 'arviz<1'`."
        ) from error
    return arviz
