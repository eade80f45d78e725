"""Texts in columns: Parquet, Arrow's two formats, and shards, some rows at a time.

References: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pairloom.encode.fields import ERRORS_ADVICE, NOTHING, Columns, Record, Wanted, choose_columns, joined
from pairloom.errors import InputError, MissingExtraError
from pairloom.files import Errors

try:
    import pyarrow as pa
except ImportError:
    raise MissingExtraError("reading Parquet, Arrow and shards", "pyarrow", "data") from None

from pairloom.encode.arrow_values import readable, readable_type

# So many rows become Python strings at once. Arrow's own memory is that of a page of Parquet or of a record batch.
_ROWS = 1024
# Of a column of Parquet so much is read at once; otherwise all of a row group, which may be gigabytes.
_BUFFER_BYTES = 1 << 20
_ARROW_FILE_MARK = b"ARROW1"

Batches = Iterator[tuple[Any, float]]
"""Record batches, and which share of the table has been read with them."""


@dataclass(frozen=True)
class Table:
    """A table whose rows are read in order.

    Args:
        path: Where it lies.
        kind: What its files are called.
        schema: Names and types of its columns.
        num_rows: How many, if that is known without reading.
        batches: Reads some columns.
    """

    path: Path
    kind: str
    schema: Any
    num_rows: int | None
    batches: Callable[[list[str]], Batches]

    def columns(self, wanted: Wanted) -> Columns:
        """Finds what is wanted.

        Raises:
            InputError: A column is missing, or is of a type that holds no text, no id, or nothing that JSON has.
        """
        with _sound(self.path, self.kind):  # names are no UTF-8 in a damaged file
            columns = choose_columns(self.schema.names, wanted, self.path)
        for name, what, is_good in (
            (columns.text, "a text is a string", _is_string),
            (columns.title, "a text is a string", _is_string),
            (columns.id, "an id is a string or a whole number; name another column with --id-field", _is_id),
        ):
            kind = None if name is None else self.schema.field(name).type
            if kind is not None and not is_good(kind):
                raise InputError(f"column {name!r} holds {kind}, and {what}", self.path)
        for name in columns.rest:
            if readable_type(kind := self.schema.field(name).type) is None:
                advice = "name those that are wanted with --metadata"
                raise InputError(f"column {name!r} holds {kind}, which metadata cannot; {advice}", self.path)
        return columns

    def texts(self, columns: Columns, errors: Errors, on_share: Callable[[float], None]) -> Iterator[Record]:
        """Yields the text of each row, and what is wanted besides.

        Args:
            columns: What is read.
            errors: What becomes of strings that are no UTF-8.
            on_share: Called with the share of the table that has been read, whenever it has grown.

        Raises:
            InputError: A text or id is null or no UTF-8, with the number of the row from 0; or the file is cut or damaged.
        """
        row, before = 0, 0.0
        with _sound(self.path, self.kind, lambda: row):
            for batch, share in self.batches(columns.names):
                for start in range(0, batch.num_rows, _ROWS):
                    part = _Rows(self.path, batch.slice(start, _ROWS), row, errors)
                    on_share(before + (share - before) * (start + len(part)) / batch.num_rows)
                    yield from part.texts(columns)
                    row += len(part)
                before = share


def parquet_table(path: Path) -> Table:
    """A Parquet file; raises `InputError` if it is none."""
    with _sound(path, "Parquet"), _parquet(path) as file:
        return Table(path, "Parquet", file.schema_arrow, file.metadata.num_rows, partial(_parquet_batches, path))


def arrow_table(path: Path) -> Table:
    """A file in Arrow's file format or stream format; raises `InputError` if it is neither."""
    with _sound(path, "Arrow"), pa.OSFile(str(path)) as source:
        is_file = source.read(len(_ARROW_FILE_MARK)) == _ARROW_FILE_MARK
        source.seek(0)
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        read = _file_batches if is_file else _stream_batches
        return Table(path, "Arrow", reader.schema, None, partial(read, path, reader.schema))


