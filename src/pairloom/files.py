"""Reading text files that may be compressed, with the line number at hand when something is wrong."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from pairloom.errors import InputError


@contextmanager
def open_binary(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for reading bytes, through gzip if its name ends in ``.gz``.

    A missing file, a directory, a pipe, and a cut or damaged archive raise `InputError`.
    """
    try:
        if not path.is_file():
            raise InputError("is no regular file; give a file" if path.exists() else "no such file", path)
        stream = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path) from None
    with stream:
        try:
            yield cast("BinaryIO", stream)
        except EOFError:
            raise InputError("the gzip stream ends too early; the file is cut, fetch it again", path) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"not a sound gzip file ({error}); fetch it again", path) from None


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
                raise InputError(f"not JSON ({_fault(error)})", path, number) from None


def read_json(path: Path) -> Any:
    """Decodes a whole JSON file."""
    with open_binary(path) as stream:
        try:
            return json.loads(stream.read().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"not JSON ({_fault(error, lines=True)})", path) from None


def _fault(error: Exception, *, lines: bool = False) -> str:
    """What is wrong with JSON, and at which character; of a single line, the line's number in it says nothing."""
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    return str(error) if lines else f"{error.msg} at character {error.colno}"
