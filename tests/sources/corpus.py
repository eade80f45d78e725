"""Running a source on files that a test wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pairloom.errors import InputError
from pairloom.pairs.shards import Shards
from pairloom.recipe import load_sources
from pairloom.sources.prepare import prepare


class Corpus:
    """A source, run with a folder to write in.

    Args:
        source: Its name.
        folder: Where the test's files stand.
    """

    def __init__(self, source: str, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.facts: dict[str, Any] = {}
        self._num_runs = 0

    def write(self, name: str, content: str | bytes | list[Any] | dict[str, Any]) -> Path:
        """Writes a file: bytes and text as they are, an object as JSON, a list of objects as JSON lines."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(record) + "\n" for record in content)
        elif isinstance(content, dict):
            content = json.dumps(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def pairs(self, *inputs: Path, view: str | None = None, settings: tuple[str, ...] = (), **more: Any) -> list[Any]:
        """The texts of the pairs, sorted; the facts are kept."""
        self._num_runs += 1
        out = self.folder / f".out-{self._num_runs}"
        overrides = tuple(f"{self.source}.{setting}" for setting in settings)
        self.facts = prepare(
            self.source, inputs, view, out, settings=load_sources(overrides), show_progress=False, **more
        )
        return sorted((pair.anchor, pair.positive, *pair.negatives) for pair in Shards(out))

    def dropped(self) -> dict[str, int]:
        """What the last run dropped."""
        dropped: dict[str, int] = self.facts["dropped"]
        return dropped

    def broken(self) -> list[str]:
        """The places of what the last run could not read."""
        places: list[str] = self.facts["broken"]["places"]
        return places

    def fault(self, *inputs: Path, **more: Any) -> str:
        """The sentence with which the input is refused."""
        with pytest.raises(InputError) as caught:
            self.pairs(*inputs, **more)
        assert "\n" not in str(caught.value)
        return str(caught.value)