def shards_table(folder: Path) -> Table:
    """A folder of shards, as one table; raises `ArtifactError` if it is not whole."""
    from pairloom.pairs.shards import Shards

    shards = Shards(folder)
    layout = shards.layout
    files = [folder / layout.file_name(number) for number in range(-(-len(shards) // layout.rows_per_file))]
    return Table(folder, "Arrow", layout.schema, len(shards), partial(_shards_batches, files, layout.schema))


def _parquet(path: Path) -> Any:
    from pyarrow import parquet

    # By default the columns of all row groups would be fetched at once, and held until the file is closed.
    return parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)


def _parquet_batches(path: Path, names: list[str]) -> Batches:
    with _parquet(path) as file:
        done, total = 0, max(file.metadata.num_rows, 1)
        # One thread: the processor is the encoder's.
        for batch in file.iter_batches(_ROWS, columns=names, use_threads=False):
            done += batch.num_rows
            yield batch, done / total


def _file_batches(path: Path, schema: Any, names: list[str]) -> Batches:
    # Read and not mapped: pages of a map count as the process's memory until the system wants them back.
    with pa.OSFile(str(path)) as source:
        reader = pa.ipc.open_file(source, options=_only(names, schema))
        for number in range(reader.num_record_batches):
            yield _checked(reader.get_batch(number)), (number + 1) / reader.num_record_batches


def _stream_batches(path: Path, schema: Any, names: list[str]) -> Batches:
    with pa.OSFile(str(path)) as source:
        size = max(source.size(), 1)
        for batch in pa.ipc.open_stream(source, options=_only(names, schema)):
            yield _checked(batch), source.tell() / size


def _shards_batches(files: list[Path], schema: Any, names: list[str]) -> Batches:
    for number, file in enumerate(files):
        for batch, share in _file_batches(file, schema, names):
            yield batch, (number + share) / len(files)


def _checked(batch: Any) -> Any:
    """A record batch as it is; Arrow trusts its offsets, and would read wherever damaged ones lead."""
    for column in batch.columns:
        _unread(column).validate(full=True)
    return batch


def _only(names: list[str], schema: Any) -> Any:
    return pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in names], use_threads=False)


@dataclass(frozen=True)
class _Rows:
    """A few rows of a table, from a certain one on."""

    path: Path
    batch: Any
    first: int
    errors: Errors

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def texts(self, columns: Columns) -> Iterator[Record]:
        texts = self._values(columns.text, "a string")
        if columns.title is not None:
            titles = self._values(columns.title, None)
            texts = [joined(title, text) for title, text in zip(titles, texts, strict=True)]
        names: Sequence[Any] = [None] * len(self)
        if columns.id is not None:
            names = self._values(columns.id, "a string or a number")
            if "" in names:
                row = self.first + names.index("")
                raise InputError(f"row {row:,}: column {columns.id!r} is empty, and an id is not", self.path)
        rests = self._rests(columns.rest)
        for number, (name, text, rest) in enumerate(zip(names, texts, rests, strict=True), start=self.first):
            yield Record(number, None if name is None else str(name), text, rest)

    def _rests(self, names: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        if not names:
            return [NOTHING] * len(self)
        columns = [self._readable(name) for name in names]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]

    def _readable(self, name: str) -> list[Any]:
        """The values of a column of any type, as Python has them."""
        column = self.batch.column(name)
        try:
            return self._python(readable(column), name)
        except (OverflowError, ValueError) as error:  # such as a time after the year 9999
            first = (str(error).splitlines() or [type(error).__name__])[0]
            rows = f"rows {self.first:,} to {self.first + len(self) - 1:,}"
            raise InputError(
                f"{rows}: column {name!r} holds a value that cannot be read ({first})", self.path
            ) from None

    def _values(self, name: str, needed: str | None) -> list[Any]:
        """The values of a column; if something is needed in every row, none of them is null."""
        column = self.batch.column(name)
        if needed is not None and column.null_count:
            row = self.first + column.is_null().index(True).as_py()
            raise InputError(f"row {row:,}: column {name!r} is null, not {needed}", self.path)
        return self._python(column, name)

    def _python(self, column: Any, name: str) -> list[Any]:
        try:
            return list(column.to_pylist())
        except UnicodeDecodeError:
            raws = _unread(column).to_pylist()
            return [self._decoded(raw, name, row) for row, raw in enumerate(raws, start=self.first)]

    def _decoded(self, raw: bytes | None, name: str, row: int) -> str | None:
        if raw is None:
            return None
        try:
            return raw.decode("utf-8", self.errors)
        except UnicodeDecodeError as error:
            fault = f"row {row:,}: column {name!r} is not UTF-8 (byte {error.start + 1} of the text)"
            raise InputError(fault + ERRORS_ADVICE, self.path) from None


def _unread(column: Any) -> Any:
    """A column of strings as the bytes it consists of, without a copy; another one as it is."""
    if pa.types.is_string(column.type):
        return column.view(pa.binary())
    return column.view(pa.large_binary()) if pa.types.is_large_string(column.type) else column


def _is_string(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_id(kind: Any) -> bool:
    return _is_string(kind) or bool(pa.types.is_integer(kind))


@contextmanager
def _sound(path: Path, kind: str, row: Callable[[], int] | None = None) -> Iterator[None]:
    """Makes Arrow's complaints ours; ``row`` tells how many rows have been read."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, KeyError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"cannot be read ({error.strerror})", path) from None
        where = "" if row is None else f" after {row():,} rows"
        first = (str(error).splitlines() or [type(error).__name__])[0]
        said = "".join(letter if letter.isprintable() else "?" for letter in first)  # bytes of the file may be quoted
        advice = "if it is cut, fetch it again"
        raise InputError(f"not a sound {kind} file{where} ({said}); {advice}", path) from None
