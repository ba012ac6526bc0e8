"""What is private of Pyro, or promised by no word of its documentation, and must be used.

Read in Pyro 1.9.2. With another version, see whether each still is what it is taken for:

- `Trace_ELBO._get_trace`, which runs a guide and a model for every estimate (infer/trace_elbo.py), and which
  `TraceMeanField_ELBO` overrides;
- `prune_subsample_sites`, by which that ends (poutine/util.py);
- `Messenger._pyro_sample`, called for every sample site, and the fields "fn", "value", "done" and
  "is_observed" of its message (poutine/messenger.py).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor


class LeanMeanFieldELBO(TraceMeanField_ELBO):
    """Pyro's `TraceMeanField_ELBO` without every weight's log-density, which it evaluates for nothing."""

    def handler(self) -> AbstractContextManager[Any]:
        """The effect handler under which model and guide run: none."""
        return nullcontext()

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
        with self.handler():
            guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
            replayed = poutine.replay(model, trace=guide_trace)
            model_trace = poutine.trace(replayed).get_trace(*args, **kwargs)
        model_trace.compute_log_prob(lambda _, site: site["is_observed"])
        return prune_subsample_sites(model_trace), prune_subsample_sites(guide_trace)


def traces(elbo: Trace_ELBO, model: Any, guide: Any, *args: Tensor) -> tuple[Trace, Trace]:
    """The model's and the guide's trace from which `elbo` makes one estimate."""
    return elbo._get_trace(model, guide, args, {})


class ValuesInstead(Messenger):
    """Effect handler under which latent sample sites take a value of ours instead of a draw.

    Args:
        value: of a site with that distribution; None draws as usual.
    """

    def __init__(self, value: Callable[[Any], Tensor | None]) -> None:
        super().__init__()
        self._value = value

    def _pyro_sample(self, msg: Any) -> None:
        if msg["done"] or msg["is_observed"]:
            return
        value = self._value(msg["fn"])
        if value is not None:
            msg["value"], msg["done"] = value, True
