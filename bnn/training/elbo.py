"""The objective: the evidence lower bound (ELBO), its two terms kept apart.

A new way to estimate it is one class and one name in `ELBOS`.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from bnn.training.estimators import Estimator, Flipped, LocallyReparameterized, UndrawnNormal
from bnn.training.joint import joint_divergence, opposite
from bnn.training.pyro_private import LeanMeanFieldELBO, traces, with_values


class MeanFieldELBO(LeanMeanFieldELBO):
    """ELBO of a mean-field guide: KL in closed form if there is one, likelihood under a gradient estimator.

    Model and guide run under an `Estimator`.

    Args:
        undrawn: the estimator's tensor class; None draws the weights, once a mini-batch.
    """

    def __init__(self, undrawn: type[UndrawnNormal] | None = LocallyReparameterized) -> None:
        super().__init__()
        self.undrawn = undrawn

    def handler(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.undrawn is None else Estimator(self.undrawn)

    def terms(self, model: Any, guide: Any, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(NLL, KL) of the whole training set in nats, scalars that carry gradients.

        −ELBO = NLL + KL, with NLL = −E_q log p(labels | images, weights) estimated from the mini-batch
        and one noise sample, and KL = KL(q ‖ prior) exact, or from one draw where it has no closed form.
        """
        model_trace, guide_trace = traces(self, model, guide, images, labels)
        return _nll(model_trace), _kl(model_trace, guide_trace)


class AntitheticELBO(MeanFieldELBO):
    """As that, its weights drawn in pairs, loc ± scale · noise, each for one half of the mini-batch.

    An image still meets one network, and a step takes hardly longer; but what is odd in the noise cancels in
    the mean over the halves, and with it most of what the draw does to the gradient. Hammersley & Morton
    1956, "A new Monte Carlo technique: antithetic variates". Weights that are not Normal are drawn once.
    """

    def __init__(self) -> None:
        super().__init__(None)

    def terms(self, model: Any, guide: Any, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(NLL, KL) as there, the NLL estimated from the mini-batch and a pair of noise samples."""
        guide_trace = poutine.trace(guide).get_trace(images, labels)
        pair = [guide_trace, *_opposite(guide_trace)]
        halves = zip(images.chunk(len(pair)), labels.chunk(len(pair)), strict=True)
        seen = zip(pair, halves, strict=False)  # a single image makes no second half
        each = [(len(half[0]), self.replayed(model, drawn, *half)) for drawn, half in seen]
        nll = torch.stack([count / len(images) * _nll(model_trace) for count, model_trace in each]).sum()
        return nll, _kl(each[0][1], guide_trace)


class SampledELBO(Trace_ELBO):
    """Pyro's `Trace_ELBO` with its terms kept apart: the weights are drawn, and the KL is sampled."""

    def terms(self, model: Any, guide: Any, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(NLL, KL) of the whole training set in nats, both estimated from one draw of the weights."""
        model_trace, guide_trace = traces(self, model, guide, images, labels)
        log_ratios = [
            guide_trace.nodes[name]["log_prob_sum"] - site["log_prob_sum"]
            for name, site in _latent(model_trace).items()
        ]
        return _nll(model_trace), torch.stack([*log_ratios, *_factors(guide_trace)]).sum()


def _kl(model_trace: Trace, guide_trace: Trace) -> Tensor:
    """KL(guide ‖ prior) in nats: in closed form, or from the draw where there is none."""
    sites = {name: (guide_trace.nodes[name]["fn"], site) for name, site in _latent(model_trace).items()}
    normals = {name: (q, site["fn"]) for name, (q, site) in sites.items() if _are_normal(q, site["fn"])}
    divergences = [
        _divergence(q, site["fn"], site["value"]) for name, (q, site) in sites.items() if name not in normals
    ]
    if normals:
        divergences.append(joint_divergence(*zip(*normals.values(), strict=True)))
    return torch.stack([*divergences, *_factors(guide_trace)]).sum()


def _opposite(guide_trace: Trace) -> list[Trace]:
    """The trace with its Normal weights on the other side of their means; none where there are no such."""
    normals = {name: site for name, site in _latent(guide_trace).items() if _are_normal(site["fn"])}
    values = {name: opposite(site["fn"].base_dist, site["value"]) for name, site in normals.items()}
    return [with_values(guide_trace, values)] if values else []


def _are_normal(*distributions: Any) -> bool:
    return all(
        isinstance(one, dist.Independent) and isinstance(one.base_dist, dist.Normal) for one in distributions
    )


def _divergence(fitted: Any, prior: Any, value: Tensor) -> Tensor:
    """KL(fitted ‖ prior) in closed form, or where there is none by `value`, a draw from `fitted`."""
    try:
        return kl_divergence(cast(Distribution, fitted), cast(Distribution, prior))
    except NotImplementedError:
        drawn = value.draw() if isinstance(value, UndrawnNormal) else value
        log_ratio: Tensor = fitted.log_prob(drawn) - prior.log_prob(drawn)
        return log_ratio


def _factors(guide_trace: Trace) -> list[Tensor]:
    """What a guide adds to its log-density besides its sites'."""
    return [cast(Any, guide_trace.nodes[name]["fn"]).log_factor for name in guide_trace.observation_nodes]


def _latent(trace: Trace) -> dict[str, Any]:
    return {name: trace.nodes[name] for name in trace.stochastic_nodes}


def _nll(trace: Trace) -> Tensor:
    return -torch.stack([trace.nodes[name]["log_prob_sum"] for name in trace.observation_nodes]).sum()


ELBOS: Mapping[str, Callable[[], MeanFieldELBO | SampledELBO]] = {
    "antithetic": AntitheticELBO,
    "local": lambda: MeanFieldELBO(LocallyReparameterized),
    "flipout": lambda: MeanFieldELBO(Flipped),
    "weights": lambda: MeanFieldELBO(None),
    "trace": SampledELBO,
}
