from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pairloom.artifacts import new_artifact
from pairloom.errors import ArtifactError
from pairloom.pairs import statistics
from pairloom.pairs.clean import text_hash
from pairloom.pairs.shards import PAIR_COLUMNS, TRIPLET_COLUMNS, Layout, Shards, new_shards
from pairloom.pairs.statistics import PERCENTILES, Lengths, TokenCounter, describe
from tests.conftest import make_pairs, make_shards


def write(path: Path, rows: Sequence[tuple[str, ...]]) -> Shards:
    """Three rows a batch, two batches a file: a few rows reach every border."""
    layout = Layout(TRIPLET_COLUMNS if len(rows[0]) == 3 else PAIR_COLUMNS, rows_per_batch=3, rows_per_file=6)
    with new_shards(path, layout) as writer:
        for texts in rows:
            writer.write(texts, [text_hash(text) for text in texts])
    return Shards(path)


def count_words(texts: Sequence[str]) -> NDArray[np.int64]:
    return np.array([len(text.split()) for text in texts], dtype=np.int64)


WORDS = TokenCounter("words", 3, count_words)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=300))
def test_percentiles_are_those_of_numpy_without_interpolation(numbers: list[int]) -> None:
    lengths = Lengths.of([np.array(numbers)])
    wanted = np.percentile(numbers, PERCENTILES, method="inverted_cdf")
    assert [lengths.percentile(percent) for percent in PERCENTILES] == wanted.tolist()
    assert (lengths.percentile(0), lengths.percentile(100)) == (min(numbers), max(numbers))
    assert lengths.mean == pytest.approx(np.mean(numbers))
    assert lengths.share_above(20) == pytest.approx(np.mean(np.array(numbers) > 20))
    assert len(lengths) == len(numbers)


def test_percentiles_by_hand() -> None:
    lengths = Lengths.of([np.array([15, 20, 35, 40, 50])])
    assert [lengths.percentile(percent) for percent in (5, 25, 40, 41, 50, 99, 100)] == [15, 20, 20, 35, 35, 50, 50]


@given(parts=st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=1, max_size=8), fold_at=st.integers(1, 20))
def test_lengths_are_the_same_however_they_are_parted(parts: list[list[int]], fold_at: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "_FOLD_AT", fold_at)
        folded = Lengths.of(np.array(part, dtype=np.int64) for part in parts)
    values, counts = np.unique(
        np.array([length for part in parts for length in part], dtype=np.int64), return_counts=True
    )
    assert folded.values.tolist() == values.tolist()
    assert folded.counts.tolist() == counts.tolist()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 12, 13])
def test_characters_of_all_texts_are_counted(tmp_path: Path, count: int) -> None:
    rows = [("é" * (number + 1), f"𝄞 {'語' * number} x") for number in range(count)]
    found = describe(write(tmp_path / "shards", rows)).characters
    for number, column in enumerate(PAIR_COLUMNS):
        assert np.repeat(found[column].values, found[column].counts).tolist() == [len(row[number]) for row in rows]


def test_random_rows_are_those_of_the_folder_and_of_the_seed(tmp_path: Path) -> None:
    rows = [(anchor, positive, f"n{number}") for number, (anchor, positive) in enumerate(make_pairs(50))]
    shards = write(tmp_path / "shards", rows)
    samples = describe(shards, seed=1).samples
    assert len(samples) == 10
    assert [tuple(sample.values())[1:] for sample in samples] == [rows[sample["row"]] for sample in samples]
    assert len({sample["row"] for sample in samples}) == 10
    assert samples == describe(shards, seed=1).samples
    assert samples != describe(shards, seed=2).samples
    assert [sample["row"] for sample in describe(shards, num_samples=99).samples] == list(range(50))
    assert describe(shards, num_samples=0).samples == []


def test_every_row_can_be_drawn(tmp_path: Path) -> None:
    shards = write(tmp_path / "shards", make_pairs(8))
    drawn = [sample["row"] for seed in range(40) for sample in describe(shards, seed=seed, num_samples=2).samples]
    assert set(drawn) == set(range(8))


