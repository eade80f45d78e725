from __future__ import annotations

import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import py7zr
import pytest

from pairloom.errors import InputError
from pairloom.sources.archives import open_7z_member

# Does not compress, so the archive is cut where we cut it; larger than what a pipe and its reader hold.
NOISE = np.random.default_rng(0).bytes(3_000_000)


def make_archive(path: Path, members: dict[str, bytes], password: str | None = None) -> Path:
    with py7zr.SevenZipFile(path, "w", password=password) as archive:
        for name, content in members.items():
            archive.writef(BytesIO(content), name)
    return path


def read(path: Path, name: str = "Posts.xml") -> bytes:
    with open_7z_member(path, name) as stream:
        return stream.read()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("7z")]


@pytest.mark.parametrize("name", ["Posts.xml", "site/Posts.xml"])
def test_a_member_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    archive = make_archive(tmp_path / "a.7z", {"Badges.xml": b"other", name: NOISE, "Votes.xml": b"more"})
    assert read(archive) == NOISE
    assert list(tmp_path.iterdir()) == [archive]
    assert threads() == []


def test_a_path_that_leads_out_of_the_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    archive = tmp_path / "evil.7z"
    with py7zr.SevenZipFile(archive, "w") as evil:
        evil._writef(BytesIO(b"<posts/>"), "../../Posts.xml")  # past the check for such names
    with pytest.raises(InputError, match=r"evil\.7z: not a sound 7z archive .*\.\./Posts\.xml"):
        read(archive)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "evil.7z"]


def test_empty_member(tmp_path: Path) -> None:
    assert read(make_archive(tmp_path / "a.7z", {"Posts.xml": b""})) == b""


def test_a_reader_that_leaves_early_ends_the_thread(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.7z", {"Posts.xml": NOISE})
    with open_7z_member(archive, "Posts.xml") as stream:
        assert stream.read(10) == NOISE[:10]
        assert threads() == ["7z Posts.xml"]
    assert threads() == []


def test_a_reader_that_fails_ends_the_thread_and_keeps_its_error(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.7z", {"Posts.xml": NOISE})
    with pytest.raises(KeyError, match="mine"), open_7z_member(archive, "Posts.xml"):
        raise KeyError("mine")
    assert threads() == []


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:20],
        lambda content: b"",
        lambda content: b"no archive at all, but long enough to look for a header in it",
        lambda content: content[:-50] + bytes(50),
        flip,
    ],
    ids=["half", "header", "empty", "text", "no index", "one byte"],
)
def test_damage_names_the_archive(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    archive = make_archive(tmp_path / "a.7z", {"Posts.xml": NOISE})
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(InputError, match=r"a\.7z: not a sound 7z archive \(.+\); fetch it again"):
        read(archive)
    assert threads() == []


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.7z", {"Badges.xml": b"x"})
    with pytest.raises(InputError, match=r"a\.7z: has no Posts\.xml in it"):
        read(archive)
    with pytest.raises(InputError, match=r"b\.7z: cannot be read \(No such file"):
        read(tmp_path / "b.7z")


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.7z", {"Posts.xml": b"secret"}, password="x")
    with pytest.raises(InputError, match=r"a\.7z: is encrypted; unpack it with its password first"):
        read(archive)


def test_two_members_of_the_name_are_refused(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.7z", {"one/Posts.xml": b"1", "two/Posts.xml": b"2"})
    with pytest.raises(InputError, match=r"a\.7z: has 2 files called Posts\.xml"):
        read(archive)
