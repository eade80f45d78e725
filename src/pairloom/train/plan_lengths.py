"""How long a run's texts are, in tokens as training takes them: from some rows of the shards, or else from the limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pairloom.models.dual import AnyModel
from pairloom.pairs.batch import Batch, Part
from pairloom.pairs.dataset import Dataset
from pairloom.recipe import DataSection, DatasetSection
from pairloom.train.step import BatchTokenizer

SEED = 0
# The mean of so many lengths is known to some percent, since a length's spread is hardly more than its mean; with many
# datasets each has fewer, which is enough for their sum.
_SAMPLED_ROWS, _LEAST_ROWS = 4096, 32


@dataclass(frozen=True)
class RowLengths:
    """Tokens of a dataset's rows, cut and with prompts.

    Args:
        tokens: Of some rows, column by column: int64 [rows, columns], at least one row.
        is_sample: Whether they are of real rows; otherwise they are one row of the limits, which no row exceeds.
    """

    tokens: npt.NDArray[np.int64]
    is_sample: bool

    @property
    def num_sampled(self) -> int:
        """Rows that were tokenized."""
        return len(self.tokens) if self.is_sample else 0


def rows_each(num_datasets: int) -> int:
    """How many rows of each dataset are sampled, if it has so many."""
    return max(_LEAST_ROWS, _SAMPLED_ROWS // max(1, num_datasets))


def sample_lengths(dataset: Dataset, model: AnyModel, section: DataSection, *, num_rows: int) -> RowLengths:
    """Tokenizes rows drawn by chance, always the same, just as training does.

    Args:
        dataset: Where they come from.
        model: Whose tokenizer is used.
        section: Has the limits of datasets that have none of their own.
        num_rows: How many to draw; all if there are not so many.

    Raises:
        ArtifactError: A file of the shards is damaged.
    """
    rows = np.arange(len(dataset))
    if num_rows < len(dataset):
        rows = np.sort(np.random.default_rng(SEED).choice(len(dataset), num_rows, replace=False))
    batch = Batch(0, (Part(dataset, rows),), 0, len(rows), dataset.texts(rows), {})
    lengths = BatchTokenizer(model, section)(batch).tokens.lengths
    return RowLengths(lengths.reshape(-1, len(rows)).T, is_sample=True)


def longest_lengths(dataset: DatasetSection, section: DataSection, *, num_columns: int) -> RowLengths:
    """A row that is as long as the limits allow."""
    anchor = dataset.anchor_max_tokens or section.anchor_max_tokens
    candidate = dataset.positive_max_tokens or section.positive_max_tokens
    return RowLengths(np.array([[anchor] + [candidate] * (num_columns - 1)], dtype=np.int64), is_sample=False)


def draw_batch(
    lengths: Sequence[RowLengths], shares: npt.NDArray[np.float64], *, num_pairs: int
) -> npt.NDArray[np.int64]:
    """The lengths of the texts of a batch like those of the run: int64 [texts].

    Args:
        lengths: Of each dataset.
        shares: Of each dataset in all rows drawn.
        num_pairs: Of the batch.
    """
    dice = np.random.default_rng(SEED)
    chosen = dice.choice(len(lengths), size=num_pairs, p=shares / shares.sum())
    rows = [one.tokens[dice.integers(len(one.tokens), size=int((chosen == n).sum()))] for n, one in enumerate(lengths)]
    return np.concatenate([part.ravel() for part in rows])
