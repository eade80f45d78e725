"""Cutting the files of a dump into pieces of work.

A plain file is cut by place: each piece is a range of bytes, and who reads it moves both ends to the next mark. A
compressed file can only be read from its beginning, so its bytes are cut as they come and travel with the task. A
format without a mark is read as a whole.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pairloom.errors import InputError
from pairloom.files import is_compressed, open_binary
from pairloom.sources.formats import MAX_RECORD_BYTES, InputFile, Piece

PIECE_BYTES = 4 << 20
"""Enough to make a task worth sending, little enough to keep the trees of a parser small."""

Advance = Callable[[int], None]
"""Takes a number of bytes that have been read from the disk."""


@dataclass(frozen=True)
class Task:
    """A piece of work.

    Args:
        number: Of the file, in the list of files.
        start: Where the range begins, in bytes; for bytes that travel along, the number of lines before them.
        stop: Where it ends; None for a whole file.
        content: The bytes, if they travel along.
        is_first: Whether the file begins here.
        is_last: Whether the file ends here.
    """

    number: int
    start: int = 0
    stop: int | None = None
    content: bytes | None = None
    is_first: bool = True
    is_last: bool = True


def plan(number: int, file: InputFile, advance: Advance) -> Iterator[Task]:
    """Yields the tasks of a file; those of a compressed one as it is read, which ``advance`` is told."""
    if file.format.mark is None:
        yield Task(number)
    elif file.member is None and not is_compressed(file.path):
        with open_binary(file.path):  # that it is there and no directory
            size = file.path.stat().st_size
        for start in range(0, max(size, 1), PIECE_BYTES):
            stop = min(start + PIECE_BYTES, size)
            yield Task(number, start, stop, is_first=start == 0, is_last=stop == size)
    else:
        with open_file(file, advance) as stream:
            lines = 0
            for content, is_first, is_last in _cut(stream, file):
                task = Task(number, lines, None, content, is_first, is_last)
                lines += content.count(b"\n")
                if not is_last:
                    yield task
        # Damage may show when the archive is closed; until then nobody shall wonder about how its content ends.
        yield task


@contextmanager
def open_piece(task: Task, file: InputFile, broken: Callable[[int, str], None], advance: Advance) -> Iterator[Piece]:
    """Opens what a task is about; ``broken`` is told lines or records of the piece, counted from 1."""
    with ExitStack() as stack:
        stream: BinaryIO
        if task.content is not None:
            stream = io.BytesIO(task.content)
        elif task.stop is not None:
            stream = io.BytesIO(_read_range(file, task.start, task.stop))
        else:
            stream = stack.enter_context(open_file(file, advance))
        yield Piece(file, stream, broken, task.is_first, task.is_last)
        if task.stop is not None:
            advance(task.stop - task.start)


def open_file(file: InputFile, advance: Advance | None = None) -> AbstractContextManager[BinaryIO]:
    """Opens a file of a dump, or the member of its archive, for reading decompressed bytes."""
    if file.member is None:
        return open_binary(file.path, advance)
    from pairloom.sources.archives import open_7z_member

    return open_7z_member(file.path, file.member, advance)


def line_number(task: Task, file: InputFile, line: int) -> int:
    """The line of the file that is line number ``line`` of a piece."""
    if task.content is not None:
        return task.start + line
    if task.stop is None or task.is_first:
        return line
    left = _next_cut(file, task.start)
    with file.path.open("rb") as stream:
        while left and (block := stream.read(min(left, PIECE_BYTES))):
            line += block.count(b"\n")
            left -= len(block)
    return line


def _cut(stream: BinaryIO, file: InputFile) -> Iterator[tuple[bytes, bool, bool]]:
    """Yields blocks that end at a mark, and whether each is the first and the last."""
    mark, cut = file.format.mark, file.format.cut
    assert mark is not None
    rest, is_first = b"", True
    while block := stream.read(PIECE_BYTES):
        whole = rest + block
        # What was searched before has no mark after its beginning; one may lie across the seam.
        end = whole.rfind(mark, max(len(rest) - len(mark) + 1, 0)) + cut
        if end > 0:
            yield whole[:end], is_first, False
            whole, is_first = whole[end:], False
        rest = whole
        if len(rest) > MAX_RECORD_BYTES:
            raise _too_long(file.path)
    yield rest, is_first, True


def _read_range(file: InputFile, start: int, stop: int) -> bytes:
    begin = _next_cut(file, start) if start else 0
    with file.path.open("rb") as stream:
        stream.seek(begin)
        return stream.read(max(_next_cut(file, stop) - begin, 0))


def _next_cut(file: InputFile, place: int) -> int:
    """The first cut at or after a place, or the end of the file."""
    mark, cut = file.format.mark, file.format.cut
    assert mark is not None
    with file.path.open("rb") as stream:
        at = max(place - cut, 0)
        stream.seek(at)
        window = b""
        while block := stream.read(1 << 16):
            window = window[1 - len(mark) :] + block if len(mark) > 1 else block
            found = window.find(mark)
            if found >= 0:
                return stream.tell() - len(window) + found + cut
            if stream.tell() - at > MAX_RECORD_BYTES:
                raise _too_long(file.path)
        return stream.tell()


def _too_long(path: Path) -> InputError:
    return InputError(
        f"has a record of more than {MAX_RECORD_BYTES >> 20} MiB, or is another kind of file; it is not read", path
    )
