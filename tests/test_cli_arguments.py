"""Words of a command line become the arguments of a function, or one sentence about what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from pairloom.cli import COMMANDS
from pairloom.cli.arguments import Argument, Command, Group, Option, make_parser, run
from pairloom.errors import UsageError

calls: list[dict[str, Any]] = []


def weave(
    thread: Annotated[str, Argument(metavar="THREAD", help="What to weave; 100 % wool.")],
    colours: Annotated[list[Path] | None, Argument(metavar="COLOUR...", help="In this order.")] = None,
    num_rows: Annotated[int, Option(min=1, max=2**40, help="How many rows.")] = 10,
    width: Annotated[float | None, Option("-w", "--width", metavar="METRES", help="How wide.")] = None,
    pattern: Annotated[Literal["plain", "twill"] | None, Option(help="Which way; `plain` is plain.")] = None,
    marks: Annotated[list[str] | None, Option("--mark", metavar="TEXT", help="May be repeated.")] = None,
    out: Annotated[Path | None, Option(help="Where to.")] = None,
    tight: Annotated[bool, Option("--tight", "-t", help="More beats.")] = False,
) -> None:
    """Weave a cloth of 100 % wool.

    Example: `pairloom weave wool`
    """
    calls.append(dict(locals()))


def tie(knot: Annotated[str | None, Argument(metavar="KNOT", help="Which.")] = None) -> None:
    """Tie a knot, of which there are so many that this sentence is longer than what goes into one line beside a name."""
    calls.append({"knot": knot})


def sew(
    pieces: Annotated[list[Path], Argument(metavar="PIECE...", help="At least one.")],
    out: Annotated[Path, Option(help="The whole.")],
) -> None:
    """Sew."""
    calls.append({"pieces": pieces, "out": out})


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


def do(*words: str) -> dict[str, Any]:
    run((weave, tie, sew), words, about="Cloth.", version="1.2")
    (call,) = calls
    return call


def refused(*words: str) -> str:
    with pytest.raises(UsageError) as error:
        run((weave, tie, sew), words, about="Cloth.", version="1.2")
    assert calls == []
    return str(error.value)


DEFAULTS = {
    "thread": "wool",
    "colours": None,
    "num_rows": 10,
    "width": None,
    "pattern": None,
    "marks": None,
    "out": None,
    "tight": False,
}


def test_what_is_not_said_is_as_the_function_has_it() -> None:
    assert do("weave", "wool") == DEFAULTS
    calls.clear()
    assert do("tie") == {"knot": None}


def test_words_become_values_of_the_annotated_types() -> None:
    said = do(
        *("weave", "wool", "red", "blue", "--num-rows", "1099511627776", "-w", "1.5", "--pattern=twill"),
        *("--mark", "a=1", "--mark", "b", "--out", "-", "-t"),
    )
    assert said == {
        "thread": "wool",
        "colours": [Path("red"), Path("blue")],
        "num_rows": 2**40,
        "width": 1.5,
        "pattern": "twill",
        "marks": ["a=1", "b"],
        "out": Path("-"),
        "tight": True,
    }


@pytest.mark.parametrize(
    "words",
    [
        ["wool", "red", "-", "--tight"],
        ["--tight", "wool", "red", "-"],
        ["wool", "--tight", "red", "-"],
        ["wool", "red", "--tight", "-"],
    ],
)
def test_options_may_stand_anywhere_among_arguments(words: list[str]) -> None:
    assert do("weave", *words) == {**DEFAULTS, "colours": [Path("red"), Path("-")], "tight": True}


def test_an_argument_may_begin_with_a_dash_behind_two() -> None:
    assert do("tie", "--", "--bowline") == {"knot": "--bowline"}


def test_the_last_word_counts() -> None:
    assert do("weave", "wool", "--num-rows", "3", "--num-rows", "4")["num_rows"] == 4


def test_what_must_be_said_must_be_said() -> None:
    assert do("sew", "a", "--out", "b", "c") == {"pieces": [Path("a"), Path("c")], "out": Path("b")}
    calls.clear()
    assert "required: --out" in refused("sew", "a")
    assert "required: PIECE" in refused("sew", "--out", "b")
    assert "required: THREAD" in refused("weave")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-rows", "many"], "argument --num-rows: 'many' is no whole number"),
        (["--num-rows", "1.5"], "argument --num-rows: '1.5' is no whole number"),
        (["--num-rows", "0"], "argument --num-rows: 0 is less than 1"),
        (["--num-rows", "1099511627777"], "1099511627777 is more than 1,099,511,627,776"),
        (["--num-rows"], "argument --num-rows: expected one argument"),
        (["-w", "wide"], "argument -w/--width: 'wide' is no number"),
        (["--pattern", "herringbone"], "invalid choice: 'herringbone' (choose from"),
        (["--tight=no"], "argument --tight/-t: ignored explicit argument 'no'"),
        (["--tigh"], "unrecognized arguments: --tigh"),
    ],
)
def test_mistakes_are_one_sentence(words: list[str], message: str) -> None:
    said = refused("weave", "wool", *words)
    assert message in said
    assert said.endswith("(pairloom weave --help shows what it takes)")


def test_commands_that_do_not_exist() -> None:
    assert refused("knit") == "there is no command 'knit'; there are: weave, tie, sew"
    assert refused("--tight", "weave") == "--tight: the command comes first; pairloom --help shows all"
    assert "unrecognized arguments: granny" in refused("tie", "reef", "granny")


def test_help_says_what_the_docstrings_say(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("--help",), ("-h",)):
        run((weave, tie, sew), words, about="Cloth.", version="1.2")
        shown = capsys.readouterr().out
        assert "Cloth." in shown
        assert "  weave  Weave a cloth of 100 % wool.\n" in shown
        assert all(len(line) <= 100 for line in shown.splitlines())
    with pytest.raises(SystemExit) as done:
        run((weave, tie), ("weave", "--help"), about="Cloth.", version="1.2")
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert "\nWeave a cloth of 100 % wool.\n\nExample: pairloom weave wool\n" in shown
    for line in ("THREAD", "What to weave; 100 % wool.", "How many rows. (default: 10)", "--pattern {plain,twill}"):
        assert line in shown
    run((weave,), ("--version",), about="Cloth.", version="1.2")
    assert capsys.readouterr().out == "pairloom 1.2\n"
    assert calls == []


# Commands behind a word of their own


CLOTH = (
    weave,
    Group("mend", "Mend what is torn, of which there is a lot.\n\nExample: `pairloom mend tie reef`", (tie, sew)),
)


def test_a_command_of_a_group() -> None:
    run(CLOTH, ("mend", "sew", "a", "b", "--out", "c"), about="Cloth.", version="1.2")
    assert calls == [{"pieces": [Path("a"), Path("b")], "out": Path("c")}]
    calls.clear()
    run(CLOTH, ("mend", "tie", "--", "--bowline"), about="Cloth.", version="1.2")
    assert calls == [{"knot": "--bowline"}]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mend", "weave", "wool"], "there is no command 'weave'; there are: tie, sew"),
        (["tie"], "there is no command 'tie'; there are: weave, mend"),
        (["mend", "--tight"], "--tight: the command comes first; pairloom mend --help shows all"),
        (["mend", "--version"], "--version: the command comes first; pairloom mend --help shows all"),
        (["mend", "sew", "a"], "(pairloom mend sew --help shows what it takes)"),
    ],
)
def test_mistakes_in_a_group(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        run(CLOTH, words, about="Cloth.", version="1.2")
    assert message in str(error.value)
    assert calls == []


def test_help_of_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    run(CLOTH, ("--help",), about="Cloth.", version="1.2")
    shown = capsys.readouterr().out
    assert "  mend   Mend what is torn, of which there is a lot.\n" in shown
    assert "pairloom mend tie" not in shown
    for words in (("mend",), ("mend", "--help"), ("mend", "-h")):
        run(CLOTH, words, about="Cloth.", version="1.2")
        shown = capsys.readouterr().out
        assert shown.startswith("usage: pairloom mend COMMAND ...\n\nMend what is torn, of which there is a lot.\n")
        assert "Example: pairloom mend tie reef\n" in shown
        assert "  sew  Sew.\n" in shown
        assert "--version" not in shown
    with pytest.raises(SystemExit) as done:
        run(CLOTH, ("mend", "sew", "--help"), about="Cloth.", version="1.2")
    assert done.value.code == 0
    assert "usage: pairloom mend sew " in capsys.readouterr().out


ALL = [one for command in COMMANDS for one in (command.commands if isinstance(command, Group) else [command])]


@pytest.mark.parametrize(
    "command", ALL, ids=lambda command: f"{command.__module__.rpartition('.')[2]}-{command.__name__}"
)
def test_every_argument_of_every_command_is_explained(command: Command) -> None:
    for action in make_parser(command)._actions:
        assert action.help
        assert "`" not in action.help
