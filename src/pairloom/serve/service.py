"""What a running server consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pairloom.serve.readiness import Readiness

if TYPE_CHECKING:
    from pairloom.search.any_collection import AnyCollection
    from pairloom.serve.metrics import Metrics
    from pairloom.serve.scheduler import Scheduler
    from pairloom.serve.served_model import ServedModel
    from pairloom.serve.settings import Settings


@dataclass(frozen=True)
class Service:
    """What a running server consists of; every router is made from it.

    Args:
        settings: Limits, and who may do what.
        scheduler: Gathers texts of all requests into micro-batches, and computes them.
        models: By the names under which they are served.
        collection: What is searched, if anything is.
        collection_model: By whose queries it is searched; None without a collection, or if it can be searched by words only.
        metrics: What is counted.
        readiness: Whether requests should be sent here.
    """

    settings: Settings
    scheduler: Scheduler
    models: Mapping[str, ServedModel]
    collection: AnyCollection | None
    collection_model: ServedModel | None
    metrics: Metrics
    readiness: Readiness = field(default_factory=Readiness)
