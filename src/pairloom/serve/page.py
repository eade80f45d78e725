"""The page at ``/``: plain files of this package, which ask the server's own interface and no other host."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from pairloom.serve.service import Service

_HTML = "text/html; charset=utf-8"
_CSS = "text/css; charset=utf-8"
_JAVASCRIPT = "text/javascript; charset=utf-8"

INDEX = "index.html"
FILES: Mapping[str, str] = {
    INDEX: _HTML,
    "style.css": _CSS,
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(
        (
            "about.js",
            "address.js",
            "api.js",
            "colours.js",
            "compare.js",
            "dom.js",
            "filters.js",
            "hits.js",
            "main.js",
            "map.js",
            "model.js",
            "plot.js",
            "search.js",
            "tabs.js",
            "theme.js",
        ),
        _JAVASCRIPT,
    ),
}
"""The files of the page and their types. Only these are served: no path is ever made from a request."""

_HEADERS: Mapping[str, str] = {
    # A browser asks each time whether its copy is still good, so that an upgrade never mixes two versions of the page.
    "Cache-Control": "no-cache",
    # Texts of documents are shown on the page; even if one were taken for markup, nothing of it would run or be fetched.
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        )
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_router(service: Service) -> APIRouter:
    """Serves the page at ``/`` and its files beneath ``/page/``.

    Args:
        service: What the page shows; it asks for it by the server's interface, as every client does.
    """
    contents = _contents()
    router = APIRouter(include_in_schema=False)

    async def index(request: Request) -> Response:
        return _answer(request, INDEX, *contents[INDEX])

    async def file(request: Request) -> Response:
        name = str(request.path_params["file"])
        if name not in contents:
            raise HTTPException(404, "the page has no such file")
        return _answer(request, name, *contents[name])

    router.add_api_route("/", index, methods=["GET", "HEAD"], response_class=Response)
    router.add_api_route("/page/{file}", file, methods=["GET", "HEAD"], response_class=Response)
    return router


def _contents() -> dict[str, tuple[bytes, str]]:
    """Each file's content and its entity tag."""
    folder = files("pairloom.serve").joinpath("page")
    contents = {name: folder.joinpath(name).read_bytes() for name in FILES}
    return {name: (content, f'"{hashlib.sha256(content).hexdigest()[:32]}"') for name, content in contents.items()}


def _answer(request: Request, name: str, content: bytes, tag: str) -> Response:
    headers = {**_HEADERS, "ETag": tag}
    held = (one.strip().removeprefix("W/") for one in request.headers.get("If-None-Match", "").split(","))
    if tag in held:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=FILES[name], headers=headers)
