"""``[data]``: what a model is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pairloom.choices import WeightRule
from pairloom.recipe.section import Section


class DatasetSection(Section):
    """One dataset of the mixture."""

    shards: Path
    """The folder that `pairloom prepare` wrote."""
    name: str | None = Field(default=None, min_length=1)
    """What it is called in reports and in checkpoints, and the key to the order of its rows; by default the name of the
    folder."""
    weight: float = Field(default=1.0, gt=0, le=1e12)
    """How often it is drawn, relative to the other datasets."""
    batch_size: int | None = Field(default=None, ge=2)
    """Pairs an optimizer step that draws from it; by default ``train.batch_size``."""
    max_epochs: int | None = Field(default=None, ge=1)
    """After so many it is passed over; by default it is repeated for as long as the run lasts."""
    swap: bool = False
    """Let anchors and positives change places."""
    anchor_prompt: str = ""
    """Put before each anchor."""
    positive_prompt: str = ""
    """Put before each positive, negative and past context."""
    anchor_max_tokens: int | None = Field(default=None, ge=3)
    """Longer anchors are cut, prompt included; by default as ``data.anchor_max_tokens`` says."""
    positive_max_tokens: int | None = Field(default=None, ge=3)
    """Longer positives, negatives and past contexts are cut; by default as ``data.positive_max_tokens`` says."""

    num_rows: int | None = Field(default=None, ge=1, lt=2**63)
    """How many rows it has, for `pairloom mixture` where the shards are not at hand; where they are, they know better."""
    divisor: float | None = Field(default=None, gt=0, le=1e12)
    """Divides the weight that the rule ``capped`` computes; by default 1."""

    @property
    def dataset_name(self) -> str:
        """The name, or that of the folder."""
        return self.name or self.shards.name or str(self.shards)


class BlockShuffleSection(Section):
    """An order of rows that is kind to disks: blocks are shuffled, and the rows within a window of some blocks."""

    rows_per_block: int = Field(default=16384, ge=1)
    """Rows that lie together on disk."""
    blocks_per_window: int = Field(default=64, ge=1)
    """Blocks whose rows are mixed. More of them are nearer to a full shuffle, and must fit into memory."""


class ListingSection(Section):
    """Keys of ``[data]`` that stand for datasets. When a recipe is read they are replaced by what they stand for."""

    configuration: str | None = Field(default=None, min_length=1)
    """A list of datasets and weights: one that comes with pairloom, such as ``multi-qa_v1``, or a JSON file in the form of the
    published ``data_config.json``. What stands in ``datasets`` besides changes the dataset of this name, or is added."""
    shards_folder: str = Field(default="shards", min_length=1)
    """Where the shards of the listed datasets are: each in a folder called as its file, without ``.jsonl.gz``."""
    only: tuple[str, ...] = ()
    """Names, or patterns with ``*``, of the datasets to take, such as ``["squad*", "gooaq_pairs"]``; by default all. Their
    weights stay as they are."""
    without: tuple[str, ...] = ()
    """Names or patterns of the datasets not to take."""


class DataSection(Section):
    """What the model is trained on; `ListingSection` has further keys, which stand for datasets."""

    datasets: Annotated[tuple[DatasetSection, ...], Field(min_length=1)]
    """The datasets; each batch comes from one of them, or from some."""
    weights: WeightRule = "given"
    """Computed from the numbers of rows, unless ``given``; a dataset with a weight of its own is an exception to the rule."""
    weights_alpha: float | None = Field(default=None, ge=0, le=10)
    """Of the rule ``power``: 0 is ``equal``, 1 is ``proportional``; by default 0.5."""
    weights_total: int | None = Field(default=None, ge=1, le=10**12)
    """Of the rule ``capped``: what the weights add up to before divisors and rounding up; by default 10,000."""
    weights_cap: int | None = Field(default=None, ge=1, le=10**12)
    """Of the rule ``capped``: rows beyond do not count; by default 1,000,000."""
    missing: Literal["refuse", "leave-out"] = "refuse"
    """What to do about datasets whose shards are not there: refuse to train, or train on the others."""
    datasets_per_batch: int = Field(default=1, ge=1)
    """Datasets that share a batch. With one, the negatives of a pair are all from its own domain."""
    steps_per_group: int = Field(default=1, ge=1, le=4096)
    """Steps that are drawn together: no text comes twice in them. Their batches come from datasets of one format, each for
    some steps in a row."""
    datasets_per_group: int = Field(default=1, ge=1, le=4096)
    """Draws of a dataset by weight in a group, each for as many steps; two may find the same. At most one a step is made."""
    block_shuffle: BlockShuffleSection | None = None
    """For data that is much larger than memory, on a disk that is slow at reading here and there; by default all rows
    of a dataset are shuffled."""
    prefetch_batches: int = Field(default=2, ge=0, le=1024)
    """Batches that are drawn and tokenized ahead of the model; 0: none. It changes no batch."""
    anchor_max_tokens: int = Field(default=128, ge=3)
    """Longer anchors are cut."""
    positive_max_tokens: int = Field(default=128, ge=3)
    """Longer positives, negatives and past contexts are cut."""

    @model_validator(mode="after")
    def _names_differ(self) -> DataSection:
        names = [dataset.dataset_name for dataset in self.datasets]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(
                f"two datasets are called {twice[0]}; give one of them another name with data.datasets.N.name"
            )
        return self

    @model_validator(mode="after")
    def _rule_reads_its_parameters(self) -> DataSection:
        given = [
            (f"data.datasets.{number}.divisor", "capped", dataset.divisor)
            for number, dataset in enumerate(self.datasets)
        ]
        given += [
            ("data.weights_alpha", "power", self.weights_alpha),
            ("data.weights_total", "capped", self.weights_total),
            ("data.weights_cap", "capped", self.weights_cap),
        ]
        for key, rule, value in given:
            if value is not None and rule != self.weights:
                raise ValueError(f'{key} is for weights = "{rule}", but weights is "{self.weights}"')
        return self
