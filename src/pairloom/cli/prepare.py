"""``pairloom prepare``: raw dumps to shards, of one source or of all that a recipe needs."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

from pairloom.cli.arguments import Argument, Option
from pairloom.cli.options import Json, Quiet, Settings
from pairloom.cli.output import print_json, say
from pairloom.errors import UsageError
from pairloom.terminal import short


def prepare(
    source: Annotated[str | None, Argument(metavar="SOURCE", help="Where the pairs come from; see --list.")] = None,
    inputs: Annotated[list[Path] | None, Argument(metavar="INPUT...", help="Dumps, files or folders.")] = None,
    view: Annotated[str | None, Option(help="Which pairs to make; by default the source's first view.")] = None,
    out: Annotated[Path | None, Option(help="The folder of shards to make.")] = None,
    holdout: Annotated[
        int, Option(min=0, help="Anchors to hold out as the queries of a task; for candidate sets, pairs.")
    ] = 0,
    holdout_documents: Annotated[
        int, Option(min=0, help="Positives to hold out as its documents; by default as many.")
    ] = 0,
    holdout_out: Annotated[
        Path | None,
        Option(
            metavar="TASK",
            help="The task to make: a folder for retrieval, or, if its name ends in .jsonl or .jsonl.gz, a file of candidate "
            "sets of 100 for 1-of-100 accuracy.",
        ),
    ] = None,
    seed: Annotated[int, Option(min=0, help="Which anchors are held out.")] = 0,
    exclude: Annotated[
        list[Path] | None, Option(metavar="TASK", help="Drop pairs with a text of this task; may be repeated.")
    ] = None,
    processes: Annotated[
        int | None, Option(min=1, max=1024, help="How many share the reading; by default one a core.")
    ] = None,
    settings: Settings = None,
    recipe: Annotated[
        Path | None,
        Option(help="Make all shards of this recipe that are not there yet; what follows are the DUMPS."),
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="With --recipe: only say what would be made, and what is missing.")
    ] = False,
    partial: Annotated[
        bool, Option("--partial", help="With --recipe: that something is missing is no failure.")
    ] = False,
    show_list: Annotated[bool, Option("--list", help="Show the sources and their views.")] = False,
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
        from pairloom.cli.list_sources import list_sources

        list_sources(as_json)
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
        print_json(facts)
        return
    say(f"wrote {facts['num_rows']:,} pairs to {out}", style="bold")
    if facts["holdout"]:
        held_out = {name.removeprefix("num_"): value for name, value in facts["holdout"].items()}
        say(f"held out in {holdout_out}: {short(held_out)}")
    for reason, count in facts["dropped"].items():
        say(f"  dropped {count:,}: {reason}")


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
        say(f"{number}/{len(found.to_make)} {one}", style="bold")
        entry = {"name": one.name, "shards": str(one.shards), "source": one.source, "view": one.view}
        if not dry_run:
            try:
                facts = stage.make(
                    one, overrides=of_sources, exclude=texts, num_processes=processes, show_progress=not quiet
                )
            except InputError as error:  # of one dump; the others may be sound
                failed.append({"name": one.name, "shards": str(one.shards), "reason": str(error)})
                say(f"  failed: {error}", style="red")
                continue
            entry["num_rows"] = facts["num_rows"]
            say(f"  wrote {facts['num_rows']:,} pairs to {one.shards}")
            if facts["broken"]["count"]:
                logging.getLogger("pairloom").warning(_broken(facts["broken"]))
        made.append(entry)
    if found.missing:
        say("missing:", style="bold")
        for line in stage.describe(found.missing, all_names=True):
            say(f"  {line}")
    numbers = {"already there": len(found.whole), "to make" if dry_run else "made": len(made)}
    say(short({**numbers, "failed": len(failed), "missing": len(found.missing)}), style="bold")
    if as_json:
        missing = [stage.to_json(one) for one in found.missing]
        print_json({"whole": found.whole, "made": made, "failed": failed, "missing": missing, "dry_run": dry_run})
    if failed or (found.missing and not (partial and (made or found.whole))):
        sys.exit(1)


def _broken(broken: dict[str, Any]) -> str:
    count, places = broken["count"], broken["places"]
    more = f", and {count - len(places):,} more" if count > len(places) else ""
    return f"{count:,} broken records were left out: {'; '.join(places)}{more}"
