"""Which columns of Arrow hold values that JSON has, and as what they are read."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import compute


def readable_type(kind: Any) -> Any:
    """The type to which a column is cast before it is read; None if there is nothing like it in JSON, such as bytes.

    Python's times end at microseconds, and do not know all zones that a file may name: an instant is read as UTC has it,
    without a zone.
    """
    is_a = pa.types
    if is_a.is_timestamp(kind):
        return pa.timestamp("us")
    if is_a.is_time64(kind):
        return pa.time64("us")
    if is_a.is_duration(kind):
        return pa.duration("us")
    if is_a.is_dictionary(kind):
        return _if_changed(kind, kind.value_type, lambda value: value)
    if is_a.is_list(kind) or is_a.is_large_list(kind) or is_a.is_fixed_size_list(kind):
        return _if_changed(kind, kind.value_type, pa.list_)
    if is_a.is_map(kind):
        is_read_as_it_is = is_a.is_string(kind.key_type) and readable_type(kind.item_type) == kind.item_type
        return kind if is_read_as_it_is else None
    if is_a.is_struct(kind):
        return _struct(kind)
    return kind if any(is_kind(kind) for is_kind in _AS_THEY_ARE) else None


def readable(column: Any) -> Any:
    """A column of such a type, as it is read; raises `pyarrow.ArrowInvalid` if a time in it is beyond what fits."""
    kind = readable_type(column.type)
    if kind == column.type:
        return column
    return column.cast(options=compute.CastOptions(target_type=kind, allow_time_truncate=True))


_AS_THEY_ARE = (
    *(pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_date, pa.types.is_time32),
)


def _if_changed(kind: Any, inner: Any, make: Any) -> Any:
    readable = readable_type(inner)
    if readable is None or readable == inner:
        return None if readable is None else kind
    return make(readable)


def _struct(kind: Any) -> Any:
    fields = [kind.field(place) for place in range(kind.num_fields)]
    readable = [readable_type(field.type) for field in fields]
    if any(one is None for one in readable):
        return None
    if readable == [field.type for field in fields]:
        return kind
    return pa.struct([field.with_type(one) for field, one in zip(fields, readable, strict=True)])
