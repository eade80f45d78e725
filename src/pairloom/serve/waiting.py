"""The texts that wait to be computed, and which of them come next: a data structure, without threads and clocks.

A text's width is its number of tokens, rounded up as engines pad it; texts of one width are alike to it. What a text costs is
counted in its width.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pairloom.encode.engine import Engine
from pairloom.encode.openvino_inputs import few_widths
from pairloom.models.tokenizer import Tokens

# Padding of a micro-batch, as a multiple of the tokens that it may hold, beyond which a text had better wait for the next one.
# OpenVINO's engine pads in pooling only, where it hardly costs time; so it is there to keep short texts from waiting for long ones.
_PADDING_FACTOR = 2
# What waits is shared among the streams that are free, but not into smaller parts than this, in tokens: the products of
# fewer rows take longer by the row.
_LEAST_TOKENS = 128


class Job:
    """The texts of a request.

    Args:
        engine: Computes them.
        tokens: The texts, at least one.
        skip_tokens: As `Engine.embed` takes it.
        client: Who asks.
        dimensions: Numbers in a vector.
    """

    def __init__(self, engine: Engine, tokens: Tokens, *, skip_tokens: int, client: str, dimensions: int) -> None:
        self.engine = engine
        self.skip_tokens = skip_tokens
        self.client = client
        self.tokens = tokens
        lengths = tokens.lengths.tolist()
        self.begins = [0, *itertools.accumulate(lengths)]
        """Where each text's tokens begin, and where the last one's end."""
        self.rows: dict[int, list[int]] = {}
        """Which texts still wait, by their width."""
        for row, length in enumerate(lengths):
            self.rows.setdefault(few_widths(length), []).append(row)
        self.cost = sum(width * len(rows) for width, rows in self.rows.items())
        """Of all its texts."""
        self.size = len(tokens).bit_length()
        """Jobs of one size have about as many texts."""
        self.vectors = np.empty((len(tokens), dimensions), dtype=np.float32)
        self.num_left = len(tokens)
        """Texts that are not computed yet."""
        self._since: float | None = time.perf_counter()

    @property
    def key(self) -> tuple[Engine, int]:
        """Texts of one key can be computed together."""
        return self.engine, self.skip_tokens

    def begin(self) -> float | None:
        """How long it has waited, in seconds; None if some of it has been computed before."""
        since, self._since = self._since, None
        return None if since is None else time.perf_counter() - since


@dataclass
class MicroBatch:
    """Texts that are computed together.

    Args:
        engine: Computes them.
        skip_tokens: As `Engine.embed` takes it.
        texts: Of each text its job, and its row there.
        cost: The sum of their widths.
        max_tokens: What the cost may be; a text that alone costs more comes alone.
        full: Whether there is as much in it as in those into which a long queue is cut.
        alone: Whether nothing else is computed meanwhile.
    """

    engine: Engine
    skip_tokens: int
    texts: list[tuple[Job, int]]
    cost: int
    max_tokens: int
    full: bool
    alone: bool = False

    def tokens(self) -> Tokens:
        """Its texts, in their order."""
        ids = [job.tokens.ids[job.begins[row] : job.begins[row + 1]] for job, row in self.texts]
        lengths = np.array([len(one) for one in ids], dtype=np.int64)
        return Tokens(np.concatenate(ids), lengths, np.zeros(len(ids), dtype=np.bool_))

    def scatter(self, vectors: npt.NDArray[np.float32]) -> None:
        """Puts vectors [N, D] where their texts came from. Each row has one writer, so that no lock is needed."""
        for (job, row), vector in zip(self.texts, vectors, strict=True):
            job.vectors[row] = vector


class _Jobs:
    """Jobs of a client: those of different sizes take turns, and those of like size come as they came.

    Were there turns among all of them, then of a long queue all would be begun and none done, until the time of all is over.
    """

    def __init__(self) -> None:
        self._sizes: OrderedDict[int, OrderedDict[Job, None]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._sizes)

    def add(self, job: Job) -> None:
        self._sizes.setdefault(job.size, OrderedDict())[job] = None

    def discard(self, job: Job) -> None:
        jobs = self._sizes[job.size]
        del jobs[job]
        if not jobs:
            del self._sizes[job.size]

    def first(self) -> Job:
        return next(iter(next(iter(self._sizes.values()))))

    def passed(self, job: Job) -> None:
        """The turn of jobs of its size is over."""
        self._sizes.move_to_end(job.size)


@dataclass
class _Client:
    """Who has texts waiting.

    Args:
        jobs: Of which some do.
        owed: Turns that were taken in advance, by texts that are longer than a micro-batch.
    """

    jobs: _Jobs = field(default_factory=_Jobs)
    owed: float = 0.0


class _Bucket:
    """The texts of one key and width that wait."""

    def __init__(self) -> None:
        self.num_texts = 0
        self._clients: OrderedDict[str, _Jobs] = OrderedDict()

    def add(self, job: Job, num_texts: int) -> None:
        self._clients.setdefault(job.client, _Jobs()).add(job)
        self.num_texts += num_texts

    def discard(self, job: Job, num_texts: int) -> None:
        """The job has no text of this width any more; so many less are here."""
        jobs = self._clients[job.client]
        jobs.discard(job)
        if not jobs:
            del self._clients[job.client]
        self.num_texts -= num_texts

    def next(self) -> Job:
        """Whose text comes next: one of each client in turn, and of its jobs as they have their turns."""
        job = next(iter(self._clients.values())).first()
        self.passed(job)
        return job

    def passed(self, job: Job) -> None:
        """The job's turn is over."""
        self._clients[job.client].passed(job)
        self._clients.move_to_end(job.client)


