"""The input of a bulk job: cut into blocks that depend on the texts alone, hashed on the way, divided among parts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairloom.encode.blocks import text_blocks
from pairloom.errors import ArtifactError, UsageError
from pairloom.records import Text


@dataclass(frozen=True)
class Shard:
    """A part of a job: block ``k`` (from 0) belongs to part ``k mod count``.

    Args:
        index: From 0; people count from 1.
        count: How many parts there are.
    """

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"

    def __contains__(self, block: int) -> bool:
        return block % self.count == self.index


WHOLE = Shard()


def parse_shard(text: str) -> Shard:
    """Reads ``i/n``, which counts from 1.

    Raises:
        UsageError: It is something else.
    """
    number, _, count = text.partition("/")
    # What isdecimal() lets through and is not ASCII, int() reads as well.
    if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return Shard(int(number) - 1, int(count))
    raise UsageError(f"--shard {text!r}: give the part and how many there are, such as 1/4, 2/4, 3/4 and 4/4")


def source_state(sources: Sequence[Path | str], **settings: Any) -> dict[str, Any]:
    """What must be the same when a job goes on: the sources with the sizes and times of their files, and how they are read.

    Args:
        sources: Files, folders, or ``-`` for the standard input, of which nothing can be known.
        settings: Such as the field that holds the text; those that are None say nothing.
    """
    files = {}
    for source in sources:
        path = Path(source).resolve()
        if str(source) == "-":
            files["-"] = "standard input"
        elif path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.is_file())
            states = "\n".join(f"{file.relative_to(path)!s} {_state(file)}" for file in found)
            files[str(path)] = hashlib.sha256(states.encode("utf-8", "surrogatepass")).hexdigest()
        else:
            files[str(path)] = _state(path) if path.exists() else "missing"
    return {"input": files, **{name: value for name, value in settings.items() if value is not None}}


@dataclass(frozen=True)
class Behind:
    """How much of the input has been read past.

    Args:
        blocks: Also those that belong to other parts.
        texts: In these blocks.
        sha256: Of these texts and their ids, block after block.
    """

    blocks: int = 0
    texts: int = 0
    sha256: str = ""

    def after(self, block: Sequence[Text]) -> Behind:
        """With one more block."""
        strings = [part.encode("utf-8", "surrogatepass") for text in block for part in (text.id, text.text)]
        digest = hashlib.sha256(bytes.fromhex(self.sha256))
        digest.update(np.array([len(part) for part in strings], dtype="<i8").data)
        digest.update(b"".join(strings))
        return Behind(self.blocks + 1, self.texts + len(block), digest.hexdigest())


@dataclass(frozen=True)
class Block:
    """A block of a job that is to be encoded.

    Args:
        texts: At least one.
        behind: How much of the input is behind us when it is encoded.
        share_read: The same as the reader sees it, between 0 and 1, if that is known.
    """

    texts: list[Text]
    behind: Behind
    share_read: float | None = None


class JobInput:
    """The blocks of one part that are still to be encoded; those that are done are only hashed.

    Args:
        texts: The whole input, from its beginning.
        shard: Whose blocks are given out.
        done: What an earlier process has read past.
        origin: Of the texts, for messages.
        share_read: Says how much of the input has been read, between 0 and 1.

    Raises:
        ArtifactError: (On the way) the texts that are done are not those that were encoded.
    """

    def __init__(
        self,
        texts: Iterable[Text],
        shard: Shard,
        done: Behind,
        *,
        origin: str,
        share_read: Callable[[], float | None] | None = None,
    ) -> None:
        self._texts, self._shard, self._done, self._origin = texts, shard, done, origin
        self._share_read = share_read or (lambda: None)
        self.behind = Behind()
        """What has been read so far: after the last block, all of the input."""

    def __iter__(self) -> Iterator[Block]:
        for number, block in enumerate(text_blocks(self._texts)):
            self.behind = self.behind.after(block)
            if number + 1 == self._done.blocks:
                self._check()
            if number >= self._done.blocks and number in self._shard:
                yield Block(block, self.behind, self._share_read())
        if self.behind.blocks < self._done.blocks:
            self._check()

    def _check(self) -> None:
        if self.behind != self._done:
            raise ArtifactError(
                f"{self._origin}: its first {self._done.texts:,} texts are not those that were encoded before; "
                "give the same input, or begin anew with --restart"
            )


def _state(file: Path) -> str:
    status = file.stat()
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"
