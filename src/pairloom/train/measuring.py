"""What a run measures of itself: its base before, the network on the way and in the end, on the tasks of the recipe."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pairloom.encode.dual_encoder import AnyEncoder, DualEncoder
from pairloom.encode.encoder import Encoder
from pairloom.encode.torch_engine import TorchEngine
from pairloom.evaluate.evaluation import Evaluation, evaluate
from pairloom.evaluate.report import to_json
from pairloom.evaluate.tasks import Task
from pairloom.models.dual import AnyModel
from pairloom.models.model import Model
from pairloom.network.encoder import EncoderNetwork
from pairloom.recipe import Recipe
from pairloom.train.first import on_first
from pairloom.train.journal import Journal
from pairloom.train.learner import Learner
from pairloom.train.world import World

logger = logging.getLogger("pairloom")


class Measuring:
    """Measures a run; the first process does it, and the others wait.

    Args:
        recipe: Of the run.
        base: What it began with.
        learner: What becomes of it.
        tasks: Read from the recipe; only the first process needs them.
        world: The processes of the job.
        journal: Of the first process.
    """

    def __init__(
        self,
        recipe: Recipe,
        base: AnyModel,
        learner: Learner,
        tasks: Sequence[Task],
        world: World,
        journal: Journal | None,
    ) -> None:
        self._recipe, self._base, self._learner, self._tasks = recipe, base, learner, tasks
        self._world, self._journal = world, journal

    def base(self, step: int, *, show_progress: bool) -> list[Evaluation]:
        """Measures the model as it was, for later measurements to be compared with.

        Args:
            step: At which the run is: what was measured before the first one is recorded.
            show_progress: Whether to show progress on stderr.
        """

        def measure() -> list[Evaluation]:
            encoder = self.encoder_of_base()
            results = []
            for task in self._tasks:
                results.append(evaluate(encoder, task, show_progress=show_progress))
                if step == 0:
                    self._record(step, results[-1])
            return results

        return (on_first(self._world, measure) or []) if self._recipe.evaluate.tasks else []

    def now(self, step: int, before: Sequence[Evaluation], *, show_progress: bool) -> list[Evaluation]:
        """Measures the network as it is after a step, and compares it with what `base` gave."""

        def measure() -> list[Evaluation]:
            encoder = self.encoder_of_now()
            results = []
            for task, reference in zip(self._tasks, before, strict=True):
                results.append(evaluate(encoder, task, baseline=reference, show_progress=show_progress))
                self._record(step, results[-1])
            return results

        return (on_first(self._world, measure) or []) if self._recipe.evaluate.tasks else []

    def encoder_of_base(self) -> AnyEncoder:
        """What the run began with."""
        halves = [self._base] if isinstance(self._base, Model) else [self._base.query, self._base.document]
        return self._encoder([EncoderNetwork(half) for half in halves])

    def encoder_of_now(self) -> AnyEncoder:
        """What the finished model would be now."""
        return self._encoder([tower.result for tower in self._learner.towers])

    def _encoder(self, networks: Sequence[EncoderNetwork]) -> AnyEncoder:
        """One network or two as what encodes: the base and what became of it by the same engine, for they are compared."""

        def encoder(model: Model, network: EncoderNetwork) -> Encoder:
            precision = self._recipe.train.precision
            engine = TorchEngine(network, device=str(self._world.device), precision=precision)
            return Encoder(model, engine=engine, precision=precision)

        if isinstance(self._base, Model):
            return encoder(self._base, *networks)
        query, document = networks
        return DualEncoder(encoder(self._base.query, query), encoder(self._base.document, document))

    def _record(self, step: int, result: Evaluation) -> None:
        assert self._journal is not None, "the first process evaluates, and keeps the journal"
        self._journal.write(step=step, evaluation=to_json(result))
        name, measurement = next(iter(result.metrics.items()))
        change = "" if measurement.comparison is None else f" ({measurement.comparison.difference:+.4f})"
        when = f"after step {step:,}" if step else "before training"
        logger.info("%s: %s %s %.4f%s", when, result.task, name, measurement.value, change)
