"""The command line: one subcommand a stage, and the only place where stages meet.

A person reads stderr; with ``--json`` a program reads stdout. Each command has a module of its own, and nothing heavy is
imported before it is known which stage is wanted.
"""

from __future__ import annotations

import io
import logging
import signal
import sys
from typing import Annotated

import typer

from pairloom import __version__
from pairloom.artifacts import DISK_FULL
from pairloom.cli import demo, encode, evaluate, info, mixture, prepare, search, train
from pairloom.cli.output import ConsoleHandler, fail
from pairloom.errors import PairloomError

app = typer.Typer(
    name="pairloom",
    help="Weave pairs of texts into sentence-embedding models, and search with them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
# In the order of the help: as data flows.
for command in (
    demo.demo,
    prepare.prepare,
    mixture.mixture,
    train.train,
    evaluate.evaluate,
    encode.encode,
    encode.merge,
    search.search,
    info.info,
):
    app.command()(command)


def main() -> None:
    """Runs the command line; an error of the input's or the machine's is one line, only one of ours a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character shows a question mark
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be asked to end is to be interrupted: clean up
    logging.basicConfig(handlers=[ConsoleHandler()], level=logging.WARNING)
    logging.getLogger("pairloom").setLevel(logging.INFO)
    try:
        app()
    except PairloomError as error:
        fail(str(error), error.exit_code)
    except SystemExit as done:
        if done.code == 130:  # typer turns Ctrl-C into this without a word
            fail("interrupted", 130)
        raise
    except OSError as error:
        if error.errno in DISK_FULL:
            fail("the disk is full; free some space and run again", 1)
        if error.filename is None:
            raise
        fail(f"{error.filename}: {error.strerror}", 1)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pairloom {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
