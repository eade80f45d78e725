"""The programs that compare training with sentence-transformers': at toy size, to see that they work and that both sides agree."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from benchmarks._train_device import nominal_rate, random_texts, training_flops
from benchmarks._train_lengths import draw_lengths
from benchmarks._train_models import Family, Size, make_model, real_tokenizer, word_tokenizer
from benchmarks._train_pairs import write_pairs
from benchmarks._train_table import fastest, ratio
from benchmarks._train_trial import Side, Trial, run

from pairloom.models.read import read_model
from tests.conftest import WORDS, make_pairs

ROOT = Path(__file__).resolve().parents[1]
NUM_WORDS = 60


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of models this small wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def word_model(path: Path, family: Family) -> Path:
    return make_model(path, Size(family, 2, 64, NUM_WORDS), word_tokenizer(family, NUM_WORDS), max_tokens=24)


@pytest.mark.slow
def test_the_gpu_program_at_toy_size_measures_both_sides_and_finds_that_they_agree(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    printed = command("train_gpu", "--toy", "--out", str(out))
    figures = json.loads(out.read_text())
    assert "BEYOND" not in printed
    assert figures["agreement"]["mpnet-base"]["transformers"]["gradient"] > 0
    for part, models in (("step", {"mpnet-base", "distilbert-base", "minilm-l6"}), ("large", {"mpnet-base"})):
        assert set(figures[part]) == models
        for contestants in figures[part].values():
            assert {name.split(",")[0] for name in contestants} == {"pairloom", "sentence-transformers"}
            assert all(run["step_s"] and run["utilisation"] > 0 for runs in contestants.values() for run in runs)


@pytest.mark.slow
def test_the_cpu_program_at_toy_size_shows_both_sides_and_that_their_first_losses_agree() -> None:
    printed = command("train", "--toy", "--part", "main", "--part", "quality")
    assert "they agree" in printed
    assert "pairloom, bfloat16 / sentence-transformers, float32" in printed
    assert "pairloom, beside sentence-transformers" in printed


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_without_dropout_both_sides_learn_the_same_weights(tmp_path: Path) -> None:
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *dict.fromkeys([*WORDS, *"abcdefghijklmnopqrstuvwxyz0123456789.?"]),
    ]
    size = Size("bert", 2, 32, len(vocabulary))
    base = make_model(
        tmp_path / "base", size, real_tokenizer("bert", vocabulary), max_tokens=16, spread=0.2, dropout=0.0
    )
    shards = write_pairs(tmp_path / "pairs", make_pairs(24))
    sides: tuple[Side, ...] = ("pairloom", "sentence-transformers")
    learnt = {}
    for side in sides:
        save = tmp_path / side
        trial = Trial(
            side, str(base), str(shards), 8, 3, max_tokens=16, learning_rate=1e-2, same_batches=True, save=str(save)
        )
        figures = run(trial)
        assert len(figures["step_s"]) == 3
        learnt[side] = read_model(save)
    ours, theirs = learnt["pairloom"], learnt["sentence-transformers"]
    assert ours.max_tokens == theirs.max_tokens == 16
    before = read_model(base).weights
    for name, weight in ours.weights.items():
        np.testing.assert_allclose(weight, theirs.weights[name], atol=2e-3, err_msg=name)
    changed = max(np.abs(weight - before[name]).max() for name, weight in ours.weights.items())
    assert changed > 2e-2


def test_model_flops_are_those_counted_by_hand(tmp_path: Path) -> None:
    model = read_model(word_model(tmp_path / "model", "bert"))
    texts = random_texts(model, 1, seed=0, limits=(8, 8))
    one, other = texts.tokens.lengths.tolist()
    # Two layers of width 64: four products of 64 × 64, two of 64 × 256; queries with keys, weights with values; one score.
    layer = [2 * length * (4 * 64 * 64 + 2 * 64 * 256) + 2 * 2 * length * length * 64 for length in (one, other)]
    assert training_flops(model.architecture, texts, 64) == 3 * (2 * sum(layer) + 2 * 64)


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet"])
def test_random_texts_are_the_same_tokens_for_both_sides(tmp_path: Path, family: Family) -> None:
    path = word_model(tmp_path / "model", family)
    model = read_model(path)
    texts = random_texts(model, 5, seed=1, limits=(8, 24))
    own = model.tokenizer()(texts.words)
    assert own.ids.tolist() == texts.tokens.ids.tolist()
    assert own.lengths.tolist() == texts.tokens.lengths.tolist()
    theirs = transformers.AutoTokenizer.from_pretrained(path)(texts.words)["input_ids"]
    assert [token for row in theirs for token in row] == texts.tokens.ids.tolist()
    assert model.architecture.pad_token_id == (1 if family == "mpnet" else 0)


def test_lengths_are_those_of_titles_and_bodies_and_keep_their_limits() -> None:
    lengths = draw_lengths(20_000, anchor_max_tokens=64, positive_max_tokens=250, random=np.random.default_rng(0))
    titles, bodies = np.split(lengths, 2)
    assert titles.min() >= 4
    assert titles.max() == 64
    assert bodies.min() >= 20
    assert bodies.max() == 250
    assert np.median(titles) == 14
    assert abs(np.median(bodies) - 134) < 4


def test_the_vocabulary_of_mpnet_begins_with_its_special_tokens() -> None:
    tokenizer = real_tokenizer("mpnet", ["[PAD]", "[UNK]", "water"])
    assert tokenizer("water")["input_ids"] == [0, 6, 2]
    assert tokenizer.pad_token_id == 1


def test_ratios_are_taken_within_a_round_and_a_contestant_that_failed_has_none() -> None:
    quick = [
        {"batch_size": 8, "step_s": [1.0, 2.0, 9.0]},
        {"batch_size": 8, "step_s": [4.0]},
        {"batch_size": 8, "step_s": [1.0]},
    ]
    slow = [{"batch_size": 8, "step_s": [4.0]}, {"batch_size": 8, "step_s": [6.0]}, {"batch_size": 8, "step_s": [10.0]}]
    failed = [{"batch_size": 8, "failed": "does not fit"}] * 3
    assert ratio(quick, slow) == 2.0
    assert ratio(quick, failed) is None
    assert fastest({"side, a": slow, "side, b": quick, "other": quick, "side, c": failed}, "side") == "side, b"
    assert fastest({"side, c": failed}, "side") is None


def test_nominal_rates_are_found_by_the_name_of_the_device() -> None:
    assert nominal_rate("NVIDIA H100 80GB HBM3") == 989e12
    assert nominal_rate("NVIDIA A100-SXM4-40GB") == 312e12
    assert nominal_rate("CPU") is None


def test_a_trial_survives_its_way_into_another_process() -> None:
    trial = Trial("pairloom", "model", "shards", 8, 2, train={"micro_batch_tokens": 64})
    assert Trial(**json.loads(json.dumps(dataclasses.asdict(trial)))) == trial
    assert trial.recipe().train.micro_batch_tokens == 64


def command(*words: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
