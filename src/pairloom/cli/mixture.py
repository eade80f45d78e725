"""``pairloom mixture``: what a weighted mixture will draw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pairloom.cli.arguments import Argument, Option
from pairloom.cli.options import Json, Settings
from pairloom.cli.output import print_json, say, show


def mixture(
    config: Annotated[
        Path,
        Argument(
            metavar="CONFIG",
            help="A recipe, or a list of datasets in JSON as data_config.json, or the name of one that comes with pairloom.",
        ),
    ],
    steps: Annotated[
        int | None, Option(min=1, max=2**40, help="Of the training; by default the recipe's, else 200,000.")
    ] = None,
    batch_size: Annotated[
        int | None, Option(min=2, max=2**31, help="Pairs a step; by default the recipe's, else 1,024.")
    ] = None,
    repeat_limit: Annotated[
        float, Option(metavar="EPOCHS", help="Warn of datasets that are repeated more often.")
    ] = 10.0,
    show_all: Annotated[bool, Option("--all", help="Show all datasets, however many.")] = False,
    plot: Annotated[Path | None, Option(metavar="FILE.png", help="A picture of it to draw.")] = None,
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
        print_json(to_json(result))
    else:
        show(render(result, show_all=show_all))
    if plot is not None:
        say(f"drew {plot}")