class Waiting:
    """The texts that wait. Everything takes time by the texts that are added or taken, not by those that wait.

    Clients take turns, and within a client its jobs of different sizes do. Whose turn it is leads a micro-batch with its longest
    text. Then come texts that are nearly as long, whosever they are: what is computed together is hardly padded, and short texts do
    not wait for long ones. Among texts of one width, too, clients take turns. So a single text waits for what is as short and came
    before it, and until everybody else had one turn, whatever others have sent.
    This is deficit round robin (Shreedhar and Varghese, 1995), with a micro-batch as the quantum.

    Ordered dictionaries are used for their order alone: taking the first again and again is quick with them, and slow with
    plain ones.
    """

    def __init__(self) -> None:
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._buckets: dict[tuple[Engine, int], dict[int, _Bucket]] = {}
        self._costs: dict[Engine, int] = {}

    def __bool__(self) -> bool:
        return bool(self._clients)

    @property
    def costs(self) -> Mapping[Engine, int]:
        """What waits for each engine."""
        return self._costs

    @property
    def cost(self) -> int:
        """Of all that waits."""
        return sum(self._costs.values())

    def add(self, job: Job) -> None:
        """Appends a job to those of its client; a client that had none comes after all others."""
        self._clients.setdefault(job.client, _Client()).jobs.add(job)
        buckets = self._buckets.setdefault(job.key, {})
        for width, rows in job.rows.items():
            buckets.setdefault(width, _Bucket()).add(job, len(rows))
        self._count(job.engine, job.cost)

    def drop(self, job: Job) -> None:
        """Takes a job out that is not wanted any more; one of which nothing waits is left as it is."""
        for width, rows in list(job.rows.items()):
            self._count(job.engine, -width * len(rows))
            self._done_with(job, width, len(rows))

    def take(self, *, max_tokens: int | None = None, num_free: int = 1) -> MicroBatch:
        """The next micro-batch; something must be waiting.

        Args:
            max_tokens: Limit of their widths together; by default what suits the engine. A text that alone is longer comes alone.
            num_free: Streams among which what waits is shared.
        """
        client = self._whose_turn()
        job = client.jobs.first()
        limit = max_tokens or job.engine.stream_tokens
        share = self._costs[job.engine] // num_free
        chosen = choose(
            max(job.rows),
            {width: bucket.num_texts for width, bucket in self._buckets[job.key].items()},
            min(limit, max(share, _LEAST_TOKENS)),
            most_padding=_PADDING_FACTOR * limit,
        )
        # What stands behind the others is moved there before its last text may take it out altogether.
        self._clients.move_to_end(job.client)
        client.jobs.passed(job)
        texts = list(self._take(job, chosen))
        cost = sum(width * count for width, count in chosen.items())
        client.owed += max(0.0, cost / limit - 1)
        return MicroBatch(job.engine, job.skip_tokens, texts, cost, limit, full=2 * cost >= limit)

    def _whose_turn(self) -> _Client:
        while True:
            name, client = next(iter(self._clients.items()))
            if client.owed < 1:
                return client
            client.owed -= 1
            self._clients.move_to_end(name)

    def _take(self, leader: Job, chosen: Mapping[int, int]) -> Iterator[tuple[Job, int]]:
        """Takes so many texts of each width, the first of them from the leader."""
        buckets, job = self._buckets[leader.key], leader
        for place, (width, count) in enumerate(chosen.items()):
            bucket = buckets[width]
            for number in range(count):
                if place or number:
                    job = bucket.next()
                else:
                    bucket.passed(leader)
                yield job, job.rows[width].pop()
                bucket.num_texts -= 1
                self._count(job.engine, -width)
                if not job.rows[width]:
                    self._done_with(job, width, 0)

    def _done_with(self, job: Job, width: int, num_texts: int) -> None:
        """Nothing of this width waits of the job any more; whatever is empty by that goes."""
        del job.rows[width]
        buckets = self._buckets[job.key]
        buckets[width].discard(job, num_texts)
        if not buckets[width].num_texts:
            del buckets[width]
        if not buckets:
            del self._buckets[job.key]
        if not job.rows:
            jobs = self._clients[job.client].jobs
            jobs.discard(job)
            if not jobs:
                del self._clients[job.client]

    def _count(self, engine: Engine, cost: int) -> None:
        self._costs[engine] = self._costs.get(engine, 0) + cost
        if not self._costs[engine]:
            del self._costs[engine]


