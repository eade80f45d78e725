"""How rows are spread over Arrow files: what the writer of shards and their reader agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PAIR_COLUMNS = ("anchor", "positive")
TRIPLET_COLUMNS = ("anchor", "positive", "negative")
CONTEXT_COLUMNS = ("anchor", "positive", "context")
"""A reply, what it answers, and what was said before that. The third text belongs to the others: it is no negative."""

_ALL_COLUMNS = (PAIR_COLUMNS, TRIPLET_COLUMNS, CONTEXT_COLUMNS)

# Larger batches cost a writer memory, smaller ones make the metadata weigh: a billion rows have 61,000 batches.
ROWS_PER_BATCH = 16384
# Some gigabytes a file, so that a billion pairs are a few hundred files, fewer than a process may open.
ROWS_PER_FILE = 256 * ROWS_PER_BATCH


@dataclass(frozen=True)
class Layout:
    """How rows are spread over files and record batches.

    Args:
        columns: `PAIR_COLUMNS`, `TRIPLET_COLUMNS` or `CONTEXT_COLUMNS`.
        rows_per_batch: Rows of every record batch but the last.
        rows_per_file: Rows of every file but the last; a multiple of ``rows_per_batch``.
    """

    columns: tuple[str, ...] = PAIR_COLUMNS
    rows_per_batch: int = ROWS_PER_BATCH
    rows_per_file: int = ROWS_PER_FILE

    def __post_init__(self) -> None:
        if self.columns not in _ALL_COLUMNS:
            raise ValueError(
                f"columns must be {', '.join(map(str, _ALL_COLUMNS[:-1]))} or {_ALL_COLUMNS[-1]}, not {self.columns}"
            )
        if self.rows_per_batch < 1 or self.rows_per_file < 1 or self.rows_per_file % self.rows_per_batch:
            raise ValueError("rows_per_file must be a multiple of rows_per_batch, and both at least 1")

    @property
    def hash_columns(self) -> tuple[str, ...]:
        return tuple(f"{column}_hash" for column in self.columns)

    @property
    def schema(self) -> Any:
        """The Arrow schema. Large strings: a thousand texts of a few megabytes would overflow 32-bit offsets."""
        import pyarrow as pa  # here, because a layout is also spoken of where no file is read

        texts = [pa.field(column, pa.large_string(), nullable=False) for column in self.columns]
        return pa.schema(texts + [pa.field(column, pa.uint64(), nullable=False) for column in self.hash_columns])

    @staticmethod
    def file_name(number: int) -> str:
        return f"part-{number:05d}.arrow"
