"""Artifacts: the folders that stages leave behind, written whole or not at all.

An artifact is written into a hidden sibling folder, its files are checksummed into ``manifest.json``, everything is
flushed to disk, and the folder is renamed into place. Whoever finds the folder finds all of it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pairloom import __version__
from pairloom.errors import ArtifactError

SCHEMA = 1
MANIFEST = "manifest.json"
# No space, no quota, or a file larger than allowed.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Manifest:
    """What an artifact says of itself.

    Args:
        kind: ``shards``, ``model``, ``vectors``, ``task``, …
        facts: Counts, settings and origins, as JSON values; what belongs in here is the stage's affair.
        files: For each file (path relative to the folder) its size in bytes and SHA-256.
        made_by: Program and version.
        created: ISO 8601, UTC.
    """

    kind: str
    facts: dict[str, Any]
    files: dict[str, dict[str, Any]]
    made_by: str
    created: str


@dataclass
class Draft:
    """An artifact under construction: write files below ``path`` and add ``facts``."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)


@contextmanager
def new_artifact(path: Path, kind: str) -> Iterator[Draft]:
    """Makes the folder ``path`` appear whole when the block ends, or not at all.

    Args:
        path: Where the artifact shall stand. Its parents are made.
        kind: What the manifest will call it.

    Raises:
        ArtifactError: Something else stands there, or the disk is full.
    """
    refuse_occupied(path)
    partial = path.parent / f".{path.name}.partial-{socket.gethostname()}-{os.getpid()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        partial.mkdir()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    try:
        draft = Draft(partial)
        yield draft
        _write_manifest(draft, kind)
        refuse_occupied(path)  # another process may have been faster
        partial.rename(path)
        _flush(path.parent)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise ArtifactError(
                f"{path}: the disk is full; free some space and run again (nothing was changed)"
            ) from None
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_manifest(path: Path, kind: str | None = None) -> Manifest:
    """Reads an artifact's manifest and checks that every file is there in full size.

    Raises:
        ArtifactError: The folder is missing, not an artifact, of another kind, or a file of it is missing or cut.
    """
    if not path.is_dir():
        raise ArtifactError(f"{path}: no such folder")
    try:
        raw = json.loads((path / MANIFEST).read_bytes())
        if raw["schema"] > SCHEMA:
            raise ArtifactError(f"{path}: written by a newer pairloom ({raw['made_by']}); upgrade to read it")
        manifest = Manifest(**{name: raw[name] for name in ("kind", "facts", "files", "made_by", "created")})
    except FileNotFoundError:
        raise ArtifactError(f"{path}: has no {MANIFEST}, so it is not a folder that pairloom made") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path / MANIFEST}: damaged ({error}); make the folder again") from None
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(f"{path}: holds {manifest.kind}, not {kind}")
    for name, entry in manifest.files.items():
        file = path / name
        if not file.resolve().is_relative_to(path.resolve()):
            raise ArtifactError(f"{path / MANIFEST}: the file {name!r} leads out of the folder")
        if not file.is_file():
            raise ArtifactError(f"{file}: missing, so {path} is not whole; make it again")
        if (size := file.stat().st_size) != entry["bytes"]:
            raise ArtifactError(f"{file}: has {size:,} bytes instead of {entry['bytes']:,}; make {path} again")
    return manifest


def verify(path: Path) -> Manifest:
    """Reads every byte of an artifact and compares it with the manifest's checksums.

    Raises:
        ArtifactError: Names the first file that differs.
    """
    manifest = read_manifest(path)
    for name, entry in manifest.files.items():
        if file_sha256(path / name) != entry["sha256"]:
            raise ArtifactError(f"{path / name}: its content has changed since it was written; make {path} again")
    return manifest


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def refuse_occupied(path: Path) -> None:
    """Raises `ArtifactError` if something stands where an artifact is to be made: nothing is ever overwritten."""
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        raise ArtifactError(f"{path}: already there; choose another place or remove it first")


def _remove_abandoned(path: Path) -> None:
    """Clears what a killed process left: partial folders of this host whose process is gone."""
    prefix = f".{path.name}.partial-{socket.gethostname()}-"
    for partial in path.parent.iterdir():
        owner = partial.name.removeprefix(prefix)
        if partial.name.startswith(prefix) and owner.isdigit() and not _is_alive(int(owner)):
            shutil.rmtree(partial, ignore_errors=True)


def _is_alive(process_id: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 is a question on POSIX only
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process_id != os.getpid()


def _write_manifest(draft: Draft, kind: str) -> None:
    files = {}
    for file in sorted(draft.path.rglob("*")):
        if file.is_file():
            name = file.relative_to(draft.path).as_posix()
            files[name] = {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
            _flush(file)
    manifest = {
        "schema": SCHEMA,
        "kind": kind,
        "made_by": f"pairloom {__version__}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "facts": draft.facts,
        "files": files,
    }
    (draft.path / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _flush(draft.path / MANIFEST)
    _flush(draft.path)


def _flush(path: Path) -> None:
    """Waits until a file or folder is on the disk, not only in the page cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