def test_tokens_of_all_rows_are_not_cut(tmp_path: Path) -> None:
    rows = [(f"{number} {'a ' * number}", "b") for number in range(10)]
    found = describe(write(tmp_path / "shards", rows), tokenizer=WORDS)
    assert found.tokens is not None
    assert found.tokens.columns["anchor"].values.tolist() == list(range(1, 11))
    assert found.tokens.limits == (3, 128)
    facts = found.to_json()["tokens"]
    assert (facts["model"], facts["max_tokens"], facts["num_rows"]) == ("words", 3, 10)
    assert facts["columns"]["anchor"]["cut"] == {"3": 0.7, "128": 0.0}
    assert facts["columns"]["positive"]["max"] == 1


def test_tokens_of_many_rows_are_those_of_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MAX_TOKENIZED_ROWS", 30)
    monkeypatch.setattr(statistics, "_ROWS_AT_ONCE", 7)
    seen: list[str] = []

    def count(texts: Sequence[str]) -> NDArray[np.int64]:
        seen.extend(texts)
        return count_words(texts)

    rows = make_pairs(100)
    found = describe(write(tmp_path / "shards", rows), tokenizer=TokenCounter("words", 128, count))
    assert found.tokens is not None
    assert found.tokens.num_rows == 30
    assert found.tokens.limits == (128,)
    assert {column: len(lengths) for column, lengths in found.tokens.columns.items()} == dict.fromkeys(PAIR_COLUMNS, 30)
    first = set(seen)
    assert len(first) == 60
    assert first <= {text for row in rows for text in row}
    seen.clear()
    describe(Shards(tmp_path / "shards"), tokenizer=TokenCounter("words", 128, count), seed=1)
    assert set(seen) != first


def test_without_a_tokenizer_there_are_no_tokens(tmp_path: Path) -> None:
    assert describe(write(tmp_path / "shards", make_pairs(3))).to_json()["tokens"] is None


def test_the_extra_is_named_when_it_is_missing() -> None:
    code = "import sys; sys.modules['pyarrow'] = None\nimport pairloom.pairs.statistics"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "needs pyarrow, which is not installed: pip install 'pairloom[data]'" in done.stderr


def damage(path: Path, number: int, value: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[number : number + len(value)] = value
    path.write_bytes(content)


def test_damage_is_one_sentence(tmp_path: Path) -> None:
    """Offsets that lead out of the file, bytes that are no text, a footer that is none: never the process's end."""
    marker = "needle in the text"
    rows = [(marker, f"positive {number}") for number in range(5)]
    whole = (make_shards(tmp_path / "whole", rows) / "part-00000.arrow").read_bytes()
    text = whole.index(marker.encode())
    offsets = whole.index(np.arange(0, 6 * len(marker), len(marker), dtype=np.int64).tobytes())
    for place, value in ((text, b"\xff\xfe"), (offsets + 16, b"\xff" * 7), (len(whole) - 20, bytes(20))):
        shards = Shards(tmp_path / "whole")
        (tmp_path / "whole" / "part-00000.arrow").write_bytes(whole)
        damage(tmp_path / "whole" / "part-00000.arrow", place, value)
        with pytest.raises(ArtifactError, match=r"part-00000\.arrow: damaged"):
            describe(shards)


def test_fewer_rows_than_the_manifest_says(tmp_path: Path) -> None:
    layout = Layout()
    with new_artifact(tmp_path / "shards", "shards") as draft:
        table = pa.table([["a"], ["b"], [1], [2]], schema=layout.schema)
        with pa.ipc.new_file(str(draft.path / layout.file_name(0)), layout.schema) as stream:
            stream.write_table(table)
        draft.facts = {"num_rows": 2, "columns": list(PAIR_COLUMNS), "rows_per_batch": 1024, "rows_per_file": 1024}
    with pytest.raises(ArtifactError, match="has 1 texts in the column anchor where its manifest says 2"):
        describe(Shards(tmp_path / "shards"))
