"""The address of a collection on a Qdrant server: ``qdrant://host:port/name``, and ``qdrants://`` where the line is encrypted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from pairloom.errors import UsageError

KEY_VARIABLE = "PAIRLOOM_QDRANT_API_KEY"
"""The environment variable that holds the server's API key. In an address it would end up in logs and histories."""

_SCHEMES = {"qdrant": "http", "qdrants": "https", "http": "http", "https": "https"}
_PORT = 6333
# As the server has it: names become names of folders.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_MAX_NAME = 255


@dataclass(frozen=True)
class Address:
    """Where a collection is.

    Args:
        url: Of the server, as HTTP has it.
        name: Of the collection.
    """

    url: str
    name: str

    def __str__(self) -> str:
        scheme, rest = self.url.split("://")
        return f"{'qdrants' if scheme == 'https' else 'qdrant'}://{rest}/{quote(self.name, safe='')}"


def is_address(text: str) -> bool:
    """Whether a text is meant for the address of a collection on a server, and not for a file."""
    return text.startswith(("qdrant://", "qdrants://"))


def parse_address(text: str) -> Address:
    """Reads ``qdrant://host:port/name``; without a port it is 6333.

    Raises:
        UsageError: It is something else, or has a key in it.
    """
    url, path = _split(text)
    name = unquote(path.strip("/"))
    if not name or _FORBIDDEN.search(name) or len(name) > _MAX_NAME or name in (".", ".."):
        raise UsageError(f"{text}: names no collection; write qdrant://host:port/name")
    return Address(url, name)


def server_url(text: str) -> str:
    """The server's address as HTTP has it, from ``qdrant://host:port`` or ``http://host:port``.

    Raises:
        UsageError: It is something else, or has a key or a path in it.
    """
    url, path = _split(text)
    if path.strip("/"):
        raise UsageError(f"{text}: has {path!r} behind the server's name; give the server alone")
    return url


def collection_place(location: str, name: str) -> str:
    """What a collection is called in messages: its address, or for a server that has none, such as ``:memory:``, both names."""
    try:
        return str(Address(server_url(location), name))
    except UsageError:
        return f"{location}/{name}"


def _split(text: str) -> tuple[str, str]:
    try:
        parts = urlsplit(text)
        scheme, host, port = _SCHEMES.get(parts.scheme), parts.hostname, parts.port
    except ValueError:
        scheme = host = port = None
    if scheme is None or not host:
        raise UsageError(f"{text!r}: is no address of a Qdrant server; write qdrant://host:port/name")
    if parts.username is not None or parts.query or parts.fragment:
        shown = f"{parts.scheme}://{host}"
        raise UsageError(f"{shown}: a key does not belong into an address; put it into the variable {KEY_VARIABLE}")
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{port or _PORT}", parts.path
