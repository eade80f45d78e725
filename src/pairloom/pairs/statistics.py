"""What is in a shards folder: how long its texts are, in characters and in tokens, and some rows drawn by chance.

Percentiles are those of the nearest rank: the q-th is the smallest length that at least q % of the texts do not exceed.
It is always a length that occurs, and no interpolation is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairloom.errors import ArtifactError, MissingExtraError
from pairloom.pairs.shards import Shards
from pairloom.progress import Meter, meter

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError:
    raise MissingExtraError("reading shards", "pyarrow", "data") from None

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
# Enough to know the share of texts that a limit would cut to one percentage point: 1.96 × √(0.25 / 10,000).
MAX_TOKENIZED_ROWS = 10_000
# The limit under which the published models were trained, whatever they take in use.
TRAINING_MAX_TOKENS = 128

_FOLD_AT = 1 << 20  # lengths that wait to be counted: 8 MB, and few sorts
_ROWS_AT_ONCE = 256  # a row may have megabytes


@dataclass(frozen=True)
class Lengths:
    """How many texts have which length.

    Args:
        values: The different lengths, rising, int64 [V].
        counts: How many texts have each, int64 [V].
    """

    values: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Iterable[NDArray[np.int64]]) -> Lengths:
        """Counts lengths that come in parts; memory grows with the different ones, not with how many there are."""
        counted = cls(np.empty(0, np.int64), np.empty(0, np.int64))
        waiting: list[NDArray[np.int64]] = []
        num_waiting = 0
        for part in parts:
            waiting.append(part)
            num_waiting += len(part)
            if num_waiting >= _FOLD_AT:
                counted, waiting, num_waiting = counted._with(waiting), [], 0
        return counted._with(waiting)

    def _with(self, parts: list[NDArray[np.int64]]) -> Lengths:
        values, counts = np.unique(np.concatenate([*parts, self.values[:0]]), return_counts=True)
        merged = np.union1d(self.values, values)
        total = np.zeros(len(merged), np.int64)
        total[np.searchsorted(merged, self.values)] += self.counts
        total[np.searchsorted(merged, values)] += counts
        return Lengths(merged, total)

    def __len__(self) -> int:
        """How many texts were counted."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Of at least one text."""
        return float(self.values @ self.counts / len(self))

    def percentile(self, percent: int) -> int:
        """The smallest length that at least ``percent`` % of the texts, of which there is one or more, do not exceed."""
        rank = max(1, -(-percent * len(self) // 100))
        return int(self.values[np.searchsorted(np.cumsum(self.counts), rank)])

    def share_above(self, limit: int) -> float:
        """The fraction of the texts that are longer than ``limit``."""
        return float(self.counts[self.values > limit].sum() / len(self))

    def to_json(self) -> dict[str, int | float]:
        """Minimum, percentiles, maximum and mean, in this order."""
        percentiles = {f"p{percent}": self.percentile(percent) for percent in PERCENTILES}
        return {"min": self.percentile(0), **percentiles, "max": self.percentile(100), "mean": self.mean}


@dataclass(frozen=True)
class TokenCounter:
    """A model's tokenizer, as far as lengths are concerned.

    Args:
        model: Its name.
        max_tokens: Where the model cuts texts.
        count: Texts to their numbers of tokens, special ones included, nothing cut: int64 [N].
    """

    model: str
    max_tokens: int
    count: Callable[[Sequence[str]], NDArray[np.int64]]


@dataclass(frozen=True)
class TokenLengths:
    """Lengths in tokens of some rows.

    Args:
        model: Whose tokens.
        max_tokens: Where the model cuts texts.
        num_rows: How many rows were tokenized: all, or so many drawn by chance.
        columns: Column to lengths.
    """

    model: str
    max_tokens: int
    num_rows: int
    columns: dict[str, Lengths]

    @property
    def limits(self) -> tuple[int, ...]:
        """Numbers of tokens at which texts are often cut: in the training of the published models, and by the model."""
        return tuple(sorted({TRAINING_MAX_TOKENS, self.max_tokens}))


@dataclass(frozen=True)
class Statistics:
    """What is in a shards folder.

    Args:
        num_rows: Of the folder.
        characters: Column to lengths in characters (Unicode code points) of all its texts.
        tokens: Lengths in tokens, if there was a tokenizer.
        seed: By which rows were drawn.
        samples: Some rows, in the order of the folder: ``row`` is the number, the rest the texts by column.
    """

    num_rows: int
    characters: dict[str, Lengths]
    tokens: TokenLengths | None
    seed: int
    samples: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values; shares are fractions."""
        tokens = None
        if self.tokens is not None:
            tokens = {
                "model": self.tokens.model,
                "max_tokens": self.tokens.max_tokens,
                "num_rows": self.tokens.num_rows,
                "columns": {
                    column: lengths.to_json()
                    | {"cut": {str(limit): lengths.share_above(limit) for limit in self.tokens.limits}}
                    for column, lengths in self.tokens.columns.items()
                },
            }
        return {
            "characters": {column: lengths.to_json() for column, lengths in self.characters.items()},
            "tokens": tokens,
            "seed": self.seed,
            "samples": self.samples,
        }


def describe(
    shards: Shards,
    *,
    tokenizer: TokenCounter | None = None,
    seed: int = 0,
    num_samples: int = 10,
    show_progress: bool = False,
) -> Statistics:
    """Measures the texts of a shards folder and draws some rows.

    Characters are counted in every text, column by column, a record batch at a time. Tokens are counted in all rows up
    to `MAX_TOKENIZED_ROWS`, in so many drawn by chance if there are more.

    Args:
        shards: The folder.
        tokenizer: How tokens are counted; None for no lengths in tokens.
        seed: Of the draws.
        num_samples: Rows to draw, fewer if there are fewer.
        show_progress: Whether to report on stderr.

    Raises:
        ArtifactError: A file is damaged.
    """
    total = len(shards) * len(shards.columns)
    with meter("Measuring", total=total, unit="texts", show=show_progress) as bar:
        characters = {column: Lengths.of(_characters(shards, column, bar)) for column in shards.columns}
    for column, lengths in characters.items():
        if len(lengths) != len(shards):
            raise ArtifactError(
                f"{shards.path}: has {len(lengths):,} texts in the column {column} where its manifest says "
                f"{len(shards):,}; make the folder again"
            )
    sampled = _draw(len(shards), num_samples, [seed, 0])
    texts = shards.take(sampled).columns
    samples = [
        {"row": row, **dict(zip(shards.columns, row_texts, strict=True))}
        for row, *row_texts in zip(sampled.tolist(), *texts, strict=True)
    ]
    tokens = None if tokenizer is None else _tokens(shards, tokenizer, seed, show_progress=show_progress)
    return Statistics(len(shards), characters, tokens, seed, samples)


def _draw(num_rows: int, num_drawn: int, seed: list[int]) -> NDArray[np.int64]:
    """Different row numbers, rising."""
    if num_drawn >= num_rows:
        return np.arange(num_rows)
    return np.sort(np.random.default_rng(seed).choice(num_rows, num_drawn, replace=False))


def _characters(shards: Shards, column: str, bar: Meter) -> Iterator[NDArray[np.int64]]:
    """The lengths in characters of a column's texts, a record batch at a time; no text becomes a Python string."""
    schema = shards.layout.schema
    options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(column)])
    for number in range(-(-len(shards) // shards.layout.rows_per_file)):
        path = shards.path / shards.layout.file_name(number)
        try:
            # Not mapped: everything is read once, and mapped pages would count as this process's memory.
            with pa.OSFile(str(path)) as source:
                reader = pa.ipc.open_file(source, options=options)
                for batch in range(reader.num_record_batches):
                    texts = reader.get_batch(batch).column(column)
                    texts.validate(full=True)  # offsets that lead out of the batch would end the process
                    yield pc.utf8_length(texts).to_numpy().astype(np.int64, copy=False)
                    bar.advance(len(texts))
        except (pa.ArrowException, KeyError, OSError) as error:
            raise ArtifactError(f"{path}: damaged ({error}); make {shards.path} again") from None


def _tokens(shards: Shards, tokenizer: TokenCounter, seed: int, *, show_progress: bool) -> TokenLengths:
    rows = _draw(len(shards), MAX_TOKENIZED_ROWS, [seed, 1])
    parts: dict[str, list[NDArray[np.int64]]] = {column: [] for column in shards.columns}
    with meter("Tokenizing", total=len(rows), unit="rows", show=show_progress) as bar:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            taken = shards.take(rows[start : start + _ROWS_AT_ONCE])
            for column, texts in zip(shards.columns, taken.columns, strict=True):
                parts[column].append(tokenizer.count(texts))
            bar.advance(len(taken))
    lengths = {column: Lengths.of(counts) for column, counts in parts.items()}
    return TokenLengths(tokenizer.model, tokenizer.max_tokens, len(rows), lengths)
