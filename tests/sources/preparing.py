"""Runs a source over files as the command line does."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pairloom.pairs.shards import Shards
from pairloom.recipe import load_sources
from pairloom.records import Pair
from pairloom.sources.prepare import prepare


def prepare_pairs(
    source: str, *inputs: Path, view: str | None = None, **settings: Any
) -> tuple[set[Pair], dict[str, Any]]:
    """The pairs that a source makes of its inputs, and the facts of their shards."""
    overrides = [
        f'{source}.{key}="{value}"' if isinstance(value, str) else f"{source}.{key}={value}".lower()
        for key, value in settings.items()
    ]
    with TemporaryDirectory() as folder:
        out = Path(folder, "out")
        facts = prepare(source, inputs, view, out, settings=load_sources(overrides), show_progress=False)
        return set(Shards(out)), facts
