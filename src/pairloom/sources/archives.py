"""Reading one member of a 7z archive as a stream, without unpacking it to memory or disk."""

from __future__ import annotations

import lzma
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pairloom.errors import InputError, MissingExtraError
from pairloom.files import WatchedFile

try:
    import py7zr
    from py7zr.exceptions import ArchiveError, PasswordRequired
except ImportError:
    raise MissingExtraError("reading 7z archives", "py7zr", "data") from None

# What py7zr lets through when an archive is cut or damaged: its own errors, the decoders', and what follows from a
# header that makes no sense.
_FAULTS: tuple[type[Exception], ...] = (
    *(ArchiveError, PasswordRequired, lzma.LZMAError, zlib.error, EOFError, OSError),
    *(ValueError, IndexError, KeyError, TypeError, AttributeError, AssertionError, MemoryError),
)


@contextmanager
def open_7z_member(path: Path, name: str, on_read: Callable[[int], None] | None = None) -> Iterator[BinaryIO]:
    """Opens a member of an archive for reading bytes from beginning to end.

    py7zr hands out decompressed blocks through a callback; a thread puts them into a pipe. The pipe holds some
    kilobytes, so decompression waits for the reader; when the reader leaves early, the pipe breaks and the thread ends.
    Nothing is written to disk, so the paths in the archive cannot do harm.

    Args:
        path: The archive.
        name: The member's file name; the folders in the archive do not matter.
        on_read: Called with the number of bytes whenever some have been read from the disk.

    Raises:
        InputError: No such archive or member, or the archive is cut, damaged or encrypted. Damage that shows during
            decompression is raised at the end of the block, unless that is left early.
    """
    try:
        file = WatchedFile(path, on_read)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path) from None
    with file:
        try:
            archive = py7zr.SevenZipFile(file)
        except PasswordRequired:
            raise InputError("is encrypted; unpack it with its password first", path) from None
        except _FAULTS as error:
            raise _not_sound(path, error) from None
        with archive:
            if archive.needs_password():
                raise InputError("is encrypted; unpack it with its password first", path)
            members = [member for member in archive.getnames() if PurePosixPath(member).name == name]
            if len(members) != 1:
                what = (
                    f"has {len(members)} files called {name}; unpack the one you want"
                    if members
                    else f"has no {name} in it"
                )
                raise InputError(what, path)
            extraction = _Extraction(archive, members[0])
            try:
                with extraction:
                    yield extraction.stream
            except Exception:
                # Whatever the reader made of a stream that broke off, the archive is the reason.
                extraction.check(path)
                raise
            extraction.check(path)


def _not_sound(path: Path, error: BaseException) -> InputError:
    what = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"not a sound 7z archive ({what}); fetch it again", path)


class _Extraction(py7zr.io.WriterFactory):
    """The thread that decompresses, and both ends of the pipe."""

    def __init__(self, archive: py7zr.SevenZipFile, member: str) -> None:
        self._archive, self._member = archive, member
        self.fault: BaseException | None = None
        read_end, self._write_end = os.pipe()
        self.stream: BinaryIO = os.fdopen(read_end, "rb")
        self._thread = threading.Thread(target=self._extract, name=f"7z {member}", daemon=True)

    def create(self, filename: str) -> _PipeWriter:
        return _PipeWriter(self._write_end)

    def __enter__(self) -> _Extraction:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self._thread.join()

    def check(self, path: Path) -> None:
        """Raises what stopped the thread, if anything did."""
        if self.fault is not None:
            raise _not_sound(path, self.fault) from None

    def _extract(self) -> None:
        try:
            self._archive.extract(targets=[self._member], factory=self)
        except BrokenPipeError:
            pass  # the reader has seen enough
        except _FAULTS as error:
            self.fault = error
        finally:
            os.close(self._write_end)


class _PipeWriter(py7zr.io.Py7zIO):
    """What py7zr believes to be a file."""

    def __init__(self, write_end: int) -> None:
        self._write_end = write_end
        self._size = 0

    def write(self, s: bytes | bytearray) -> int:
        rest = memoryview(s)
        while rest:
            rest = rest[os.write(self._write_end, rest) :]
        self._size += len(s)
        return len(s)

    def read(self, size: int | None = None) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def flush(self) -> None:
        pass

    def size(self) -> int:
        return self._size
