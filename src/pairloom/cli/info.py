"""``pairloom info``: what an artifact is, and whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pairloom.cli.arguments import Argument, Option
from pairloom.cli.options import DEFAULT_MODEL, Json
from pairloom.cli.output import print_json, report, say, show
from pairloom.errors import UsageError

if TYPE_CHECKING:
    from pairloom.pairs.statistics import TokenCounter


def info(
    path: Annotated[
        Path, Argument(metavar="PATH", help="Shards, a task, a model, a checkpoint, vectors, a collection.")
    ],
    model: Annotated[
        str | None,
        Option(help=f"Of shards: whose tokens are counted; by default {DEFAULT_MODEL}'s if it is installed."),
    ] = None,
    plot: Annotated[
        Path | None, Option(metavar="FILE.png", help="Of shards: a picture of the lengths to draw.")
    ] = None,
    seed: Annotated[int | None, Option(min=0, help="Of shards: which rows are drawn; 0 if none is given.")] = None,
    as_json: Json = False,
) -> None:
    """Say what an artifact is, and whether every byte of it is as it was written; of shards also what is in them.

    Example: `pairloom info pairs --plot lengths.png`
    """
    from pairloom.artifacts import read_manifest, verify
    from pairloom.search.ledger import is_collection

    kind = "collection" if is_collection(path) else read_manifest(path).kind
    if kind != "shards" and (model, plot, seed) != (None, None, None):
        raise UsageError(f"{path}: --model, --plot and --seed are for shards, and this is of the kind {kind}")
    if plot is not None:
        from pairloom.plot import check_picture

        check_picture(plot)
    if kind == "collection":
        _report_collection(path, as_json)
        return
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
        report(facts, as_json, headline)


def _report_collection(path: Path, as_json: bool) -> None:
    from pairloom.search.collection import Collection

    with Collection(path, create=False, background=False) as collection:
        collection.verify()
        facts = {"kind": "collection", **collection.info()}
    report(facts, as_json, f"{path}: collection, whole")


def _token_counter(name: str | None) -> TokenCounter | None:
    """How tokens are counted: by the model named, or by the default one if it is here without a look at the hub."""
    from pairloom.models.names import find_in_package, find_model
    from pairloom.models.read import read_model
    from pairloom.pairs.statistics import TokenCounter

    folder = find_in_package(DEFAULT_MODEL) if name is None else find_model(name)
    if folder is None:
        return None
    model = read_model(folder, name or DEFAULT_MODEL)
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
        print_json({**facts, "statistics": statistics.to_json()})
    else:
        say(headline, style="bold")
        show(render(facts, statistics))
    if plot is not None:
        say(f"drew {plot}")
