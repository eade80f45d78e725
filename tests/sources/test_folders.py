from __future__ import annotations

import re
from pathlib import Path

import pytest

from pairloom.errors import InputError
from pairloom.sources.folders import find_files


def test_files_are_taken_as_given_and_folders_by_name(tmp_path: Path) -> None:
    for name in ("b.part.gz", "a.part", "notes.txt", "c.part.zst"):
        (tmp_path / name).touch()
    given = [str(tmp_path / "notes.txt"), str(tmp_path), str(tmp_path / "a.part")]
    found = [path.name for path in find_files(given, re.compile(r"[ab]\.part"), "parts")]
    assert found == ["notes.txt", "a.part", "b.part.gz"]
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))}: holds no parts such as x$"):
        find_files([str(tmp_path)], re.compile("x"), "parts such as x")
    with pytest.raises(InputError, match=r"nowhere: no such file or folder$"):
        find_files([str(tmp_path / "nowhere")], re.compile("x"), "parts")
