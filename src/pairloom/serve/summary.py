"""What a person is told when a server starts: what is served, where, to whom, and how to try it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from pairloom.serve.keys import Key
from pairloom.serve.settings import Settings

_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - to be recognised, not to be bound to


def summary(settings: Settings, port: int, keys: Sequence[Key], models: Sequence[str] = ()) -> list[str]:
    """A few lines.

    Args:
        settings: The server's.
        port: On which it listens.
        keys: Which ask for it.
        models: By the names under which they are served, if they are loaded by this process.
    """
    host = "127.0.0.1" if settings.host in _ANY_ADDRESS else settings.host
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    served = ", ".join(models or settings.models)
    if settings.collection is not None:
        served += (" and " if served else "") + f"the collection {settings.collection}"
    by = f", by {settings.workers} workers" if settings.workers > 1 else ""
    lines = [f"serves {served} at {url}{by}"]
    if keys:
        lines.append(f"API keys are asked for: {', '.join(key.name for key in keys)}")
    else:
        lines.append("no API keys are asked for (--keys FILE --add-key NAME makes one)")
    if settings.page:
        lines.append(f"the page: {url}/")
    lines.append("try: " + _example(settings, url, models, with_key=bool(keys)))
    return lines


def _example(settings: Settings, url: str, models: Sequence[str], *, with_key: bool) -> str:
    header = " -H 'Authorization: Bearer KEY'" if with_key else ""
    if settings.collection is not None:
        route, body = "/v1/search", {"query": "how do I read a file?", "k": 3}
    elif models:
        body = {"model": models[-1], "input": "a text"}  # of a pair, one that needs not be told which half is meant
        route = "/v1/embeddings"
    else:
        return f"curl {url}/v1/models{header}"
    return f"curl {url}{route}{header} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
