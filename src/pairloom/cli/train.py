"""``pairloom train``: shards to a model, or the plan of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pairloom.cli.arguments import Argument, Option
from pairloom.cli.options import Device, Json, Quiet, Settings
from pairloom.cli.output import print_json, say, show
from pairloom.errors import UsageError

if TYPE_CHECKING:
    from pairloom.recipe import Recipe


def train(
    recipe: Annotated[
        Path,
        Argument(
            metavar="RECIPE",
            help="A TOML file, or the name of one that comes with pairloom: adapt, all-MiniLM-L6-v2, …",
        ),
    ],
    out: Annotated[Path | None, Option(help="The model folder to make; the run is kept beside it in OUT.run.")] = None,
    settings: Settings = None,
    plan: Annotated[
        bool,
        Option(
            "--plan",
            help="Start nothing: say what is missing, what the run costs on this machine, and what it draws. Exits with 1 "
            "if something is missing.",
        ),
    ] = False,
    resume: Annotated[bool, Option("--resume", help="Go on from the newest checkpoint.")] = False,
    allow_changes: Annotated[
        bool,
        Option(
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
    say(f"wrote {out}; see {out / 'report.html'}")
    if as_json:
        print_json(result.facts)
    elif result.evaluations:
        show(render(result.evaluations), stderr=True)


def _plan(recipe: Recipe, out: Path | None, *, resume: bool, device: str | None, as_json: bool) -> None:
    from pairloom.train.plan import make_plan
    from pairloom.train.plan_report import render, to_json

    if resume:
        raise UsageError("--plan is for a whole run; leave --resume out")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("--plan is made by one process; run it without torchrun")
    result = make_plan(recipe, out=out, device=device)
    if as_json:
        print_json(to_json(result))
    else:
        show(render(result))
    if not result.is_ready:
        sys.exit(1)
