"""Artifacts: the folders that stages leave behind, written whole or not at all.

An artifact is written into a hidden sibling folder, its files are checksummed into ``manifest.json``, everything is
flushed to disk, and the folder is renamed into place. Whoever finds the folder finds all of it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from pairloom import __version__
from pairloom.errors import ArtifactError, OccupiedError
from pairloom.json_types import from_json

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

SCHEMA = 1
MANIFEST = "manifest.json"
# No space, no quota, or a file larger than allowed.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HASH_BLOCK_BYTES = 1 << 20
_MAX_NAME_BYTES = 150
_LOCK_POLL_S = 0.02


@dataclass(frozen=True)
class FileEntry:
    """A file of an artifact: its size and its SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an artifact says of itself.

    Args:
        kind: ``shards``, ``model``, ``vectors``, ``task``, …
        facts: Counts, settings and origins, as JSON values; what belongs in here is the stage's affair.
        files: Path relative to the folder, and what is known of the file.
        made_by: Program and version.
        created: ISO 8601, UTC.
        schema: Of the manifest itself.
    """

    kind: str
    facts: dict[str, Any]
    files: dict[str, FileEntry]
    made_by: str
    created: str
    schema: int = SCHEMA


@dataclass
class Draft:
    """An artifact under construction: write files below ``path`` and add ``facts``.

    Args:
        path: The folder.
        facts: What the manifest will say.
        files: Files that are finished, with their checksums; they are not read again.
    """

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)


@contextmanager
def new_artifact(path: Path, kind: str) -> Iterator[Draft]:
    """Makes the folder ``path`` appear whole when the block ends, or not at all.

    Args:
        path: Where the artifact shall stand. Its parents are made.
        kind: What the manifest will call it.

    Raises:
        ArtifactError: Something else stands there, or the disk is full.
    """
    path = resolved(path)
    with _partial_folder(path) as partial:
        draft = Draft(partial)
        yield draft
        place_artifact(draft, path, kind)


def place_artifact(draft: Draft, path: Path, kind: str) -> None:
    """Makes a folder that is ready, whoever filled it, the artifact at ``path``; both are on the same file system.

    Raises:
        ArtifactError: Something else stands there.
    """
    path = resolved(path)
    _write_manifest(draft, kind)
    refuse_occupied(path)  # another process may have been faster
    _rename(draft.path, path)


@contextmanager
def new_file(path: Path) -> Iterator[Draft]:
    """Makes the file ``path`` appear whole when the block ends, or not at all.

    Yields:
        Where it is to be written; a single file has no manifest, so the facts go nowhere.

    Raises:
        ArtifactError: Something stands there, or the disk is full.
    """
    path = resolved(path)
    with _partial_folder(path) as partial:
        draft = Draft(partial / path.name)
        yield draft
        flush(draft.path)
        refuse_occupied(path)
        _rename(draft.path, path)


@contextmanager
def _partial_folder(path: Path) -> Iterator[Path]:
    """A hidden folder beside ``path``, in which something is made that shall stand there; it goes when the block ends."""
    refuse_occupied(path)
    partial = path.parent / f"{_partial_prefix(path)}{os.getpid()}-{secrets.token_hex(3)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        partial.mkdir()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    try:
        yield partial
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
        raise ArtifactError(f"{path}: is a file; give the folder" if path.exists() else f"{path}: no such folder")
    try:
        raw = json.loads((path / MANIFEST).read_bytes())
        if isinstance(raw, dict) and isinstance(raw.get("schema"), int) and raw["schema"] > SCHEMA:
            raise ArtifactError(f"{path}: written by a newer pairloom; upgrade to read it")
        manifest = from_json(Manifest, raw)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: has no {MANIFEST}, so it is not a folder that pairloom made") from None
    except OSError as error:
        raise ArtifactError(f"{path / MANIFEST}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path / MANIFEST}: damaged ({error}); make the folder again") from None
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(f"{path}: holds {manifest.kind}, not {kind}")
    for name, entry in manifest.files.items():
        file = path / name
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ArtifactError(f"{path / MANIFEST}: the file {name!r} leads out of the folder")
        try:
            size = file.stat().st_size
        except (OSError, ValueError):
            raise ArtifactError(f"{file}: missing, so {path} is not whole; make it again") from None
        if size != entry.bytes:
            raise ArtifactError(f"{file}: has {size:,} bytes instead of {entry.bytes:,}; make {path} again")
    return manifest


@contextmanager
def only_one(folder: Path, *, name: str = ".lock", wait_s: float = 0.0) -> Iterator[None]:
    """Makes sure that one process at a time works in a folder, which is made if it is not there.

    The lock goes with the process, however it ends. (On systems without ``flock`` there is none.)

    Args:
        folder: The folder.
        name: Of the lock's file, where there are several kinds of work.
        wait_s: How long to wait for the other process to end.

    Raises:
        ArtifactError: Another process is at work, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / name).open("w")
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be written ({error.strerror}); choose another place") from None
    with stream:
        until = time.monotonic() + wait_s
        while fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise OccupiedError(f"{folder}: another process is at work here; wait for it or stop it") from None
                time.sleep(_LOCK_POLL_S)
        yield


