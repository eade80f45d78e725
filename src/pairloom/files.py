"""Reading files that may be compressed, with the line number at hand when something is wrong."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, cast

from pairloom.errors import InputError, MissingExtraError

_COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
_BUFFER_BYTES = 1 << 20
# The monthly dumps of Reddit are made with a window of 2 GiB, which a decoder refuses unless it is told.
_ZSTD_WINDOW_LOG = 31
# A file without line ends, such as an image, would otherwise be read into memory as one line, whatever its size.
MAX_LINE_BYTES = 256 << 20
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")

Errors = Literal["strict", "replace"]
"""What becomes of bytes that are no UTF-8: they are refused, or each is read as U+FFFD."""


class Lines(Protocol):
    """Bytes that come line by line: an open file, a decompressor, stdin."""

    def readline(self, limit: int, /) -> bytes:
        """The next line with its end, or as much of it as the limit allows; nothing at the end."""


class WatchedFile(io.FileIO):
    """A file, opened for reading bytes, that tells how many of them have been read."""

    def __init__(self, path: Path, on_read: Callable[[int], None] | None = None) -> None:
        super().__init__(path, "rb")
        self._on_read = on_read

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer) or 0
        if self._on_read is not None:
            self._on_read(count)
        return count


@contextmanager
def open_binary(
    path: Path, on_read: Callable[[int], None] | None = None, line: Callable[[], int | None] = lambda: None
) -> Iterator[BinaryIO]:
    """Opens a file for reading bytes, through gzip, bzip2, xz or zstd if its name ends in their suffix.

    Args:
        path: The file.
        on_read: Called with the number of bytes whenever some have been read from the disk.
        line: Asked for the number of the line that is being read when a compressed file turns out to be cut or damaged.

    Raises:
        InputError: The file is missing, a directory or a pipe, or a compressed one is cut or damaged (also in the
            block).
    """
    compression = _COMPRESSIONS.get(path.suffix)
    try:
        if not path.is_file():
            raise InputError("is no regular file; give a file" if path.exists() else "no such file", path)
        raw = WatchedFile(path, on_read)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path) from None
    with raw, io.BufferedReader(raw, _BUFFER_BYTES) as buffered, _decompressed(buffered, path.suffix) as stream:
        try:
            yield stream
        except EOFError:
            raise InputError(
                f"the {compression} stream ends too early; the file is cut, fetch it again", path, line()
            ) from None
        except (gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
            raise _damaged(path, error, line()) from None
        except OSError as error:
            if compression is None or error.errno is not None:
                raise
            raise _damaged(path, error, line()) from None  # bzip2's
        except Exception as error:
            if compression != "zstd" or type(error).__name__ != "ZstdError":
                raise
            raise _damaged(path, error, line()) from None


def uncompressed_name(path: Path) -> str:
    """The name of a file without the suffix of its compression."""
    return path.name.removesuffix(path.suffix) if path.suffix in _COMPRESSIONS else path.name


def is_compressed(path: Path) -> bool:
    """Whether `open_binary` reads this file through a decompressor."""
    return path.suffix in _COMPRESSIONS


def read_lines(
    path: Path,
    *,
    errors: Errors = "strict",
    advice: str = "",
    on_read: Callable[[int], None] | None = None,
    keep_ends: bool = False,
) -> Iterator[tuple[int, str]]:
    """Yields ``(line number from 1, line without its line end)`` of a UTF-8 file; a byte-order mark is skipped.

    Args:
        path: The file; it may be compressed.
        errors: What becomes of bytes that are no UTF-8.
        advice: What to do about them, for the message.
        on_read: As for `open_binary`.
        keep_ends: Whether lines keep their ends.

    Raises:
        InputError: As `open_binary` and `decoded_lines`; the message has the line.
    """
    number = 0
    with (
        open_binary(path, on_read, lambda: number + 1) as stream,
        io.BufferedReader(cast("io.RawIOBase", stream)) as lines,
    ):
        for number, line in decoded_lines(lines, path, errors=errors, advice=advice):
            yield number, line if keep_ends else line.rstrip("\r\n")


def decoded_lines(
    stream: Lines, path: Path | str, *, errors: Errors = "strict", advice: str = ""
) -> Iterator[tuple[int, str]]:
    """Yields ``(line number from 1, line with its line end)`` of UTF-8 bytes; a byte-order mark is skipped.

    Args:
        stream: The bytes.
        path: What they are called in messages.
        errors: What becomes of bytes that are no UTF-8.
        advice: What to do about them, for the message.

    Raises:
        InputError: A line is not UTF-8 (and ``errors`` is strict), or longer than 256 MiB; or all is UTF-16.
    """
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            raise InputError(f"has no end within {MAX_LINE_BYTES >> 20} MiB; is this a file of lines?", path, number)
        if number == 1 and raw.startswith(_UTF_16_MARKS):
            raise InputError("is UTF-16; make it UTF-8 (iconv -f UTF-16 -t UTF-8)", path)
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8", errors)
        except UnicodeDecodeError as error:
            raise InputError(f"not UTF-8 (byte {error.start + 1} of the line){advice}", path, number) from None
        yield number, line


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields ``(line number from 1, decoded JSON)`` of each line that is not blank."""
    return decoded_json(read_lines(path), path)


def decoded_json(lines: Iterable[tuple[int, str]], path: Path | str) -> Iterator[tuple[int, Any]]:
    """Yields ``(line number, decoded JSON)`` of each numbered line that is not blank; ``path`` is for messages."""
    for number, line in lines:
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"not JSON ({json_fault(error)})", path, number) from None


def read_json(path: Path) -> Any:
    """Decodes a whole JSON file."""
    with open_binary(path) as stream:
        try:
            return json.loads(stream.read().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"not JSON ({json_fault(error, lines=True)})", path) from None


def json_fault(error: Exception, *, lines: bool = False) -> str:
    """What is wrong with JSON, and at which character; of a single line, the line's number in it says nothing."""
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    return str(error) if lines else f"{error.msg} at character {error.colno}"


def _decompressed(stream: io.BufferedReader[Any], suffix: str) -> BinaryIO:
    match suffix:
        # A browser unpacks what a server sends as compressed, and leaves the name. JSON cannot be mistaken for gzip.
        case ".gz" if stream.peek(1)[:1] not in (b"{", b"["):
            return cast("BinaryIO", gzip.GzipFile(fileobj=stream))
        case ".bz2":
            return cast("BinaryIO", bz2.BZ2File(stream))
        case ".xz":
            return cast("BinaryIO", lzma.LZMAFile(stream))
        case ".zst":
            return _zstd(stream)
    return cast("BinaryIO", stream)


def _zstd(stream: io.BufferedReader[Any]) -> BinaryIO:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore] # Python 3.14
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise MissingExtraError("reading .zst files", "backports.zstd", "data") from None
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    return cast("BinaryIO", zstd.ZstdFile(stream, options=options))


def _damaged(path: Path, error: Exception, line: int | None) -> InputError:
    return InputError(f"not a sound {_COMPRESSIONS[path.suffix]} file ({error}); fetch it again", path, line)
