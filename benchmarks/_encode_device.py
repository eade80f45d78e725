"""What encoding costs on a device: texts of exact numbers of tokens, and both sides' ways to encode them."""

from __future__ import annotations

import dataclasses
import gc
import string
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks._train_device import timed
from benchmarks._train_models import Family, Size, make_model, real_tokenizer
from benchmarks._train_table import Figures
from benchmarks._train_trial import Side
from pairloom import Encoder
from pairloom.encode.torch_engine import TorchEngine
from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.models.tokenizer import Tokens
from pairloom.network.encoder import EncoderNetwork
from pairloom.recipe import Precision

ATTENTIONS = ("flash_attention_2", "sdpa", "eager")
"""Of transformers; those that a family does not have, or that are not installed, are left out."""
_BLOCK_TEXTS = 4096  # that `Encoder` tokenizes and embeds at a time
_WORD_LETTERS = (2, 9)


@dataclass(frozen=True)
class Workload:
    """Texts and the tokens that both sides' tokenizers make of them.

    Args:
        texts: Words of the vocabulary, each of which is one token.
        tokens: With the special ones.
    """

    texts: list[str]
    tokens: Tokens

    @property
    def num_tokens(self) -> int:
        return int(self.tokens.lengths.sum())

    def first(self, count: int) -> Workload:
        return Workload(self.texts[:count], _part(self.tokens, 0, count))

    def blocks(self) -> Iterator[Tokens]:
        """As `Encoder` gives them to its engine."""
        for begin in range(0, len(self.texts), _BLOCK_TEXTS):
            yield _part(self.tokens, begin, begin + _BLOCK_TEXTS)


def _part(tokens: Tokens, begin: int, end: int) -> Tokens:
    ends = np.concatenate([[0], np.cumsum(tokens.lengths)])
    end = min(end, len(tokens))
    return Tokens(tokens.ids[ends[begin] : ends[end]], tokens.lengths[begin:end], tokens.truncated[begin:end])


def make_vocabulary(family: Family, size: int) -> list[str]:
    """As BERT's, that `real_tokenizer` makes ``size`` tokens of; the words are random letters, of real words' lengths."""
    size -= 5 if family == "mpnet" else 0  # it adds as many special tokens
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    random, words = np.random.default_rng(0), dict.fromkeys(special)
    while len(words) < size:
        letters = random.integers(26, size=random.integers(*_WORD_LETTERS, endpoint=True))
        words["".join(string.ascii_lowercase[letter] for letter in letters)] = None
    return list(words)


def make_random_model(path: Path, size: Size, *, max_tokens: int, spread: float = 0.02) -> Path:
    """A random model whose tokenizer does what BERT's does, over a vocabulary of random words."""
    tokenizer = real_tokenizer(size.family, make_vocabulary(size.family, size.vocabulary_size))
    return make_model(path, size, tokenizer, max_tokens=max_tokens, spread=spread)


def make_workload(model: Model, family: Family, lengths: npt.NDArray[np.int64], *, seed: int = 0) -> Workload:
    """Texts of these lengths in tokens, of words that all occur equally often.

    Raises:
        AssertionError: The tokenizer finds other numbers of tokens.
    """
    words = np.array(make_vocabulary(family, model.architecture.vocabulary_size)[4:])
    drawn = np.random.default_rng(seed).integers(len(words), size=int((lengths - 2).sum()))
    pieces = np.split(words[drawn], np.cumsum(lengths - 2)[:-1])
    texts = [" ".join(piece.tolist()) for piece in pieces]
    tokens = model.tokenizer()(texts)
    assert np.array_equal(tokens.lengths, lengths)
    return Workload(texts, tokens)


@dataclass(frozen=True)
class Contestant:
    """A side and how it is set up.

    Args:
        side: Whose encoder.
        precision: Of the matrix products.
        tokenize: Whether texts are given, or their tokens; then only computing is timed.
        threads: Of pairloom, when tokens are given: how many embed blocks at once.
        attention: Of sentence-transformers, one of `ATTENTIONS`.
        batch_size: Of sentence-transformers.
        compiled: Of sentence-transformers: whether by `torch.compile`.
    """

    side: Side
    precision: Precision = "bfloat16"
    tokenize: bool = True
    threads: int = 1
    attention: str = "sdpa"
    batch_size: int = 32
    compiled: bool = False


