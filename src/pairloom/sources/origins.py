"""What was read: names, sizes and checksums of the files of a dump."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pairloom.errors import InputError
from pairloom.sources.formats import InputFile

_BLOCK_BYTES = 1 << 20


class Origins:
    """Computes the checksums in a thread, while other processes read the files.

    Files with a common `InputFile.origin` are noted as one: their sizes added, and the checksum of one after the other.

    Args:
        files: What is read.
    """

    def __init__(self, files: Sequence[InputFile]) -> None:
        self._files = list({file.path: file for file in files}.values())
        self._found: dict[str, dict[str, Any]] = {}
        self._fault: OSError | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._compute, name="checksums", daemon=True)

    def __enter__(self) -> Origins:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def result(self) -> list[dict[str, Any]]:
        """Name, size in bytes and SHA-256 of each; waits until they are known.

        Raises:
            InputError: A file could not be read to its end.
        """
        self._thread.join()
        if self._fault is not None:
            raise InputError(f"cannot be read ({self._fault.strerror})", self._fault.filename)
        return list(self._found.values())

    def _compute(self) -> None:
        digests: dict[str, Any] = {}
        try:
            for file in self._files:
                name = str(file.origin or file.path)
                noted = self._found.setdefault(name, {"name": name, "files": 0, "bytes": 0, "sha256": ""})
                noted["files"] += 1
                noted["bytes"] += self._update(file.path, digests.setdefault(name, hashlib.sha256()))
        except OSError as error:
            self._fault = error
        for name, digest in digests.items():
            self._found[name]["sha256"] = digest.hexdigest()

    def _update(self, path: Path, digest: Any) -> int:
        size = 0
        with path.open("rb") as stream:
            while not self._stopped.is_set() and (block := stream.read(_BLOCK_BYTES)):
                digest.update(block)
                size += len(block)
        return size
