"""Rows read in place: what Arrow itself reads, and nothing but a sentence where a file is damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.errors import ArtifactError
from pairloom.pairs.layout import PAIR_COLUMNS, TRIPLET_COLUMNS, Layout
from pairloom.pairs.rows import RowFiles

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)


def write(folder: Path, layout: Layout, rows: Sequence[tuple[str, ...]], **options: Any) -> None:
    """Writes the files with Arrow alone, so that the reader is not compared with our own writer."""
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(rows), layout.rows_per_file):
        path = folder / layout.file_name(first // layout.rows_per_file)
        with pa.ipc.new_file(str(path), layout.schema, options=pa.ipc.IpcWriteOptions(**options)) as stream:
            stop = min(first + layout.rows_per_file, len(rows))
            for begin in range(first, stop, layout.rows_per_batch):
                some = rows[begin : min(begin + layout.rows_per_batch, stop)]
                columns = [list(column) for column in zip(*some, strict=True)]
                hashes = [[hash_of(text) for text in column] for column in columns]
                stream.write_batch(pa.record_batch(columns + hashes, schema=layout.schema))


def hash_of(text: str) -> int:
    return hash(text) % 2**64


def oracle(folder: Path, rows: list[int]) -> Any:
    tables = [pa.ipc.open_file(str(path)).read_all() for path in sorted(folder.glob("*.arrow"))]
    return pa.concat_tables(tables).take(pa.array(rows, pa.int64()))


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    texts=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=30),
    rows_per_batch=st.integers(1, 9),
    batches_per_file=st.integers(1, 4),
    triplets=st.booleans(),
)
def test_it_reads_what_arrow_reads(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    texts: list[tuple[str, str, str]],
    rows_per_batch: int,
    batches_per_file: int,
    triplets: bool,
) -> None:
    layout = Layout(TRIPLET_COLUMNS if triplets else PAIR_COLUMNS, rows_per_batch, rows_per_batch * batches_per_file)
    folder = tmp_path_factory.mktemp("rows")
    write(folder, layout, [row[: len(layout.columns)] for row in texts])
    files = RowFiles(folder, layout, len(texts), reads_ahead=data.draw(st.booleans()))
    for _ in range(3):
        wanted = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=40))
        expected = oracle(folder, wanted)
        rows = files.take(np.array(wanted, dtype=np.int64))
        assert rows.columns == tuple(expected.column(column).to_pylist() for column in layout.columns)
        hashes = np.stack([expected.column(column).to_numpy() for column in layout.hash_columns], axis=1)
        assert rows.hashes.tolist() == hashes.tolist()
        assert files.hashes(np.array(wanted, dtype=np.int64)).tolist() == hashes.tolist()
    everything = [row for batch in files.batches() for row in zip(*batch.columns, strict=True)]
    assert everything == [row[: len(layout.columns)] for row in texts]


LAYOUT = Layout(PAIR_COLUMNS, rows_per_batch=50, rows_per_file=100)
ROWS = [(f"anchor {number} {'é' * (number % 7)}", f"positive {number}" if number % 5 else "") for number in range(230)]


def test_many_rows_of_a_file_that_is_not_in_memory(tmp_path: Path) -> None:
    """So many that the system is told beforehand, if the disk has to be waited for."""
    write(tmp_path, Layout(PAIR_COLUMNS, 5000, 10000), ROWS * 100)
    files = RowFiles(tmp_path, Layout(PAIR_COLUMNS, 5000, 10000), len(ROWS) * 100)
    _forget(tmp_path)
    wanted = np.random.default_rng(0).integers(0, len(files), 3000)
    rows = files.take(wanted)
    assert rows.columns[0] == [ROWS[row % len(ROWS)][0] for row in wanted.tolist()]
    assert rows.columns[1] == [ROWS[row % len(ROWS)][1] for row in wanted.tolist()]


def _forget(folder: Path) -> None:
    if hasattr(os, "posix_fadvise"):
        for path in folder.glob("*.arrow"):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def test_waiting_for_the_disk_tells_it_what_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows, whether the disk is waited for or not."""
    write(tmp_path, LAYOUT, ROWS)
    waits = iter(range(10**6))
    monkeypatch.setattr("pairloom.pairs.rows._waits_for_disk", lambda: next(waits))
    files = RowFiles(tmp_path, LAYOUT, len(ROWS))
    wanted = np.random.default_rng(0).permutation(len(ROWS))
    assert files.take(wanted).columns == tuple(list(column) for column in zip(*(ROWS[n] for n in wanted), strict=True))


def test_hashes_are_read_without_the_texts(tmp_path: Path) -> None:
    """The texts' bytes are made invalid; who reads hashes only does not notice."""
    write(tmp_path, LAYOUT, ROWS)
    for path in tmp_path.glob("*.arrow"):
        path.write_bytes(path.read_bytes().replace(b"anchor ", b"\xff" * 7))
    files = RowFiles(tmp_path, LAYOUT, len(ROWS))
    assert files.hashes(np.array([7, 220]))[:, 0].tolist() == [hash_of(ROWS[7][0]), hash_of(ROWS[220][0])]
    with pytest.raises(ArtifactError, match=r"part-00002\.arrow: damaged \(bytes that are no text"):
        files.take(np.array([220]))


