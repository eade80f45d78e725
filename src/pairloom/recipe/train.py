"""``[loss]``, ``[train]`` and ``[evaluate]``: how a model is trained, and measured meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pairloom.choices import Schedule, TrainingPrecision
from pairloom.recipe.section import Section


class LossSection(Section):
    """In-batch negatives: each anchor must find its own positive among all candidates of the batch."""

    scale: float = Field(default=20.0, gt=0, le=1e6)
    """Multiplies the similarities: 20 for cosine and 1 for dot product in the published models."""
    symmetric: bool = True
    """For pairs, also those with a past context: let each positive find its anchor, too. Batches with hard negatives are
    always one way."""
    learn_scale: bool = False
    """Train the logarithm of the scale with the model, as CLIP does; it starts from ``scale`` and is kept at most 100."""
    query_query: bool = False
    """Let the other anchors be negatives of an anchor, too. All terms, both ways included, then share one denominator."""
    document_document: bool = False
    """Let the candidates of other rows be negatives of a positive, too. All terms, both ways included, then share one
    denominator."""
    mask_false_negatives: bool = True
    """Leave candidates out whose text is, as the model reads it, equal to the anchor or to its positive; false reproduces
    the published models."""
    matryoshka_dimensions: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Take the mean of the losses over the first so many components of each vector; rising, such as [64, 128, 384]. Name
    the full dimension, too, if the whole vector is to be trained. By default only the whole vector is."""

    @model_validator(mode="after")
    def _learnt_scale_has_room(self) -> LossSection:
        if self.learn_scale and self.scale > 100:
            raise ValueError(f"scale is {self.scale:g}, but learn_scale keeps it at most 100; lower it")
        return self

    @model_validator(mode="after")
    def _dimensions_rise(self) -> LossSection:
        if list(self.matryoshka_dimensions) != sorted(set(self.matryoshka_dimensions)):
            raise ValueError(
                f"matryoshka_dimensions is {list(self.matryoshka_dimensions)}; write each once, the smallest first"
            )
        return self


class TrainSection(Section):
    """The optimisation."""

    steps: int = Field(gt=0, lt=2**40)
    """Optimizer steps."""
    batch_size: int = Field(default=128, ge=2)
    """Pairs an optimizer step."""
    micro_batch_tokens: int = Field(default=2048, ge=32)
    """Texts of a forward pass times the longest of them. 2,048 keeps two CPU cores busy within their cache; GPUs want
    more."""
    graph_memory_mib: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """Memory for the graphs of a batch, on each device. Micro-batches whose graphs do not fit are computed twice, which
    changes no number on a CPU; 0: all are (gradient caching). By default half of the free main memory, or most of a GPU's."""
    checkpoint_layers: bool = False
    """Keep only the input of each layer for the backward pass, and compute the rest again: for micro-batches of long
    texts that would not fit otherwise."""
    learning_rate: float = Field(default=2e-5, gt=0, le=10)
    """At the end of the warm-up."""
    warmup_steps: int = Field(default=500, ge=0)
    """Linear rise of the learning rate."""
    schedule: Schedule = "linear"
    """How it falls after the warm-up, so that it would reach 0 one step after the last: in a straight line, along half a
    cosine, or in a straight line at the end only."""
    decay_steps: int | None = Field(default=None, ge=1)
    """Of warmup-stable-decay: steps of the fall; by default a tenth of the run."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Of AdamW."""
    epsilon: float = Field(default=1e-6, gt=0)
    """Of AdamW."""
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    """Of AdamW; not applied to biases and layer norms."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients with a larger global norm are scaled down to it."""
    max_skipped_steps: int = Field(default=0, ge=0)
    """Batches whose loss or gradient is not a number may be passed over so often; one more stops the run."""
    freeze_embeddings: bool = False
    """Leave the tables of words and positions, and the norm after them, as they are."""
    freeze_layers: int = Field(default=0, ge=0)
    """Leave so many layers as they are, from the first on. (MPNet's relative bias belongs to all layers and is trained.)"""
    average_decay: float | None = Field(default=None, gt=0, lt=1)
    """Make the model from a moving average of the weights, of which so much is kept at a step, such as 0.999."""
    seed: int = Field(default=0, ge=0, lt=2**40)
    """Order of the pairs, and dropout."""
    precision: TrainingPrecision = "float32"
    """Of the forward and backward pass; weights and optimizer stay in float32."""
    checkpoint_every_steps: int = Field(default=500, gt=0)
    """A checkpoint is also written at the end and on Ctrl-C."""
    keep_checkpoints: int = Field(default=2, gt=0)
    """Older ones are removed."""
    peer_timeout_s: int = Field(default=600, ge=1, le=604_800)
    """Of several processes: seconds without an answer after which the others give one up. They load the model and the data
    within it, too."""
    tensorboard: bool = False
    """Write the metrics as TensorBoard events, too, beside ``metrics.jsonl``; needs the extra ``tensorboard``."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> TrainSection:
        if self.warmup_steps >= self.steps and self.warmup_steps > 0:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps}, but must be less than steps, {self.steps}; "
                "lower it with --set train.warmup_steps=0"
            )
        return self

    @model_validator(mode="after")
    def _schedule_reads_its_parameter(self) -> TrainSection:
        if self.decay_steps is not None and self.schedule != "warmup-stable-decay":
            raise ValueError(f'decay_steps is for schedule = "warmup-stable-decay", but schedule is "{self.schedule}"')
        return self


class EvaluateSection(Section):
    """Measurements on held-out tasks, during training and after it."""

    tasks: tuple[Path, ...] = ()
    """Task folders (BEIR layout), sentence-pair files, and files of candidate sets."""
    every_steps: int = Field(default=0, ge=0)
    """0: only before the first step and after the last."""