def run(contestant: Contestant, folder: Path, workload: Workload, device: torch.device, *, repeats: int) -> Figures:
    """Builds a side anew, lets it encode all texts once, and then times it.

    Returns:
        ``batch_size``, the number of texts; ``step_s``, the seconds of each pass over them; ``peak_bytes`` on a GPU. One
        that runs out of memory or cannot be compiled says so in ``failed``.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    figures: Figures = {"batch_size": len(workload.texts), "setup": dataclasses.asdict(contestant)}
    try:
        start = _ours if contestant.side == "pairloom" else _theirs
        encode = start(contestant, folder, workload, device)
        encode()
        figures["step_s"] = [timed(device, encode) for _ in range(repeats)]
    except torch.OutOfMemoryError:
        return figures | {"failed": "does not fit into memory"}
    except Exception as error:
        if not contestant.compiled:
            raise
        return figures | {"failed": f"does not compile here: {str(error).splitlines()[0][:120]}"}
    if device.type == "cuda":
        figures["peak_bytes"] = torch.cuda.max_memory_allocated(device)
    return figures


def tune(
    folder: Path, workload: Workload, device: torch.device, *, batch_sizes: Sequence[int], largest_batch_tokens: int
) -> tuple[Contestant, list[Figures]]:
    """Sentence-transformers' fastest attention and batch size in bfloat16, and how fast each was, in texts/s."""
    longest = int(workload.tokens.lengths.max())
    tried: list[tuple[float, Contestant]] = []
    for attention in ATTENTIONS:
        # A batch of more than all texts, or of more tokens than memory is good for, would tell nothing.
        sizes = [size for size in batch_sizes if size * longest <= largest_batch_tokens] or [min(batch_sizes)]
        for size in sizes:
            contestant = Contestant("sentence-transformers", attention=attention, batch_size=size)
            try:
                figures = run(contestant, folder, workload, device, repeats=1)
            except (ValueError, ImportError):
                break  # the family has no such attention, or what it needs is not installed
            if "step_s" in figures:
                tried.append((len(workload.texts) / figures["step_s"][0], contestant))
    assert tried, "every family has the plain attention"
    _, best = max(tried, key=lambda one: one[0])
    return best, [
        {"attention": one.attention, "batch_size": one.batch_size, "texts_per_s": rate} for rate, one in tried
    ]


def open_ours(model: Model, device: torch.device, precision: Precision) -> TorchEngine:
    """Pairloom's engine for GPUs, also where there is none."""
    return TorchEngine(EncoderNetwork(model), device=str(device), precision=precision)


def _ours(contestant: Contestant, folder: Path, workload: Workload, device: torch.device) -> Callable[[], object]:
    model = read_model(folder)
    engine = open_ours(model, device, contestant.precision)
    if contestant.tokenize:
        encoder = Encoder(model, engine=engine, precision=contestant.precision)
        return lambda: encoder.encode(workload.texts)
    blocks = list(workload.blocks())

    def embed_all() -> object:
        if contestant.threads == 1:
            return np.concatenate([engine.embed(block) for block in blocks])
        with ThreadPoolExecutor(contestant.threads) as threads:
            return np.concatenate(list(threads.map(engine.embed, blocks)))

    return embed_all


def _theirs(contestant: Contestant, folder: Path, workload: Workload, device: torch.device) -> Callable[[], object]:
    model = open_theirs(folder, device, contestant)

    def encode() -> object:
        return model.encode(workload.texts, batch_size=contestant.batch_size, show_progress_bar=False)

    if contestant.tokenize:
        return encode
    # Its own loop all the same, to which the batches are given that it would make.
    preprocess, made = model.preprocess, []

    def keep(*arguments: Any, **options: Any) -> Any:
        made.append(preprocess(*arguments, **options))
        return dict(made[-1])  # the loop puts other tensors into it

    model.preprocess = keep
    encode()

    def encode_made() -> object:
        again = iter(made)
        model.preprocess = lambda *_, **__: dict(next(again))
        return encode()

    return encode_made


def open_theirs(folder: Path, device: torch.device, contestant: Contestant) -> Any:
    """The model as its documentation makes it fast.

    Raises:
        ValueError, ImportError: The family has no such attention, or it needs what is not installed.
    """
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    settings = {"attn_implementation": contestant.attention, "dtype": getattr(torch, contestant.precision)}
    model = SentenceTransformer(str(folder), device=str(device), model_kwargs=settings)
    assert next(model.parameters()).dtype == settings["dtype"]
    if contestant.compiled:
        model.compile(dynamic=True)
    return model
