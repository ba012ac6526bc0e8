"""From a checkpoint's tensors, which anyone may have made, to what decides: checked, then built."""

from collections.abc import Mapping

import torch
from torch import Tensor

from bnn.core.checkpoint import Checkpoint
from bnn.core.ensemble import PredictiveEnsemble, draw_weights
from bnn.core.networks import IMAGE_SIZE, NUM_CLASSES, DigitNetwork, build_network
from bnn.errors import InputError
from bnn.ood.density import ClassDensity
from bnn.ood.familiarity import Evidence, Familiarity, Scorer, Scores
from bnn.rules.abstention import Calibration

MAX_WEIGHTS = 1_000_000_000  # in all draws together (4 GB): a header cannot make us allocate more

Shape = tuple[int, ...]


def ensemble_of(checkpoint: Checkpoint, draws: int, seed: int) -> PredictiveEnsemble:
    """The ensemble of so many `draws` from the checkpoint's posterior.

    Raises:
        InputError: its tensors are not those of its network, or `draws` or `seed` is out of its range.
    """
    if draws < 1:
        raise InputError(f"the number of draws must be at least 1, and {draws} is not.")
    if not 0 <= seed < 2**63:
        raise InputError(f"the seed must be at least 0 and below 2^63, and {seed} is not.")
    network = _network(checkpoint)
    shapes = {name: value.shape for name, value in network.named_parameters()}
    components = _components(checkpoint)
    stacked: dict[str, Shape] = {name: (components, *shape) for name, shape in shapes.items()}
    if not (
        components
        and _are(checkpoint.loc, stacked, torch.float16)
        and _are(checkpoint.scale, stacked, torch.float16)
        and all((value >= 0).all() for value in checkpoint.scale.values())
    ):
        raise InputError(
            f"the checkpoint's tensors are not those of its network {checkpoint.network!r}: "
            "take another copy of the file."
        )
    most = MAX_WEIGHTS // sum(shape.numel() for shape in shapes.values())
    if draws > most:
        raise InputError(f"{draws} draws of this network do not fit in memory: at most {most} do.")
    return PredictiveEnsemble(network, draw_weights(checkpoint.loc, checkpoint.scale, draws, seed))


def familiarity_of(checkpoint: Checkpoint) -> Familiarity:
    """The densities of the checkpoint, and its training digits' scores under them.

    Raises:
        InputError: they are missing or do not fit together.
    """
    network, components = _network(checkpoint), _components(checkpoint)
    width = network.feature_size
    groups: dict[str, dict[str, Tensor]] = {"pixels": {}, "features": {}, "reference": {}}
    for key, tensor in checkpoint.familiarity.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = tensor
    count = groups["reference"].get("entropy", torch.empty(0)).numel()
    if not (
        len(groups) == 3
        and count >= 2
        and _are(groups["reference"], dict.fromkeys(("entropy", "pixel", "feature"), (count,)))
        and _is_density(groups["pixels"], (), IMAGE_SIZE * IMAGE_SIZE)
        and _is_density(groups["features"], (components,), width)
    ):
        raise InputError(
            "the checkpoint holds no usable densities of digits: make it again with `bnn train`."
        )
    pixels = ClassDensity(**{name: tensor.float() for name, tensor in groups["pixels"].items()})
    features = [
        ClassDensity(**{name: tensor[m].float() for name, tensor in groups["features"].items()})
        for m in range(components)
    ]
    loc = {name: tensor.float() for name, tensor in checkpoint.loc.items()}
    return Familiarity(Scorer(network, loc, pixels, features), Scores(**groups["reference"]))


def calibration_of(checkpoint: Checkpoint) -> Calibration:
    """What was known of the checkpoint's calibration digits, and what they are.

    Raises:
        InputError: it is missing or does not fit together.
    """
    tensors = dict(checkpoint.calibration)
    labels = tensors.pop("labels", torch.empty(0))
    entropies = tensors.pop("entropies", torch.empty(0, 0))
    n = labels.numel()
    shapes: dict[str, Shape] = dict.fromkeys(("mean", "median"), (n, NUM_CLASSES))
    shapes |= dict.fromkeys(("total", "aleatoric", "epistemic"), (n,))
    shapes |= dict.fromkeys(("entropy_surprise", "pixel_surprise", "feature_surprise"), (n,))
    if not (
        n
        and labels.shape == (n,)
        and labels.dtype == torch.int64
        and ((labels >= 0) & (labels < NUM_CLASSES)).all()
        and _are(tensors, shapes)
        and entropies.numel()
        and _are({"entropies": entropies}, {"entropies": (entropies.numel(),)})
    ):
        raise InputError(
            "the checkpoint holds no usable calibration evidence: make it again with `bnn train`."
        )
    return Calibration(Evidence(**tensors), labels, entropies)


def _network(checkpoint: Checkpoint) -> DigitNetwork:
    with torch.device("meta"):  # shapes only: a header cannot make us allocate
        return build_network(checkpoint.network, checkpoint.network_options)


def _components(checkpoint: Checkpoint) -> int:
    first = next(iter(checkpoint.loc.values()), torch.empty(0))
    return len(first) if first.ndim else 0


def _is_density(tensors: Mapping[str, Tensor], leading: Shape, size: int) -> bool:
    """Whether `tensors` are a `ClassDensity`'s over vectors of `size`, each with dimensions `leading` it."""
    basis = tensors.get("basis", torch.empty(0))
    if basis.ndim != len(leading) + 4:
        return False
    classes, components, rank = basis.shape[-4:-1]
    small = {name: tensors[name] for name in tensors if name not in ("mean", "basis")}
    large = {name: tensors[name] for name in tensors if name in ("mean", "basis")}
    return (
        min(classes, components, rank) > 0
        and classes == NUM_CLASSES
        and _are(
            small,
            {
                "log_weight": (*leading, classes, components),
                "variance": (*leading, classes, components, rank),
                "noise": (*leading, classes, components),
            },
        )
        and _are(
            large,
            {
                "mean": (*leading, classes, components, size),
                "basis": (*leading, classes, components, rank, size),
            },
            torch.float16,
        )
        and bool((small["variance"] > 0).all() and (small["noise"] > 0).all())
    )


def _are(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, Shape], dtype: torch.dtype = torch.float32
) -> bool:
    """Whether `tensors` are of these `shapes` and of `dtype`, without NaN or infinite values."""
    return {name: tuple(value.shape) for name, value in tensors.items()} == shapes and all(
        value.dtype == dtype and bool(value.isfinite().all()) for value in tensors.values()
    )
