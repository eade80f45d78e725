"""The vectors artifact: what is written is read again, as it is stored, and no more of it than is asked for."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairloom import Encoder
from pairloom.artifacts import MANIFEST, new_artifact, verify
from pairloom.encode import blocks, similarity, vector_files
from pairloom.encode.bulk import encode_texts
from pairloom.encode.similarity import top_k
from pairloom.encode.storage import Storage, pack, unpack
from pairloom.encode.vectors import VectorSet
from pairloom.errors import ArtifactError
from pairloom.records import Text
from tests.conftest import make_pairs
from tests.encode.jobs import MeanEngine, make_texts

ROWS_PER_FILE = 16
TEXTS = make_texts(41)


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 16 rows, written by blocks of 7."""
    monkeypatch.setattr(vector_files, "ROWS_PER_FILE", ROWS_PER_FILE)
    monkeypatch.setattr(blocks, "BLOCK_TEXTS", 7)


@pytest.fixture
def encoder(model_folder: Path) -> Encoder:
    return Encoder(model_folder, precision="float32", engine=MeanEngine())


@pytest.fixture
def stored(encoder: Encoder, tmp_path: Path) -> Callable[..., VectorSet]:
    def make(store: Storage = "float32") -> VectorSet:
        encode_texts(encoder, TEXTS, tmp_path / store, origin="test", store=store, show_progress=False)
        return VectorSet(tmp_path / store)

    return make


@pytest.mark.parametrize("store", ["float32", "float16", "int8"])
def test_round_trip(encoder: Encoder, stored: Callable[..., VectorSet], store: Storage) -> None:
    found = stored(store)
    expected = unpack(*pack(encoder.encode([text.text for text in TEXTS]), store))
    assert (len(found), found.dimensions, found.layout.storage) == (41, 32, store)
    np.testing.assert_array_equal(found.rows(range(41)), expected)
    np.testing.assert_array_equal(found.rows([40, 3, 16, 3]), expected[[40, 3, 16, 3]])
    pieces = list(found.blocks(10))
    assert [len(piece) for piece in pieces] == [10, 6, 10, 6, 9]
    assert all(piece.dtype == np.float32 for piece in pieces)
    np.testing.assert_array_equal(np.concatenate(pieces), expected)
    assert found.texts(range(41)) == TEXTS
    assert found.texts([40, 3, 16, 3]) == [TEXTS[40], TEXTS[3], TEXTS[16], TEXTS[3]]
    assert found.rows([]).shape == (0, 32)
    verify(found.path, "vectors")


@pytest.mark.parametrize(("store", "dtype"), [("float32", "<f4"), ("float16", "<f2"), ("int8", "|i1")])
def test_each_file_is_one_that_numpy_opens(stored: Callable[..., VectorSet], store: Storage, dtype: str) -> None:
    path = stored(store).path
    kinds = ("vectors", "offsets", "texts", *(["scales"] if store == "int8" else []))
    names = {f"{kind}-{part:05d}.{'jsonl' if kind == 'texts' else 'npy'}" for kind in kinds for part in range(3)}
    assert {file.name for file in path.iterdir()} == {*names, MANIFEST}
    for part, rows in enumerate((16, 16, 9)):
        numbers = np.load(path / f"vectors-{part:05d}.npy", mmap_mode="r")
        assert (numbers.shape, numbers.dtype.str) == ((rows, 32), dtype)
        lines = (path / f"texts-{part:05d}.jsonl").read_bytes().splitlines(keepends=True)
        assert json.loads(lines[0]) == {"id": TEXTS[16 * part].id, "text": TEXTS[16 * part].text}
        offsets = np.load(path / f"offsets-{part:05d}.npy")
        assert offsets.tolist() == np.cumsum([0, *map(len, lines)]).tolist()
        if store == "int8":
            assert np.load(path / f"scales-{part:05d}.npy").shape == (rows,)


def test_the_engine_that_is_used_by_default(model_folder: Path, tmp_path: Path) -> None:
    encoder = Encoder(model_folder, device="cpu", precision="float32")
    texts = [Text(f"tëxt {number}", f"{anchor}\n“quoted”\u2028") for number, (anchor, _) in enumerate(make_pairs(40))]
    texts += [Text("long", "coffee " * 200), Text("half \ud800", "\udfff\x00 👩‍💻 שלום"), Text("none", " ")]
    facts = encode_texts(encoder, texts, tmp_path / "vectors", origin="test", show_progress=False)
    found = VectorSet(tmp_path / "vectors")
    np.testing.assert_allclose(found.rows(range(43)), encoder.encode([text.text for text in texts]), atol=1e-6)
    assert found.texts(range(43)) == texts
    assert (facts["count"], facts["truncated"], facts["dimensions"], facts["max_tokens"]) == (43, 1, 32, 64)
    assert facts["tokens"] * 2 == encoder.num_tokens


# Numbers as they are stored.


def test_int8_by_hand() -> None:
    vectors = np.array([[1.27, -1.27, 0.634, 0.636], [0, 0, 0, 0], [-254, 1, 3, 5.0]], dtype=np.float32)
    numbers, scales = pack(vectors, "int8")
    assert scales is not None
    assert [numbers.dtype, scales.dtype] == [np.dtype(np.int8), np.dtype(np.float32)]
    np.testing.assert_array_equal(numbers, [[127, -127, 63, 64], [0, 0, 0, 0], [-127, 0, 2, 2]])
    np.testing.assert_allclose(scales, [0.01, 0, 2], rtol=1e-6)
    np.testing.assert_allclose(unpack(numbers, scales)[2], [-254, 0, 4, 4])


