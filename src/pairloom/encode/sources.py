"""Several sources of texts, read one after the other as if they were one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pairloom.encode.inputs import STDIN, Format, TextSource
from pairloom.encode.job_input import source_state
from pairloom.errors import UsageError
from pairloom.files import Errors
from pairloom.records import Text


class Sources:
    """The input of a bulk job.

    Args:
        sources: Files, folders, and ``-`` for stdin, in their order. Ids are those of each source.
        field: As in `TextSource`, for all of them.
        id_field: As in `TextSource`.
        errors: As in `TextSource`.
        format: As in `TextSource`.

    Raises:
        InputError: What can be seen without reading is wrong. See `TextSource`.
        UsageError: A source is given twice.
    """

    def __init__(
        self,
        sources: Sequence[Path | str],
        *,
        field: str | None = None,
        id_field: str | None = None,
        errors: Errors = "strict",
        format: Format | None = None,
    ) -> None:
        if len({str(source) for source in sources}) < len(sources) or not sources:
            raise UsageError("give each input once, and at least one")
        self._sources = [
            TextSource(source, field=field, id_field=id_field, errors=errors, format=format) for source in sources
        ]
        self.state: dict[str, Any] = source_state(
            sources, field=field, id_field=id_field, errors=None if errors == "strict" else errors, format=format
        )
        """What must be the same when a job goes on."""
        sizes = [_size(source) for source in sources]
        self._sizes = None if None in sizes else [size or 1 for size in sizes]

    @property
    def name(self) -> str:
        """For manifests and messages."""
        return ", ".join(source.name for source in self._sources)

    def __iter__(self) -> Iterator[Text]:
        for source in self._sources:
            yield from source

    def share_read(self) -> float | None:
        """How much of all has been read, by size; None where stdin is among them."""
        if self._sizes is None:
            return None
        done = sum((source.share_read or 0.0) * size for source, size in zip(self._sources, self._sizes, strict=True))
        return done / sum(self._sizes)


def _size(source: Path | str) -> int | None:
    """Bytes of a file or of all files of a folder; None of stdin."""
    path = Path(source)
    if str(source) == STDIN:
        return None
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
