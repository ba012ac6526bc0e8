"""Any network with many sets of weights at once: as one set after another, or refused before any work."""

import copy
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from any_networks import MAPPED, STACKED, Unbiased, require_close, row
from torch import Tensor, nn
from torch.func import functional_call

from bnn.core.networks import NETWORKS
from bnn.core.stacked import BLOCK, GROUP, StackedNetwork, is_stackable, require_runnable
from bnn.errors import InputError

IMAGES = torch.rand(11, 1, 28, 28, generator=torch.Generator().manual_seed(0))
ALL = STACKED | MAPPED
Make = Callable[[], nn.Module]


def weights_of(network: nn.Module, draws: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: value.detach() + 0.3 * torch.randn(draws, *value.shape, generator=generator)
        for name, value in network.named_parameters()
    }


def one_by_one(network: nn.Module, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    network.eval()
    draws = range(len(next(iter(weights.values()))))
    with torch.no_grad():
        return torch.stack(
            [
                functional_call(network, {name: value[s] for name, value in weights.items()}, (images,))
                for s in draws
            ]
        )


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in ALL.items()])
def test_it_agrees_with_one_set_of_weights_after_another(make: Make) -> None:
    network = make()
    weights = weights_of(network)
    expected = one_by_one(network, weights, IMAGES)
    network.train()  # in which dropout would be at work
    require_close(StackedNetwork(network, weights)(IMAGES), expected)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_images_that_require_a_gradient_get_that_of_all_networks(name: str) -> None:
    network = NETWORKS[name](classes=10)
    weights = weights_of(network)
    asked, alone = (IMAGES[:3].clone().requires_grad_() for _ in range(2))
    outputs = StackedNetwork(network, weights)(asked)
    torch.testing.assert_close(
        outputs.detach(), one_by_one(network, weights, IMAGES[:3]), atol=1e-3, rtol=1e-4
    )
    (gradient,) = torch.autograd.grad(outputs.square().sum(), asked)
    each = [{name: value[s] for name, value in weights.items()} for s in range(3)]
    expected = torch.stack([functional_call(network, one, (alone,)) for one in each])
    torch.testing.assert_close(
        gradient, torch.autograd.grad(expected.square().sum(), alone)[0], rtol=1e-3, atol=1e-2
    )


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_it_is_copied_and_pickled_with_the_same_bits(name: str) -> None:
    network = NETWORKS[name](classes=10)
    run = StackedNetwork(network, weights_of(network))
    for again in (copy.deepcopy(run), pickle.loads(pickle.dumps(run))):
        assert torch.equal(again(IMAGES[:2]), run(IMAGES[:2]))


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in ALL.items()])
def test_an_image_has_the_same_bits_alone_and_anywhere_in_a_batch(make: Make) -> None:
    network = make()
    run = StackedNetwork(network, weights_of(network))
    together = run(IMAGES)
    assert run(IMAGES.flip(0)).flip(1).equal(together)
    for i in range(len(IMAGES)):
        assert run(IMAGES[i : i + 1])[:, 0].equal(together[:, i])
    assert run(IMAGES[:0]).shape == (3, 0, together.shape[2])


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in STACKED.items()])
@pytest.mark.parametrize("strange", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_none_afterwards_and_leaves_the_others_alone(make: Make, strange: float) -> None:
    network = make()
    run = StackedNetwork(network, weights_of(network))
    spoilt = IMAGES.clone()
    spoilt[4, 0, 14, 14] = strange
    outputs, expected = run(spoilt), run(IMAGES)
    others = [i for i in range(len(IMAGES)) if i != 4]
    assert outputs[:, others].equal(expected[:, others])
    assert not outputs[:, 4].isfinite().all(-1).any()


def test_what_overflows_between_the_convolutions_is_no_number_afterwards() -> None:
    network = STACKED["vgg"]()
    weights = {
        key: torch.full((2, *value.shape), 1e9 if key.startswith("conv") else 1.0)
        for key, value in network.named_parameters()
    }
    weights["conv5.weight"][:, :, ::2] *= -1  # ∞ − ∞
    outputs = StackedNetwork(network, weights)(IMAGES)
    assert not outputs.isfinite().any()


def check_bits() -> None:
    """An image has the same bits alone and in a batch of more than a block, at one and two threads."""
    images = torch.rand(BLOCK + 3, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    for name in ("vgg", "vgg-wide", "vgg-24", "cnn-odd", "mlp-64"):
        network = STACKED[name]()
        run = StackedNetwork(network, weights_of(network))
        alone = torch.cat([run(image) for image in images[-5:].split(1)], 1)
        for threads in (2, 1):
            torch.set_num_threads(threads)
            for count in (1, 7, BLOCK + 3):
                assert run(images[-count:])[:, -5:].equal(alone[:, -count:]), (name, threads, count)


@pytest.mark.parametrize("most", ["DEFAULT", "AVX2", "SSE41"])
def test_bits_are_alike_on_any_number_of_threads_and_on_lesser_processors(most: str) -> None:
    command = [sys.executable, "-c", "import test_stacked; test_stacked.check_bits()"]
    env = os.environ | {"ONEDNN_MAX_CPU_ISA": most}  # which oneDNN reads once
    done = subprocess.run(command, cwd=Path(__file__).parent, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("draws", [1, GROUP, GROUP + 3, 2 * GROUP])
@pytest.mark.parametrize("name", ["cnn-odd", "unbiased-gelu"])
def test_any_number_of_draws_comes_back_in_order(name: str, draws: int) -> None:
    network = ALL[name]()
    weights = weights_of(network, draws)
    found = StackedNetwork(network, weights)(IMAGES[:2])
    require_close(found, one_by_one(network, weights, IMAGES[:2]))


def test_rows_of_known_layers_are_multiplied_and_all_else_is_mapped() -> None:
    assert [name for name, make in STACKED.items() if not is_stackable(make())] == []
    assert [name for name, make in MAPPED.items() if is_stackable(make())] == []


@pytest.mark.parametrize("name", ["unbiased", "resnet", "weights-twice"])
def test_the_network_itself_is_neither_used_nor_changed(name: str) -> None:
    network = ALL[name]().train()
    weights = weights_of(network)
    run = StackedNetwork(network, weights)
    answer = run(IMAGES)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(5)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert run(IMAGES).equal(answer)
    assert StackedNetwork(network, weights)(IMAGES).equal(answer)
    assert all(value.equal(before[key]) for key, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
    with torch.device("meta"):
        hollow = ALL[name]()
    assert StackedNetwork(hollow, weights)(IMAGES).equal(answer)


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in ALL.items()])
def test_what_can_be_run_is_let_through(make: Make) -> None:
    network = make()
    outputs = network.eval()(IMAGES[:1]).shape[1]
    require_runnable(network, (1, 28, 28), outputs)
    for other in (outputs - 1, outputs + 1):
        with pytest.raises(
            InputError, match=rf"^the network \w+ gives \({outputs},\)[^\n]*\({other},\)[^\n]*\.$"
        ):
            require_runnable(network, (1, 28, 28), other)


class Guarded(Unbiased):
    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits if logits.sum() > 0 else -logits


class Random(Unbiased):
    def forward(self, images: Tensor) -> Tensor:
        return F.dropout(super().forward(images), 0.5, training=True)


class Pair(Unbiased):
    def forward(self, images: Tensor) -> Tensor:
        return (super().forward(images),) * 2  # type: ignore[return-value]


class Silent(Unbiased):
    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError


class Maps(Unbiased):
    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.conv(images)
        return maps


class Averaged(Unbiased):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).sum(0)


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (Guarded(), "the network Guarded cannot be run for many sets of weights at once: vmap: "),
        (Random(), "the network Random cannot be run for many sets of weights at once: vmap: "),
        (Pair(), "the network Pair cannot be run for many sets of weights at once: "),
        (Silent(), "the network Silent cannot be run for many sets of weights at once: NotImplementedError"),
        (Maps(), r"the network Maps gives \(4, 8, 8\) for an image, and should give \(10,\), its logits"),
        (Averaged(), "the network Averaged "),
        (row(nn.Linear(784, 12)), r"the network Sequential gives \(12,\) for an image"),
        (row(nn.Linear(783, 10)), "the network Sequential cannot be run for many sets of weights at once: "),
        (row(nn.ReLU()), "the network Sequential has no weights to put a posterior on"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_run_is_refused_in_one_sentence(network: nn.Module, why: str) -> None:
    with pytest.raises(InputError, match=rf"^{why}") as caught:
        require_runnable(network, (1, 28, 28), 10)
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith(".")
    assert ". " not in said
