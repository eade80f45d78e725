from __future__ import annotations

from pathlib import Path

import pytest

from pairloom.errors import InputError
from pairloom.sources.splits import find_split


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder: Path, split: str = "train") -> list[str]:
    paths = find_split([str(folder)], (".json",), split=split, source="squad")
    return [path.relative_to(folder).as_posix() for path in paths]


def test_of_a_folder_the_split(tmp_path: Path) -> None:
    touch(tmp_path, "train-v2.0.json", "dev-v2.0.json.gz", "xquad.json", "train.txt", ".train.json", "sub/train.json")
    assert found(tmp_path) == ["train-v2.0.json"]
    assert found(tmp_path, "dev") == ["dev-v2.0.json.gz"]
    message = r"has no file called test, only dev, train; choose with --set squad\.split=…"
    with pytest.raises(InputError, match=message):
        found(tmp_path, "test")


def test_folders_tell_the_split_as_well(tmp_path: Path) -> None:
    touch(tmp_path, "v1.0/train/00.json", "v1.0/train/01.json", "v1.0/dev/00.json", "v1.0/.git/train.json")
    assert found(tmp_path) == ["v1.0/train/00.json", "v1.0/train/01.json"]


def test_without_a_split_all(tmp_path: Path) -> None:
    assert found(touch(tmp_path, "b.json", "a.json", "trainer.json")) == ["a.json", "b.json", "trainer.json"]


def test_files_are_taken_as_they_are(tmp_path: Path) -> None:
    paths = [touch(tmp_path, "dev.json") / "dev.json", touch(tmp_path, "odd") / "odd", tmp_path / "missing.json"]
    assert find_split([str(path) for path in paths], (".json",), split="train", source="squad") == paths


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.zip", "a.tar.bz2", "a.7z", "A.TAR"])
def test_archives_are_refused(tmp_path: Path, name: str) -> None:
    path = touch(tmp_path, name) / name
    with pytest.raises(InputError, match="is an archive; unpack it and give its folder"):
        find_split([str(path)], (".json",), split="train", source="squad")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no file whose name ends in \.json"):
        found(touch(tmp_path, "a.txt"))
