"""A network in training, with all that is its own: optimizer, gradient clip, moving average.

A learner has one, or two, of which each takes its own steps with its own part of the gradient.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pairloom.errors import RecipeError
from pairloom.models.model import Model
from pairloom.network.encoder import EncoderNetwork
from pairloom.recipe import TrainSection
from pairloom.train.average import MovingAverage
from pairloom.train.flops import TRAINING_FORWARDS, model_flops

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Tower:
    """A network in training.

    Args:
        model: What to begin with; it is copied.
        section: How to train.
        device: Where to compute.
        name: Put before the names of weights, in errors and in the state; empty for the only one.
        besides: A number that is trained with the network: it has a place in its optimizer and in its norm.

    Raises:
        RecipeError: More layers shall be frozen than there are, or everything.
    """

    def __init__(
        self,
        model: Model,
        section: TrainSection,
        *,
        device: torch.device,
        name: str = "",
        besides: nn.Parameter | None = None,
    ) -> None:
        self._section, self._device, self._besides = section, device, besides
        self._prefix = name and f"{name}."
        self._architecture, self._heads = model.architecture, model.heads
        self.network = EncoderNetwork(model).to(device)
        self.network.backbone.checkpoint_layers = section.checkpoint_layers
        _freeze(self.network, layers=section.freeze_layers, embeddings=section.freeze_embeddings)
        trained = [weight for weight in self.network.parameters() if weight.requires_grad]
        if not trained:
            raise RecipeError(
                f"train.freeze_layers = {section.freeze_layers} and train.freeze_embeddings leave nothing to train; "
                "freeze fewer layers"
            )
        matrices = [weight for weight in trained if weight.ndim > 1]
        vectors = [weight for weight in trained if weight.ndim <= 1]  # biases and layer norms
        if besides is not None:
            vectors.append(besides)
        self.trained = matrices + vectors
        """All that the optimizer changes."""
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": section.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=section.learning_rate,
            betas=section.betas,
            eps=section.epsilon,
            fused=device.type in ("cpu", "cuda"),
        )
        self.average = None if section.average_decay is None else MovingAverage(self.network, section.average_decay)

    @property
    def result(self) -> EncoderNetwork:
        """What the finished network would be now: the average, if there is one."""
        return self.network if self.average is None else self.average.network

    def clip(self) -> Float[Tensor, ""]:
        """Scales the gradient down to the norm that it may have.

        Returns:
            The norm that it had.
        """
        return torch.nn.utils.clip_grad_norm_(self.trained, self._section.max_gradient_norm)

    def update(self, number: int, rate: float) -> None:
        """Takes step ``number``, counted from 1, with the gradient that is there."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.network, number)

    def num_flops(self, lengths: npt.NDArray[np.int64]) -> int:
        """Operations of a training step over texts of these lengths."""
        return TRAINING_FORWARDS * model_flops(self._architecture, lengths, self._heads)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """The network's weights, with the tower's name before theirs."""
        return {self._prefix + name: weight for name, weight in self.network.named_parameters()}

    def state(self) -> dict[str, Tensor]:
        """What a continuation needs besides the network: a view of the optimizer's and the average's tensors."""
        tensors: dict[str, Tensor] = {}
        for number, weight in enumerate(self.trained):
            state = self.optimizer.state[weight]
            if not state:
                moments = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
                place = self._device if self._device.type == "cuda" else torch.device("cpu")
                state.update(step=torch.zeros((), device=place), **moments)
            tensors |= {f"{self._prefix}{number}.{name}": state[name] for name in _MOMENTS}
        if self._besides is not None:
            tensors["log_scale"] = self._besides.detach()
        if self.average is not None:
            average = self.average.network.state_dict()
            tensors |= {f"{self._prefix}average.{name}": weight for name, weight in average.items()}
        return tensors


def _freeze(network: EncoderNetwork, *, layers: int, embeddings: bool) -> None:
    backbone = network.backbone
    if layers > len(backbone.layers):
        raise RecipeError(f"train.freeze_layers = {layers}: the base has only {len(backbone.layers)} layers")
    if embeddings:
        backbone.embeddings.requires_grad_(False)
    for layer in backbone.layers[:layers]:
        layer.requires_grad_(False)
