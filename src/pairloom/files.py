"""Reading files that may be compressed, with the line number at hand when something is wrong."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from pairloom.errors import InputError, MissingExtraError

_COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
_BUFFER_BYTES = 1 << 20
# The monthly dumps of Reddit are made with a window of 2 GiB, which a decoder refuses unless it is told.
_ZSTD_WINDOW_LOG = 31


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
def open_binary(path: Path, on_read: Callable[[int], None] | None = None) -> Iterator[BinaryIO]:
    """Opens a file for reading bytes, through gzip, bzip2, xz or zstd if its name ends in their suffix.

    Args:
        path: The file.
        on_read: Called with the number of bytes whenever some have been read from the disk.

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
                f"the {compression} stream ends too early; the file is cut, fetch it again", path
            ) from None
        except (gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
            raise _damaged(path, error) from None
        except OSError as error:
            if compression is None or error.errno is not None:
                raise
            raise _damaged(path, error) from None  # bzip2's
        except Exception as error:
            if compression != "zstd" or type(error).__name__ != "ZstdError":
                raise
            raise _damaged(path, error) from None


def uncompressed_name(path: Path) -> str:
    """The name of a file without the suffix of its compression."""
    return path.name.removesuffix(path.suffix) if path.suffix in _COMPRESSIONS else path.name


def is_compressed(path: Path) -> bool:
    """Whether `open_binary` reads this file through a decompressor."""
    return path.suffix in _COMPRESSIONS


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields ``(line number from 1, line without its line end)`` of a UTF-8 file; a byte-order mark is skipped."""
    with open_binary(path) as stream, io.BufferedReader(cast("io.RawIOBase", stream)) as lines:
        for number, raw in enumerate(lines, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"not UTF-8 (byte {error.start + 1} of the line)", path, number) from None
            yield number, line.rstrip("\r\n")


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields ``(line number from 1, decoded JSON)`` of each line that is not blank."""
    for number, line in read_lines(path):
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


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"not a sound {_COMPRESSIONS[path.suffix]} file ({error}); fetch it again", path)
