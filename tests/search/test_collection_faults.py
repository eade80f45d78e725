"""What may befall a collection: killed at any moment, damaged, out of space, two writers; nothing acknowledged is lost."""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from pairloom.errors import BusyError, CollectionError
from pairloom.search import building, ledger
from pairloom.search.collection import Collection
from pairloom.search.ledger import FILE
from pairloom.search.state import INDEX_FOLDER, StaleError
from tests.search.collection_jobs import (
    Expected,
    make_document,
    open_collection,
    put,
    run_work,
    vector_of,
    vectors_of,
)

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["tests.search.collection_jobs"])
KILLS = 100


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "TAIL_ROWS", 40)
    monkeypatch.setattr(ledger, "WAIT_S", 0.1)


def filled(path: Path, count: int = 200, *, built: bool = True) -> Collection:
    """A collection with an index and some rows beside it, some of all deleted."""
    collection = open_collection(path)
    put(collection, [make_document(number) for number in range(count)])
    if built:
        collection.wait()
        collection.rebuild()
        put(collection, [make_document(number, 1) for number in range(5)])
        collection.delete([make_document(7).id, make_document(2).id])
    return collection


def answers(collection: Collection) -> list[tuple[str, float]]:
    hits = collection.search(vector_of("a question"), 20)
    return [(hit.id, round(hit.score, 5)) for hit in hits]


@pytest.mark.slow
def test_killed_a_hundred_times_it_holds_what_was_acknowledged(tmp_path: Path) -> None:
    path, journal = tmp_path / "collection", tmp_path / "journal"
    expected, dice = Expected(), random.Random(0)
    journal.touch()
    done = 0
    for number in range(KILLS):
        output = tmp_path / "output"
        process = FORKS.Process(target=run_work, args=(path, journal, number, None, output))
        process.start()
        process.join(dice.uniform(0.02, 0.5))
        assert process.is_alive(), output.read_text()
        process.kill()
        process.join()
        possible = expected.read(journal)
        done += len(possible[-1])
        if not (path / FILE).is_file():
            continue
        try:
            collection = open_collection(path)
        except CollectionError as error:
            assert "was interrupted" in str(error) and not expected.versions
            continue
        with collection:
            found = {int(document.metadata["number"]): document for document in collection.documents()}
            versions = {number: int(document.metadata["version"]) for number, document in found.items()}
            assert versions in possible
            expected.versions = versions
            for number, document in found.items():
                assert document == make_document(number, versions[number])
            assert collection.verify()["count"] == len(found) == collection.count()
            if found:
                document = found[dice.choice(sorted(found))]
                (hit,) = collection.search(vector_of(document.text), 1)
                assert hit.id == document.id
                assert document.id in {hit.id for hit in collection.search(document.text, 3, mode="words")}
                assert collection.count({"tag": "red"}) == sum(one.metadata["tag"] == "red" for one in found.values())
    assert done > KILLS  # they were not all killed before they did something


