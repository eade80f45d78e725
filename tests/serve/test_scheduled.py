"""An encoder that computes by the scheduler makes the vectors that it made before, and whoever asks has a name there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pairloom import Collection, DualEncoder, Encoder
from pairloom.models.read import read_model
from pairloom.search.identity import ModelIdentity
from pairloom.serve.errors import TooBusyError
from pairloom.serve.metrics import Metrics
from pairloom.serve.scheduled import asking_for, scheduled
from tests.serve.collection_servers import DOCUMENTS, RecordingScheduler

pytestmark = pytest.mark.anyio

TEXTS = ["hot coffee", "how do i read a python file", "", "coffee " * 500]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_its_vectors_are_the_encoders_own(prompted_encoder: Encoder) -> None:
    scheduler = RecordingScheduler(threads=1)
    encoder = scheduled(prompted_encoder, scheduler)
    with asking_for("somebody"):
        queries = await asyncio.to_thread(encoder.encode_query, TEXTS)
        documents = await asyncio.to_thread(encoder.encode_document, TEXTS)
    np.testing.assert_allclose(queries, prompted_encoder.encode_query(TEXTS), atol=1e-5)
    np.testing.assert_allclose(documents, prompted_encoder.encode_document(TEXTS), atol=1e-5)
    assert scheduler.computed == [("somebody", 4), ("somebody", 4)]
    await scheduler.close()


async def test_it_is_the_same_model_to_a_collection(encoder: Encoder, tmp_path: Path) -> None:
    scheduler = RecordingScheduler(threads=1)
    with Collection(tmp_path / "c", encoder) as collection:
        collection.add(DOCUMENTS)
    with Collection(tmp_path / "c", scheduled(encoder, scheduler), create=False) as collection:
        assert collection.upsert(DOCUMENTS).unchanged == len(DOCUMENTS)
        assert not scheduler.computed  # of texts that are there nothing is computed, and outside of a request not by it
        assert collection.search("hot coffee", 1, mode="vector")[0].id == "coffee"
        assert not scheduler.computed
    await scheduler.close()


async def test_of_a_pair_both_halves_are_scheduled(backbone_folder: Callable[[str], Path]) -> None:
    query, document = (Encoder(read_model(backbone_folder(one)), threads=1) for one in ("bert", "mpnet"))
    pair, scheduler = DualEncoder(query, document), RecordingScheduler(threads=1)
    same = scheduled(pair, scheduler)
    ModelIdentity.of(pair).check(ModelIdentity.of(same), "here")
    with asking_for("a"):
        queries = await asyncio.to_thread(same.encode_query, TEXTS)
    with asking_for("b"):
        documents = await asyncio.to_thread(same.encode_document, TEXTS)
    np.testing.assert_allclose(queries, pair.encode_query(TEXTS), atol=1e-3)
    np.testing.assert_allclose(documents, pair.encode_document(TEXTS), atol=1e-3)
    assert scheduler.computed == [("a", 4), ("b", 4)]
    await scheduler.close()


async def test_what_the_scheduler_refuses_is_refused(encoder: Encoder) -> None:
    class Refusing(RecordingScheduler):
        async def compute(self, *args: object, **options: object) -> np.ndarray:
            raise TooBusyError(7)

    same = scheduled(encoder, Refusing(threads=1))
    with asking_for("somebody"), pytest.raises(TooBusyError) as refused:
        await asyncio.to_thread(same.encode_document, TEXTS)
    assert refused.value.retry_after_s == 7


async def test_its_texts_are_counted_under_the_name_of_the_model(encoder: Encoder) -> None:
    scheduler, metrics = RecordingScheduler(threads=1), Metrics()
    same = scheduled(encoder, scheduler, name="tiny", metrics=metrics)
    with asking_for("somebody"):
        await asyncio.to_thread(same.encode_document, TEXTS)
    counted = metrics.render()[0].decode()
    assert 'pairloom_texts_total{model="tiny"} 4.0' in counted
    assert 'pairloom_truncated_total{model="tiny"} 1.0' in counted
    await scheduler.close()
