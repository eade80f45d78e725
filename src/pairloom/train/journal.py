"""What a run tells of its steps: ``metrics.jsonl``, TensorBoard if it is asked for, and the line beside the progress bar."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from pairloom.pairs.batch import Batch
from pairloom.recipe import TrainSection
from pairloom.train.energy import EnergyMeter
from pairloom.train.flops import measure_matmul_rate
from pairloom.train.learner import StepResult
from pairloom.train.memory import peak_memory
from pairloom.train.metrics import MetricsLog
from pairloom.train.tensorboard import TensorBoardLog


class Journal:
    """The records of a run, written by its first process.

    Args:
        folder: Of the run.
        section: Says whether to write TensorBoard events.
        device: Whose speed and memory are told.
        num_devices: That work together.
        resume_after: The step from which the run goes on; 0 for a new one.
        energy: What measures all of them, if there is such a thing.
    """

    def __init__(
        self,
        folder: Path,
        section: TrainSection,
        device: torch.device,
        *,
        num_devices: int,
        resume_after: int,
        energy: EnergyMeter | None = None,
    ) -> None:
        self.metrics = MetricsLog(folder / "metrics.jsonl")
        if resume_after:
            self.metrics.go_back_to(resume_after)
        else:
            self.metrics.path.unlink(missing_ok=True)  # of a run that did not come as far as a checkpoint
        self._events = (
            TensorBoardLog(folder / "tensorboard", resume_after=resume_after) if section.tensorboard else None
        )
        self._device, self._num_devices, self._precision = device, num_devices, section.precision
        self._peak_flops: float | None = None  # a second
        self._energy = energy
        self._step_began = 0.0

    def begin_step(self) -> None:
        """Starts the clock, and the meter."""
        if self._energy is not None:
            self._energy.start()
        self._step_began = time.monotonic()

    def step(self, number: int, batch: Batch, result: StepResult) -> str:
        """Records the step that has just ended.

        Returns:
            The most important of it in a line.
        """
        seconds = time.monotonic() - self._step_began
        joules = None if self._energy is None else self._energy.joules()
        num_passed = result.num_tokens + result.num_padding
        self.write(
            step=number,
            loss=round(result.loss, 6),
            learning_rate=result.learning_rate,
            gradient_norm=round(result.gradient_norm, 6),
            accuracy=round(float(result.correct.mean()), 4),
            scale=round(result.scale, 4),
            datasets=_by_dataset(batch, result),
            texts={
                "anchors": {"count": result.num_pairs, "truncated": result.num_anchors_truncated},
                "candidates": {
                    "count": result.num_pairs * (len(batch.columns) - 1),
                    "truncated": result.num_candidates_truncated,
                },
            },
            pairs_per_s=round(result.num_pairs / seconds, 2),
            tokens_per_s=round(result.num_tokens / seconds, 1),
            padding=round(result.num_padding / num_passed, 4),
            replayed=round(result.num_replayed_tokens / result.num_tokens, 4),
            model_flops_per_s=round(result.num_flops / seconds),
            memory_bytes=peak_memory(self._device),
            **({} if joules is None else {"energy_j": round(joules, 3)}),
            **self._utilisation(result.num_flops / seconds),
        )
        return (
            f"loss {result.loss:.4f}  rate {result.learning_rate:.1e}  {result.num_pairs / seconds:,.1f} pairs/s  "
            f"{result.num_tokens / seconds:,.0f} tokens/s"
        )

    def write(self, **record: Any) -> None:
        """Records whatever has a ``step``."""
        self.metrics.append(**record)
        if self._events is not None:
            self._events.write(record)

    def _utilisation(self, flops: float) -> dict[str, float]:
        """The share of what the devices could do, which processes that share a CPU cannot measure by themselves."""
        if self._device.type == "cpu" and self._num_devices > 1:
            return {}
        if self._peak_flops is None:
            self._peak_flops = self._num_devices * measure_matmul_rate(self._device, self._precision)
        return {"utilisation": round(flops / self._peak_flops, 4)}

    def close(self) -> None:
        """Writes what is waiting."""
        if self._events is not None:
            self._events.close()


def _by_dataset(batch: Batch, result: StepResult) -> dict[str, dict[str, float]]:
    """Each dataset's share of the batch: pairs, mean loss and accuracy."""
    shares, begin = {}, 0
    for part in batch.parts:
        end = begin + len(part.rows)
        shares[part.dataset.name] = {
            "pairs": end - begin,
            "loss": round(float(result.rows[begin:end].mean()), 6),
            "accuracy": round(float(result.correct[begin:end].mean()), 4),
        }
        begin = end
    return shares