def test_a_second_writer_is_told_so_and_readers_are_not_kept(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as one, Collection(tmp_path / "c") as other, one._ledger.locked():
        with pytest.raises(BusyError, match="another process is writing to it"):
            put(other, [make_document(1_000)])
        assert other.search(vector_of("anything"), 3)
        assert other.get(["dök 1"]) != [None]


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_index_is_noticed_and_built_again(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    with filled(tmp_path / "c") as collection:
        before = answers(collection)
        generation = collection.info()["index"]["generation"]
    names = sorted(file.name for file in (tmp_path / "c" / INDEX_FOLDER / generation).iterdir())
    assert len(names) > 2
    for name in names:
        with Collection(tmp_path / "c") as collection:
            collection.rebuild()
            generation = collection.info()["index"]["generation"]
        file = tmp_path / "c" / INDEX_FOLDER / generation / name
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        if how == "gone":
            file.unlink()
        else:
            file.write_bytes(content if how == "flipped" else content[: len(content) // 2])
        with Collection(tmp_path / "c") as collection:
            with pytest.raises(CollectionError, match="collection rebuild"):
                collection.verify()
            with caplog.at_level(logging.WARNING, "pairloom"):
                assert answers(collection) == before
            assert "built again from the ledger" in caplog.text
            caplog.clear()
            collection.wait()
            assert answers(collection) == before
            assert collection.info()["index"]["generation"] != generation
            collection.verify()


def test_a_flipped_byte_of_the_ledger_is_said(tmp_path: Path) -> None:
    with filled(tmp_path / "c", built=False) as collection:
        collection.wait()
        with collection._ledger.writing() as connection:
            connection.execute("SELECT 1")
        text = make_document(100).text
    with sqlite3.connect(tmp_path / "c" / FILE) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = (tmp_path / "c" / FILE).read_bytes()
    for what, place in (("text", content.index(text.encode()) + 3), ("vector", None)):
        if place is None:
            stored = vector_of(make_document(50).text)
            stored = (stored / np.linalg.norm(stored)).astype("<f2")
            place = content.index(stored.tobytes()) + 4
        damaged = bytearray(content)
        damaged[place] ^= 4
        (tmp_path / "c" / FILE).write_bytes(damaged)
        with Collection(tmp_path / "c") as collection:
            with pytest.raises(CollectionError, match=r"is not as it was written\)?; restore"):
                collection.verify()
            if what == "text":
                with pytest.raises(CollectionError, match="not as it was written"):
                    collection.get([make_document(100).id])


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_a_ledger_that_is_cut_is_said(tmp_path: Path, part: float) -> None:
    filled(tmp_path / "c").close()
    file = tmp_path / "c" / FILE
    size = int(file.stat().st_size * part)
    with file.open("r+b") as stream:
        stream.truncate(size)
    with pytest.raises(CollectionError) as caught, Collection(tmp_path / "c", create=False) as collection:
        collection.verify()
    assert "\n" not in str(caught.value)


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    path, journal, output = tmp_path / "c", tmp_path / "journal", tmp_path / "output"
    filled(path).close()
    before = {int(document.metadata["number"]): 0 for document in Collection(path).documents()}
    assert before
    limit = int((path / FILE).stat().st_size * 1.1) + 20_000
    process = FORKS.Process(target=run_work, args=(path, journal, 5, limit, output))
    process.start()
    process.join(60)
    assert process.exitcode == 1, output.read_text()
    assert "disk" in output.read_text()
    with Collection(path) as collection:
        assert collection.verify()["count"] == collection.count() > 0
        put(collection, [make_document(999)])


def test_readers_are_right_while_a_writer_writes_and_an_index_is_built(tmp_path: Path) -> None:
    """Documents come in pairs by one transaction; no reader ever sees half of one, and what was there is always found."""
    faults: list[str] = []
    ends = threading.Event()
    with filled(tmp_path / "c") as collection:
        fixed = make_document(150)

        def read() -> None:
            try:
                while not ends.is_set():
                    if collection.search(vector_of(fixed.text), 1)[0].id != fixed.id:
                        faults.append("the fixed document was not found")
                    count = collection.count({"pair": {"exists": True}})
                    if count % 2:
                        faults.append(f"{count} documents of pairs")
            except Exception as error:
                faults.append(repr(error))

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 4
        number = 0
        while time.monotonic() < until:
            number += 1
            pair = [make_document(10_000 + 2 * number + half) for half in range(2)]
            pair = [type(one)(one.id, one.text, {"pair": number}) for one in pair]
            collection.upsert(pair, vectors=vectors_of(pair))
            if number % 3 == 0:
                collection.delete([one.id for one in pair])
            if number % 40 == 0:
                collection.build()
        ends.set()
        for thread in threads:
            thread.join()
        collection.verify()
    assert not faults and number > 20


def test_what_another_process_wrote_is_found_at_once(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as writer, Collection(tmp_path / "c") as reader:
        assert answers(reader) == answers(writer)
        for number in range(300, 500, 20):
            put(writer, [make_document(one) for one in range(number, number + 20)])
            writer.delete([make_document(number + 3).id])
            assert reader.search(vector_of(make_document(number).text), 1)[0].id == make_document(number).id
            assert reader.search(vector_of(make_document(number + 3).text), 1)[0].id != make_document(number + 3).id
        writer.wait()
        writer.rebuild()
        assert answers(reader) == answers(writer)


def test_a_damaged_index_is_told_of_once_however_much_is_written_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with filled(tmp_path / "c") as collection:
        collection.rebuild()
        collection.delete([make_document(9).id])
        collection.rebuild()
        collection.rebuild()  # which forgets what was deleted before the index before
        generation = collection.info()["index"]["generation"]
    next((tmp_path / "c" / INDEX_FOLDER / generation).glob("*.npy")).write_bytes(b"")
    with Collection(tmp_path / "c", background=False) as collection, caplog.at_level(logging.WARNING, "pairloom"):
        for number in range(300, 304):
            put(collection, [make_document(number)])
            assert collection.search(vector_of(make_document(number).text), 1)[0].id == make_document(number).id
        assert caplog.text.count("searching is exact until") == 1


def test_an_index_is_put_in_its_place_while_another_process_writes(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as one, Collection(tmp_path / "c") as other, one._ledger.locked():
        before = answers(one)
        generation = one.info()["index"]["generation"]
        assert other._builder.build() is not None
        assert other.info()["index"]["generation"] != generation
        assert answers(one) == answers(other) == before


def test_a_search_that_fails_while_it_reads_what_is_new_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled(tmp_path / "c") as writer, Collection(tmp_path / "c") as reader:
        answers(reader)
        put(writer, [make_document(number) for number in range(300, 310)])
        with monkeypatch.context() as patch:
            patch.setattr("pairloom.search.rows.deleted_after", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                answers(reader)
        put(writer, [make_document(number) for number in range(310, 312)])
        assert answers(reader) == answers(writer)
        for number in (300, 311):
            assert reader.search(vector_of(make_document(number).text), 1)[0].id == make_document(number).id


def test_a_transaction_older_than_the_index_is_begun_anew(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as collection, collection._ledger.reading() as old:
        old.execute("SELECT count(*) FROM meta").fetchone()  # now it sees the ledger as it is
        put(collection, [make_document(400)])
        collection.rebuild()
        with pytest.raises(StaleError):
            collection._states.at(old)
        assert collection.search(vector_of(make_document(400).text), 1)[0].id == make_document(400).id


def test_a_collection_is_whole_to_who_verifies_it_while_its_index_is_replaced(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as collection:
        ends = threading.Event()

        def rebuild() -> None:
            try:
                for _ in range(6):
                    collection.rebuild()
            finally:
                ends.set()

        thread = threading.Thread(target=rebuild)
        thread.start()
        seen = set()
        while not ends.is_set():
            seen.add(collection.verify()["index"])
        thread.join()
        assert len(seen) > 1
