"""A new collection appears whole or not at all, and its making goes on after it was ended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pairloom.errors import ArtifactError, CollectionError, InputError
from pairloom.records import Document
from pairloom.search.collection import Collection
from pairloom.search.ingest.making import making
from pairloom.search.settings import Settings

SETTINGS = Settings(dimensions=2, similarity="cosine")
ONE = ([Document("a", "one")], np.ones((1, 2), np.float32))


def write(path: Path) -> int:
    with Collection(path, create=True, settings=SETTINGS) as collection:
        collection.upsert(ONE[0], vectors=ONE[1])
        return collection.count()


def begun(out: Path, identity: dict[str, object]) -> None:
    """What a killed process leaves."""
    with pytest.raises(KeyboardInterrupt), making(out, identity) as job:
        job.num_documents = write(job.path)
        raise KeyboardInterrupt


def test_it_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "new" / "collection"
    with making(out, {"kind": "exact"}) as job:
        assert not job.goes_on
        assert not out.exists()
        write(job.path)
    assert [path.name for path in out.parent.iterdir()] == ["collection"]
    with Collection(out, create=False) as collection:
        assert collection.get(["a"]) == [Document("a", "one")]


def test_what_is_there_stays(tmp_path: Path) -> None:
    write(tmp_path / "collection")
    expected = r"collection: already a collection; add to it with pairloom collection add, or choose another place"
    with pytest.raises(CollectionError, match=expected), making(tmp_path / "collection", {}):
        pass
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(ArtifactError, match="already there"), making(tmp_path / "other", {}):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"collection", "other"}


def test_the_same_job_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "collection"
    with caplog.at_level("INFO"):
        begun(out, {"kind": "exact"})
    assert "collection: 1 documents are written; the same command goes on from there" in caplog.text
    assert not out.exists()
    with making(out, {"kind": "exact"}) as job:
        assert job.goes_on
        with Collection(job.path, create=False) as collection:
            assert collection.count() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["collection"]


def test_another_job_does_not(tmp_path: Path) -> None:
    out = tmp_path / "collection"
    begun(out, {"kind": "exact"})
    expected = "collection: begun with kind exact, not graph; give the same, or begin anew with --restart"
    with pytest.raises(ArtifactError, match=expected), making(out, {"kind": "graph"}):
        pass
    with making(out, {"kind": "graph"}, restart=True) as job:
        assert not job.goes_on
        assert not job.path.exists()
        write(job.path)
    assert out.is_dir()


def test_nothing_stays_of_a_failure_with_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(InputError), making(tmp_path / "collection", {}) as job:
        with Collection(job.path, create=True, settings=SETTINGS):
            pass
        raise InputError("holds no text")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_before_anything_was_written_leaves_what_an_earlier_process_wrote(tmp_path: Path) -> None:
    begun(tmp_path / "collection", {})
    with pytest.raises(InputError), making(tmp_path / "collection", {}) as job:
        raise InputError("cannot be read")
    with making(tmp_path / "collection", {}) as job:
        assert job.goes_on


def test_a_damaged_note_of_the_job_begins_anew(tmp_path: Path) -> None:
    begun(tmp_path / "collection", {})
    (tmp_path / ".collection.indexing" / "job.json").write_text('{"ki')
    with making(tmp_path / "collection", {}) as job:
        assert not job.goes_on
        assert not job.path.exists()
        write(job.path)


def test_two_processes_do_not_make_it_at_once(tmp_path: Path) -> None:
    out = tmp_path / "collection"
    with making(out, {}) as job:
        with pytest.raises(ArtifactError, match="another process is at work here"), making(out, {}):
            pass
        write(job.path)
    assert out.is_dir()


def test_who_was_slower_does_not_overwrite(tmp_path: Path) -> None:
    out = tmp_path / "collection"
    with pytest.raises(CollectionError, match="already a collection"), making(out, {}) as job:
        write(job.path)
        write(out)
    with Collection(out, create=False) as collection:
        assert collection.count() == 1
