"""The part of a run that learns: one network or two, one step at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pairloom.errors import TrainingError
from pairloom.models.dual import AnyModel, DualModel
from pairloom.models.model import Model
from pairloom.models.tokenizer import Tokens
from pairloom.network.encoder import EncoderNetwork
from pairloom.pairs.counter_random import random_numbers, stream_key
from pairloom.recipe import LossSection, Recipe, Similarity
from pairloom.train.gradient_cache import GradientCache, enough_memory
from pairloom.train.losses import BatchLoss
from pairloom.train.memory import graph_memory
from pairloom.train.objective import batch_loss, check_dimensions
from pairloom.train.schedule import rate_share
from pairloom.train.step import BatchTokens
from pairloom.train.tower import Tower
from pairloom.train.world import World

# Of a scale of 100, as in CLIP (Radford et al. 2021, section 2.5): a larger one makes training unstable. Rounded down,
# because in float32 the exponential of the logarithm of 100 is more than 100.
_MAX_LOG_SCALE = 4.605169
# Gathered, put in order, normalised, and their gradients: so many copies of a batch's vectors the loss takes at most.
_VECTORS_OF_A_LOSS = 6


class NotFiniteError(TrainingError):
    """The loss or the gradient is not a number; nothing has been learnt from the batch."""


@dataclass(frozen=True)
class StepResult:
    """What a step tells of itself, over all ranks.

    Args:
        loss: In nats.
        rows: The loss of each anchor, float32 [N].
        correct: Whether each anchor's positive scores highest among its candidates, bool [N].
        scale: That multiplied the similarities.
        learning_rate: Used in this step.
        gradient_norm: Before clipping; of two encoders, which are clipped by themselves, the root of the sum of the squares.
        num_pairs: Of the batch, N.
        num_tokens: Of its texts.
        num_anchors_truncated: Anchors that were longer than their limit.
        num_candidates_truncated: The same of positives, negatives and past contexts.
        num_padding: Places of attention's rectangles that hold no token.
        num_replayed_tokens: Tokens that were embedded a second time.
        num_flops: Of matrix products that the model asks for; what is computed a second time does not count.
    """

    loss: float
    rows: npt.NDArray[np.float32]
    correct: npt.NDArray[np.bool_]
    scale: float
    learning_rate: float
    gradient_norm: float
    num_pairs: int
    num_tokens: int
    num_anchors_truncated: int
    num_candidates_truncated: int
    num_padding: int
    num_replayed_tokens: int
    num_flops: float


@dataclass(frozen=True)
class _Side:
    """The rows of a batch that go through a tower, on their way there and back."""

    tower: Tower
    rows: slice
    passes: GradientCache


class Learner:
    """An encoder in training, or two: then anchors go through the first, positives and negatives through the other.

    Two encoders share the loss, the learning rate of each step, and the memory for graphs; all else each has by itself
    (`Tower`). A learnt scale takes its steps with the anchors' encoder.

    Args:
        model: What to begin with; it is copied.
        recipe: Its sections ``loss`` and ``train`` are used.
        similarity: By which the loss compares vectors.
        device: Where to compute.
        world: The processes of the job; by default this one is alone.

    Raises:
        RecipeError: More layers shall be frozen than there are, or everything; or a Matryoshka dimension is too large.
    """

    def __init__(
        self,
        model: AnyModel,
        recipe: Recipe,
        *,
        similarity: Similarity,
        device: torch.device,
        world: World | None = None,
    ) -> None:
        section = recipe.train
        self._recipe, self._similarity, self._device = recipe, similarity, device
        self._world = world or World(0, 1, device, timeout_s=section.peer_timeout_s)
        self._log_scale = _learnt_scale(recipe.loss, device)
        if isinstance(model, DualModel):
            self.towers: tuple[Tower, ...] = (
                Tower(model.query, section, device=device, name="query", besides=self._log_scale),
                Tower(model.document, section, device=device, name="document"),
            )
            """Of the anchors and of the candidates, or the one of both."""
        else:
            self.towers = (Tower(model, section, device=device, besides=self._log_scale),)
        self._dropout_key = stream_key(section.seed, "dropout")
        self._memory: int | None = None
        self._dimensions = model.dimensions
        check_dimensions(recipe.loss, model.dimensions)

    @property
    def network(self) -> EncoderNetwork:
        """That of the anchors, or the one of both sides."""
        return self.towers[0].network

    @property
    def result(self) -> EncoderNetwork:
        """What `network` would be in the finished model: the average, if there is one."""
        return self.towers[0].result

    def updated(self, base: AnyModel, *, finished: bool = False) -> AnyModel:
        """A copy of the model from which this learner was built, with the weights of now.

        Args:
            base: The model, or one that differs from it in its weights only.
            finished: Whether to take the average, if there is one.
        """
        networks = [tower.result if finished else tower.network for tower in self.towers]
        if isinstance(base, Model):
            (network,) = networks
            return network.updated(base)
        query, document = networks
        return DualModel(base.name, query.updated(base.query), document.updated(base.document))

    def step(self, tokens: BatchTokens, number: int) -> StepResult:
        """Learns from a batch.

        Args:
            tokens: The texts of this rank's share.
            number: Of the step, from 1: it sets the learning rate and, with the seed, the dropout.

        Raises:
            NotFiniteError: The loss or the gradient is not finite; the weights are as they were.
            TrainingError: There is not enough memory for a micro-batch.
        """
        for tower in self.towers:
            tower.optimizer.zero_grad(set_to_none=True)
        sides, own = self._embed(tokens, number)
        with enough_memory(
            f"the loss of {tokens.num_pairs_in_all:,} pairs", "lower train.graph_memory_mib or train.batch_size"
        ):
            vectors = self._everyones(own, tokens).requires_grad_()
            loss = self._loss(vectors, tokens)
            _check_finite("loss", loss.loss)
            loss.loss.backward()  # type: ignore[no-untyped-call]
        assert vectors.grad is not None
        # Each rank follows the gradient of its own texts through the network; the whole is the sum.
        gradient = vectors.grad[torch.from_numpy(tokens.places).to(self._device)]
        for side in sides:
            side.passes.backward(gradient[side.rows])
        self._world.sum_gradients(
            weight for tower in self.towers for weight in tower.trained if weight is not self._log_scale
        )
        norm = self._clip()
        _check_finite("gradient", norm)
        scale = self.scale
        rate = self._update(number)
        truncated = tokens.tokens.truncated
        counts = [
            tokens.tokens.lengths.sum(),
            truncated[: tokens.num_pairs].sum(),
            truncated[tokens.num_pairs :].sum(),
            sum(side.passes.num_padding for side in sides),
            sum(side.passes.num_replayed_tokens for side in sides),
            sum(side.tower.num_flops(tokens.tokens.lengths[side.rows]) for side in sides),
        ]
        num_tokens, num_anchors_cut, num_candidates_cut, num_padding, num_replayed, num_flops = self._added_up(counts)
        return StepResult(
            loss=loss.loss.item(),
            rows=loss.rows.cpu().numpy(),
            correct=loss.correct.cpu().numpy(),
            scale=scale,
            learning_rate=rate,
            gradient_norm=norm.item(),
            num_pairs=tokens.num_pairs_in_all,
            num_tokens=int(num_tokens),
            num_anchors_truncated=int(num_anchors_cut),
            num_candidates_truncated=int(num_candidates_cut),
            num_padding=int(num_padding),
            num_replayed_tokens=int(num_replayed),
            num_flops=num_flops,
        )

    @property
    def scale(self) -> float:
        """What multiplies the similarities."""
        return self._recipe.loss.scale if self._log_scale is None else self._log_scale.exp().item()

    def check_weights(self) -> None:
        """Raises `NotFiniteError` if a weight is no longer finite: such a model is not worth keeping."""
        for tower in self.towers:
            for name, weight in tower.named_parameters().items():
                _check_finite(f"weight {name}", weight.detach().sum())

    def state(self) -> dict[str, Tensor]:
        """What a continuation needs besides the networks: a view of the tensors of optimizers and averages."""
        return {name: tensor for tower in self.towers for name, tensor in tower.state().items()}

    def load_state(self, tensors: dict[str, npt.NDArray[np.float32]]) -> None:
        """Takes over what `state` gave, as arrays."""
        for name, tensor in self.state().items():
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(tensors[name]).view(tensor.shape))

    def share_state(self) -> None:
        """Gives all ranks what rank 0 has."""
        weights = [weight for tower in self.towers for weight in tower.network.parameters()]
        self._world.broadcast([*weights, *self.state().values()])

    def _embed(self, tokens: BatchTokens, number: int) -> tuple[list[_Side], Float[Tensor, "r D"]]:
        """The vectors of this rank's texts, and what takes their gradient back."""
        section = self._recipe.train
        # A function of seed, step and place in the batch: so it is the same after a resumption, and on CPUs with any
        # number of processes and in any micro-batch.
        keys = random_numbers(self._dropout_key, tokens.places.astype(np.uint64), lane=number)
        parts: Iterable[tuple[slice, Tokens]] = tokens.sides()
        if len(self.towers) == 1:
            parts = [(slice(None), tokens.tokens)]
        memory = self._graph_memory(tokens)
        sides, vectors = [], []
        for tower, (rows, texts) in zip(self.towers, parts, strict=True):
            passes = GradientCache(
                tower.network,
                texts,
                keys[rows],
                device=self._device,
                precision=section.precision,
                micro_batch_tokens=section.micro_batch_tokens,
                graph_memory_bytes=memory,
            )
            sides.append(_Side(tower, rows, passes))
            vectors.append(passes.embed())
            memory = max(0, memory - passes.num_graph_bytes)  # the graphs of both live until the loss is there
        return sides, torch.cat(vectors) if len(vectors) > 1 else vectors[0]

    def _graph_memory(self, tokens: BatchTokens) -> int:
        limit = self._recipe.train.graph_memory_mib
        if limit != "auto":
            return limit * 2**20
        # On a CPU once, since what a step frees does not all go back to the system.
        if self._memory is None or self._device.type != "cpu":
            self._memory = graph_memory(self._device, num_processes=self._world.local_size)
        num_vectors = tokens.num_pairs_in_all * tokens.num_columns
        return max(0, self._memory - _VECTORS_OF_A_LOSS * num_vectors * self._dimensions * 4)

    def _everyones(self, vectors: Float[Tensor, "r D"], tokens: BatchTokens) -> Float[Tensor, "R D"]:
        """The vectors of all ranks: anchors first, then positives, then negatives."""
        if self._world.size == 1:
            return vectors
        shares = list(_shares(tokens.num_pairs_in_all, self._world.size))
        gathered = self._world.gather(vectors, [len(share) * tokens.num_columns for share in shares])
        places = np.concatenate(
            [column * tokens.num_pairs_in_all + share for share in shares for column in range(tokens.num_columns)]
        )
        return torch.empty_like(gathered).index_copy_(0, torch.from_numpy(places).to(self._device), gathered)

    def _loss(self, vectors: Float[Tensor, "R D"], tokens: BatchTokens) -> BatchLoss:
        keys = None
        if self._recipe.loss.mask_false_negatives:
            keys = self._everyones(torch.from_numpy(tokens.text_keys.copy()).to(self._device), tokens)
        return batch_loss(
            vectors,
            num_pairs=tokens.num_pairs_in_all,
            similarity=self._similarity,
            section=self._recipe.loss,
            scale=None if self._log_scale is None else self._log_scale.exp(),
            text_keys=keys,
            has_context=tokens.has_context,
        )

    def _update(self, number: int) -> float:
        section = self._recipe.train
        rate = section.learning_rate * rate_share(
            section.schedule,
            number,
            warmup_steps=section.warmup_steps,
            steps=section.steps,
            decay_steps=section.decay_steps,
        )
        for tower in self.towers:
            tower.update(number, rate)
        if self._log_scale is not None:
            with torch.no_grad():
                self._log_scale.clamp_(max=_MAX_LOG_SCALE)
        return rate

    def _clip(self) -> Float[Tensor, ""]:
        """The norm of the whole gradient, each tower's part of which is clipped by its own."""
        norms = [tower.clip() for tower in self.towers]
        return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))

    def _added_up(self, counts: list[float]) -> list[float]:
        """Sums over the ranks."""
        if self._world.size == 1:
            return counts
        own = torch.tensor([counts], dtype=torch.float64, device=self._device)
        return self._world.gather(own, [1] * self._world.size).sum(dim=0).tolist()


def _shares(num_pairs: int, world_size: int) -> Iterator[npt.NDArray[np.int64]]:
    """The pairs of each rank, as the mixture deals them out."""
    ends = [num_pairs * rank // world_size for rank in range(world_size + 1)]
    for begin, end in itertools.pairwise(ends):
        yield np.arange(begin, end)


def _learnt_scale(section: LossSection, device: torch.device) -> nn.Parameter | None:
    """The logarithm of the scale, if it is trained."""
    if not section.learn_scale:
        return None
    return nn.Parameter(torch.tensor(min(math.log(section.scale), _MAX_LOG_SCALE), device=device))


def _check_finite(what: str, value: Tensor) -> None:
    if not torch.isfinite(value):
        raise NotFiniteError(f"the {what} is {value.item()}")
