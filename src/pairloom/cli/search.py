"""``pairloom search``: the texts nearest to a query."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pairloom.cli.arguments import Argument, Option
from pairloom.cli.options import Json
from pairloom.cli.output import print_json, show


def search(
    vectors: Annotated[Path, Argument(metavar="VECTORS", help="A folder made by pairloom encode.")],
    query: Annotated[str, Argument(metavar="QUERY", help="What to look for.")],
    k: Annotated[int, Option("-k", min=1, help="How many hits.")] = 10,
    model: Annotated[str | None, Option(help="Where the model lies now, if not where it was.")] = None,
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
        print_json([{"id": hit.id, "score": hit.score, "text": hit.text} for hit in hits])
    else:
        show(render_hits(query, hits))
