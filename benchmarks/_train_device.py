"""What training costs on a device: batches of random tokens, model FLOPs, the device's own rate, and both sides' steps."""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._train_lengths import draw_lengths
from benchmarks._train_models import NUM_SPECIAL
from benchmarks._train_table import Figures
from benchmarks._train_trial import Side, their_loss
from pairloom.models.architecture import Architecture
from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.models.tokenizer import Tokens
from pairloom.recipe import Precision, Recipe, parse_recipe
from pairloom.train.learner import Learner
from pairloom.train.schedule import rate_share
from pairloom.train.step import BatchTokens

LIMITS = (64, 250)
"""Most tokens of anchors and of positives, as the published models were trained."""
# Dense bfloat16 products, FLOP/s, as the makers' data sheets say.
NOMINAL = {"H100": 989e12, "H200": 989e12, "A100": 312e12}


@dataclass(frozen=True)
class Texts:
    """A batch of random texts, anchors and then positives, as both sides take them.

    Args:
        tokens: For pairloom.
        words: For sentence-transformers: the same tokens as words of its tokenizer, without the special ones.
    """

    tokens: Tokens
    words: list[str]

    @property
    def num_pairs(self) -> int:
        return len(self.words) // 2


def random_texts(model: Model, num_pairs: int, *, seed: int, limits: tuple[int, int] = LIMITS) -> Texts:
    """Texts with real lengths, of words that all occur equally often."""
    random = np.random.default_rng(seed)
    lengths = draw_lengths(num_pairs, anchor_max_tokens=limits[0], positive_max_tokens=limits[1], random=random)
    words = random.integers(NUM_SPECIAL, model.architecture.vocabulary_size, size=int(lengths.sum() - 2 * len(lengths)))
    pieces = np.split(words, np.cumsum(lengths - 2)[:-1])
    texts = [" ".join(map(str, piece.tolist())) for piece in pieces]
    first, last = model.tokenizer()(["0"]).ids[[0, -1]]
    ids = np.concatenate([np.r_[first, piece, last] for piece in pieces]).astype(np.int32)
    return Texts(Tokens(ids, lengths, np.zeros(len(lengths), dtype=np.bool_)), texts)


def training_flops(architecture: Architecture, texts: Texts, dimensions: int) -> float:
    """FLOPs of the matrix products of a step, forward and backward, with no padding and nothing computed twice.

    Per token and layer 4H² + 2HI weights are multiplied and added; attention multiplies queries with keys and weights with
    values, 4L²H a text and layer; the backward pass costs twice the forward pass. Kaplan et al. 2020, *Scaling Laws for
    Neural Language Models*, section 2.1; Chowdhery et al. 2022, *PaLM*, appendix B.
    """
    hidden, layers = architecture.hidden_size, architecture.num_layers
    lengths = texts.tokens.lengths.astype(np.float64)
    weights = layers * (4 * hidden**2 + 2 * hidden * architecture.feed_forward_size)
    forward = 2 * weights * lengths.sum() + layers * 4 * hidden * np.square(lengths).sum()
    scores = 2 * texts.num_pairs**2 * dimensions
    return float(3 * (forward + scores))


def product_rate(device: torch.device, size: int) -> float:
    """FLOP/s of a square bfloat16 product, the median of ten."""
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = [timed(device, lambda: one @ other) for _ in range(13)][3:]
    return 2 * size**3 / statistics.median(seconds)


def nominal_rate(device_name: str) -> float | None:
    """What the data sheet says, for devices that are known."""
    return next((rate for name, rate in NOMINAL.items() if name in device_name), None)


def timed(device: torch.device, run: Callable[[], object]) -> float:
    """Seconds of a call, until the device has done what it was given."""
    synchronize(device)
    begin = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - begin


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Contestant:
    """A side and how it is set up.

    Args:
        side: Whose step.
        train: Of pairloom, keys of the recipe's ``[train]``.
        mini_batch: Of sentence-transformers, texts a pass of its cached loss; by default the loss that is not cached.
    """

    side: Side
    train: dict[str, Any] = dataclasses.field(default_factory=dict)
    mini_batch: int | None = None


