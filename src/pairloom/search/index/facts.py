"""What the manifest of a vector index says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pairloom.errors import ArtifactError
from pairloom.json_types import Bounds, JsonTypeError, from_json
from pairloom.search.index.approximate import Settings
from pairloom.search.index.compact import CompactFacts
from pairloom.search.index.flat_file import NUMBERS
from pairloom.search.index.graph import GraphFacts

LAYOUT = 1


@dataclass(frozen=True)
class IndexFacts:
    """What was made, of what, and how well it finds.

    Args:
        kind: ``exact``: vectors only. ``graph``: and a graph over them. ``compact``: and short codes of them.
        rows: How many vectors there are.
        dead: How many of them are carried along, but were not among the rows that the index was made of.
        dimensions: Numbers in a vector.
        storage: How they are stored.
        recall: Of the nearest 10, as it was measured.
        target_recall: What it had to reach.
        unreached: Of what was asked for instead of ``exact`` and did not reach the target: its kind and recall, and of how many
            rows it was made.
        masked_recall: Where only a share of the vectors counts; by the share.
        settings: With what effort that was measured.
        graph: What its files do not say.
        compact: What its files do not say.
        layout: Of the files.
    """

    kind: str
    rows: Annotated[int, Bounds(least=0)]
    dead: Annotated[int, Bounds(least=0)]
    dimensions: Annotated[int, Bounds(least=1, below=1 << 20)]
    storage: str
    recall: float
    target_recall: float
    unreached: dict[str, Any] | None = None
    masked_recall: dict[str, float] | None = None
    settings: Settings | None = None
    graph: GraphFacts | None = None
    compact: CompactFacts | None = None
    layout: int = LAYOUT


def read_facts(path: Path, raw: dict[str, Any]) -> IndexFacts:
    """The facts of an index's manifest.

    Raises:
        ArtifactError: They make no sense, or are of another version.
    """
    try:
        if raw.get("layout") != LAYOUT:
            raise ValueError(f"its layout is {raw.get('layout')}, and this version reads {LAYOUT}")
        facts = from_json(IndexFacts, raw)
        if facts.storage not in NUMBERS or facts.kind not in ("exact", "graph", "compact"):
            raise ValueError(f"it is {facts.kind} of {facts.storage}")
        parts = {"graph": facts.graph, "compact": facts.compact}
        if any((part is not None) != (kind == facts.kind) for kind, part in parts.items()):
            raise ValueError(f"it is {facts.kind}, and has something else")
        if (facts.settings is None) != (facts.kind == "exact"):
            raise ValueError(f"it is {facts.kind}, and its settings are {facts.settings}")
    except (JsonTypeError, ValueError) as error:
        raise ArtifactError(f"{path}: damaged ({error}); build the index again") from None
    return facts
