"""From settings to what a running server consists of."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from pairloom.encode.dual_encoder import AnyEncoder, DualEncoder
from pairloom.errors import ModelError, UsageError
from pairloom.search.any_collection import AnyCollection
from pairloom.search.identity import ModelIdentity
from pairloom.search.opening import open_with
from pairloom.serve.metrics import Metrics
from pairloom.serve.scheduled import scheduled
from pairloom.serve.scheduler import Scheduler
from pairloom.serve.served_model import ServedModel, ServedPair, serve_models
from pairloom.serve.service import Service
from pairloom.serve.settings import Settings


def build_service(settings: Settings) -> Service:
    """Loads the models and opens the collection.

    A collection that was made by none of the models brings its own, which is then served beside them.

    Raises:
        PairloomError: A model or the collection is not there, or cannot be read.
    """
    metrics = Metrics()
    threads = threads_of_a_worker(settings)
    scheduler = Scheduler(threads=threads, deadline_s=settings.deadline_s, metrics=metrics)

    def load(*names: str) -> dict[str, ServedModel]:
        return serve_models(names, scheduler, precision=settings.precision, threads=threads, metrics=metrics)

    models = load(*settings.models)
    collection: AnyCollection | None = None
    searched_by: ServedModel | None = None
    if settings.collection is not None:
        collection = open_with(settings.collection, background=True)
        identity = collection.model
        if identity is not None:
            collection.close()
            searched_by = _find(models, identity)
            if searched_by is None:
                own = _load_own(settings.collection, identity, load)
                if clash := models.keys() & own.keys():
                    raise UsageError(
                        f"{settings.collection}: was made by another model than the one that is called {min(clash)} here; give "
                        "that one another name: ALIAS=NAME"
                    )
                models |= own
                searched_by = next(iter(own.values()))
            encoder = scheduled(_encoder(models, searched_by), scheduler, name=searched_by.name, metrics=metrics)
            # If the model is not as it was when it made the vectors, this says so.
            collection = open_with(settings.collection, encoder, background=True)
    return Service(settings, scheduler, models, collection, searched_by, metrics)


def _load_own(
    location: str, identity: ModelIdentity, load: Callable[[str], dict[str, ServedModel]]
) -> dict[str, ServedModel]:
    if len(identity.names) > 1:
        query, document = identity.names
        raise UsageError(
            f"{location}: its queries are encoded by {query} and its documents by {document}; put the two into one folder, as Q and "
            "A, and give that folder as MODEL"
        )
    try:
        return load(*identity.names)
    except ModelError as error:
        raise ModelError(
            f"{location}: the model that made it cannot be loaded ({error}); say where it is now, as MODEL"
        ) from None


def threads_of_a_worker(settings: Settings) -> int | None:
    """How many cores each worker computes with; None for all of them."""
    if settings.threads is not None or settings.workers == 1:
        return settings.threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // settings.workers)


def _find(models: Mapping[str, ServedModel], identity: ModelIdentity) -> ServedModel | None:
    """The model that made a collection's vectors, if it is among these."""
    for model in models.values():
        query, document = _halves(models, model)
        if (query.encoder.fingerprint, document.encoder.fingerprint) == (
            identity.query_fingerprint,
            identity.fingerprint,
        ):
            return model
    return None


def _halves(models: Mapping[str, ServedModel], model: ServedModel) -> tuple[ServedModel, ServedModel]:
    if isinstance(model, ServedPair):
        return models[f"{model.name}-q"], models[f"{model.name}-a"]
    return model, model


def _encoder(models: Mapping[str, ServedModel], model: ServedModel) -> AnyEncoder:
    query, document = _halves(models, model)
    return query.encoder if query is document else DualEncoder(query.encoder, document.encoder)