def recipe_for(precision: Precision, train: dict[str, Any], *, steps: int = 1_000) -> Recipe:
    """A recipe of which only the sections of the step are used."""
    raw = {
        "model": {"base": "random"},
        "data": {"datasets": [{"shards": "random"}]},
        "train": {"steps": steps, "warmup_steps": 0, "precision": precision, **train},
    }
    return parse_recipe(raw, where="benchmark")


def run_steps(
    contestant: Contestant, folder: Path, batches: list[Texts], warm_up: list[Texts], device: torch.device
) -> Figures:
    """Builds a side anew, and times its steps; a side that runs out of memory says so in ``failed``."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    figures: Figures = {"batch_size": batches[0].num_pairs}
    try:
        make = _our_step if contestant.side == "pairloom" else _their_step
        prepare, step, figures["attention"] = make(contestant, folder, device)
        for number, prepared in enumerate(map(prepare, warm_up), start=1):
            step(prepared, number)
        figures["step_s"] = []
        for number, texts in enumerate(batches, start=len(warm_up) + 1):
            prepared = prepare(texts)  # tokenizing is not measured here
            figures["step_s"].append(timed(device, lambda: step(prepared, number)))  # noqa: B023
    except torch.OutOfMemoryError:
        return {"batch_size": batches[0].num_pairs, "failed": "does not fit into memory"}
    if device.type == "cuda":
        figures["peak_bytes"] = torch.cuda.max_memory_allocated(device)
    return figures


# How a batch is made ready, which is not timed; the step; and what kind of attention it uses.
Step = tuple[Callable[[Texts], Any], Callable[[Any, int], float], str]


def _our_step(contestant: Contestant, folder: Path, device: torch.device) -> Step:
    learner = Learner(read_model(folder), recipe_for("bfloat16", contestant.train), similarity="cosine", device=device)
    return (
        lambda texts: BatchTokens(texts.tokens, texts.num_pairs, 2),
        lambda tokens, number: learner.step(tokens, number).loss,
        "packed",
    )


def _their_step(contestant: Contestant, folder: Path, device: torch.device) -> Step:
    """The step of its trainer: the model prepared by accelerate for bfloat16, AdamW fused, gradients clipped."""
    from accelerate import Accelerator

    model = open_theirs(folder, device)
    loss = their_loss(model, contestant.mini_batch)
    section = recipe_for("bfloat16", {}).train
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=section.learning_rate,
        betas=section.betas,
        eps=section.epsilon,
        weight_decay=0.0,
        fused=True,
    )
    Accelerator(mixed_precision="bf16", cpu=device.type == "cpu").prepare_model(model)
    model.train()

    def prepare(texts: Texts) -> list[dict[str, Any]]:
        halves = (texts.words[: texts.num_pairs], texts.words[texts.num_pairs :])
        return [model.preprocess(half) for half in halves]

    def step(features: list[dict[str, Any]], number: int) -> float:
        there = [
            {key: value.to(device, non_blocking=True) if hasattr(value, "to") else value for key, value in one.items()}
            for one in features
        ]
        value = loss(there, None)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), section.max_gradient_norm)
        share = rate_share("linear", number, warmup_steps=0, steps=section.steps)
        for group in optimizer.param_groups:
            group["lr"] = section.learning_rate * share
        optimizer.step()
        optimizer.zero_grad()
        return float(value.detach())

    return prepare, step, model[0].auto_model.config._attn_implementation


def open_theirs(folder: Path, device: torch.device) -> Any:
    """The model with the fastest attention it has: flash attention without padding, else sdpa, else its own.

    MPNet has only its own in transformers.
    """
    from sentence_transformers import SentenceTransformer
    from transformers.utils import is_flash_attn_2_available
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    flash = ["flash_attention_2"] if device.type == "cuda" and is_flash_attn_2_available() else []
    for attention in (*flash, "sdpa"):
        try:
            return SentenceTransformer(str(folder), device=str(device), model_kwargs={"attn_implementation": attention})
        except (ValueError, ImportError):  # the family has no such attention
            continue
    return SentenceTransformer(str(folder), device=str(device))