def _offset(path: Path, row: int, value: int) -> None:
    """Overwrites the end of an anchor's text in the offsets of the first record batch."""
    with pa.memory_map(str(path)) as source:
        content = source.read_buffer()
        batch = pa.ipc.open_file(content).get_batch(0)
        place = batch.column(0).buffers()[1].address - content.address + 8 * (row + 1)
    changed = bytearray(path.read_bytes())
    changed[place : place + 8] = value.to_bytes(8, "little", signed=True)
    path.write_bytes(changed)


@pytest.mark.parametrize("value", [-1, -(2**63), 2**40, 2**63 - 1, 10**6, 0])
def test_offsets_that_lead_astray_are_noticed(tmp_path: Path, value: int) -> None:
    write(tmp_path, LAYOUT, ROWS)
    _offset(tmp_path / "part-00000.arrow", 20, value)
    files = RowFiles(tmp_path, LAYOUT, len(ROWS))
    assert files.take(np.array([19])).columns[0] == [ROWS[19][0]]
    for row in (20, 21) if value != 0 else (20,):
        with pytest.raises(ArtifactError, match=r"part-00000\.arrow: damaged \(a text reaches beyond"):
            files.take(np.array([row]))
    assert files.take(np.array([22])).columns[0] == [ROWS[22][0]]


def test_other_files_are_refused_with_a_sentence(tmp_path: Path) -> None:
    def refusal(make: Callable[[Path], None], rows: int = 230) -> str:
        folder = tmp_path / make.__name__
        make(folder)
        files = RowFiles(folder, LAYOUT, rows)
        messages = []
        for read in (files.hashes, files.take):
            with pytest.raises(
                ArtifactError, match=r"part-0000\d\.arrow: (damaged \(.*make .* again|cannot be)"
            ) as caught:
                read(np.array([rows - 1]))
            messages.append(str(caught.value))
        return messages[0]

    def compressed(folder: Path) -> None:
        write(folder, LAYOUT, ROWS, compression="zstd")

    def other_columns(folder: Path) -> None:
        write(folder, Layout(TRIPLET_COLUMNS, 50, 100), [(*row, "n") for row in ROWS])

    def other_batches(folder: Path) -> None:
        write(folder, Layout(PAIR_COLUMNS, 25, 100), ROWS)

    def too_few(folder: Path) -> None:
        write(folder, LAYOUT, ROWS[:220])

    def empty(folder: Path) -> None:
        write(folder, LAYOUT, ROWS)
        (folder / "part-00002.arrow").write_bytes(b"")

    def missing(folder: Path) -> None:
        write(folder, LAYOUT, ROWS[:200])

    assert "compressed" in refusal(compressed)
    assert "columns are anchor, positive, negative" in refusal(other_columns)
    assert "2 record batches do not hold 30 rows" in refusal(other_batches)
    assert "record batch 0 has 20 rows instead of 30" in refusal(too_few)
    refusal(empty)
    assert "cannot be read (No such file or directory)" in refusal(missing)


DAMAGE = """
import random, sys
from pathlib import Path
import numpy as np
from pairloom.errors import ArtifactError
from pairloom.pairs.layout import PAIR_COLUMNS, Layout
from pairloom.pairs.rows import RowFiles

folder = Path(sys.argv[1])
path = folder / "part-00000.arrow"
whole = path.read_bytes()
dice = random.Random(0)
refused = 0
for number in range(400):
    content = bytearray(whole)
    if number % 4 == 0:
        del content[dice.randrange(len(content)):]
    for _ in range(dice.choice([1, 4, 64])):
        if content:
            # Most of the file is text, and its metadata are what a reader trusts: half of the damage goes there.
            end = len(content) if number % 2 else min(len(content), 1500)
            begin = 0 if number % 2 or dice.random() < 0.5 else max(0, len(content) - 1500)
            content[dice.randrange(begin, max(end, begin + 1)) if begin < end else begin] = dice.randrange(256)
    path.unlink()  # not in place: the map of the file before is still read from
    path.write_bytes(content)
    files = RowFiles(folder, Layout(PAIR_COLUMNS, 50, 100), 100)
    for read in (lambda: files.hashes(np.arange(100)), lambda: files.take(np.arange(100)), lambda: list(files)):
        try:
            read()
        except ArtifactError:
            refused += 1
print(refused)
"""


def test_no_damage_crashes_the_reader(tmp_path: Path) -> None:
    """Cut files and random bytes: an error or other texts, but neither a crash nor any other exception."""
    write(tmp_path, LAYOUT, ROWS[:100])
    done = subprocess.run([sys.executable, "-c", DAMAGE, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100


def test_the_table_holds_everything_and_names_a_file_that_is_cut(tmp_path: Path) -> None:
    layout = Layout(PAIR_COLUMNS, rows_per_batch=4, rows_per_file=8)
    rows = [(f"a{number}", f"p{number}") for number in range(19)]
    write(tmp_path, layout, rows)
    table = RowFiles(tmp_path, layout, 19).table()
    assert list(zip(table["anchor"].to_pylist(), table["positive"].to_pylist(), strict=True)) == rows
    path = tmp_path / "part-00001.arrow"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ArtifactError, match=r"part-00001\.arrow: damaged"):
        RowFiles(tmp_path, layout, 19).table()
