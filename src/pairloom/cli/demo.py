"""``pairloom demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pairloom.cli.arguments import Option
from pairloom.cli.options import DEFAULT_MODEL


def demo(
    out: Annotated[Path, Option(help="The folder in which everything is left.")] = Path("pairloom-demo"),
    model: Annotated[str, Option(help="What to adapt.")] = DEFAULT_MODEL,
) -> None:
    """The whole way, on the docstrings of the Python packages installed here.

    Example: `pairloom demo`
    """
    from rich.console import Console

    from pairloom.demo import run_demo

    run_demo(out, model, Console(stderr=True, markup=False, highlight=False))
