"""What is found in the tables is what `matches` says, however often it is asked for, and by whom."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.search.filters.conditions import Condition, Leaf, leaves, matches
from pairloom.search.filters.facets import create_facets, delete_facets, insert_facets
from pairloom.search.filters.language import parse_filter
from pairloom.search.filters.masks import LeafCache, Mask, Rows, evaluate, leaf_rows
from tests.search import drawn_filters

Document = tuple[int, dict[str, Any]]


def new_connection(documents: Iterable[Document] = (), path: Path | str = ":memory:") -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN")
    create_facets(connection)
    insert_facets(connection, documents)
    connection.execute("COMMIT")
    return connection


def leaf_of(value: Mapping[str, Any]) -> Leaf:
    (leaf,) = leaves(parse_filter(value))
    return leaf


def expected_rows(condition: Condition, documents: Iterable[Document], after: int = 0, upto: int = 2**63) -> list[int]:
    return [row for row, metadata in documents if after < row <= upto and matches(condition, metadata)]


@st.composite
def drawn_documents(draw: st.DrawFn) -> list[Document]:
    """Documents whose rows leave gaps, as those of deleted ones do."""
    drawn = draw(st.lists(drawn_filters.metadata, max_size=8))
    gaps = draw(st.lists(st.integers(1, 3), min_size=len(drawn), max_size=len(drawn)))
    return list(zip(itertools.accumulate(gaps), drawn, strict=True))


@settings(deadline=None)
@given(documents=drawn_documents(), value=drawn_filters.filters)
def test_what_is_found_is_what_matches(documents: list[Document], value: dict[str, Any]) -> None:
    condition = parse_filter(value)
    rows = np.array([row for row, _ in documents], np.int64)
    with closing(new_connection(documents)) as connection:
        for leaf in leaves(condition):
            assert leaf_rows(connection, leaf).tolist() == expected_rows(leaf, documents)
        mask = evaluate(condition, lambda leaf: np.isin(rows, leaf_rows(connection, leaf)), len(rows))
    assert mask.dtype == np.bool_
    assert rows[mask].tolist() == expected_rows(condition, documents)


@settings(deadline=None)
@given(documents=drawn_documents(), value=drawn_filters.filters, after=st.integers(-1, 20), upto=st.integers(-1, 20))
def test_what_is_found_between_rows(documents: list[Document], value: dict[str, Any], after: int, upto: int) -> None:
    with closing(new_connection(documents)) as connection:
        for leaf in leaves(parse_filter(value)):
            assert leaf_rows(connection, leaf, after, upto).tolist() == expected_rows(leaf, documents, after, upto)


@settings(deadline=None, max_examples=50)
@given(
    drawn=st.lists(drawn_filters.metadata, min_size=1, max_size=4),
    values=st.lists(drawn_filters.filters, min_size=1, max_size=3),
    max_bytes=st.sampled_from([0, 500, 1 << 20]),
    by_metadata=st.booleans(),
    data=st.data(),
)
def test_a_cache_that_grows_with_the_documents_finds_what_matches(
    drawn: list[dict[str, Any]],
    values: list[dict[str, Any]],
    max_bytes: int,
    by_metadata: bool,
    data: st.DataObject,
) -> None:
    # So many that the metadata of a few newer ones is less to read than what is known.
    documents = [(2 * number, metadata) for number, metadata in enumerate(drawn * 110, start=1)]

    def read_metadata(_: sqlite3.Connection, after: int, upto: int) -> list[Document]:
        return [document for document in documents if after < document[0] <= upto]

    cache = LeafCache(max_bytes, read_metadata if by_metadata else None)
    count = len(documents)
    sizes = data.draw(st.lists(st.sampled_from([0, 1, count // 2, count - 1, count]), max_size=4))
    with closing(new_connection(documents)) as connection:
        for size, value in itertools.product(sizes, values):
            rows = np.array([row for row, _ in documents[:size]], np.int64)
            mask = evaluate(parse_filter(value), partial(cached, cache, connection, rows), size)
            assert rows[mask].tolist() == expected_rows(parse_filter(value), documents[:size])
    assert cache.num_bytes <= max_bytes


def cached(cache: LeafCache, connection: sqlite3.Connection, rows: Rows, leaf: Leaf) -> Mask:
    return cache.mask(connection, leaf, rows, 0)


def test_a_list_does_not_give_a_row_twice() -> None:
    with closing(
        new_connection([(3, {"n": [1, 2, 3, 2.5], "a": {"b": ["x", "y"], "c": 1}}), (5, {"n": 2})])
    ) as connection:
        for value in ({"n": {"gte": 1}}, {"n": {"in": [1, 2, 3]}}, {"n": {"exists": True}}):
            found = leaf_rows(connection, leaf_of(value))
            assert found.dtype == np.int64
            assert found.tolist() == [3, 5]
        assert leaf_rows(connection, leaf_of({"a": {"exists": True}})).tolist() == [3]


def test_whole_numbers_are_compared_exactly_with_others() -> None:
    numbers = [2**53, 2**53 + 1, 2**53 + 2, 2**63 - 1, -(2**63), float(2**53), 1e19, -1e19, 0.1]
    with closing(new_connection((row, {"n": number}) for row, number in enumerate(numbers, 1))) as connection:
        for operator, bound in itertools.product(["gt", "gte", "lt", "lte"], numbers):
            leaf = leaf_of({"n": {operator: bound}})
            assert leaf_rows(connection, leaf).tolist() == [
                row for row, number in enumerate(numbers, 1) if matches(leaf, {"n": number})
            ]
        assert leaf_rows(connection, leaf_of({"n": float(2**53)})).tolist() == [1, 6]
        assert leaf_rows(connection, leaf_of({"n": {"gt": float(2**53)}})).tolist() == [2, 3, 4, 7]


def test_rows_of_any_number_are_found() -> None:
    rows = [1, 2**53 + 1, 2**62 + 1, 2**63 - 1]
    with closing(new_connection((row, {"n": 1}) for row in rows)) as connection:
        for value in ({"n": 1}, {"n": {"gt": 0}}):
            assert leaf_rows(connection, leaf_of(value)).tolist() == rows
            assert leaf_rows(connection, leaf_of(value), after=1, upto=2**62 + 1).tolist() == rows[1:3]


def test_a_field_inside_another_is_one_by_its_whole_name() -> None:
    names = ["a", "a.b", "a.b.c", "ab", "a-b", "a/b", "a.", "A.b"]
    with closing(new_connection((row, {name: 1}) for row, name in enumerate(names, 1))) as connection:
        assert leaf_rows(connection, leaf_of({"a": {"exists": True}})).tolist() == [1, 2, 3, 7]
        assert leaf_rows(connection, leaf_of({"a.b": {"exists": True}})).tolist() == [2, 3]
        assert leaf_rows(connection, leaf_of({"c": {"exists": True}})).tolist() == []
        assert leaf_rows(connection, leaf_of({"c": 1})).dtype == np.int64


def test_long_strings_are_told_apart_by_their_last_character() -> None:
    texts = ["x" * 256, "x" * 257, "x" * 256 + "y", "x" * 100_000]
    with closing(new_connection((row, {"a": text}) for row, text in enumerate(texts, 1))) as connection:
        for row, text in enumerate(texts, 1):
            assert leaf_rows(connection, leaf_of({"a": text})).tolist() == [row]


def test_what_is_not_needed_for_an_and_is_not_looked_up() -> None:
    asked: list[Leaf] = []

    def leaf_mask(leaf: Leaf) -> Mask:
        asked.append(leaf)
        return np.zeros(3, np.bool_)

    condition = parse_filter({"a": {"gt": 1}, "z": 1, "or": [{"b": 1}, {"c": {"exists": True}}]})
    assert not evaluate(condition, leaf_mask, 3).any()
    assert asked == [leaf_of({"z": 1})]


@pytest.mark.parametrize("size", [0, 5])
def test_masks_of_and_or_and_not_by_hand(size: int) -> None:
    masks = {
        leaf_of({"a": 1}): np.array([True, True, False, False, True][:size], np.bool_),
        leaf_of({"b": 1}): np.array([True, False, True, False, False][:size], np.bool_),
    }
    for mask in masks.values():
        mask.flags.writeable = False

    def evaluated(value: dict[str, Any]) -> list[int]:
        return np.flatnonzero(evaluate(parse_filter(value), masks.__getitem__, size)).tolist()

    whole = set(range(size))
    assert evaluated({"a": 1, "b": 1}) == sorted(whole & {0})
    assert evaluated({"or": [{"a": 1}, {"b": 1}]}) == sorted(whole & {0, 1, 2, 4})
    assert evaluated({"not": {"or": [{"a": 1}, {"b": 1}]}}) == sorted(whole & {3})
    assert evaluated({"a": 1, "not": {"b": 1}}) == sorted(whole & {1, 4})


# The cache.


@pytest.fixture
def traced() -> Iterator[tuple[sqlite3.Connection, list[str]]]:
    """A collection of 300 documents, and the statements that are made to its facets."""
    documents = [(row, {"n": row, "even": row % 2 == 0}) for row in range(1, 301)]
    with closing(new_connection(documents)) as connection:
        statements: list[str] = []
        connection.set_trace_callback(lambda text: statements.append(text) if "FROM facets " in text else None)
        yield connection, statements


def rows_upto(last: int) -> npt.NDArray[np.int64]:
    return np.arange(1, last + 1, dtype=np.int64)


def test_only_newer_rows_are_looked_up(traced: tuple[sqlite3.Connection, list[str]]) -> None:
    connection, statements = traced
    cache, leaf = LeafCache(), leaf_of({"even": True})
    first = cache.mask(connection, leaf, rows_upto(90), 0)
    assert len(statements) == 1
    assert cache.mask(connection, leaf, rows_upto(90), 1) is not None
    assert cache.mask(connection, leaf, rows_upto(40), 0).tolist() == first[:40].tolist()
    assert len(statements) == 1
    whole = cache.mask(connection, leaf, rows_upto(100), 1)
    assert np.flatnonzero(whole).tolist() == list(range(1, 100, 2))
    assert len(statements) == 2
    assert "row > 90 AND row <= 100" in statements[1]


@pytest.mark.parametrize("value", [{"n": 3}, {"n": {"in": [3, 4]}}, {"n": {"gt": 3, "lt": 9}}, {"n": {"exists": True}}])
def test_every_question_is_a_search_in_the_tree(
    traced: tuple[sqlite3.Connection, list[str]], value: dict[str, Any]
) -> None:
    connection, statements = traced
    leaf_rows(connection, leaf_of(value), 90)
    assert statements
    for statement in statements.copy():
        ((*_, plan),) = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        assert plan.startswith("SEARCH facets USING PRIMARY KEY (field=? AND kind")
        if "value =" in statement:
            assert "value=? AND row>? AND row<?" in plan


def test_of_a_range_a_few_newer_rows_are_decided_by_their_metadata(
    traced: tuple[sqlite3.Connection, list[str]],
) -> None:
    connection, statements = traced
    read: list[tuple[int, int]] = []

    def read_metadata(_: sqlite3.Connection, after: int, upto: int) -> list[Document]:
        read.append((after, upto))
        return [(row, {"n": row}) for row in range(after + 1, upto + 1)]

    cache, leaf = LeafCache(read_metadata=read_metadata), leaf_of({"n": {"gt": 5}})
    cache.mask(connection, leaf, rows_upto(298), 0)
    assert (len(statements), read) == (1, [])
    assert cache.mask(connection, leaf, rows_upto(300), 1).sum() == 295
    assert (len(statements), read) == (1, [(298, 300)])
    equal = leaf_of({"even": True})
    for last in (298, 300):
        cache.mask(connection, equal, rows_upto(last), 1)
    assert (len(statements), read) == (3, [(298, 300)])


def test_what_was_not_asked_for_longest_goes_first(traced: tuple[sqlite3.Connection, list[str]]) -> None:
    connection, statements = traced
    rows = rows_upto(100)
    kept = [leaf_of({"n": number}) for number in range(10)]
    num_bytes = 100 + len(repr(kept[0]))
    cache = LeafCache(3 * num_bytes)
    for leaf in (*kept[:3], kept[0], kept[3]):
        cache.mask(connection, leaf, rows, 0)
    assert cache.num_bytes == 3 * num_bytes
    statements.clear()
    for leaf in (kept[0], kept[2], kept[3]):
        cache.mask(connection, leaf, rows, 0)
    assert not statements
    cache.mask(connection, kept[1], rows, 0)
    assert len(statements) == 1


def test_what_is_too_large_is_not_kept(traced: tuple[sqlite3.Connection, list[str]]) -> None:
    connection, _ = traced
    cache = LeafCache(1000)
    assert cache.mask(connection, leaf_of({"n": 1}), rows_upto(100), 0).sum() == 1
    before = cache.num_bytes
    cache.mask(connection, leaf_of({"n": "x" * 1000}), rows_upto(100), 0)
    assert 0 < cache.num_bytes == before


def test_masks_cannot_be_written_to(traced: tuple[sqlite3.Connection, list[str]]) -> None:
    connection, _ = traced
    cache, leaf = LeafCache(), leaf_of({"n": 1})
    for last in (0, 50, 50, 100, 70):
        mask = cache.mask(connection, leaf, rows_upto(last), 0)
        assert len(mask) == last
        with pytest.raises(ValueError, match="read-only"):
            mask[:] = True


def test_a_reader_who_still_sees_a_deleted_document_finds_it(tmp_path: Path) -> None:
    documents = [(row, {"tag": "x"}) for row in range(1, 4)]
    with closing(new_connection(documents, tmp_path / "db")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as earlier:
            earlier.execute("BEGIN")
            earlier.execute("SELECT count(*) FROM facets").fetchone()
            delete_facets(writer, documents[:1])
            cache, leaf = LeafCache(), leaf_of({"tag": "x"})
            assert cache.mask(writer, leaf, rows_upto(3), 2).tolist() == [False, True, True]
            assert cache.mask(earlier, leaf, rows_upto(3), 1).tolist() == [True, True, True]
            assert cache.mask(writer, leaf, rows_upto(3), 2).tolist() == [False, True, True]


def test_a_mask_made_before_holds_for_those_who_see_more() -> None:
    with closing(new_connection([(1, {"tag": "x"}), (2, {"tag": "x"})])) as connection:
        cache, leaf = LeafCache(), leaf_of({"tag": "x"})
        cache.mask(connection, leaf, rows_upto(2), 1)
        insert_facets(connection, [(5, {"tag": "x"}), (6, {"tag": "y"})])
        rows = np.array([1, 2, 5, 6], np.int64)
        assert cache.mask(connection, leaf, rows, 2).tolist() == [True, True, True, False]
        # Row 9 is there already, but not for who asks.
        insert_facets(connection, [(9, {"tag": "x"})])
        assert cache.mask(connection, leaf, rows, 2).tolist() == [True, True, True, False]
        assert LeafCache().mask(connection, leaf, rows[:3], 3).tolist() == [True, True, True]
        assert LeafCache().mask(connection, leaf, rows[[0, 3]], 3).tolist() == [True, False]


def test_threads_share_a_cache(tmp_path: Path) -> None:
    documents = [(row, {"n": row % 7, "tags": [row % 3, row % 5]}) for row in range(1, 201)]
    new_connection(documents, tmp_path / "db").close()
    values: list[dict[str, Any]] = [{"n": 3}, {"tags": {"gt": 2}}, {"n": {"in": [1, 2]}}, {"tags": {"exists": True}}]
    expected = [expected_rows(leaf_of(value), documents) for value in values]
    cache = LeafCache(700)  # fewer than they ask for

    def ask(seed: int) -> None:
        dice = np.random.default_rng(seed)
        with closing(sqlite3.connect(tmp_path / "db")) as connection:
            for last in dice.integers(0, 201, 100).tolist():
                number = int(dice.integers(len(values)))
                mask = cache.mask(connection, leaf_of(values[number]), rows_upto(last), last)
                found = rows_upto(last)[mask].tolist()
                assert found == [row for row in expected[number] if row <= last]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(4)))
    assert cache.num_bytes <= 700