def test_int8_is_within_half_a_step_of_any_magnitude() -> None:
    dice = np.random.default_rng(0)
    magnitudes = np.float32(10.0) ** np.arange(-37, 38, dtype=np.float32)[:, None]
    vectors = np.concatenate([dice.normal(size=(75, 50)).astype(np.float32) * magnitudes, np.full((1, 50), 1e-45)])
    vectors = vectors.astype(np.float32)
    numbers, scales = pack(vectors, "int8")
    assert scales is not None
    error = np.abs(unpack(numbers, scales).astype(np.float64) - vectors)
    assert (error <= np.maximum(0.5001 * scales.astype(np.float64), 2e-45)[:, None]).all()
    assert numbers.min() >= -127


def test_float16_and_float32() -> None:
    vectors = np.array([[1.0, 1e-3, 70_000.0]], dtype=np.float32)
    assert pack(vectors, "float32")[0] is vectors
    assert unpack(vectors, None) is vectors
    half, scales = pack(vectors, "float16")
    assert half.dtype == np.dtype(np.float16)
    assert scales is None
    np.testing.assert_array_equal(unpack(half, None), [[1.0, np.float32(np.float16(1e-3)), np.inf]])


# Search.


@pytest.mark.parametrize("store", ["float32", "float16", "int8"])
@pytest.mark.parametrize("name", ["cosine", "dot"])
def test_search_is_exact_on_what_is_stored(
    encoder: Encoder, stored: Callable[..., VectorSet], store: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = stored(store)
    queries = encoder.encode(["coffee", "how do i train"])
    expected = top_k(queries, found.rows(range(41)), 50, name)
    monkeypatch.setattr(similarity, "_BLOCK_ROWS", 5)
    rows, scores = top_k(queries, found, 50, name)
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_allclose(scores, expected[1], rtol=1e-5)


def test_more_files_than_a_process_may_open(stored: Callable[..., VectorSet], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_files, "ROWS_PER_FILE", 1)
    found = stored()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 12, hard))  # noqa: PTH208
    try:
        assert sum(len(block) for block in found.blocks(10)) == 41
        assert found.rows(range(41)).shape == (41, 32)
        assert found.texts(range(41)) == TEXTS
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Faults.


def test_opening_compares_sizes_and_verifying_every_byte(stored: Callable[..., VectorSet]) -> None:
    path = stored().path
    file = path / "vectors-00001.npy"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    VectorSet(path)
    with pytest.raises(ArtifactError, match=r"vectors-00001\.npy: its content has changed"):
        verify(path)
    file.write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match=r"vectors-00001\.npy: has 2,175 bytes instead of 2,176"):
        VectorSet(path)
    file.unlink()
    with pytest.raises(ArtifactError, match=r"vectors-00001\.npy: missing"):
        VectorSet(path)


@pytest.mark.parametrize(
    ("name", "place", "asks"),
    [
        ("vectors-00000.npy", 3, "rows"),
        ("vectors-00000.npy", 62, "rows"),
        ("offsets-00000.npy", 3, "texts"),
        ("offsets-00000.npy", 142, "texts"),  # far behind the end
        ("offsets-00000.npy", 143, "texts"),  # and before the beginning
        ("texts-00000.jsonl", 1, "texts"),
    ],
)
def test_what_makes_no_sense_is_named_when_it_is_read(
    stored: Callable[..., VectorSet], name: str, place: int, asks: str
) -> None:
    path = stored().path
    content = bytearray((path / name).read_bytes())
    content[place] ^= 192
    (path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"(texts|vectors|offsets)-00000\.\w+: damaged \(.*\); encode again"):
        getattr(VectorSet(path), asks)([0])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"layout": 2}, r"damaged \(its layout is 2, and this version reads 1\)"),
        ({"storage": "float8"}, "make no sense"),
        ({"count": "41"}, "make no sense"),
        ({"rows_per_file": 0}, "make no sense"),
        ({"rows_per_file": 8}, r"vectors-00003\.npy: missing"),
        ({"dimensions": 16}, r"vectors-00000\.npy: damaged \(its header is not that of float32 \[16, 16\]\)"),
    ],
)
def test_facts_that_make_no_sense(stored: Callable[..., VectorSet], change: dict[str, Any], expected: str) -> None:
    path = stored().path
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["facts"] |= change
    (path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=expected):
        VectorSet(path).rows([0])


def test_what_is_no_vectors_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder"):
        VectorSet(tmp_path / "nothing")
    for kind, expected in (("model", "holds model, not vectors"), ("vectors", r"damaged \('layout'\); encode again")):
        with new_artifact(tmp_path / kind, kind):
            pass
        with pytest.raises(ArtifactError, match=expected):
            VectorSet(tmp_path / kind)


def test_rows_that_are_not_there(stored: Callable[..., VectorSet]) -> None:
    found = stored()
    for wrong in ([41], [-1], [0, 10**12]):
        with pytest.raises(IndexError, match="has rows 0 to 40"):
            found.rows(wrong)
        with pytest.raises(IndexError, match="has rows 0 to 40"):
            found.texts(wrong)


def test_vectors_of_another_model_are_refused(encoder: Encoder, stored: Callable[..., VectorSet]) -> None:
    found = stored()
    found.check_model(encoder.fingerprint, "same")
    with pytest.raises(ArtifactError, match=r"made by .*tiny .*, not by other"):
        found.check_model("0" * 32, "other")
