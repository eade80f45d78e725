"""The part of a run that learns: a network and its optimizer, one step at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pairloom.errors import RecipeError, TrainingError
from pairloom.models.model import Model
from pairloom.network.encoder import EncoderNetwork
from pairloom.pairs.counter_random import random_numbers, stream_key
from pairloom.recipe import Recipe, Similarity
from pairloom.train.average import MovingAverage
from pairloom.train.flops import TRAINING_FORWARDS, model_flops
from pairloom.train.gradient_cache import GradientCache, enough_memory
from pairloom.train.losses import BatchLoss
from pairloom.train.memory import graph_memory
from pairloom.train.objective import batch_loss, check_dimensions
from pairloom.train.schedule import rate_share
from pairloom.train.step import BatchTokens
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
        gradient_norm: Before clipping.
        num_pairs: Of the batch, N.
        num_tokens: Of its texts.
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
    num_padding: int
    num_replayed_tokens: int
    num_flops: float


class Learner:
    """A network in training.

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
        self, model: Model, recipe: Recipe, *, similarity: Similarity, device: torch.device, world: World | None = None
    ) -> None:
        section = recipe.train
        self._recipe, self._similarity, self._device = recipe, similarity, device
        self._world = world or World(0, 1, device, timeout_s=section.peer_timeout_s)
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
        self._log_scale: nn.Parameter | None = None
        if recipe.loss.learn_scale:
            logarithm = min(math.log(recipe.loss.scale), _MAX_LOG_SCALE)
            self._log_scale = nn.Parameter(torch.tensor(logarithm, device=device))
            vectors.append(self._log_scale)
        self._trained = matrices + vectors
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": section.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=section.learning_rate,
            betas=section.betas,
            eps=section.epsilon,
            fused=device.type in ("cpu", "cuda"),
        )
        self.average = None if section.average_decay is None else MovingAverage(self.network, section.average_decay)
        self._dropout_key = stream_key(section.seed, "dropout")
        self._memory: int | None = None
        self._dimensions = model.dimensions
        check_dimensions(recipe.loss, model.dimensions)

    @property
    def result(self) -> EncoderNetwork:
        """What the finished model would be now: the average, if there is one."""
        return self.network if self.average is None else self.average.network

    def step(self, tokens: BatchTokens, number: int) -> StepResult:
        """Learns from a batch.

        Args:
            tokens: The texts of this rank's share.
            number: Of the step, from 1: it sets the learning rate and, with the seed, the dropout.

        Raises:
            NotFiniteError: The loss or the gradient is not finite; the weights are as they were.
            TrainingError: There is not enough memory for a micro-batch.
        """
        section = self._recipe.train
        self.optimizer.zero_grad(set_to_none=True)
        passes = GradientCache(
            self.network,
            tokens.tokens,
            # A function of seed, step and place in the batch: so it is the same after a resumption, and on CPUs with any
            # number of processes and in any micro-batch.
            random_numbers(self._dropout_key, tokens.places.astype(np.uint64), lane=number),
            device=self._device,
            precision=section.precision,
            micro_batch_tokens=section.micro_batch_tokens,
            graph_memory_bytes=self._graph_memory(tokens),
        )
        own = passes.embed()
        with enough_memory(
            f"the loss of {tokens.num_pairs_in_all:,} pairs", "lower train.graph_memory_mib or train.batch_size"
        ):
            vectors = self._everyones(own, tokens).requires_grad_()
            loss = self._loss(vectors, tokens)
            _check_finite("loss", loss.loss)
            loss.loss.backward()  # type: ignore[no-untyped-call]
        assert vectors.grad is not None
        # Each rank follows the gradient of its own texts through the network; the whole is the sum.
        passes.backward(vectors.grad[torch.from_numpy(tokens.places).to(self._device)])
        self._world.sum_gradients(weight for weight in self._trained if weight is not self._log_scale)
        norm = torch.nn.utils.clip_grad_norm_(self._trained, section.max_gradient_norm)
        _check_finite("gradient", norm)
        scale = self.scale
        rate = self._update(number)
        flops = TRAINING_FORWARDS * model_flops(self._architecture, tokens.tokens.lengths, self._heads)
        counts = [tokens.tokens.lengths.sum(), passes.num_padding, passes.num_replayed_tokens, flops]
        num_tokens, num_padding, num_replayed_tokens, num_flops = self._added_up(counts)
        return StepResult(
            loss=loss.loss.item(),
            rows=loss.rows.cpu().numpy(),
            correct=loss.correct.cpu().numpy(),
            scale=scale,
            learning_rate=rate,
            gradient_norm=norm.item(),
            num_pairs=tokens.num_pairs_in_all,
            num_tokens=int(num_tokens),
            num_padding=int(num_padding),
            num_replayed_tokens=int(num_replayed_tokens),
            num_flops=num_flops,
        )

    @property
    def scale(self) -> float:
        """What multiplies the similarities."""
        return self._recipe.loss.scale if self._log_scale is None else self._log_scale.exp().item()

    def check_weights(self) -> None:
        """Raises `NotFiniteError` if a weight is no longer finite: such a model is not worth keeping."""
        for name, weight in self.network.named_parameters():
            _check_finite(f"weight {name}", weight.detach().sum())

    def state(self) -> dict[str, Tensor]:
        """What a continuation needs besides the network: a view of the optimizer's and the average's tensors."""
        tensors: dict[str, Tensor] = {}
        for number, weight in enumerate(self._trained):
            state = self.optimizer.state[weight]
            if not state:
                moments = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
                place = self._device if self._device.type == "cuda" else torch.device("cpu")
                state.update(step=torch.zeros((), device=place), **moments)
            tensors |= {f"{number}.{name}": state[name] for name in ("step", "exp_avg", "exp_avg_sq")}
        if self._log_scale is not None:
            tensors["log_scale"] = self._log_scale.detach()
        if self.average is not None:
            tensors |= {f"average.{name}": weight for name, weight in self.average.network.state_dict().items()}
        return tensors

    def load_state(self, tensors: dict[str, npt.NDArray[np.float32]]) -> None:
        """Takes over what `state` gave, as arrays."""
        for name, tensor in self.state().items():
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(tensors[name]).view(tensor.shape))

    def share_state(self) -> None:
        """Gives all ranks what rank 0 has."""
        self._world.broadcast([*self.network.parameters(), *self.state().values()])

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
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        if self._log_scale is not None:
            with torch.no_grad():
                self._log_scale.clamp_(max=_MAX_LOG_SCALE)
        if self.average is not None:
            self.average.update(self.network, number)
        return rate

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


def _freeze(network: EncoderNetwork, *, layers: int, embeddings: bool) -> None:
    backbone = network.backbone
    if layers > len(backbone.layers):
        raise RecipeError(f"train.freeze_layers = {layers}: the base has only {len(backbone.layers)} layers")
    if embeddings:
        backbone.embeddings.requires_grad_(False)
    for layer in backbone.layers[:layers]:
        layer.requires_grad_(False)


def _check_finite(what: str, value: Tensor) -> None:
    if not torch.isfinite(value):
        raise NotFiniteError(f"the {what} is {value.item()}")
