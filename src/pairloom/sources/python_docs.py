"""Docstrings of Python packages: text that every machine with Python has, in pairs by its own convention.

A docstring is a summary line, a blank line, and a description (PEP 257). Source files are parsed, never imported.

References: https://peps.python.org/pep-0257/
"""

from __future__ import annotations

import ast
import gc
import os
import re
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from inspect import cleandoc
from pathlib import Path

from pairloom.errors import InputError
from pairloom.pairs.clean import clean_text
from pairloom.recipe import PythonDocsSection
from pairloom.records import Pair
from pairloom.sources.formats import WHOLE, InputFile
from pairloom.sources.source import Intake, Source, View

# Tests are not documented for readers; vendored packages and the rest would be read twice.
_SKIPPED_FOLDERS = {"test", "tests", "testing", "idle_test", "benchmarks", "_vendor", "vendor", "vendored"}
_SKIPPED_FOLDERS |= {"site-packages", "node_modules", "__pycache__"}
_SECTION = (
    r"(?:Args?|Arguments|Attributes|Parameters?|Params|Returns?|Yields?|Raises|Examples?|Notes?|Options|References"
    r"|See Also|Usage|Warnings?|Inputs?|Outputs?|Shape|Keyword Args|Keyword Arguments|Other Parameters)"
)
# A blank line, or the head of a section or a field list that follows without one.
_SUMMARY_END = re.compile(
    rf"\n[ \t]*(?:\n|(?={_SECTION}[ \t]*:*[ \t]*\n|:(?:param|arg|type|returns?|rtype|raises)\b|@param\b))"
)
# What is no summary: a section's head, a field list, a directive, an example, or an argument with its type.
_NO_SUMMARY = re.compile(rf"{_SECTION}\b[ \t]*(?::|$)|:\w|@\w|\.\. |>>>|[*`]*\w+[*`]* ?(?:\(`|: ?`)|[^a-z]*$")
# Underlines of headings, and rows of tables drawn with characters.
_RULE = re.compile(r"^[ \t]*([-=~^\"'`#*+_.:])\1{2,}[-=~^+ \t]*$", re.MULTILINE)
_HAS_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.If, ast.Try, ast.With, ast.ExceptHandler)
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def read_module(source: bytes, file: InputFile, settings: PythonDocsSection, intake: Intake) -> Iterator[Pair]:
    """First paragraph ↔ the rest of every docstring of a module, private ones included."""
    docstrings = read_docstrings(source)
    if docstrings is None:
        intake.drop("module that cannot be parsed")
    for docstring in docstrings or ():
        pair = split_docstring(docstring)
        if pair is None:
            intake.drop("no summary with a description")
        else:
            yield pair


def find(inputs: Sequence[str], view: str, settings: PythonDocsSection) -> list[InputFile]:
    """The modules of packages; without inputs, of the standard library and of every package of this environment."""
    roots = [find_code(name) for name in inputs] if inputs else installed_code()
    return [InputFile(path, WHOLE, origin=root) for root in roots for path in _python_files(root)]


def find_code(name: str) -> Path:
    """Finds a package by the name under which it is imported, or a folder or file by its path.

    Raises:
        InputError: There is neither.
    """
    path = Path(name)
    if path.name == name and (spec := PathFinder.find_spec(name)) is not None:
        if spec.submodule_search_locations:
            return Path(next(iter(spec.submodule_search_locations)))
        if spec.origin is not None and spec.origin.endswith(".py"):
            return Path(spec.origin)
        raise InputError(f"{name} is not written in Python, so there is nothing to read")
    if not path.exists():
        raise InputError("no such folder, and no package is imported under that name", name)
    return path


def installed_code() -> list[Path]:
    """What an environment has: each top-level module and package of the standard library and of site-packages."""
    paths = sysconfig.get_paths()
    homes = dict.fromkeys(Path(paths[key]) for key in ("stdlib", "purelib", "platlib"))
    return [entry for home in homes for entry in sorted(home.iterdir()) if _is_code(entry)]


def _is_code(path: Path) -> bool:
    if path.suffix == ".py":
        return path.is_file()
    return path.is_dir() and path.name.isidentifier() and path.name not in _SKIPPED_FOLDERS


def _python_files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS and not name.startswith("."))
        for name in sorted(files):
            file = Path(folder, name)
            # No pipes, and no link that leads nowhere, which editors leave as a lock.
            if name.endswith(".py") and file.is_file() and os.access(file, os.R_OK):
                yield file


def read_docstrings(source: bytes) -> list[str] | None:
    """The docstrings of a module, its classes and functions, in the order of the source.

    Returns:
        The docstrings without their indentation; None if the source is not valid for this Python.
    """
    if b'"""' not in source and b"'''" not in source:
        return []  # a docstring of one line has no description
    # Syntax trees are many small objects without cycles: the collector would only walk over them, for a third more time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in somebody's string is not our affair
            tree = ast.parse(source)
        return [cleandoc(docstring) for docstring in _walk(tree)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last is how a too deep nesting shows
        return None
    finally:
        if collecting:
            gc.enable()


def _walk(node: ast.AST) -> Iterator[str]:
    if isinstance(node, _DOCUMENTED) and (docstring := ast.get_docstring(node, clean=False)):
        yield docstring
    for field in ("body", "handlers", "orelse", "finalbody"):
        for child in getattr(node, field, ()):
            if isinstance(child, _HAS_DEFINITIONS):
                yield from _walk(child)


def split_docstring(docstring: str) -> Pair | None:
    """Splits a docstring at its first blank line, or where its first section begins.

    Underlines of headings go, for they are long and say nothing.

    Returns:
        Summary and description. None if there is only one, if what comes first is no summary but a section, a list of
        arguments or shouting, or if the description begins with the summary.
    """
    parts = _SUMMARY_END.split(_RULE.sub("", docstring).strip(), maxsplit=1)
    summary, description = clean_text(parts[0]), clean_text(parts[-1])
    if len(parts) == 1 or not description or _NO_SUMMARY.match(summary):
        return None
    if description.casefold().startswith(summary.casefold().rstrip(".")):
        return None
    return Pair(summary, description)


SOURCE = Source(
    name="python-docs",
    description="Docstrings of installed Python packages",
    inputs="names of packages, or folders; by default all that is installed here",
    licence="that of each package",
    citation="Python Enhancement Proposal 257, Docstring Conventions",
    find=find,
    views=(View("summary-description", "a docstring's first paragraph ↔ the rest of it", read_module),),
    needs_inputs=False,
)
