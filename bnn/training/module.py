"""Stochastic variational inference as a Lightning module."""

from typing import Any

import pyro
import pytorch_lightning as pl
import torch
from pyro import poutine
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from bnn.core.posterior import MeanField
from bnn.errors import InputError, choose
from bnn.training.config import TrainConfig
from bnn.training.elbo import ELBOS
from bnn.training.guides import GUIDES
from bnn.training.lightning_private import is_logged
from bnn.training.memory import keep_freed_memory
from bnn.training.model import BayesianNeuralNetwork
from bnn.training.prior import PRIORS

MONITOR_DRAWS = 2  # networks drawn to watch the calibration digits between epochs


class DivergedError(Exception):
    """The loss is no longer a finite number."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the training diverged at step {step}: lower the learning rate, lr.")


class SVIModule(pl.LightningModule):
    """Fits a guide to a `BayesianNeuralNetwork` by gradient descent on the tempered negative ELBO.

    The loss is NLL + beta · KL per datum, in nats, where beta rises linearly from 0 to
    `config.beta` over `config.kl_warmup` of the steps. Adam under the one-cycle schedule (Smith & Topin
    2018): the learning rate rises over the first tenth of the steps and falls to nothing at the last. A guide
    may take its steps, and vary its rate, in another way.

    Over the first `config.warm_start` of the steps the loss is the NLL of the network at the guide's
    locations, that of a plain network, and the scales stay as they start: such a step takes less time. MOPED
    starts its posterior at a plain network's weights, too (Krishnan, Subedar & Tickoo 2020, "Specifying
    weight priors in Bayesian deep neural networks with empirical Bayes").

    Args:
        config: what to train.
        network: a plain module, images (N, 1, 28, 28) to logits (N, C).
        n_train: number of training images (of all ranks together).
        prior: of the weights, and where the guide starts: the posterior given other images, which is
            updated. None for the priors of `config`, and the guide's own start.
    """

    def __init__(
        self, config: TrainConfig, network: nn.Module, n_train: int, *, prior: MeanField | None = None
    ) -> None:
        super().__init__()
        self.save_hyperparameters({"config": config.plain(), "n_train": n_train})
        self.config = config
        family = choose(PRIORS, config.prior, "prior")
        self.model = BayesianNeuralNetwork(network, n_train, config.prior_scale, prior=prior, family=family)
        self.guide = choose(GUIDES, config.guide, "guide")(network)
        if prior is not None:
            self.guide.start_at(prior)
        self.elbo = choose(ELBOS, config.estimator, "estimator")()

    def on_fit_start(self) -> None:
        keep_freed_memory()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint["state_dict"].keys() != self.state_dict().keys():
            raise InputError(
                "the run was begun by another version of bnn, with other parameters: start another run."
            )

    def beta(self) -> float:
        """The weight of the KL term at the current step."""
        warmup = self.config.kl_warmup * self.trainer.estimated_stepping_batches
        return self.config.beta * min(1.0, (self.global_step + 1) / max(warmup, 1.0))

    def is_warming(self) -> bool:
        """Whether the locations alone are trained at the current step."""
        steps = self.config.warm_start * self.trainer.estimated_stepping_batches
        return self.guide.has_width and self.global_step < steps

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        # Faster convolutions and pooling; `contiguous` would leave a single channel as it lies.
        images = images.to(memory_format=torch.channels_last)
        loss_of = self._plain_loss if self.is_warming() else self._negative_elbo
        with pyro.validation_enabled(False):  # of arguments that are right by construction
            loss = loss_of(images, labels)
        if not loss.isfinite():
            raise DivergedError(self.global_step)
        return loss

    def _plain_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """NLL per datum of the network at the guide's locations, in nats."""
        nll = self.model.nll_at(self.guide.locations(), images, labels)
        self._log({"nll": nll})
        # So that every parameter has a gradient: processes that train together wait for each.
        return nll + 0.0 * torch.stack([value.sum() for value in self.parameters()]).sum()

    def _negative_elbo(self, images: Tensor, labels: Tensor) -> Tensor:
        """NLL + beta · KL per datum, in nats."""
        terms = self.elbo.terms(self.model, self.guide, images, labels)
        nll, kl = (term / self.model.n_train for term in terms)
        self._log({"nll": nll, "kl": kl})
        loss: Tensor = nll + self.beta() * kl
        return loss

    def _log(self, terms: dict[str, Tensor]) -> None:
        if is_logged(self.trainer):  # what nobody would keep takes time all the same
            self.log_dict(terms, prog_bar=True, on_step=True, on_epoch=False)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        log_predictive = torch.stack([self._drawn_log_probs(images) for _ in range(MONITOR_DRAWS)]).logsumexp(
            0
        )
        log_predictive = log_predictive - torch.tensor(MONITOR_DRAWS).log()
        accuracy = (log_predictive.argmax(-1) == labels).float().mean()
        self.log_dict(
            {"calibration_nll": nll_loss(log_predictive, labels), "calibration_accuracy": accuracy},
            prog_bar=True,
            sync_dist=True,
        )

    def _drawn_log_probs(self, images: Tensor) -> Tensor:
        guide_trace = poutine.trace(self.guide).get_trace()
        logits: Tensor = poutine.replay(self.model, trace=guide_trace)(images)
        return logits.log_softmax(-1)

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        super().optimizer_step(*args, **options)
        self.guide.after_step(self.global_step + 1, int(self.trainer.estimated_stepping_batches))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        parameters = [*self.guide.parameters(), *self.model.parameters()]
        optimizer = self.guide.optimizer(parameters, self.config, self.model.n_train)
        if self.config.schedule == "constant":
            return {"optimizer": optimizer}
        steps = max(int(self.trainer.estimated_stepping_batches), 20)  # fewer make no cycle
        schedule = self.guide.schedule(optimizer, self.config, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
