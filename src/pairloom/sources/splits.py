"""Which files of a folder are meant, where a corpus is published in several, some of them to be trained on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pairloom.errors import InputError
from pairloom.files import uncompressed_name

_SPLITS = {"train", "training", "dev", "val", "valid", "validation", "test", "testing", "eval", "evaluation"}
_ARCHIVE = re.compile(r"\.(?:tar(?:\.\w+)?|tgz|tbz2?|txz|zip|7z|rar)$", re.IGNORECASE)
_LEVELS = ("*", "*/*", "*/*/*")

_Item = TypeVar("_Item")


def find_split(inputs: Sequence[str], endings: tuple[str, ...], *, split: str, source: str) -> list[Path]:
    """Files by name, and of a folder those of one split.

    A folder is searched with the folders in it, down to the first level that has files with such an ending. If names
    there tell a split, only those that tell the wanted one are taken; otherwise all.

    Args:
        inputs: Files, which are taken as they are, and folders.
        endings: Of the names, without the suffix of a compression.
        split: Such as ``train``.
        source: Whose setting ``split`` is, for the message.

    Raises:
        InputError: A file is an archive, or a folder has no such file.
    """
    return list(dict.fromkeys(path for name in inputs for path in _find(Path(name), endings, split, source)))


def choose_split(names: Mapping[_Item, str], split: str, path: Path, source: str) -> list[_Item]:
    """Of what has a name, all if no name tells a split, otherwise what tells the wanted one.

    Raises:
        InputError: Only other splits are told.
    """
    splits = {item: splits_in(name) for item, name in names.items()}
    have: set[str] = set().union(*splits.values())
    chosen = [item for item, told in splits.items() if not have or split in told]
    if not chosen:
        told = ", ".join(sorted(have))
        raise InputError(f"has no file called {split}, only {told}; choose with --set {source}.split=…", path)
    return chosen


def splits_in(name: str) -> set[str]:
    """The splits that a file's name tells, or the names of the folders before it."""
    return _SPLITS.intersection(re.split(r"[\W_]+", name.lower()))


def refuse_archive(path: Path) -> None:
    """Raises `InputError` for an archive, which would be read as if it were what it holds."""
    if _ARCHIVE.search(path.name):
        raise InputError("is an archive; unpack it and give its folder", path)


def files_in(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """The files with such an ending at the first level that has any; hidden ones stay hidden."""
    for level in _LEVELS:
        found = [path for path in sorted(folder.glob(level)) if _is_meant(path, folder, endings)]
        if found:
            return found
    return []


def _find(path: Path, endings: tuple[str, ...], split: str, source: str) -> list[Path]:
    if not path.is_dir():
        if not path.name.endswith(endings):
            refuse_archive(path)
        return [path]
    found = files_in(path, endings)
    if not found:
        raise InputError(f"holds no file whose name ends in {' or '.join(endings)}", path)
    return choose_split({file: file.relative_to(path).as_posix() for file in found}, split, path, source)


def _is_meant(path: Path, folder: Path, endings: tuple[str, ...]) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and uncompressed_name(path).endswith(endings) and path.is_file()
