"""The command line: one subcommand a stage, and the only place where stages meet.

A person reads stderr; with ``--json`` a program reads stdout. Each command has a module of its own, and nothing heavy is
imported before it is known which stage is wanted.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys

from pairloom import __version__
from pairloom.artifacts import DISK_FULL
from pairloom.cli import demo, encode, evaluate, index, info, mixture, prepare, search, serve, train
from pairloom.cli.arguments import run
from pairloom.cli.collection import COLLECTION
from pairloom.cli.output import ConsoleHandler, fail
from pairloom.errors import PairloomError

ABOUT = "Weave pairs of texts into sentence-embedding models, and search with them."
# In the order of the help: as data flows.
COMMANDS = (
    demo.demo,
    prepare.prepare,
    mixture.mixture,
    train.train,
    evaluate.evaluate,
    encode.encode,
    encode.merge,
    index.index,
    COLLECTION,
    search.search,
    serve.serve,
    info.info,
)


def main() -> None:
    """Runs the command line; an error of the input's or the machine's is one line, only one of ours a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character shows a question mark
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be asked to end is to be interrupted: clean up
    logging.basicConfig(handlers=[ConsoleHandler()], level=logging.WARNING)
    logging.getLogger("pairloom").setLevel(logging.INFO)
    try:
        run(COMMANDS, sys.argv[1:], about=ABOUT, version=__version__)
        sys.stdout.flush()
    except PairloomError as error:
        fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except BrokenPipeError:
        # Who read the results has seen enough. Python shall not try to give out the rest, and complain, when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno in DISK_FULL:
            fail("the disk is full; free some space and run again", 1)
        if error.filename is None:
            raise
        fail(f"{error.filename}: {error.strerror}", 1)