def choose(first: int, waiting: Mapping[int, int], max_tokens: int, *, most_padding: int) -> dict[int, int]:
    """How many texts of which widths make a micro-batch with one that must be in it.

    Texts of its own width come first, and then those of the nearest widths, as long as padding stays below a limit: what is
    further away had better wait for a micro-batch of its own.

    Args:
        first: The width of that one.
        waiting: How many texts there are of each width.
        max_tokens: Limit of their widths together.
        most_padding: Limit of what is missing to (texts × widest of them).

    Returns:
        Numbers of texts by their widths; the first's own is the first.
    """
    rows = min(waiting[first], max(1, max_tokens // first))
    chosen = {first: rows}
    widest, left, padding_left = first, max_tokens - rows * first, most_padding
    narrower = sorted(width for width in waiting if width < first)
    wider = sorted((width for width in waiting if width > first), reverse=True)
    while narrower or wider:
        down = widest - narrower[-1] if narrower else math.inf  # padding of each text
        up = rows * (wider[-1] - widest) if wider else math.inf  # padding of those that are there
        if min(down, up) > padding_left:
            break
        if up < down:
            width = wider.pop()
            count = min(waiting[width], left // width)
            if count < 1:
                wider.clear()
                continue
            widest, padding_left = width, padding_left - int(up)
        else:
            width = narrower.pop()
            count = min(waiting[width], left // width, padding_left // int(down))
            if count < 1:
                break
            padding_left -= count * int(down)
        chosen[width] = count
        rows, left = rows + count, left - count * width
    return chosen
