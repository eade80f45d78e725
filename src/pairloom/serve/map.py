"""The server's collection on a plane: a sample of its documents, near each other if their vectors are, by ``/v1/map``."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from pairloom.search.any_collection import AnyCollection
from pairloom.search.protocol import Vectors
from pairloom.serve.answers import answered, failing
from pairloom.serve.bodies import refused
from pairloom.serve.served_collection import no_collection, served_collection
from pairloom.serve.service import Service

Method = Literal["t-sne", "pca"]
Coordinates = npt.NDArray[np.float32]

_MOST_POINTS = 5_000
_TEXT_CHARACTERS = 200
# What is shown when one points at a document; more of it is asked for by its id.
_VALUE_CHARACTERS, _MOST_VALUES = 200, 20
# Neighbours that t-SNE looks at, as its authors advise; below some multiple of it there is no neighbourhood to speak of.
_PERPLEXITY = 30.0
_LEAST_POINTS = 10
# t-SNE of the first so many principal components is quicker, and looks the same.
_KEPT_DIMENSIONS = 50
_DECIMALS = 4


class _MapQuery(BaseModel):
    """What is to be shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample: int = Field(2_000, ge=1, le=_MOST_POINTS)
    seed: int = Field(0, ge=0, lt=2**32)


def map_router(service: Service) -> APIRouter:
    """``/v1/map``."""
    router = APIRouter(tags=["search"])
    collection = served_collection(service)

    async def draw_map(request: Request) -> Response:
        """A random sample of the collection on a plane. Made once for each change of the collection, which takes a while."""
        try:
            query = _MapQuery.model_validate(dict(request.query_params))
        except ValidationError as error:
            raise refused(error.errors(include_url=False, include_context=False, include_input=False)) from None
        if collection is None:
            raise no_collection()
        drawn = partial(_draw, count=query.sample, seed=query.seed)
        return Response(await collection.derive(query, drawn), media_type="application/json")

    router.add_api_route(
        "/v1/map",
        draw_map,
        methods=["GET"],
        responses=answered("Points, with what they stand for.", _MAP, _MAP_EXAMPLE) | failing(400, 404),
        openapi_extra={
            "parameters": [
                _parameter("sample", "How many documents, at most.", 2_000, 1, _MOST_POINTS),
                _parameter("seed", "Another one chooses others.", 0, 0, 2**32 - 1),
            ]
        },
    )
    return router


def project(vectors: Vectors, *, seed: int = 0) -> tuple[Coordinates, Method]:
    """Vectors on a plane: by t-SNE if scikit-learn is here to do it, or else by their first two principal components.

    Args:
        vectors: [N, D].
        seed: Of t-SNE.

    Returns:
        Coordinates [N, 2] between -1 and 1, the same of the same vectors, and how they were made.

    References:
        van der Maaten and Hinton 2008, *Visualizing Data using t-SNE*, https://jmlr.org/papers/v9/vandermaaten08a.html.
    """
    components = principal_components(vectors, _KEPT_DIMENSIONS)
    plane = components[:, :2]
    if len(vectors) < _LEAST_POINTS or not plane.any() or importlib.util.find_spec("sklearn") is None:
        return _within_square(plane), "pca"
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    # From the principal components, so that what lies far apart starts far apart.
    tsne = TSNE(
        perplexity=min(_PERPLEXITY, (len(vectors) - 1) / 3),
        init=plane / plane.std(axis=0).max() * 1e-4,
        random_state=seed,
        n_jobs=1,
    )
    # Whatever n_jobs says, gradients are computed by all cores, whose threads wait for each other actively; requests need them.
    with threadpool_limits(1, user_api="openmp"):
        return _within_square(tsne.fit_transform(components)), "t-sne"


def principal_components(vectors: Vectors, count: int) -> Coordinates:
    """What vectors [N, D] are along the directions in which they vary most: [N, min(count, D)], at least two columns.

    Of the two signs that a direction may have it is the one by which its largest number is positive.
    """
    centred = vectors - vectors.mean(axis=0) if len(vectors) else vectors
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:count]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    found = centred @ (directions * np.where(largest < 0, -1, 1)).T
    missing = max(0, 2 - found.shape[1])
    return np.pad(found, ((0, 0), (0, missing))).astype(np.float32)


def _within_square(points: Coordinates) -> Coordinates:
    """Points moved and scaled, both axes alike, so that they fill the square from -1 to 1."""
    if not len(points):
        return points
    least, most = points.min(axis=0), points.max(axis=0)
    size = float((most - least).max()) / 2
    return np.asarray(np.clip((points - (least + most) / 2) / (size or 1.0), -1, 1), np.float32)


def _draw(collection: AnyCollection, *, count: int, seed: int) -> bytes:
    """The answer as JSON."""
    documents, vectors = collection.sample(count, seed=seed)
    points, method = project(vectors, seed=seed)
    shown = [
        {
            "id": document.id,
            "text": document.text[:_TEXT_CHARACTERS],
            "x": round(x, _DECIMALS),
            "y": round(y, _DECIMALS),
            "metadata": _short(document.metadata),
        }
        for document, (x, y) in zip(documents, points.tolist(), strict=True)
    ]
    return to_json({"points": shown, "method": method})


def _short(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The first values that are short."""
    kept: dict[str, Any] = {}
    for name, value in metadata.items():
        if len(kept) == _MOST_VALUES:
            break
        if len(name) + len(json.dumps(value, ensure_ascii=False)) <= _VALUE_CHARACTERS:
            kept[name] = value
    return kept


def _parameter(name: str, description: str, default: int, least: int, most: int) -> dict[str, Any]:
    schema = {"type": "integer", "default": default, "minimum": least, "maximum": most}
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


_POINT = {
    "type": "object",
    "required": ["id", "text", "x", "y", "metadata"],
    "properties": {
        "id": {"type": "string"},
        "text": {"type": "string", "description": f"The first {_TEXT_CHARACTERS} characters."},
        "x": {"type": "number", "minimum": -1, "maximum": 1},
        "y": {"type": "number", "minimum": -1, "maximum": 1},
        "metadata": {"type": "object", "description": "Without long values."},
    },
}
_MAP = {
    "type": "object",
    "required": ["points", "method"],
    "properties": {
        "points": {"type": "array", "items": _POINT},
        "method": {"type": "string", "enum": ["t-sne", "pca"]},
    },
}
_MAP_EXAMPLE = {
    "points": [{"id": "q17", "text": "How do I read a file?", "x": 0.25, "y": -0.5, "metadata": {"tag": "python"}}],
    "method": "t-sne",
}
