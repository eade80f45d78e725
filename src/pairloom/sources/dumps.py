"""Finding the dumps of many corpora among the files of some folders, by the names under which they are published."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from pairloom.artifacts import is_artifact
from pairloom.errors import InputError
from pairloom.files import uncompressed_name

# The sites of Stack Exchange; others that call their dumps *.7z, too, are none of them.
_SITE = re.compile(
    r"(?:[\w-]+\.)*stackexchange\.com|(?:[\w-]+\.)?stackoverflow\.com|"
    r"(?:meta\.)?(?:serverfault|superuser|askubuntu|stackapps)\.com|(?:meta\.)?mathoverflow\.net"
)
_OTHER_LANGUAGE = re.compile(r"(?:meta\.)?(?:es|ja|pt|ru|rus)\.(?:meta\.)?(?:stackoverflow|stackexchange)\.com")
_OF_POSTS = re.compile(r"-Posts$")
# How a folder may be called besides: Stack Overflow is so large that there are parts of it.
_SHORT = re.compile(r"(?:stackoverflow(?=$|[._-])|serverfault$|superuser$|askubuntu$|mathoverflow$|stackapps$)")


class Dumps:
    """The files of some folders. Hidden ones are not seen, nor what pairloom has made.

    Args:
        places: Folders, whose folders are looked into, too; and files.

    Raises:
        InputError: A place is not there.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        self._files: dict[Path, str] = {}
        self._found: dict[str, list[Path]] = {}
        seen: set[Path] = set()  # the same folder may be given twice, and links may lead in a circle
        for place in places:
            if not place.exists():
                raise InputError("no such file or folder", place)
            top = place if place.is_dir() else place.parent
            for path in _files(place, seen) if place.is_dir() else [place]:
                # What a folder is called may tell what is in it, so the name of the place counts, too.
                shown = Path(top.resolve().name, path.relative_to(top).parent, uncompressed_name(path))
                self._files.setdefault(path, shown.as_posix())

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        by_name = defaultdict(list)
        for path in self._files:
            by_name[uncompressed_name(path)].append(path)
        return by_name

    def named(self, *patterns: str) -> list[Path]:
        """The files whose names match the first of some patterns that any name matches.

        Args:
            patterns: Of whole names without the suffix of a compression, or of the last folders and the name; case does
                not matter.
        """
        return next((found for pattern in patterns if (found := self._matching(pattern))), [])

    def _matching(self, pattern: str) -> list[Path]:
        if pattern not in self._found:
            whole = re.compile(rf"(?:.*/)?(?:{pattern})", re.IGNORECASE)
            self._found[pattern] = [path for path, shown in self._files.items() if whole.fullmatch(shown)]
        return self._found[pattern]

    def ready(self, name: str) -> list[Path]:
        """The ready pair file of a dataset, with the name and the folder that it has in the published lists."""
        folder, _, base = name.rpartition("/")
        paths = self._by_name.get(f"{base}.jsonl", [])
        return [path for path in paths if folder in ("", path.parent.name)][:1]

    @cached_property
    def sites(self) -> dict[str, list[Path]]:
        """The posts of each site of Stack Exchange: archives, or tables where it has been unpacked."""
        tables, archives = defaultdict(list), defaultdict(list)
        for path in self._files:
            if path.suffix == ".7z" and _SITE.fullmatch(site := _OF_POSTS.sub("", path.stem)):
                archives[site].append(path)
            elif uncompressed_name(path) == "Posts.xml":
                tables[_site_of(path.parent.name)].append(path)
        return {site: tables[site] or archives[site][:1] for site in sorted({*tables, *archives})}


def _site_of(folder: str) -> str:
    """The site whose tables are in a folder of this name."""
    name = _OF_POSTS.sub("", folder)
    if _SITE.fullmatch(name):
        return name
    if short := _SHORT.match(name):
        return f"{short[0]}.net" if short[0] == "mathoverflow" else f"{short[0]}.com"
    return f"{name}.stackexchange.com"


def _files(top: Path, seen: set[Path]) -> Iterator[Path]:
    for name, folders, files in os.walk(top, followlinks=True):
        here = Path(name)
        if (real := here.resolve()) in seen or ("manifest.json" in files and is_artifact(here)):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        yield from (here / file for file in sorted(files) if not file.startswith("."))


def unnamed(sites: Iterable[str], named: Iterable[str]) -> list[str]:
    """Of some sites those that are not named; those in other languages than English are in none of the lists."""
    return sorted({site for site in sites if not _OTHER_LANGUAGE.fullmatch(site)} - set(named))
