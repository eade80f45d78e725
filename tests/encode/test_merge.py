"""The parts of a divided job are joined to the bytes of one process, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairloom import Encoder
from pairloom.artifacts import MANIFEST, new_artifact, verify
from pairloom.encode import blocks, bulk, vector_files
from pairloom.encode.bulk import encode_texts
from pairloom.encode.job_input import Shard
from pairloom.encode.merge import merge_parts
from pairloom.encode.vectors import VectorSet
from pairloom.errors import ArtifactError, UsageError
from pairloom.records import Text
from tests.encode.jobs import BLOCK_TEXTS, MeanEngine, content, make_texts

TEXTS = make_texts(200)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_TEXTS", BLOCK_TEXTS)
    monkeypatch.setattr(bulk, "_COMMIT_EVERY_S", 0.0)
    monkeypatch.setattr(vector_files, "ROWS_PER_FILE", 25)


@pytest.fixture
def encode(model_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    def make(
        shard: Shard | None = None, *, name: str | None = None, precision: Any = "float32", **options: Any
    ) -> Path:
        out = tmp_path / (name or ("whole" if shard is None else f"{shard.index}-of-{shard.count}"))
        engine = MeanEngine()
        engine.precision = precision
        encoder = Encoder(model_folder, precision=precision, engine=engine)
        texts = options.pop("texts", TEXTS)
        encode_texts(encoder, texts, out, origin="texts", shard=shard, show_progress=False, **options)
        return out

    return make


def merge(parts: list[Path], out: Path) -> dict[str, Any]:
    return merge_parts(parts, out, show_progress=False)


@pytest.mark.parametrize("store", ["float32", "float16", "int8"])
@pytest.mark.parametrize("count", [1, 2, 3, 13, 16])
def test_the_bytes_of_one_process(encode: Callable[..., Path], tmp_path: Path, store: str, count: int) -> None:
    """Files end within blocks, and of 16 parts three have nothing."""
    parts = [encode(Shard(index, count), store=store) for index in range(count)]
    facts = merge(parts[::-1], tmp_path / "merged")
    assert content(tmp_path / "merged") == content(encode(store=store))
    verify(tmp_path / "merged")
    assert VectorSet(tmp_path / "merged").texts(range(200)) == TEXTS
    assert facts["count"] == 200
    assert "part" not in facts


def test_a_part_that_was_killed_is_like_any_other(encode: Callable[..., Path], tmp_path: Path) -> None:
    def interrupted() -> Any:
        yield from TEXTS[:150]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(Shard(1, 2), texts=interrupted())
    merge([encode(Shard(1, 2)), encode(Shard(0, 2))], tmp_path / "merged")
    assert content(tmp_path / "merged") == content(encode())


def test_a_part_is_not_searched_in(encode: Callable[..., Path]) -> None:
    with pytest.raises(ArtifactError, match="0-of-2: is part 1 of 2 of a job; join all of them with pairloom merge"):
        VectorSet(encode(Shard(0, 2)))


def test_parts_that_are_not_all_there_once(encode: Callable[..., Path], tmp_path: Path) -> None:
    parts = [encode(Shard(index, 4)) for index in range(4)]
    with pytest.raises(ArtifactError, match=r"of 4 parts these are missing: 1, 3$"):
        merge([parts[1], parts[3]], tmp_path / "merged")
    with pytest.raises(ArtifactError, match=r"1-of-4: is part 2, and so is .*1-of-4; give each part once"):
        merge([parts[1], *parts], tmp_path / "merged")
    with pytest.raises(UsageError, match="give the parts"):
        merge([], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"store": "int8"}, "storage int8 and float32"),
        ({"precision": "bfloat16"}, "precision bfloat16 and float32"),
        ({"texts": [*TEXTS[:-1], Text("x", "coffee")]}, "input sha256 [0-9a-f]{64} and [0-9a-f]{64}"),
        ({"texts": TEXTS[:100]}, "input sha256"),
    ],
)
def test_parts_of_different_jobs(
    encode: Callable[..., Path], tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    first, other = encode(Shard(0, 2)), encode(Shard(1, 2), name="other", **options)
    with pytest.raises(ArtifactError, match=f"other: is a part of another job than .*0-of-2: {expected}"):
        merge([first, other], tmp_path / "merged")
    with pytest.raises(ArtifactError, match=r"2-of-3: is a part of another job than .*: parts 3 and 2"):
        merge([first, encode(Shard(2, 3))], tmp_path / "merged")


def test_what_is_no_part(encode: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds vectors, not vectors part"):
        merge([encode()], tmp_path / "merged")
    with pytest.raises(ArtifactError, match="no such folder"):
        merge([tmp_path / "nothing"], tmp_path / "merged")
    with new_artifact(tmp_path / "empty", "vectors part"):
        pass
    with pytest.raises(ArtifactError, match=r"empty: damaged \('layout'\); encode this part again"):
        merge([tmp_path / "empty"], tmp_path / "merged")


@pytest.mark.parametrize("store", ["float32", "int8"])
def test_a_byte_that_has_changed_anywhere_is_found(encode: Callable[..., Path], tmp_path: Path, store: str) -> None:
    parts = [encode(Shard(index, 2), store=store) for index in range(2)]
    names = [file.name for file in sorted(parts[1].iterdir()) if file.name != MANIFEST]
    assert len(names) == 4 * (3 + (store == "int8")) + 1
    for name in names:
        file = parts[1] / name
        whole = file.read_bytes()
        # In the header of a file of numbers, in the middle, and at the end.
        for place in {8, 60, len(whole) // 2, len(whole) - 1}:
            changed = bytearray(whole)
            changed[place] ^= 1
            file.write_bytes(changed)
            with pytest.raises(ArtifactError, match=r"1-of-2.*encode this part again"):
                merge(parts, tmp_path / "merged")
        file.write_bytes(whole)
    assert not (tmp_path / "merged").exists()
    assert not list(tmp_path.glob(".merged*"))
    merge(parts, tmp_path / "merged")


def test_a_cut_and_a_missing_file(encode: Callable[..., Path], tmp_path: Path) -> None:
    parts = [encode(Shard(index, 2)) for index in range(2)]
    copy = Path(shutil.copytree(parts[0], tmp_path / "copy"))
    file = copy / "texts-00000.jsonl"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"texts-00000\.jsonl: has .* bytes instead of"):
        merge([copy, parts[1]], tmp_path / "merged")
    manifest = json.loads((parts[0] / MANIFEST).read_text())
    del manifest["files"]["vectors-00001.npy"]
    (parts[0] / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"vectors-00001\.npy: missing; encode this part again"):
        merge(parts, tmp_path / "merged")


def test_something_at_the_place(encode: Callable[..., Path], tmp_path: Path) -> None:
    parts = [encode(Shard(index, 2)) for index in range(2)]
    (tmp_path / "merged").write_text("mine")
    with pytest.raises(ArtifactError, match="merged: already there"):
        merge(parts, tmp_path / "merged")
    assert (tmp_path / "merged").read_text() == "mine"
