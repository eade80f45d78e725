"""What is put aside comes back, in buckets that are parts of one order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairloom.errors import ArtifactError
from pairloom.sources import spill
from pairloom.sources.distinct import DistinctTexts
from pairloom.sources.source import Keyed
from pairloom.sources.spill import Spill, SpillWriter, bucket_of, choose_num_buckets, scatter
from pairloom.sources.work import PART_KIND, _decode, _encode, pair_kind


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(rows=st.lists(st.tuples(st.integers(0, 2**63 - 1), st.binary(max_size=20))), bits=st.integers(0, 5))
def test_every_row_comes_back_in_its_bucket(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, bytes]], bits: int
) -> None:
    folder = tmp_path_factory.mktemp("spill")
    files = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "_BUFFER_BYTES", 300)
        for number in range(2):
            writer = SpillWriter(folder / f"{number}.arrow", PART_KIND, 2**bits)
            for row in rows[number::2]:
                writer.write(row, len(row[1]))
            files[folder / f"{number}.arrow"] = writer.close()
    read = Spill(files, PART_KIND, 2**bits)
    found = []
    for number in range(2**bits):
        table = read.bucket(number)
        assert set(bucket_of(PART_KIND.order(table), 2**bits).tolist()) <= {number}
        found += list(zip(*table.to_pydict().values(), strict=True))
        assert read.bucket(number, ["key"]).column_names == ["key"]
    assert sorted(found) == sorted(rows)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    writer = SpillWriter(tmp_path / "a.arrow", PART_KIND, 1)
    for number in range(100):
        writer.write((number, b"part"), 4)
    files = {tmp_path / "a.arrow": writer.close()}
    (tmp_path / "a.arrow").write_bytes((tmp_path / "a.arrow").read_bytes()[:500])
    with pytest.raises(ArtifactError, match=r"a\.arrow: damaged while it was in use"):
        Spill(files, PART_KIND, 1).bucket(0)


def test_the_number_of_buckets_is_a_power_of_two() -> None:
    for size in (0, 1, 10**6, 10**8, 3 * 10**9, 10**11, 10**14):
        count = choose_num_buckets(size)
        assert count & (count - 1) == 0
        assert 1 <= count <= np.iinfo(np.int16).max


def test_scattering_is_a_permutation_that_never_changes() -> None:
    numbers = np.arange(100_000, dtype=np.uint64)
    scattered = scatter(numbers)
    assert len(np.unique(scattered)) == len(numbers)
    # The first outputs of SplitMix64 with the seed 0, from its reference implementation.
    assert scattered[0] == 0xE220A8397B1DCDAF
    counts = np.bincount(bucket_of(scattered, 64), minlength=64)
    assert counts.min() > 1300
    assert counts.max() < 1850


def test_pairs_of_the_same_texts_have_the_same_order_and_others_another() -> None:
    import pyarrow as pa

    hashes = [np.array(column, dtype=np.uint64) for column in ([1, 2, 1, 1], [2, 1, 2, 3])]
    table = pa.table({"text_0": [""] * 4, "text_1": [""] * 4, "hash_0": hashes[0], "hash_1": hashes[1]})
    order = pair_kind(2).order(table).tolist()
    assert order[0] == order[2]
    assert len(set(order)) == 3


FIELD = st.one_of(st.none(), st.integers(-(2**70), 2**70), st.booleans(), st.text(), st.text("\ud800a\n"))


@given(st.integers(0, 2**63 - 1), st.text(), st.lists(FIELD))
def test_parts_come_back_as_they_were(key: int, kind: str, fields: list[object]) -> None:
    item = Keyed(key, kind, tuple(fields))
    assert _decode(key, _encode(item)) == item


def test_distinct_texts_are_counted() -> None:
    rng = np.random.default_rng(0)
    texts = DistinctTexts(2)
    few, many = rng.integers(2**63, size=1000, dtype=np.uint64), rng.integers(2**63, size=1_000_000, dtype=np.uint64)
    for _ in range(3):
        for part in np.array_split(many, 5):
            texts.add(np.stack([rng.choice(few, len(part)), part], axis=1))
    exact, estimate = texts.counts()
    assert exact == 1000
    assert estimate == pytest.approx(1_000_000, rel=0.016), "four standard errors"
