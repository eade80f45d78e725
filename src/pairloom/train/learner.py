"""The part of a run that learns: a network and its optimizer, one step at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pairloom.errors import TrainingError
from pairloom.models.model import Model
from pairloom.network.encoder import EncoderNetwork
from pairloom.recipe import Recipe, Similarity
from pairloom.train.schedule import linear_warmup_then_decay
from pairloom.train.step import BatchTokens, batch_loss, embed


@dataclass(frozen=True)
class StepResult:
    """What a step tells of itself.

    Args:
        loss: In nats.
        learning_rate: Used in this step.
        gradient_norm: Before clipping.
        num_pairs: Of the batch.
        num_tokens: Of its texts.
        num_computed_tokens: The same with padding.
    """

    loss: float
    learning_rate: float
    gradient_norm: float
    num_pairs: int
    num_tokens: int
    num_computed_tokens: int


class Learner:
    """A network in training.

    Args:
        model: What to begin with; it is copied.
        recipe: Its sections ``data``, ``loss`` and ``train`` are used.
        similarity: By which the loss compares vectors.
        device: Where to compute.
    """

    def __init__(self, model: Model, recipe: Recipe, *, similarity: Similarity, device: torch.device) -> None:
        section = recipe.train
        self._recipe, self._similarity, self._device = recipe, similarity, device
        self.network = EncoderNetwork(model).to(device).train()
        matrices = [weight for weight in self.network.parameters() if weight.ndim > 1]
        vectors = [weight for weight in self.network.parameters() if weight.ndim <= 1]  # biases and layer norms
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": section.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=section.learning_rate,
            betas=section.betas,
            eps=section.epsilon,
        )

    def step(self, tokens: BatchTokens, number: int) -> StepResult:
        """Learns from a batch.

        Args:
            tokens: Its texts.
            number: Of the step, from 1: it sets the learning rate and, with the seed, the dropout.

        Raises:
            TrainingError: The loss or the gradient is not finite; the weights are as they were.
        """
        section = self._recipe.train
        # Dropout is a function of seed and step, so a resumed run draws what the unbroken one would have drawn.
        torch.manual_seed(section.seed * 1_000_003 + number)
        vectors, num_computed_tokens = embed(
            self.network,
            tokens.tokens,
            device=self._device,
            precision=section.precision,
            micro_batch_tokens=section.micro_batch_tokens,
        )
        loss = batch_loss(vectors, num_pairs=tokens.num_pairs, similarity=self._similarity, section=self._recipe.loss)
        _check_finite("loss", loss)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), section.max_gradient_norm)
        _check_finite("gradient", norm)
        share = linear_warmup_then_decay(number, warmup_steps=section.warmup_steps, steps=section.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = section.learning_rate * share
        self.optimizer.step()
        return StepResult(
            loss=loss.item(),
            learning_rate=section.learning_rate * share,
            gradient_norm=norm.item(),
            num_pairs=tokens.num_pairs,
            num_tokens=int(tokens.tokens.lengths.sum()),
            num_computed_tokens=num_computed_tokens,
        )

    def check_weights(self) -> None:
        """Raises `TrainingError` if a weight is no longer finite: such a model is not worth keeping."""
        for name, weight in self.network.named_parameters():
            _check_finite(f"weight {name}", weight.detach().sum())


def _check_finite(what: str, value: torch.Tensor) -> None:
    if not torch.isfinite(value):
        raise TrainingError(f"the {what} is {value.item()}")
