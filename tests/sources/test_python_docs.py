from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from pairloom.errors import InputError
from pairloom.recipe import PythonDocsSection
from pairloom.records import Pair
from pairloom.sources.python_docs import (
    SOURCE,
    find,
    find_code,
    installed_code,
    read_docstrings,
    split_docstring,
)
from tests.sources.reading import read_view

MODULE = b'''"""The module.

Its description.
"""
import does_not_exist
raise SystemExit("never run")

class Thing:
    """A thing.

    What it is.
    """
    pattern = "\\d"

    def _method(self):
        """Do it.

        >>> Thing()._method()
        """
        def inner():
            """Inner.

            Deep.
            """
    async def plain(self):
        "No description."

if True:
    def conditional():
        """Maybe.

        Under a condition.
        """
else:
    pass
try:
    pass
except ImportError:
    def fallback():
        """Else.

        Where something is missing.
        """
'''


def pairs(*inputs: Path | str) -> tuple[list[Pair], Counter[str]]:
    return read_view(SOURCE, *inputs)


def test_every_docstring_of_a_module_is_read_and_nothing_is_run() -> None:
    docstrings = read_docstrings(MODULE)
    assert docstrings is not None
    summaries = [docstring.splitlines()[0] for docstring in docstrings]
    assert summaries == ["The module.", "A thing.", "Do it.", "Inner.", "No description.", "Maybe.", "Else."]
    assert docstrings[2] == "Do it.\n\n>>> Thing()._method()"
    assert gc.isenabled()


@pytest.mark.parametrize("source", [b'"""x"""\ndef f(:', b'"""x\0"""', b'"""\xff"""', b'"""x"""\n' + b"(" * 5000])
def test_a_module_that_is_not_python_is_none(source: bytes) -> None:
    assert read_docstrings(source) is None
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("docstring", "pair"),
    [
        ("Summary.\n\nThe rest\nof it.\n\nMore.", Pair("Summary.", "The rest of it. More.")),
        ("Summary over\ntwo lines.\n  \nRest.", Pair("Summary over two lines.", "Rest.")),
        ("Title\n=====\n\nRest\n----\n\nx", Pair("Title", "Rest x")),
        ("Summary.\nArgs:\n    x: Number.", Pair("Summary.", "Args: x: Number.")),
        ("Summary.\n:param x: Number.", Pair("Summary.", ":param x: Number.")),
        ("Summary.\n\nParameters\n----------\nx : int", Pair("Summary.", "Parameters x : int")),
        ("Summary.\n\n>>> f(1)\n2", Pair("Summary.", ">>> f(1) 2")),
        ("Summary.", None),
        ("Summary.\n\n", None),
        ("One line\nand another.", None),
        ("Do it.\n\nDo it. Now.", None),
        ("Args:\n    x: Number.\n\nMore.", None),
        ("Returns\n-------\nint\n\nMore.", None),
        (":param x: Number.\n\nMore.", None),
        (".. note:: This.\n\nMore.", None),
        (">>> f(1)\n2\n\nMore.", None),
        ("x (`int`): Number.\n\nMore.", None),
        ("**DEPRECATED**\n\nMore.", None),
        ("Notes on the weather.\n\nMore.", Pair("Notes on the weather.", "More.")),
        ("Argsort of an array.\n\nMore.", Pair("Argsort of an array.", "More.")),
    ],
)
def test_splitting(docstring: str, pair: Pair | None) -> None:
    assert split_docstring(docstring) == pair


def test_folders_packages_and_files(tmp_path: Path) -> None:
    for name in ("a/b.py", "a/tests/c.py", "a/.hidden/d.py", "a/_vendor/e.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(MODULE)
    (tmp_path / "a" / "broken.py").write_text('"""x"""\nprint "old"')
    found, dropped = pairs(tmp_path / "a")
    assert len(found) == 6
    assert dropped == {"no summary with a description": 1, "module that cannot be parsed": 1}
    assert {file.origin for file in find([str(tmp_path / "a")], "", PythonDocsSection())} == {tmp_path / "a"}
    assert pairs(tmp_path / "a" / "b.py")[0] == found


def test_packages_are_found_without_importing_them() -> None:
    before = set(sys.modules)
    assert find_code("turtledemo").name == "turtledemo"
    assert find_code("antigravity").name == "antigravity.py"
    assert not {"turtledemo", "antigravity"} & (set(sys.modules) - before)
    found, _ = pairs("argparse")
    assert any(pair.anchor == "Command-line parsing library" for pair in found)


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="no_such_package: no such folder, and no package"):
        pairs("no_such_package")
    with pytest.raises(InputError, match=r"math is not written in Python|no such folder"):
        pairs("math")


def test_the_standard_library_and_the_installed_packages_are_code() -> None:
    names = {path.name for path in installed_code()}
    assert {"argparse.py", "json", "pytest", "numpy"} <= names
    assert not {"site-packages", "test", "__pycache__"} & names


def test_links_that_lead_nowhere_and_pipes_are_not_read(tmp_path: Path) -> None:
    """Editors leave such links as locks beside the file."""
    (tmp_path / ".#a.py").symlink_to("me@host.1")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "a.py").write_text('"""Says what it is for.\n\nAnd then it goes on about it at some length."""\n')
    assert len(pairs(tmp_path)[0]) == 1
