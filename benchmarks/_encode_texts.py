"""What is encoded: titles and bodies, texts of a known number of tokens, and files of very many; and random models."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks._train_models import VOCABULARY, Family, Size, make_model, real_tokenizer
from benchmarks._train_pairs import MODEL, distinct_pairs
from pairloom.models.model import Model
from pairloom.models.names import find_model

# A body has the tokens of about nine titles; with so many titles both are passes that one can time.
TITLES_A_BODY = 4
SPECIAL_TOKENS = 2
_LINES_AT_ONCE = 50_000


@dataclass(frozen=True)
class Corpus:
    """Texts with their lengths in a model's tokens, special ones included, cut at its limit and without padding."""

    name: str
    texts: list[str]
    lengths: npt.NDArray[np.int64]

    @property
    def num_tokens(self) -> int:
        return int(self.lengths.sum())

    def write(self, folder: Path) -> Path:
        """The file that `benchmarks._encode_sides` reads."""
        path = folder / f"{self.name}.json"
        content = {"texts": self.texts, "num_tokens": self.num_tokens}
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    def first(self, count: int, name: str) -> Corpus:
        """The first texts, under another name."""
        return Corpus(name, self.texts[:count], self.lengths[:count])

    def describe(self) -> str:
        return f"{len(self.texts):,} {self.name}, {self.num_tokens:,} tokens ({self.lengths.mean():.0f} a text)"


def corpora(pairs: Path | None, count: int, model: Model) -> dict[str, Corpus]:
    """``bodies``, ``titles``, and ``mixed``: titles and bodies in turn, as they stand in the file.

    Args:
        pairs: A file of (title, body) pairs; by default docstrings of this environment.
        count: Of bodies.
        model: Whose tokens are counted.
    """
    found = distinct_pairs(pairs, count * TITLES_A_BODY)
    texts = {
        "bodies": [body for _, body in found[:count]],
        "titles": [title for title, _ in found],
        "mixed": [text for pair in found[:count] for text in pair],
    }
    return {name: corpus(name, some, model) for name, some in texts.items()}


def corpus(name: str, texts: list[str], model: Model) -> Corpus:
    return Corpus(name, texts, model.tokenizer()(texts).lengths)


def single_words(model: Model) -> list[str]:
    """Words of letters only that are one token each."""
    vocabulary = json.loads(model.tokenizer_files["tokenizer.json"])["model"]["vocab"]
    words = sorted(word for word in vocabulary if word.isascii() and word.isalpha() and word.islower())
    one_token = model.tokenizer()(words).lengths == SPECIAL_TOKENS + 1
    return [word for word, is_one in zip(words, one_token, strict=True) if is_one]


def texts_of_length(model: Model, num_tokens: int, count: int) -> list[str]:
    """Texts of random words with exactly so many tokens, special ones included."""
    words, dice = single_words(model), np.random.default_rng(0)
    drawn = dice.integers(len(words), size=(count, num_tokens - SPECIAL_TOKENS)).tolist()
    return [" ".join(words[number] for number in row) for row in drawn]


def write_short_texts(path: Path, words: list[str], count: int) -> Path:
    """A file of ``count`` lines of three to sixteen random words."""
    with path.open("w", encoding="utf-8") as stream:
        for lines in _short_texts(words, count):
            stream.write("".join(f"{line}\n" for line in lines))
    return path


def _short_texts(words: list[str], count: int) -> Iterator[list[str]]:
    dice = np.random.default_rng(0)
    for begin in range(0, count, _LINES_AT_ONCE):
        lengths = dice.integers(3, 17, size=min(_LINES_AT_ONCE, count - begin))
        drawn = iter(dice.integers(len(words), size=int(lengths.sum())).tolist())
        yield [" ".join(words[number] for number in itertools.islice(drawn, length)) for length in lengths.tolist()]


def real_vocabulary() -> list[str]:
    return (find_model(MODEL) / "vocab.txt").read_text(encoding="utf-8").splitlines()


def toy_vocabulary() -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]


def random_model(
    path: Path, family: Family, *, layers: int, width: int, max_tokens: int, toy: bool = False, spread: float = 0.02
) -> Path:
    """A model of random weights with a real vocabulary, or with the letters for one."""
    vocabulary = toy_vocabulary() if toy else real_vocabulary()
    rows = len(vocabulary) + VOCABULARY[family] - VOCABULARY["bert"]
    size = Size(family, layers, width, rows)
    return make_model(path, size, real_tokenizer(family, vocabulary), max_tokens=max_tokens, spread=spread)


def model_folder(name: str) -> Path:
    """Where a model lies; found once, so that no contestant has to look for it."""
    return find_model(name).resolve()
