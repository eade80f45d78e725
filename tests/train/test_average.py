"""The moving average by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pairloom.models.read import read_model
from pairloom.network.encoder import EncoderNetwork
from pairloom.train.average import MovingAverage


@pytest.fixture
def network(backbone_folder: Callable[[str], Path]) -> EncoderNetwork:
    return EncoderNetwork(read_model(backbone_folder("bert")))


def fill(network: EncoderNetwork, value: float) -> None:
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(value)


def values(network: EncoderNetwork) -> set[float]:
    return {value for weight in network.parameters() for value in weight.unique().tolist()}  # type: ignore[no-untyped-call]


def test_it_begins_with_the_weights_and_is_a_copy(network: EncoderNetwork) -> None:
    average = MovingAverage(network, 0.9)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    fill(network, 3.0)
    assert all(weight.equal(before[name]) for name, weight in average.network.state_dict().items())
    assert not any(weight.requires_grad for weight in average.network.parameters())
    assert all(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize(("step", "decay"), [(1, 2 / 11), (8, 0.5), (71, 72 / 81), (80, 0.9), (1000, 0.9)])
def test_the_decay_rises_to_its_own(network: EncoderNetwork, step: int, decay: float) -> None:
    fill(network, 1.0)
    average = MovingAverage(network, 0.9)
    fill(network, 2.0)
    average.update(network, step)
    assert list(values(average.network)) == [pytest.approx(decay * 1 + (1 - decay) * 2, rel=1e-6)]
    assert values(network) == {2.0}


def test_weights_that_stay_are_their_own_average(network: EncoderNetwork) -> None:
    average = MovingAverage(network, 0.999)
    for step in range(1, 50):
        average.update(network, step)
    assert all(one.equal(other) for one, other in zip(average.network.parameters(), network.parameters(), strict=True))
