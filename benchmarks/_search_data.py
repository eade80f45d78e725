"""What is searched and what is asked: a folder that is made once, because encoding takes minutes.

It holds the real texts in random order (``texts.jsonl``: text and source; ``vectors.npy``), titles that ask for them and
are none of them (``questions.jsonl``: title, row of its body, source; ``questions.npy``), and, if more rows are wanted than
there are texts, ``grown.npy`` and ``grown.jsonl``: the real rows and copies of them (`benchmarks._search_growth`). Rows that
are added later, ``further.npy`` and ``further.jsonl``, are copies of another draw. The first rows are a smaller set.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._search_growth import altered, choose, copies, spread
from benchmarks._search_rows import Mask, Rows, Vectors, read_lines, write_lines
from benchmarks._train_pairs import distinct_pairs, read_pair_file
from pairloom import Encoder
from pairloom.encode.similarity import normalize
from pairloom.evaluate.tasks import RetrievalTask
from pairloom.pairs.clean import clean_text
from pairloom.records import Document

FACTS = "facts.json"
# Fields by which searches are filtered, and how many values each has, equally often.
SHARES = {"ten": 10, "hundred": 100, "ten_thousand": 10_000}
_FURTHER_SEED = 1
_ENCODED = ("texts.jsonl", "vectors.npy", "questions.jsonl", "questions.npy")
Labelled = tuple[str, str]


@dataclass(frozen=True)
class Question:
    """A title.

    Args:
        text: It.
        row: Of its body; -1 if it has none.
        source: From where it is.
    """

    text: str
    row: int
    source: str


class Data:
    """The folder.

    Args:
        folder: Where it is.
        size: How many rows are meant: the first ones.
    """

    def __init__(self, folder: Path, size: int | None = None) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        self.num_real: int = self.facts["texts"]
        self.size = min(size or self.num_real, self.facts["rows"])
        self._stem = "vectors" if self.size <= self.num_real else "grown"

    @property
    def rows(self) -> Rows:
        return Rows(self.folder / f"{self._stem}.npy", self.size)

    def texts(self) -> Iterator[Labelled]:
        """Text and source of every row."""
        name = "texts" if self._stem == "vectors" else self._stem
        return ((text, source) for text, source in read_lines(self.folder / f"{name}.jsonl", self.size))

    def documents(self) -> Iterator[Document]:
        """All of them, as they are added; the id of a row is its number."""
        for row, (text, source) in enumerate(self.texts()):
            yield Document(str(row), text, metadata(row, source))

    def further(self, count: int | None = None) -> tuple[list[Labelled], Vectors]:
        """Rows that are not among the others."""
        texts = [(text, source) for text, source in read_lines(self.folder / "further.jsonl", count)]
        return texts, Rows(self.folder / "further.npy", len(texts)).read(0, len(texts))

    def questions(self) -> tuple[list[Question], Vectors]:
        questions = [Question(*record) for record in read_lines(self.folder / "questions.jsonl")]
        return questions, np.load(self.folder / "questions.npy")

    def mask(self, field: str, value: Any) -> Mask:
        """Which rows have this value in this field of their metadata, [N]."""
        if field in SHARES:
            return np.asarray(numbers(self.size) % SHARES[field] == value)
        return np.fromiter((source == value for _, source in self.texts()), dtype=np.bool_, count=self.size)


def numbers(size: int) -> npt.NDArray[np.int64]:
    """A number of 0 to 9,999 for each row, [N]; rows that follow each other have quite different ones (Knuth's hash)."""
    return np.asarray((np.arange(size, dtype=np.int64) * 2_654_435_761 % 2**32 >> 7) % 10_000)


def metadata(row: int, source: str) -> dict[str, Any]:
    number = (row * 2_654_435_761 % 2**32 >> 7) % 10_000
    return {"source": source, **{field: number % share for field, share in SHARES.items()}}


def gather(
    pairs: Sequence[Path], task: RetrievalTask | None, num_questions: int, *, count: int | None = None
) -> tuple[list[Labelled], list[Question]]:
    """The bodies of pairs and the documents of a task, each once, in random order; and titles that are none of them.

    Args:
        pairs: Files of (title, body); without any, docstrings of this environment.
        task: Its documents are more texts.
        num_questions: How many titles; each has one body.
        count: At most so many pairs of each file.
    """
    found: dict[str, str] = {}
    titles: dict[str, tuple[str, str]] = {}
    several: set[str] = set()
    for source, title, body in _clean(pairs, count):
        if title and body and body not in found:
            found[body] = source
            if titles.setdefault(title, (body, source)) != (body, source):
                several.add(title)
    for document in task.documents if task else ():
        if text := clean_text(document.text):
            found.setdefault(text, task.name if task else "")
    dice = np.random.default_rng(0)
    texts = list(found.items())
    texts = [texts[place] for place in dice.permutation(len(texts))]
    row = {text: number for number, (text, _) in enumerate(texts)}
    asked = [
        Question(title, row[body], source)
        for title, (body, source) in titles.items()
        if title not in found and title not in several
    ]
    return texts, [asked[place] for place in dice.permutation(len(asked))[:num_questions]]


def _clean(pairs: Sequence[Path], count: int | None) -> Iterator[tuple[str, str, str]]:
    if not pairs:
        yield from (("docstrings", title, body) for title, body in distinct_pairs(None, count or 10_000))
    for path in pairs:
        for number, (title, body) in enumerate(read_pair_file(path)):
            if number == count:
                break
            yield path.name.split(".")[0], clean_text(title), clean_text(body)


def encode(folder: Path, texts: list[Labelled], questions: list[Question], encoder: Encoder) -> Data:
    """Fills a folder with texts, questions and their vectors.

    Its facts are written last: a folder without them is not finished, and is made anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "texts.jsonl", texts)
    write_lines(folder / "questions.jsonl", [list(vars(question).values()) for question in questions])
    vectors = encoder.encode_document([text for text, _ in texts], show_progress=sys.stderr.isatty())
    np.save(folder / "vectors.npy", normalize(vectors))
    np.save(folder / "questions.npy", normalize(encoder.encode_query([question.text for question in questions])))
    return _finished(folder, {"model": encoder.fingerprint, "texts": len(texts), "rows": len(texts), "further": 0})


def grow(data: Data, folder: Path, rows: int, further: int) -> Data:
    """Fills another folder with the same and with more rows.

    Args:
        data: The real ones.
        folder: Where.
        rows: How many there are to be, if these are more than the real ones.
        further: How many to add later.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in _ENCODED:
        (folder / name).unlink(missing_ok=True)
        (folder / name).hardlink_to(data.folder / name)
    real, texts = data.rows.read(0, data.num_real), list(data.texts())
    count, only = max(rows, len(real)), [text for text, _ in texts]
    growth, root = choose(real, data.questions()[1], max(rows, 2 * len(real))), spread(real)
    if count > len(real):
        shutil.copyfile(folder / "texts.jsonl", folder / "grown.jsonl")
        made = np.lib.format.open_memmap(folder / "grown.npy", "w+", np.float32, (count, real.shape[1]))
        made[: len(real)] = real
        _fill(made, len(real), copies(real, root, growth.sigma, len(real), count))
        with (folder / "grown.jsonl").open("a", encoding="utf-8") as stream:
            for row, text in enumerate(altered(only, len(real), count), len(real)):
                stream.write(json.dumps([text, texts[row % len(texts)][1]], ensure_ascii=False) + "\n")
    added = [*copies(real, root, growth.sigma, 0, further, _FURTHER_SEED)]
    np.save(folder / "further.npy", np.concatenate([real[:0], *added]))
    lines = enumerate(altered(only, 0, further, _FURTHER_SEED))
    write_lines(folder / "further.jsonl", ([text, texts[row % len(texts)][1]] for row, text in lines))
    return _finished(folder, data.facts | {"rows": count, "further": further, "growth": growth.to_json()})


def _finished(folder: Path, facts: dict[str, Any]) -> Data:
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return Data(folder)


def _fill(made: npt.NDArray[np.float32], begin: int, blocks: Iterable[Vectors]) -> None:
    for block in blocks:
        made[begin : begin + len(block)] = block
        begin += len(block)
