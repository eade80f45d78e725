"""A model as requests see it: texts or token numbers in, vectors out, by the scheduler that all requests share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeGuard, cast

import numpy as np
import numpy.typing as npt

from pairloom.choices import Precision
from pairloom.encode.dual_encoder import DualEncoder, load_encoder
from pairloom.encode.encoder import Encoder
from pairloom.errors import UsageError
from pairloom.models.tokenizer import Tokens
from pairloom.serve.errors import RequestError
from pairloom.serve.scheduler import Scheduler
from pairloom.serve.warming import warm_up

if TYPE_CHECKING:
    from pairloom.serve.metrics import Metrics

InputType = Literal["query", "document"]
Inputs = Sequence[str] | Sequence[Sequence[int]]

# A request with so few characters (or token numbers) in so few inputs is tokenized on the spot, in less time than a thread would
# need to start; a longer one in another thread, so that the event loop goes on.
_FEW_CHARACTERS, _FEW_INPUTS = 2000, 32
# Each of them already tokenizes on all cores; the second is there so that one huge request does not hold up all others.
_TOKENIZING_THREADS = 2


@dataclass(frozen=True)
class Answer:
    """What became of N inputs.

    Args:
        vectors: float32 [N, D], in the order of the inputs.
        num_tokens: Of all inputs, as far as they count in the vectors; prompts and special tokens included.
        truncated: bool [N]: which inputs were longer than the model takes.
    """

    vectors: npt.NDArray[np.float32]
    num_tokens: int
    truncated: npt.NDArray[np.bool_]


class ServedModel:
    """An encoder under the name by which requests ask for it.

    Args:
        name: By which requests ask for it.
        encoder: Makes tokens of texts; its engine computes their vectors.
        scheduler: Decides when.
        input_type: What texts are if a request does not say; it decides which of the model's prompts is put before them.
            None for the model's default prompt.
        metrics: Where texts and times are counted.
    """

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        scheduler: Scheduler,
        *,
        input_type: InputType | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.name = name
        self.encoder = encoder
        self.input_type: InputType | None = input_type
        self._scheduler = scheduler
        self._metrics = metrics
        self._tokenizing = ThreadPoolExecutor(_TOKENIZING_THREADS, thread_name_prefix="tokenize")

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""
        return self.encoder.dimensions

    @property
    def max_tokens(self) -> int:
        """Longer inputs are cut to it, prompt and special tokens included."""
        return self.encoder.max_tokens

    @property
    def similarity_name(self) -> str:
        """``cosine`` or ``dot``."""
        return self.encoder.similarity_name

    async def encode(
        self,
        inputs: Inputs,
        *,
        input_type: InputType | None = None,
        truncate: bool = True,
        max_tokens_of_request: int | None = None,
        client: str = "",
        deadline_s: float | None = None,
    ) -> Answer:
        """The vectors of some inputs: those that `Encoder.encode` makes, up to rounding.

        Args:
            inputs: Texts, or token numbers of texts; any number of them. Special tokens are put around token numbers, unless
                they are there.
            input_type: What they are; by default what the model is served as.
            truncate: Whether inputs that are too long are cut.
            max_tokens_of_request: Limit of tokens of all inputs.
            client: Who asks, as `Scheduler.compute` takes it.
            deadline_s: As `Scheduler.compute` takes it.

        Raises:
            RequestError: A token number is none of the model's (400), an input is too long and must not be cut (422), all
                inputs together are too long (413); and as `Scheduler.compute`.
        """
        began = time.perf_counter()
        tokens, skip_tokens = await self._tokenize(inputs, input_type or self.input_type)
        if self._metrics is not None:
            self._metrics.observe_stage("tokenize", time.perf_counter() - began)
        num_tokens, num_truncated = len(tokens.ids), int(np.count_nonzero(tokens.truncated))
        if not truncate and num_truncated:
            place = int(tokens.truncated.argmax())
            raise RequestError(
                f"input {place} is longer than the {self.max_tokens} tokens that {self.name} takes: shorten it, or let it be cut",
                422,
                param=f"input[{place}]",
                code="input_too_long",
            )
        if max_tokens_of_request is not None and num_tokens > max_tokens_of_request:
            raise RequestError(
                f"the inputs have {num_tokens:,} tokens together, and a request may have {max_tokens_of_request:,}: send fewer at once",
                413,
                param="input",
                code="too_many_tokens",
            )
        if not len(tokens):
            return Answer(np.empty((0, self.dimensions), dtype=np.float32), 0, tokens.truncated)
        vectors = await self._scheduler.compute(
            self.encoder, tokens, skip_tokens=skip_tokens, client=client, deadline_s=deadline_s
        )
        if self._metrics is not None:
            self._metrics.count_texts(self.name, texts=len(tokens), tokens=num_tokens, truncated=num_truncated)
        return Answer(vectors, num_tokens, tokens.truncated)

    async def warm_up(self) -> None:
        """Computes what the first requests need, and measures how fast that goes."""
        engine = self.encoder.engine
        token_s = await asyncio.to_thread(warm_up, engine, max_tokens=self.max_tokens)
        self._scheduler.set_pace(engine, token_s)

    async def _tokenize(self, inputs: Inputs, input_type: InputType | None) -> tuple[Tokens, int]:
        if len(inputs) <= _FEW_INPUTS and sum(map(len, inputs)) <= _FEW_CHARACTERS:
            return self._tokens(inputs, input_type)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._tokenizing, self._tokens, inputs, input_type)

    def _tokens(self, inputs: Inputs, input_type: InputType | None) -> tuple[Tokens, int]:
        prompts = {"query": self.encoder.query_prompt, "document": self.encoder.document_prompt}
        prompt_name = prompts[input_type] if input_type else None
        if _are_texts(inputs):
            return self.encoder.tokenize(inputs, prompt_name=prompt_name)
        rows = cast("Sequence[Sequence[int]]", inputs)
        size = self.encoder.model.architecture.vocabulary_size
        for place, row in enumerate(rows):
            if row and (min(row) < 0 or max(row) >= size):
                wrong = next(number for number in row if not 0 <= number < size)
                raise RequestError(
                    f"input {place}: {self.name} has no token {wrong}; its tokens are 0 to {size - 1}",
                    param=f"input[{place}]",
                    code="unknown_token",
                )
        return self.encoder.tokenize_ids(rows, prompt_name=prompt_name)


class ServedPair(ServedModel):
    """The two encoders of a pair under one name: each request says which of them it means.

    Args:
        name: By which requests ask for it.
        query: What encodes queries.
        document: What encodes documents.
        scheduler: That of both.
    """

    def __init__(self, name: str, query: ServedModel, document: ServedModel, scheduler: Scheduler) -> None:
        super().__init__(name, query.encoder, scheduler)
        self._halves = {"query": query, "document": document}

    @property
    def max_tokens(self) -> int:
        """What both of them take."""
        return min(half.max_tokens for half in self._halves.values())

    async def encode(
        self,
        inputs: Inputs,
        *,
        input_type: InputType | None = None,
        truncate: bool = True,
        max_tokens_of_request: int | None = None,
        client: str = "",
        deadline_s: float | None = None,
    ) -> Answer:
        """See `ServedModel.encode`.

        Raises:
            RequestError: It is not said which half is meant (400).
        """
        if input_type is None:
            query, document = self._halves["query"].name, self._halves["document"].name
            raise RequestError(
                f"{self.name} is two encoders: set input_type to query or document, or ask for the model {query} or {document}",
                param="input_type",
                code="input_type_required",
            )
        return await self._halves[input_type].encode(
            inputs,
            truncate=truncate,
            max_tokens_of_request=max_tokens_of_request,
            client=client,
            deadline_s=deadline_s,
        )

    async def warm_up(self) -> None:
        """Nothing: each half is a model of its own."""


def serve_models(
    names: Sequence[str],
    scheduler: Scheduler,
    *,
    precision: Precision | None = None,
    threads: int | None = None,
    metrics: Metrics | None = None,
) -> dict[str, ServedModel]:
    """Loads models, each under the name by which requests will ask for it.

    Args:
        names: ``NAME`` or ``ALIAS=NAME`` of models; a folder without an alias is called by its last part. A pair becomes
            ``NAME-q`` and ``NAME-a``, and ``NAME`` for requests that say which of them they mean.
        scheduler: That of all of them.
        precision: As in `Encoder`.
        threads: As in `Encoder`.
        metrics: Where texts and times are counted.

    Raises:
        UsageError: Two of them would have one name.
        ModelError: A model is not found or cannot be read.
    """
    served: dict[str, ServedModel] = {}
    for given in names:
        name, source = _name_and_source(given)
        encoder = load_encoder(source, precision=precision, threads=threads)
        if isinstance(encoder, DualEncoder):
            query = ServedModel(f"{name}-q", encoder.query, scheduler, input_type="query", metrics=metrics)
            document = ServedModel(f"{name}-a", encoder.document, scheduler, input_type="document", metrics=metrics)
            found: list[ServedModel] = [ServedPair(name, query, document, scheduler), query, document]
        else:
            found = [ServedModel(name, encoder, scheduler, metrics=metrics)]
        for model in found:
            if model.name in served:
                raise UsageError(f"two models would be called {model.name!r}; give one another name: NAME={source}")
            served[model.name] = model
    return served


def _name_and_source(given: str) -> tuple[str, str]:
    """How a model is called, and where it is."""
    alias, separator, source = given.partition("=")
    if separator and not Path(given).expanduser().is_dir():
        if not alias or not source:
            raise UsageError(f"model {given!r}: is neither NAME nor ALIAS=NAME")
        return alias, source
    folder = Path(given).expanduser()
    return (folder.absolute().name if folder.is_dir() else given), given


def _are_texts(inputs: Inputs) -> TypeGuard[Sequence[str]]:
    return not inputs or isinstance(inputs[0], str)
