"""``pairloom search``: what is nearest to a query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pairloom.cli.arguments import Argument, Option
from pairloom.cli.options import Json, Where
from pairloom.cli.output import print_json, say, show
from pairloom.errors import UsageError
from pairloom.search.opening import is_any_collection, open_any

if TYPE_CHECKING:
    from pairloom.records import Hit


def search(
    path: Annotated[
        str,
        Argument(
            metavar="PATH",
            help="A collection (a folder, or qdrant://host:port/name), or a folder made by pairloom encode.",
        ),
    ],
    query: Annotated[str, Argument(metavar="QUERY", help="What to look for.")],
    k: Annotated[int, Option("-k", min=1, help="How many hits.")] = 10,
    mode: Annotated[
        Literal["vector", "words", "hybrid"] | None,
        Option(help="Of a collection: by meaning, by words, or by both, which is the default."),
    ] = None,
    where: Where = None,
    model: Annotated[str | None, Option(help="Where the model lies now, if not where it was.")] = None,
    as_json: Json = False,
) -> None:
    """Find the texts nearest to a query.

    Example: `pairloom search questions "how do I read a file line by line?" --where tag=python -k 5`
    """
    from pairloom.search.show import render_hits

    if is_any_collection(path):
        hits = _in_collection(path, query, k, mode or "hybrid", where, model)
    elif mode is not None or where is not None:
        raise UsageError(f"{path}: is no collection, and --mode and --where are for one; pairloom index makes it")
    else:
        hits = _in_vectors(Path(path), query, k, model)
    if as_json:
        print_json([_as_json(hit) for hit in hits])
    elif hits:
        show(render_hits(query, hits))
    else:
        say("nothing was found")


def _in_collection(
    location: str,
    query: str,
    k: int,
    mode: Literal["vector", "words", "hybrid"],
    where: list[str] | None,
    model: str | None,
) -> list[Hit]:
    from pairloom.search.filters.language import read_filter

    filter_ = None if where is None else read_filter(where)
    with open_any(location, model) as collection:
        return collection.search(query, k, mode=mode, filter=filter_)


def _in_vectors(vectors: Path, query: str, k: int, model: str | None) -> list[Hit]:
    from pairloom.encode.dual_encoder import load_encoder
    from pairloom.search.exact import ExactSearch

    return ExactSearch(vectors, None if model is None else load_encoder(model)).search(query, k)


def _as_json(hit: Hit) -> dict[str, Any]:
    plain = {"id": hit.id, "score": hit.score, "text": hit.text}
    return {
        **plain,
        **({"metadata": dict(hit.metadata)} if hit.metadata else {}),
        **({"highlights": hit.highlights} if hit.highlights else {}),
    }
