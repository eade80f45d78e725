"""A served model against the encoder itself: same vectors, whatever comes with what; and what it refuses."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pairloom.encode.dual_encoder import DualEncoder
from pairloom.encode.encoder import Encoder
from pairloom.errors import ModelError, UsageError
from pairloom.models.dual import DualModel
from pairloom.models.heads import Normalize
from pairloom.models.model import Model
from pairloom.models.names import load_model
from pairloom.models.read import read_model
from pairloom.models.write import write_model
from pairloom.serve.errors import RequestError
from pairloom.serve.scheduler import Scheduler
from pairloom.serve.served_model import Answer, ServedModel, serve_models
from pairloom.serve.warming import warm_up
from tests.conftest import WORDS
from tests.serve.engines import ToldEngine

MAX_TOKENS = 64


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    plain = load_model(model_folder)
    return dataclasses.replace(plain, prompts={"query": "what is the ", "document": "the text is "})


@pytest.fixture(scope="module")
def encoder(model: Model) -> Encoder:
    return Encoder(model, device="cpu", precision="float32", threads=2)


def run(work: Callable[[Scheduler], Coroutine[Any, Any, Any]], **settings: Any) -> Any:
    """Does some work with a scheduler of its own."""

    async def whole() -> Any:
        scheduler = Scheduler(**settings)
        try:
            return await work(scheduler)
        finally:
            await scheduler.close()
            assert scheduler.num_waiting_tokens == 0

    return asyncio.run(whole())


def answer(encoder: Encoder, inputs: Any, *, served_as: Any = None, **options: Any) -> Answer:
    """A lone request."""

    async def work(scheduler: Scheduler) -> Answer:
        return await ServedModel("tiny", encoder, scheduler, input_type=served_as).encode(inputs, **options)

    found = run(work)
    assert isinstance(found, Answer)
    return found


def ids_of(encoder: Encoder, text: str) -> list[int]:
    """The token numbers of a text, special ones included."""
    return [int(number) for number in encoder.tokenize([text])[0].ids]


def near(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_vectors_of_many_concurrent_requests_are_those_of_the_encoder(model: Model, engine: Any) -> None:
    encoder = Encoder(
        model, engine=engine, device="cpu", precision="float32", threads=2 if engine == "openvino" else None
    )
    dice = np.random.default_rng(4)
    requests = [
        [" ".join(dice.choice(WORDS, size=dice.integers(0, 90))) for _ in range(dice.choice([1, 1, 1, 2, 9, 70]))]
        for _ in range(80)
    ]
    types: list[Any] = [("query", "document", None)[number % 3] for number in range(len(requests))]

    async def work(scheduler: Scheduler) -> list[Answer]:
        served = ServedModel("tiny", encoder, scheduler)
        return await asyncio.gather(
            *(
                served.encode(texts, input_type=input_type, client=f"client {number % 5}")
                for number, (texts, input_type) in enumerate(zip(requests, types, strict=True))
            )
        )

    encode = {"query": encoder.encode_query, "document": encoder.encode_document, None: encoder.encode}
    for texts, input_type, found in zip(requests, types, run(work), strict=True):
        before = encoder.num_tokens, encoder.num_truncated
        near(found.vectors, encode[input_type](texts))
        assert found.num_tokens == encoder.num_tokens - before[0]
        assert found.truncated.sum() == encoder.num_truncated - before[1]


def test_a_text_is_put_behind_the_prompt_of_what_it_is(encoder: Encoder) -> None:
    texts = ["coffee", "hot water"]
    query, document, plain = encoder.encode_query(texts), encoder.encode_document(texts), encoder.encode(texts)
    assert not np.allclose(query, document, atol=0.01)
    near(answer(encoder, texts).vectors, plain)
    near(answer(encoder, texts, input_type="query").vectors, query)
    near(answer(encoder, texts, served_as="document").vectors, document)
    near(answer(encoder, texts, served_as="document", input_type="query").vectors, query)


@pytest.mark.parametrize("include_prompt", [True, False])
def test_token_numbers_mean_what_their_text_means(model: Model, include_prompt: bool) -> None:
    model = dataclasses.replace(model, pooling=dataclasses.replace(model.pooling, include_prompt=include_prompt))
    encoder = Encoder(model, precision="float32", threads=1)
    texts = ["coffee bean", "", "grind the cup"]
    whole = [ids_of(encoder, text) for text in texts]
    for rows in (whole, [row[1:-1] for row in whole]):
        found = answer(encoder, rows)
        near(found.vectors, encoder.encode(texts))
        assert found.num_tokens == sum(map(len, whole))
        near(answer(encoder, rows, input_type="query").vectors, encoder.encode_query(texts))


def test_what_is_too_long_is_cut_and_told_of(encoder: Encoder) -> None:
    words = "coffee water " * 40
    for inputs in ([words, "cup"], [ids_of(encoder, "coffee water") * 40, ids_of(encoder, "cup")]):
        inputs = inputs if isinstance(inputs[0], str) else [[n for n in row if n not in (2, 3)] for row in inputs]
        found = answer(encoder, inputs)
        assert found.truncated.tolist() == [True, False]
        assert found.num_tokens == MAX_TOKENS + 3
        near(found.vectors, encoder.encode([words, "cup"]))
        with pytest.raises(RequestError, match="input 0 is longer than the 64 tokens that tiny takes") as error:
            answer(encoder, inputs, truncate=False)
        assert (error.value.status, error.value.param) == (422, "input[0]")
        near(answer(encoder, inputs[1:], truncate=False).vectors, encoder.encode(["cup"]))


def test_inputs_that_are_not_for_this_model_are_refused(encoder: Encoder) -> None:
    size = encoder.model.architecture.vocabulary_size
    for wrong in (-1, size, 2**40):
        with pytest.raises(
            RequestError, match=f"input 1: tiny has no token {wrong}; its tokens are 0 to {size - 1}"
        ) as error:
            answer(encoder, [[5, 6], [7, wrong]])
        assert (error.value.status, error.value.param) == (400, "input[1]")
    answer(encoder, [[0, size - 1]])
    with pytest.raises(RequestError, match="the inputs have 6 tokens together, and a request may have 5") as error:
        answer(encoder, ["cup", "cup"], max_tokens_of_request=5)
    assert (error.value.status, error.value.param) == (413, "input")
    assert answer(encoder, ["cup", "cup"], max_tokens_of_request=6).num_tokens == 6


def test_no_inputs_and_empty_inputs(encoder: Encoder) -> None:
    assert answer(encoder, []).vectors.shape == (0, 32)
    near(answer(encoder, [""]).vectors, encoder.encode([""]))
    near(answer(encoder, [[]]).vectors, encoder.encode([""]))


def test_long_requests_are_tokenized_while_the_event_loop_goes_on(encoder: Encoder) -> None:
    texts = ["grind the coffee bean " * 500] * 64

    async def work(scheduler: Scheduler) -> tuple[Answer, int]:
        task = asyncio.create_task(ServedModel("tiny", encoder, scheduler).encode(texts))
        rounds = 0
        while not task.done():
            rounds += 1
            await asyncio.sleep(0)
        return await task, rounds

    found, rounds = run(work)
    near(found.vectors, encoder.encode(texts))
    assert rounds > 3


class Counts:
    """What a served model tells of."""

    def __init__(self) -> None:
        self.counts: list[tuple[str, int, int, int]] = []
        self.stages: list[str] = []

    def observe_stage(self, stage: str, seconds: float) -> None:
        self.stages.append(stage)

    def count_texts(self, model: str, *, texts: int, tokens: int, truncated: int) -> None:
        self.counts.append((model, texts, tokens, truncated))


def test_texts_are_counted(encoder: Encoder) -> None:
    counts: Any = Counts()

    async def work(scheduler: Scheduler) -> None:
        await ServedModel("tiny", encoder, scheduler, metrics=counts).encode(["cup", "coffee " * 80])

    run(work)
    assert counts.counts == [("tiny", 2, 3 + MAX_TOKENS, 1)]
    assert counts.stages == ["tokenize"]


def test_what_it_says_of_itself(encoder: Encoder) -> None:
    served = ServedModel("tiny", encoder, Scheduler())
    assert (served.dimensions, served.max_tokens, served.similarity_name) == (32, MAX_TOKENS, "cosine")


def test_after_warming_up_the_pace_is_known(encoder: Encoder) -> None:
    async def work(scheduler: Scheduler) -> None:
        served = ServedModel("tiny", encoder, scheduler)
        await served.warm_up()
        with pytest.raises(RequestError) as error:
            await served.encode(["cup"] * 100, deadline_s=1e-9)
        assert error.value.status == 413

    run(work)


def test_what_is_computed_to_warm_up() -> None:
    engine = ToldEngine(3, stream_tokens=384)
    warm_up(engine, max_tokens=512)
    alone = {len(batch.lengths) * batch.lengths[0] for batch in engine.computed if batch.alone}
    assert alone == {8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64}
    shapes = [(len(batch.lengths), batch.lengths[0]) for batch in engine.computed if not batch.alone]
    assert shapes.count((16, 20)) >= 6, "all streams, and again to measure"
    assert all(shapes.count(shape) % 3 == 0 for shape in shapes)
    assert max(rows * width for rows, width in shapes) <= 384
    hasty = ToldEngine(2)
    assert warm_up(hasty, max_tokens=5, patience_s=0) > 0
    assert [(batch.lengths[0], batch.alone) for batch in hasty.computed] == [(5, True), *[(5, False)] * 6]


@pytest.fixture(scope="module")
def pair_folder(backbone_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    query, document = (
        dataclasses.replace(read_model(backbone_folder(family)), heads=(Normalize(),), max_tokens=limit)
        for family, limit in (("bert", 20), ("mpnet", 50))
    )
    folder = tmp_path_factory.mktemp("pair") / "two"
    folder.mkdir()
    write_model(DualModel("none", query, document), folder, readme="# two\n")
    return folder


def test_a_pair_is_three_models(pair_folder: Path) -> None:
    texts = ["how do i brew coffee", "the water is hot " * 20]
    oracle = DualEncoder(pair_folder, device="cpu", precision="float32")

    async def work(scheduler: Scheduler) -> None:
        served = serve_models([str(pair_folder)], scheduler, precision="float32", threads=2)
        assert list(served) == ["two", "two-q", "two-a"]
        assert [one.max_tokens for one in served.values()] == [20, 20, 50]
        for model in served.values():
            await model.warm_up()
        query, document = oracle.encode_query(texts), oracle.encode_document(texts)
        near((await served["two-q"].encode(texts)).vectors, query)
        near((await served["two-a"].encode(texts)).vectors, document)
        near((await served["two"].encode(texts, input_type="query")).vectors, query)
        found = await served["two"].encode(texts, input_type="document")
        near(found.vectors, document)
        assert found.truncated.tolist() == [False, True]
        with pytest.raises(RequestError, match=r"two is two encoders: set input_type .*two-q or two-a") as error:
            await served["two"].encode(texts)
        assert (error.value.status, error.value.param) == (400, "input_type")

    run(work)


def test_names_under_which_models_are_served(model_folder: Path, pair_folder: Path, tmp_path: Path) -> None:
    def names(*given: str) -> list[str]:
        return list(serve_models(given, Scheduler(), precision="float32", threads=1))

    folder = str(model_folder)
    assert names(folder, f"other={folder}") == ["tiny", "other"]
    with pytest.raises(UsageError, match=f"two models would be called 'tiny'; give one another name: NAME={folder}"):
        names(folder, folder)
    with pytest.raises(UsageError, match="two models would be called 'two-q'"):
        names(f"two-q={folder}", str(pair_folder))
    for wrong in ("=tiny", "tiny="):
        with pytest.raises(UsageError, match="is neither NAME nor ALIAS=NAME"):
            names(wrong)
    (tmp_path / "a=b").symlink_to(model_folder)
    assert names(str(tmp_path / "a=b")) == ["a=b"], "a folder by the name of which it is given"
    with pytest.raises(ModelError):
        names(f"tiny={tmp_path / 'nowhere' / 'here' / 'a'}")
