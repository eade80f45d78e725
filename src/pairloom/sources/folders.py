"""Finding the files of a corpus that is published as a folder of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pairloom.errors import InputError
from pairloom.files import uncompressed_name


def find_files(inputs: Sequence[str], published: re.Pattern[str], wanted: str) -> list[Path]:
    """The inputs that are files, whatever their names, and of the folders what is named as it is published.

    Args:
        inputs: Files and folders.
        published: Matches the whole name of a published file, without the suffix of its compression.
        wanted: These names in words, for who has none of them.

    Raises:
        InputError: An input is not there, or a folder has no such file.
    """
    return list(dict.fromkeys(path for name in inputs for path in _files(Path(name), published, wanted)))


def _files(path: Path, published: re.Pattern[str], wanted: str) -> Iterator[Path]:
    if not path.is_dir():
        if not path.exists():
            raise InputError("no such file or folder", path)
        yield path
        return
    found = [entry for entry in sorted(path.iterdir()) if published.fullmatch(uncompressed_name(entry))]
    if not found:
        raise InputError(f"holds no {wanted}", path)
    yield from found
