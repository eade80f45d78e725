"""A moving average of the weights, which is what the finished model gets."""

from __future__ import annotations

import copy

import torch

from pairloom.network.encoder import EncoderNetwork


class MovingAverage:
    """An exponential moving average of a network's weights over the steps.

    In the first steps the decay is ``(1 + steps) / (10 + steps)``, if that is less: so the average forgets the weights
    from before training sooner.

    References: Polyak and Juditsky 1992, *Acceleration of stochastic approximation by averaging*; Tarvainen and Valpola
    2017, *Mean teachers are better role models*.

    Args:
        network: Whose weights; its present ones are the first average.
        decay: How much of the average is kept at a step.
    """

    def __init__(self, network: EncoderNetwork, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: EncoderNetwork, step: int) -> None:
        """Takes the weights after a step, counted from 1, in."""
        decay = min(self._decay, (1 + step) / (10 + step))
        averages: list[torch.Tensor] = list(self.network.parameters())
        weights: list[torch.Tensor] = list(network.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)
