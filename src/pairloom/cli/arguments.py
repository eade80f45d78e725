"""A command is a function: its annotations say what argparse shall accept, and its docstring what ``--help`` says.

    def search(
        vectors: Annotated[Path, Argument(metavar="VECTORS", help="A folder made by pairloom encode.")],
        k: Annotated[int, Option("-k", min=1, help="How many hits.")] = 10,
    ) -> None:

A parameter's type is ``str``, ``int``, ``float``, ``Path``, ``bool`` (a flag), a ``Literal`` (a choice), or a ``list`` of the first four; each may
be ``None`` when it is not given. Types are thereby checked twice: by mypy, and when the command is run. A `Group` of commands stands
behind a word of its own.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from pairloom.errors import UsageError

Command = Callable[..., None]

_WIDTH = 100


@dataclass(frozen=True)
class Group:
    """Commands that stand behind a word of their own, such as ``pairloom collection add``.

    Args:
        name: The word.
        about: What they are for; the first paragraph is one sentence.
        commands: In the order in which help shows them.
    """

    name: str
    about: str
    commands: Sequence[Command]


@dataclass(frozen=True)
class Argument:
    """What is told by its place.

    Args:
        metavar: What it is called.
        help: What it is.
    """

    metavar: str
    help: str


class Option:
    """What is told by its name.

    Args:
        names: By default the parameter's, as ``--the-name``.
        help: What it does.
        metavar: What its value is called.
        min: The smallest that a number may be.
        max: The largest.
    """

    def __init__(
        self,
        *names: str,
        help: str,  # noqa: A002 - as argparse has it
        metavar: str | None = None,
        min: int | None = None,  # noqa: A002
        max: int | None = None,  # noqa: A002
    ) -> None:
        self.names, self.help, self.metavar, self.min, self.max = names, help, metavar, min, max


def run(commands: Sequence[Command | Group], words: Sequence[str], *, about: str, version: str) -> None:
    """Runs the command that the first word names with what the other words say.

    Args:
        commands: In the order in which help shows them; each is called as its function.
        words: Without the program's name.
        about: One line about the program.
        version: What ``--version`` prints.

    Raises:
        UsageError: There is no such command, or it does not take these words.
        SystemExit: After help or the version was printed, which is all that was asked for.
    """
    if words and words[0] == "--version":
        sys.stdout.write(f"pairloom {version}\n")
    else:
        _run("pairloom", {"--version": "print the version"}, about, commands, words)


def _run(
    program: str, options: dict[str, str], about: str, commands: Sequence[Command | Group], words: Sequence[str]
) -> None:
    by_name = {command.name if isinstance(command, Group) else command.__name__: command for command in commands}
    first = words[0] if words else "--help"
    if first in ("--help", "-h"):
        sys.stdout.write(_overview(program, by_name, about, options))
        return
    if first.startswith("-"):
        raise UsageError(f"{first}: the command comes first; {program} --help shows all")
    if first not in by_name:
        raise UsageError(f"there is no command {first!r}; there are: {', '.join(by_name)}")
    command = by_name[first]
    if isinstance(command, Group):
        _run(f"{program} {first}", {}, _wrapped(command.about), command.commands, words[1:])
        return
    parser = make_parser(command, program)
    # argparse either lets options stand among arguments, or understands the two dashes behind which there are none.
    parse = parser.parse_args if "--" in words else parser.parse_intermixed_args
    command(**vars(parse(words[1:])))


def make_parser(command: Command, program: str = "pairloom") -> argparse.ArgumentParser:
    """The parser of a command's words; its result has the names and types of the command's parameters."""
    parser = _Parser(
        prog=f"{program} {command.__name__}",
        description=_wrapped(inspect.getdoc(command) or ""),
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,  # the function knows its defaults
    )
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        kind, declared = get_args(hints[name])
        kinds = [one for one in get_args(kind) if one is not NoneType]
        if NoneType in get_args(kind) and len(kinds) == 1:
            (kind,) = kinds
        required = parameter.default is inspect.Parameter.empty
        if isinstance(declared, Argument):
            _add_argument(parser, name, kind, declared, required=required)
        else:
            _add_option(parser, name, kind, declared, None if required else parameter.default, required=required)
    return parser


def _add_argument(parser: _Parser, name: str, kind: Any, argument: Argument, *, required: bool) -> None:
    several = get_origin(kind) is list
    if several:
        (kind,) = get_args(kind)
    nargs = ("+" if required else "*") if several else (None if required else "?")
    metavar = argument.metavar.removesuffix("...") if several else argument.metavar
    parser.add_argument(name, type=kind, nargs=nargs, metavar=metavar, help=_escaped(argument.help))


def _add_option(parser: _Parser, name: str, kind: Any, option: Option, default: Any, *, required: bool) -> None:
    names = option.names or (f"--{name.replace('_', '-')}",)
    details: dict[str, Any] = {"dest": name, "required": required, "help": _escaped(option.help)}
    if kind is bool:
        parser.add_argument(*names, action="store_true", **details)
        return
    if default is not None:
        details["help"] += f" (default: {_escaped(str(default))})"
    if get_origin(kind) is Literal:
        parser.add_argument(*names, choices=get_args(kind), **details)
        return
    if get_origin(kind) is list:
        (kind,) = get_args(kind)
        details["action"] = "append"
    metavar = option.metavar or {int: "N", float: "X", Path: "PATH"}.get(kind, "TEXT")
    parser.add_argument(*names, type=_within(kind, option.min, option.max), metavar=metavar, **details)


def _within(kind: Any, least: int | None, most: int | None) -> Callable[[str], Any]:
    def read(word: str) -> Any:
        try:
            value = kind(word)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{word[:60]!r} is no {_NUMBERS[kind]}") from None
        if least is not None and value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least:,}")
        if most is not None and value > most:
            raise argparse.ArgumentTypeError(f"{value} is more than {most:,}")
        return value

    return read if kind in _NUMBERS else kind


_NUMBERS = {int: "whole number", float: "number"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} ({self.prog} --help shows what it takes)")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=_WIDTH)


def _overview(program: str, commands: dict[str, Command | Group], about: str, options: dict[str, str]) -> str:
    width = max(map(len, commands)) + 4
    lines = [f"usage: {program} COMMAND ...", "", about, "", "commands:"]
    for name, command in commands.items():
        told = command.about if isinstance(command, Group) else inspect.getdoc(command) or ""
        text = _wrapped(told, _WIDTH - width).partition("\n\n")[0]
        lines.append(f"  {name:<{width - 2}}" + text.replace("\n", "\n" + " " * width))
    listed = {**options, "--help": "show this; after a command, what it takes"}
    return "\n".join([*lines, "", "options:", *(f"  {name:<12}{told}" for name, told in listed.items()), ""])


def _wrapped(text: str, width: int = _WIDTH) -> str:
    """A docstring's paragraphs as a terminal shows them: filled, and without the marks of code."""
    paragraphs = text.replace("`", "").split("\n\n")
    return "\n\n".join(
        textwrap.fill(" ".join(paragraph.split()), width, break_long_words=False, break_on_hyphens=False)
        for paragraph in paragraphs
    )


def _escaped(text: str) -> str:
    return text.replace("`", "").replace("%", "%%")