def is_artifact(path: Path) -> bool:
    """Whether a folder says that pairloom made it; others may have a file of the manifest's name, too."""
    try:
        made_by = json.loads((path / MANIFEST).read_bytes())["made_by"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return isinstance(made_by, str) and made_by.startswith("pairloom ")


def verify(path: Path, kind: str | None = None) -> Manifest:
    """Reads every byte of an artifact (of this kind) and compares it with the manifest's checksums.

    Raises:
        ArtifactError: Names the first file that differs, or that cannot be read (any more: it may be removed meanwhile).
    """
    manifest = read_manifest(path, kind)
    for name, entry in manifest.files.items():
        try:
            digest = file_sha256(path / name)
        except OSError as error:
            raise ArtifactError(f"{path / name}: cannot be read ({error.strerror})") from None
        if digest != entry.sha256:
            raise ArtifactError(f"{path / name}: its content has changed since it was written; make {path} again")
    return manifest


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def file_entry(path: Path) -> FileEntry:
    """What a manifest says of a file, which is read for it."""
    return FileEntry(path.stat().st_size, file_sha256(path))


def refuse_occupied(path: Path) -> None:
    """Raises `ArtifactError` if something stands where an artifact is to be made: nothing is ever overwritten."""
    path = resolved(path)
    if path.is_mount():
        raise ArtifactError(f"{path}: is a mount point; choose a folder inside it")
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        raise ArtifactError(f"{path}: already there; choose another place or remove it first")


def resolved(path: Path) -> Path:
    """The place itself: links are followed, so that what they point to is made and not the link replaced."""
    try:
        path = path.resolve()
        # The name must leave room for what is put around it while the folder is made.
        if len(path.name.encode()) > _MAX_NAME_BYTES or path.is_symlink():
            raise ValueError
    except (OSError, RuntimeError, ValueError):
        raise ArtifactError(f"{str(path)!r}: cannot be the name of a folder; choose another") from None
    return path


def _rename(partial: Path, path: Path) -> None:
    try:
        partial.rename(path)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    flush(path.parent)


def _remove_abandoned(path: Path) -> None:
    """Clears what a killed process left: partial folders of this host whose process is gone."""
    prefix = _partial_prefix(path)
    for partial in path.parent.iterdir():
        owner = partial.name.removeprefix(prefix).split("-")[0]
        if partial.name.startswith(prefix) and owner.isdigit() and not _is_alive(int(owner)):
            shutil.rmtree(partial, ignore_errors=True)


def _partial_prefix(path: Path) -> str:
    return f".{path.name}.partial-{socket.gethostname()}-"


def _is_alive(process_id: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 is a question on POSIX only
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _write_manifest(draft: Draft, kind: str) -> None:
    files: dict[str, FileEntry] = {}
    for file in sorted(draft.path.rglob("*")):
        if file.is_dir():
            flush(file)
        else:
            name = file.relative_to(draft.path).as_posix()
            files[name] = draft.files.get(name) or file_entry(file)
            flush(file)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = asdict(Manifest(kind, draft.facts, files, f"pairloom {__version__}", created))
    (draft.path / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    flush(draft.path / MANIFEST)
    flush(draft.path)


def flush(path: Path) -> None:
    """Waits until a file or folder is on the disk, not only in the page cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
