"""Errors for people: what was wrong, where, and what to do.

The command line prints the message as one line and exits with ``exit_code``.
"""

from __future__ import annotations

from pathlib import Path


class PairloomError(Exception):
    """The base of every error that is the input's or the machine's, not pairloom's."""

    exit_code = 1

    def __reduce__(self) -> tuple[object, ...]:
        # Between processes an error travels as its kind and its sentence, whatever its constructor asks for.
        return _again, (type(self), str(self))


class UsageError(PairloomError):
    """The command or the call was not well formed."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe has an unknown key, a wrong type or a value out of bounds."""


class InputError(PairloomError):
    """A raw dump, a pair file or an evaluation task cannot be read.

    Args:
        message: What is wrong and what to do.
        path: The file.
        line: Line or record number, from 1.
    """

    def __init__(self, message: str, path: Path | str | None = None, line: int | None = None) -> None:
        where = "" if path is None else f"{path}: " if line is None else f"{path}, line {line}: "
        super().__init__(where + message)


class RecordError(PairloomError):
    """One record of a dump makes no sense; who reads the dump adds the place, and counts it or stops."""


class ModelError(PairloomError):
    """A model folder is missing, incomplete or not supported."""


class ArtifactError(PairloomError):
    """A folder made by pairloom is missing, incomplete, damaged or of another kind."""


class OccupiedError(ArtifactError):
    """Another process is at work in the folder."""


class CollectionError(PairloomError):
    """A collection is missing, damaged, made by another model, or cannot hold what it is given."""


class BusyError(CollectionError):
    """Another process is writing to the collection."""


class TrainingError(PairloomError):
    """Training cannot go on."""


class PeerError(TrainingError):
    """Another process of the job has ended or does not answer; this one is sound, but cannot go on alone."""


class MissingExtraError(PairloomError):
    """A package that stands behind an extra is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}, which is not installed: pip install 'pairloom[{extra}]'")


def _again(kind: type[PairloomError], sentence: str) -> PairloomError:
    error = kind.__new__(kind)
    error.args = (sentence,)
    return error
