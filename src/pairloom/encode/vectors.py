"""The vectors artifact: vectors, the texts they stand for, and which model made them.

Its files are described in `pairloom.encode.vector_files`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.artifacts import read_manifest
from pairloom.encode.storage import STORAGES, unpack
from pairloom.encode.vector_files import LAYOUT, VectorLayout, column_name, npy_header, texts_name
from pairloom.errors import ArtifactError
from pairloom.records import Text

KIND = "vectors"
PART_KIND = "vectors part"


class VectorSet:
    """A vectors artifact, opened for reading; vectors stay on disk until they are touched.

    Opening compares sizes only; `pairloom.artifacts.verify` (and `pairloom info`) compares every byte.

    Args:
        path: The folder.

    Raises:
        ArtifactError: The folder is not a vectors artifact, or not whole.
    """

    def __init__(self, path: Path) -> None:
        manifest = read_manifest(path)
        self.path, self.facts = path, manifest.facts
        if manifest.kind == PART_KIND:
            which = f"part {self.facts.get('part')} of {self.facts.get('parts')}"
            raise ArtifactError(f"{path}: is {which} of a job; join all of them with pairloom merge")
        if manifest.kind != KIND:
            raise ArtifactError(f"{path}: holds {manifest.kind}, not {KIND}")
        try:
            self.layout, self._num_rows = read_layout(self.facts)
            model = self.facts["model"]
            self.models: tuple[str, ...] = (model,) if isinstance(model, str) else tuple(map(str, model))
            """The name of the model, or two: of the queries' encoder and of the documents'."""
            self.fingerprint = str(self.facts["fingerprint"])
            self.query_fingerprint: str | None = self.facts.get("query_fingerprint")
            """Of the encoder that queries need, if it is another."""
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path, error) from None
        for part in range(self.layout.num_parts(self._num_rows)):
            for name in self.layout.names(part):
                if name not in manifest.files:
                    raise ArtifactError(f"{path / name}: missing, so {path} is not whole; encode again")

    def __len__(self) -> int:
        return self._num_rows

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""
        return self.layout.dimensions

    @property
    def model(self) -> str:
        """The model, for people."""
        return " and ".join(self.models)

    def blocks(self, max_rows: int) -> Iterator[npt.NDArray[np.float32]]:
        """All vectors in their order, [at most ``max_rows``, D] at a time, as what is stored stands for them."""
        for part in range(self.layout.num_parts(len(self))):
            stored, scales = self._stored(part)
            for begin in range(0, len(stored), max_rows):
                rows = slice(begin, begin + max_rows)
                yield unpack(stored[rows], None if scales is None else scales[rows])

    def rows(self, indices: Iterable[int]) -> npt.NDArray[np.float32]:
        """The vectors [n, D] of some rows."""
        wanted = self._checked(indices)
        parts, places = np.divmod(wanted, self.layout.rows_per_file)
        vectors = np.empty((len(wanted), self.dimensions), dtype=np.float32)
        for part in np.unique(parts):
            stored, scales = self._stored(int(part))
            chosen = np.flatnonzero(parts == part)
            inner = places[chosen]
            vectors[chosen] = unpack(stored[inner], None if scales is None else scales[inner])
        return vectors

    def texts(self, rows: Iterable[int]) -> list[Text]:
        """The texts of some rows."""
        size = self.layout.rows_per_file
        found = []
        for part, group in itertools.groupby(self._checked(rows).tolist(), key=lambda row: row // size):
            offsets = self._column("offsets", part)
            file = self.path / texts_name(part)
            try:
                num_bytes = file.stat().st_size
                with file.open("rb") as stream:
                    for row in group:
                        begin, end = offsets[row % size : row % size + 2].tolist()
                        if not 0 <= begin < end <= num_bytes:
                            raise ValueError(f"text {row} cannot lie from byte {begin} to {end}")
                        stream.seek(begin)
                        record = json.loads(stream.read(end - begin))
                        found.append(Text(record["id"], record["text"]))
            except (KeyError, TypeError, ValueError, OSError) as error:
                raise _damaged(file, error) from None
        return found

    def check_model(self, fingerprint: str, name: str, *, query_fingerprint: str | None = None) -> None:
        """Makes sure that queries of a model can be compared with the vectors.

        Args:
            fingerprint: Of what makes the model's vectors of documents.
            name: Of the model.
            query_fingerprint: Of what makes its vectors of queries, if that is another encoder.

        Raises:
            ArtifactError: The vectors were made by another model, or are for queries of another one.
        """
        both = f"search with both halves: {self.model}"
        if fingerprint != self.fingerprint:
            if fingerprint == self.query_fingerprint:
                raise ArtifactError(
                    f"{self.path}: made by the documents' half of {self.model} (fingerprint {self.fingerprint[:8]}), and {name} "
                    f"is its queries' half ({fingerprint[:8]}) alone; {both}"
                )
            raise ArtifactError(
                f"{self.path}: made by {self.model} as it was then (fingerprint {self.fingerprint[:8]}), not by {name} as it "
                f"is now ({fingerprint[:8]}); encode again, or use that model (of one for queries and one for documents: both "
                "together)"
            )
        if self.query_fingerprint not in (None, query_fingerprint or fingerprint):
            raise ArtifactError(
                f"{self.path}: made by {self.model}, which has an encoder of its own for queries (fingerprint "
                f"{self.query_fingerprint[:8]}), and {name} encodes them otherwise; {both}"
            )

    def _checked(self, rows: Iterable[int]) -> npt.NDArray[np.int64]:
        wanted = np.fromiter(rows, dtype=np.int64)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"{self.path}: has rows 0 to {len(self) - 1}, and not all of those asked for")
        return wanted

    def _stored(self, part: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32] | None]:
        scales = self._column("scales", part) if self.layout.storage == "int8" else None
        return self._column("vectors", part), scales

    def _column(self, kind: str, part: int) -> npt.NDArray[Any]:
        """A file of numbers. It is opened anew each time: a set may have more files than a process may hold open."""
        file = self.path / column_name(kind, part)
        dtype, shape = self.layout.columns()[kind]
        count = min(self.layout.rows_per_file, len(self) - part * self.layout.rows_per_file) + (kind == "offsets")
        header = npy_header(dtype, (count, *shape)).tobytes()
        try:
            with file.open("rb") as stream:
                if stream.read(len(header)) != header:
                    raise ValueError(f"its header is not that of {dtype} {[count, *shape]}")
                return np.memmap(stream, dtype, "r", len(header), (count, *shape))
        except (ValueError, OSError) as error:
            raise _damaged(file, error) from None


def read_layout(facts: dict[str, Any]) -> tuple[VectorLayout, int]:
    """How the files are laid out and how many rows they have, from a manifest's facts.

    Raises:
        KeyError: A fact is missing.
        ValueError: One makes no sense, or the layout is not known.
    """
    if facts["layout"] != LAYOUT:
        raise ValueError(f"its layout is {facts['layout']}, and this version reads {LAYOUT}")
    layout = VectorLayout(facts["dimensions"], facts["storage"], facts["rows_per_file"])
    numbers = (layout.dimensions, layout.rows_per_file, facts["count"])
    if layout.storage not in STORAGES or not all(type(number) is int for number in numbers) or min(numbers[:2]) < 1:
        raise ValueError("its dimensions, storage or numbers of rows make no sense")
    return layout, facts["count"]


def _damaged(path: Path, error: object) -> ArtifactError:
    return ArtifactError(f"{path}: damaged ({error}); encode again")
