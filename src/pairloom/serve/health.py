"""Whether the server lives, whether it is ready, and what it has counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

if TYPE_CHECKING:
    from pairloom.serve.service import Service

_JSON = "application/json"


def health_router(service: Service) -> APIRouter:
    """Answers those that look after the server."""
    router = APIRouter(tags=["operations"])

    @router.get("/health/live", summary="Whether the process answers", response_class=Response)
    async def live(request: Request) -> Response:
        return Response(b'{"status":"live"}', media_type=_JSON)

    @router.get(
        "/health/ready",
        summary="Whether requests should be sent here",
        response_class=Response,
        responses={503: {"description": "Its models are not warm yet, or it was asked to end."}},
    )
    async def ready(request: Request) -> Response:
        phase = service.readiness.phase
        return Response(
            f'{{"status":"{phase}"}}',
            200 if phase == "ready" else 503,
            {} if phase == "ready" else {"Retry-After": "1"},
            media_type=_JSON,
        )

    @router.get("/metrics", summary="What was counted, for Prometheus", response_class=Response)
    async def metrics(request: Request) -> Response:
        body, content_type = service.metrics.render()
        return Response(body, headers={"Content-Type": content_type})

    return router
