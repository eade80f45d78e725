"""``pairloom serve``: from settings to a server that answers, and to its end."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

from pairloom.errors import PairloomError, UsageError
from pairloom.models.dual import load_any
from pairloom.search.opening import open_with
from pairloom.serve import logs
from pairloom.serve.access import is_loopback
from pairloom.serve.answering import answer
from pairloom.serve.building import build_service
from pairloom.serve.keys import read_keys
from pairloom.serve.server import listen
from pairloom.serve.settings import Settings
from pairloom.serve.summary import summary
from pairloom.serve.supervisor import Supervisor

# Beside connections: the files of models, collections and Python.
_OTHER_FILES = 512


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Serves until the process is asked to end, and until what was asked by then is answered.

    Args:
        settings: What, where, and within which limits.
        say: Tells a person what is served and how to try it.

    Raises:
        PairloomError: The keys, a model or the collection cannot be read, or there is no listening at the address.
    """
    if not settings.models and settings.collection is None:
        raise UsageError("say what to serve: a MODEL, or --collection COLLECTION, which brings its own")
    if settings.workers > 1 and sys.platform == "win32":
        raise UsageError(
            "several workers need a system with fork and signals, which Windows is not; leave --workers out"
        )
    keys = read_keys(settings)
    _allow_many_files(settings)
    with _listen(settings) as listening:
        port = listening.getsockname()[1]
        if settings.workers > 1:
            _check(settings)
            _start_log(settings, summary(settings, port, keys), say)
            Supervisor(settings, listening).run()
        else:
            service = build_service(settings)
            _start_log(settings, summary(settings, port, keys, list(service.models)), say)
            answer(service, listening)


def warn_if_open(settings: Settings) -> None:
    """Says so if others than the programs of this machine may use the server, and nobody is asked who it is."""
    if not is_loopback(settings.host) and settings.keys is None and settings.api_keys is None:
        logs.logger.warning(
            "everybody who reaches %s may use the server, and write to its collection: there are no keys; make one with "
            "pairloom serve --keys FILE --add-key NAME",
            settings.host,
        )


def _check(settings: Settings) -> None:
    """Finds what is wrong with models and the collection, so that it is said once and not by each worker."""
    for name in settings.models:
        load_any(name if Path(name).is_dir() else name.rpartition("=")[2])
    if settings.collection is not None:
        open_with(settings.collection).close()


def _listen(settings: Settings) -> socket.socket:
    try:
        return listen(settings)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise PairloomError(
            f"cannot listen on {where} ({error.strerror or error}); take another --port, or --host"
        ) from None


def _start_log(settings: Settings, lines: list[str], say: Callable[[str], None]) -> None:
    if settings.log_format == "text":
        for line in lines:
            say(line)
    logs.set_up(settings.log_format, log_texts=settings.log_texts)
    if settings.log_format == "json":
        for line in lines:
            logs.logger.info(line)
    warn_if_open(settings)


def _allow_many_files(settings: Settings) -> None:
    """Each connection is a file, and many systems give a process no more than 1,024 unless it asks."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
