from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairloom.artifacts import new_artifact, read_manifest
from pairloom.errors import ArtifactError
from pairloom.pairs.clean import text_hash
from pairloom.pairs.shards import CONTEXT_COLUMNS, PAIR_COLUMNS, TRIPLET_COLUMNS, Layout, Shards, new_shards
from pairloom.records import Pair

# Three rows a batch, two batches a file: a few rows reach every border.
SMALL = Layout(PAIR_COLUMNS, rows_per_batch=3, rows_per_file=6)


def write(path: Path, rows: Sequence[tuple[str, ...]], layout: Layout = SMALL) -> Shards:
    with new_shards(path, layout) as writer:
        writer.facts["source"] = "test"
        for texts in rows:
            writer.write(texts, [text_hash(text) for text in texts])
    return Shards(path)


def numbered(count: int) -> list[tuple[str, str]]:
    return [(f"anchor {number}", f"positive {number} é") for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 12, 13])
def test_round_trip_at_every_border(tmp_path: Path, count: int) -> None:
    shards = write(tmp_path / "shards", numbered(count))
    assert len(shards) == count
    assert shards.columns == PAIR_COLUMNS
    assert list(shards) == [Pair(anchor, positive) for anchor, positive in numbered(count)]
    assert shards.facts["num_rows"] == count
    assert shards.facts["source"] == "test"
    files = sorted(name for name in read_manifest(tmp_path / "shards").files)
    assert files == [f"part-{number:05d}.arrow" for number in range(-(-count // 6))]


def test_triplets(tmp_path: Path) -> None:
    layout = Layout(TRIPLET_COLUMNS, rows_per_batch=2, rows_per_file=2)
    shards = write(tmp_path / "shards", [("a", "b", "c"), ("d", "e", "f"), ("g", "h", "i")], layout)
    assert shards.columns == TRIPLET_COLUMNS
    assert list(shards)[2] == Pair("g", "h", ("i",))
    rows = shards.take(np.array([2, 0]))
    assert rows.columns == (["g", "a"], ["h", "b"], ["i", "c"])
    assert rows.hashes.tolist() == [[text_hash(text) for text in texts] for texts in ("ghi", "abc")]


def test_a_past_context_is_no_negative(tmp_path: Path) -> None:
    layout = Layout(CONTEXT_COLUMNS, rows_per_batch=2, rows_per_file=2)
    shards = write(tmp_path / "shards", [("a", "b", "c"), ("d", "e", "f"), ("g", "h", "i")], layout)
    assert read_manifest(tmp_path / "shards").facts["columns"] == ["anchor", "positive", "context"]
    assert shards.columns == CONTEXT_COLUMNS
    assert list(shards)[2] == Pair("g", "h", context="i")
    assert list(shards)[2].texts == ("g", "h", "i")
    assert shards.take(np.array([2, 0])).columns == (["g", "a"], ["h", "b"], ["i", "c"])
    assert shards.table().column_names[2::3] == ["context", "context_hash"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(wanted=st.lists(st.integers(0, 13), max_size=20))
def test_take_gives_rows_in_the_order_asked_for(tmp_path: Path, wanted: list[int]) -> None:
    path = tmp_path / "shards"
    shards = Shards(path) if path.exists() else write(path, numbered(14))
    rows = shards.take(np.array(wanted, dtype=np.int64))
    assert len(rows) == len(wanted)
    assert rows.columns[0] == [f"anchor {number}" for number in wanted]
    assert rows.columns[1] == [f"positive {number} é" for number in wanted]
    assert rows.hashes.dtype == np.uint64
    assert rows.hashes.tolist() == [[text_hash(a), text_hash(b)] for a, b in zip(*rows.columns, strict=True)]


@pytest.mark.parametrize("row", [-1, 7])
def test_take_refuses_rows_that_are_not_there(tmp_path: Path, row: int) -> None:
    shards = write(tmp_path / "shards", numbered(7))
    with pytest.raises(IndexError, match=r"\[0, 7\)"):
        shards.take(np.array([0, row]))


def test_files_open_with_plain_arrow(tmp_path: Path) -> None:
    write(tmp_path / "shards", numbered(8))
    tables = []
    for file in sorted((tmp_path / "shards").glob("*.arrow")):
        with pa.memory_map(str(file)) as source:
            tables.append(pa.ipc.open_file(source).read_all())
    table = pa.concat_tables(tables)
    assert table.column_names == ["anchor", "positive", "anchor_hash", "positive_hash"]
    assert table.column("anchor").to_pylist() == [anchor for anchor, _ in numbered(8)]
    assert table.schema.field("anchor_hash").type == pa.uint64()


LOAD_WITH_DATASETS = """
import sys
from datasets import load_dataset
rows = load_dataset("arrow", data_files=sys.argv[1] + "/*.arrow", split="train", cache_dir=sys.argv[1] + "-cache")
print(rows.column_names, rows[7]["anchor"], len(rows))
print(next(iter(load_dataset("arrow", data_files=sys.argv[1] + "/*.arrow", split="train", streaming=True)))["positive"])
"""


def test_files_open_with_datasets(tmp_path: Path) -> None:
    if importlib.util.find_spec("datasets") is None:
        pytest.skip("datasets is not installed")
    write(tmp_path / "shards", numbered(8))
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD_WITH_DATASETS, str(tmp_path / "shards")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    assert done.stdout.splitlines() == [
        "['anchor', 'positive', 'anchor_hash', 'positive_hash'] anchor 7 8",
        "positive 0 é",
    ]


def test_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    first = write(tmp_path / "first", numbered(7))
    assert first.fingerprint == write(tmp_path / "second", numbered(7)).fingerprint
    assert first.fingerprint != write(tmp_path / "third", numbered(8)).fingerprint


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with new_shards(tmp_path / "shards", SMALL) as writer:
            for texts in numbered(4):
                writer.write(texts, (1, 2))
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_pairs_and_triplets_do_not_mix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="convert"), new_shards(tmp_path / "shards", SMALL) as writer:
        writer.write(("a", "b"), (1, 2))
        writer.write(("a", "b", "c"), (1, 2, 3))
    with pytest.raises(ValueError, match="columns must be"):
        Layout(("anchor",))
    with pytest.raises(ValueError, match="multiple"):
        Layout(PAIR_COLUMNS, rows_per_batch=4, rows_per_file=6)


def test_a_file_that_has_changed_is_named(tmp_path: Path) -> None:
    write(tmp_path / "shards", numbered(7))
    file = tmp_path / "shards" / "part-00001.arrow"
    content = bytearray(file.read_bytes())
    content[-20:] = bytes(20)
    file.write_bytes(content)
    shards = Shards(tmp_path / "shards")
    assert shards.take(np.array([0])).columns[0] == ["anchor 0"]
    with pytest.raises(ArtifactError, match=r"part-00001\.arrow: damaged"):
        shards.take(np.array([6]))
    file.unlink()
    with pytest.raises(ArtifactError, match=r"part-00001\.arrow: missing"):
        Shards(tmp_path / "shards")


def test_a_manifest_without_its_facts_is_refused(tmp_path: Path) -> None:
    with new_artifact(tmp_path / "shards", "shards"):
        pass
    with pytest.raises(ArtifactError, match="its manifest is damaged"):
        Shards(tmp_path / "shards")


FILL_THE_DISK = """
import resource, signal, sys
from pathlib import Path
from pairloom.errors import ArtifactError
from pairloom.pairs.shards import Layout, new_shards
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with new_shards(Path(sys.argv[1]), Layout()) as writer:
        while True:
            writer.write(("a" * 50, "b" * 50), (1, 2))
except ArtifactError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on the size of files")
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", FILL_THE_DISK, str(tmp_path / "shards")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "the disk is full" in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_the_extra_is_named_when_it_is_missing() -> None:
    code = "import sys; sys.modules['pyarrow'] = None\nimport pairloom.pairs.shards"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "MissingExtraError" in done.stderr
    assert "needs pyarrow, which is not installed: pip install 'pairloom[data]'" in done.stderr
