"""The objective: the evidence lower bound (ELBO), its two terms kept apart.

A new way to estimate it is one class and one name in `ELBOS`.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from bnn.training.estimators import Estimator, Flipped, LocallyReparameterized, UndrawnNormal
from bnn.training.joint import joint_divergence
from bnn.training.pyro_private import LeanMeanFieldELBO, traces


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
        sites = {name: (guide_trace.nodes[name]["fn"], site) for name, site in _latent(model_trace).items()}
        normals = {name: (q, site["fn"]) for name, (q, site) in sites.items() if _are_normal(q, site["fn"])}
        divergences = [
            _divergence(q, site["fn"], site["value"])
            for name, (q, site) in sites.items()
            if name not in normals
        ]
        if normals:
            divergences.append(joint_divergence(*zip(*normals.values(), strict=True)))
        return _nll(model_trace), torch.stack([*divergences, *_factors(guide_trace)]).sum()


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
    "local": lambda: MeanFieldELBO(LocallyReparameterized),
    "flipout": lambda: MeanFieldELBO(Flipped),
    "weights": lambda: MeanFieldELBO(None),
    "trace": SampledELBO,
}
