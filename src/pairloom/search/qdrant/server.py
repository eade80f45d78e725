"""Reaching a Qdrant server, and what can go wrong on the way, each as one sentence."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from pairloom.errors import CollectionError, MissingExtraError
from pairloom.search.qdrant.address import KEY_VARIABLE, server_url

try:
    import httpx
    from qdrant_client import QdrantClient, models
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
except ImportError:
    raise MissingExtraError("a collection on a Qdrant server", "qdrant-client", "qdrant") from None

logger = logging.getLogger("pairloom")

IN_MEMORY = ":memory:"
"""The location of a server that is none: the client's own imitation, in memory, for tests."""

# A bulk load waits for the server to have applied what it was sent; while it builds an index that can take its time.
TIMEOUT_S = 120
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SHOWN_CHARACTERS = 200
_CLOSED = "is closed; open it again"


def connect(location: str) -> QdrantClient:
    """A client of the server at ``qdrant://host:port`` (or ``qdrants``, ``http``, ``https``), or of ``:memory:``.

    The key, if the server wants one, is that of the environment variable `KEY_VARIABLE`. Nothing is sent yet.

    Raises:
        UsageError: The location makes no sense.
    """
    if location == IN_MEMORY:
        return QdrantClient(IN_MEMORY)
    url = server_url(location)
    key = os.environ.get(KEY_VARIABLE)
    if key and url.startswith("http://") and urlsplit(url).hostname not in _LOOPBACK:
        logger.warning("%s: the key goes over an open line; use qdrants:// where the server knows TLS", url)
    # The key goes as a header: given as such, the client would say the same about open lines even on this machine.
    headers = {"api-key": key} if key else None
    return QdrantClient(url=url, headers=headers, timeout=TIMEOUT_S, check_compatibility=False)


def is_imitation(client: QdrantClient) -> bool:
    """Whether the client has no server, but imitates one in this process; its data is not guarded against threads."""
    options = client.init_options
    return options.get("location") == IN_MEMORY or options.get("path") is not None


@contextmanager
def asking(where: str) -> Iterator[None]:
    """Says in one sentence what went wrong when the server was asked for something.

    Args:
        where: The collection, for messages.

    Raises:
        CollectionError: The server is away, or too slow, or refuses.
    """
    try:
        yield
    except UnexpectedResponse as error:
        raise CollectionError(f"{where}: {_refusal(error)}") from None
    except ResourceExhaustedResponse as error:
        raise CollectionError(
            f"{where}: the server asks for a pause of {error.retry_after_s} s; try again then"
        ) from None
    except ResponseHandlingException as error:
        raise CollectionError(f"{where}: {_silence(error.source)}") from None
    except json.JSONDecodeError as error:
        raise CollectionError(f"{where}: {_silence(error)}") from None
    except AssertionError as error:  # the client's, of an answer that lacks what it should have
        if "returned None" not in str(error):
            raise
        raise CollectionError(f"{where}: {_silence(error)}") from None
    except ValueError as error:
        if "not found" not in str(error):
            raise
        raise CollectionError(f"{where}: there is no such collection") from None  # as the imitation says it
    except RuntimeError as error:
        if "closed" not in str(error):
            raise
        raise CollectionError(f"{where}: {_CLOSED}") from None


def is_completed(result: models.UpdateResult) -> bool:
    """Whether a change has been made, and not only been taken note of."""
    return result.status == models.UpdateStatus.COMPLETED


def _refusal(error: UnexpectedResponse) -> str:
    status, said = error.status_code, _said(error.content)
    if status in (401, 403):
        which = "refuses the key of" if os.environ.get(KEY_VARIABLE) else "wants a key; put it into"
        return f"the server {which} {KEY_VARIABLE} ({said})"
    if status == 404:
        return f"there is no such collection ({said})"
    if status == 413:
        return f"a request was larger than the server takes ({said}); raise its service.max_request_size_mb"
    return f"the server {'refuses it' if status is not None and status < 500 else 'failed'} ({status}: {said})"


def _said(content: bytes) -> str:
    """The server's own words: Qdrant puts them into JSON, a proxy before it says what it likes."""
    text = content.decode(errors="replace")
    with suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["status"]["error"])
    text = " ".join(text.split())
    return text[:_SHOWN_CHARACTERS] + ("…" if len(text) > _SHOWN_CHARACTERS else "")


def _silence(source: object) -> str:
    if isinstance(source, httpx.TimeoutException):
        return f"the server did not answer within {TIMEOUT_S} s; it may still have done what it was asked"
    if isinstance(source, httpx.TransportError):
        return f"the server cannot be reached ({source}); is it running there?"
    if isinstance(source, RuntimeError) and "closed" in str(source):
        return _CLOSED
    return f"what answers there is no Qdrant server that is understood ({type(source).__name__})"
