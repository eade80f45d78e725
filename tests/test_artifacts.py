"""Artifacts: whole or not at all, through exceptions, kills, races and full disks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pairloom.artifacts import MANIFEST, Manifest, new_artifact, new_file, read_manifest, verify
from pairloom.errors import ArtifactError


def make(path: Path, content: str = "content") -> None:
    with new_artifact(path, "sample") as draft:
        (draft.path / "inner").mkdir()
        (draft.path / "inner" / "file.txt").write_text(content)
        draft.facts["count"] = 3


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if "partial" in path.name]


def test_what_was_written_is_found_again(tmp_path: Path) -> None:
    make(tmp_path / "deep" / "sample")
    manifest = verify(tmp_path / "deep" / "sample")
    assert manifest.kind == "sample"
    assert manifest.facts == {"count": 3}
    assert list(manifest.files) == ["inner/file.txt"]
    assert manifest.files["inner/file.txt"].bytes == 7
    assert manifest.made_by.startswith("pairloom ")
    assert not leftovers(tmp_path / "deep")


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_artifact(tmp_path / "sample", "sample") as draft:
        (draft.path / "file").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(ArtifactError, match="sample: the disk is full"),
        new_artifact(tmp_path / "sample", "s") as draft,
    ):
        (draft.path / "file").write_text("half")
        with Path("/dev/full").open("w") as full:
            full.write("more")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="cannot be written"):
        make(tmp_path / "file" / "below")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    make(tmp_path / "sample")
    with pytest.raises(ArtifactError, match="already there"):
        make(tmp_path / "sample", "other")
    assert (tmp_path / "sample" / "inner" / "file.txt").read_text() == "content"
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="already there"):
        make(tmp_path / "file")


def test_an_empty_folder_may_be_taken(tmp_path: Path) -> None:
    (tmp_path / "sample").mkdir()
    make(tmp_path / "sample")
    verify(tmp_path / "sample")


def test_of_two_writers_one_wins_and_the_other_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="already there"), new_artifact(tmp_path / "sample", "sample"):
        code = (
            "import sys; from pathlib import Path; from pairloom.artifacts import new_artifact\n"
            "with new_artifact(Path(sys.argv[1]), 'sample') as d: (d.path / 'f').write_text('first')"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "sample")], check=True, timeout=60)
    assert (tmp_path / "sample" / "f").read_text() == "first"
    assert not leftovers(tmp_path)


def test_what_a_killed_writer_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from pairloom.artifacts import new_artifact\n"
        "with new_artifact(Path(sys.argv[1]), 'sample') as d:\n"
        "    (d.path / 'f').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "sample")], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(leftovers(tmp_path)) == 1
    assert not (tmp_path / "sample").exists()
    living = tmp_path / f".sample.partial-{socket.gethostname()}-{os.getppid()}-abc"
    living.mkdir()
    make(tmp_path / "sample")
    assert leftovers(tmp_path) == [living], "a living process keeps its own"


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "task.jsonl.gz"
    with new_file(place) as draft:
        assert draft.path.name == place.name
        draft.path.write_text("whole")
        assert not place.exists()
    assert place.read_text() == "whole"
    assert [path.name for path in place.parent.iterdir()] == ["task.jsonl.gz"]
    with pytest.raises(ArtifactError, match=r"task\.jsonl\.gz: already there"), new_file(place):
        pass
    with pytest.raises(RuntimeError), new_file(tmp_path / "deep" / "other") as draft:
        draft.path.write_text("half")
        raise RuntimeError
    assert [path.name for path in place.parent.iterdir()] == ["task.jsonl.gz"]


def test_a_file_that_goes_while_the_artifact_is_verified_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "sample")
    file = tmp_path / "sample" / "inner" / "file.txt"

    def read_and_remove(*arguments: Any) -> Manifest:
        manifest = read_manifest(*arguments)
        file.unlink()
        return manifest

    monkeypatch.setattr("pairloom.artifacts.read_manifest", read_and_remove)
    with pytest.raises(ArtifactError, match=r"inner/file.txt: cannot be read \(No such file or directory\)"):
        verify(tmp_path / "sample")


def test_a_missing_a_cut_and_a_changed_file_are_named(tmp_path: Path) -> None:
    make(tmp_path / "sample")
    file = tmp_path / "sample" / "inner" / "file.txt"
    file.write_text("contend")
    read_manifest(tmp_path / "sample")
    with pytest.raises(ArtifactError, match=r"inner/file.txt: its content has changed"):
        verify(tmp_path / "sample")
    file.write_text("con")
    with pytest.raises(ArtifactError, match=r"inner/file.txt: has 3 bytes instead of 7"):
        read_manifest(tmp_path / "sample")
    file.unlink()
    with pytest.raises(ArtifactError, match=r"inner/file.txt: missing"):
        read_manifest(tmp_path / "sample")


def test_folders_that_are_no_artifacts(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder"):
        read_manifest(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match=r"has no manifest.json"):
        read_manifest(tmp_path)
    make(tmp_path / "sample")
    with pytest.raises(ArtifactError, match="holds sample, not shards"):
        read_manifest(tmp_path / "sample", "shards")
    manifest = tmp_path / "sample" / MANIFEST
    content = json.loads(manifest.read_text())
    for damage in ("{", "[]", json.dumps({**content, "files": 3, "schema": "x"}), "{}"):
        manifest.write_text(damage)
        with pytest.raises(ArtifactError, match=r"manifest.json: damaged"):
            read_manifest(tmp_path / "sample")
    manifest.write_text(json.dumps({**content, "schema": 99}))
    with pytest.raises(ArtifactError, match="newer pairloom"):
        read_manifest(tmp_path / "sample")


def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    make(tmp_path / "sample")
    manifest = tmp_path / "sample" / MANIFEST
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "files": {"../../secret": {"bytes": 0, "sha256": ""}}}))
    with pytest.raises(ArtifactError, match="leads out of the folder"):
        read_manifest(tmp_path / "sample")
