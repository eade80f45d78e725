"""The programs that compare with sentence-transformers: at toy size, to see that they work and that both sides agree."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from benchmarks._encode_agreement import agreement
from benchmarks._encode_apart import Apart
from benchmarks._encode_bulk import kill_shares
from benchmarks._encode_latency import latency_ratio
from benchmarks._encode_products import best_rate
from benchmarks._encode_sides import in_order
from benchmarks._encode_table import shares
from benchmarks._encode_texts import corpora, random_model, single_words, texts_of_length, write_short_texts
from benchmarks._encode_watch import course, differing, watch
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


@pytest.mark.slow
def test_the_encoding_program_at_toy_size_shows_both_sides_and_that_vectors_agree() -> None:
    printed = command("encode", "--toy", *words("--part", "main", "batches", "budgets", "agreement", "latency"))
    rows = [line.split() for line in printed.splitlines() if "largest difference" in line]
    assert {row[0] for row in rows} == {"float32", "bfloat16", "int8"}
    assert all(float(row[3]) < 1e-5 for row in rows if row[0] == "float32")
    for side in ("sentence-transformers as installed", "sentence-transformers tuned", "pairloom, float32"):
        assert len(re.findall(rf"^  {side} .* tokens/s", printed, re.MULTILINE)) >= 2, printed
    assert printed.count("of the best product's rate") == 2 * len(
        set(re.findall("pairloom, (float32|bfloat16|int8)", printed))
    )
    assert "p99" in printed
    assert "failed" not in printed
    assert "Error" not in printed


@pytest.mark.slow
def test_the_encoding_program_kills_a_bulk_job_three_times_and_finds_the_same_bytes() -> None:
    printed = command("encode", "--toy", *words("--part", "bulk", "start"))
    assert printed.count("killed after") == 3
    assert "files that differ: none" in printed
    assert re.search(
        r"in the manifest: (nothing|(manifest.json: (created|facts.seconds)(, )?)+)$", printed, re.MULTILINE
    )
    assert "failed" not in printed


def words(option: str, *values: str) -> list[str]:
    return [word for value in values for word in (option, value)]


def test_an_object_in_another_process_answers_and_says_why_it_cannot() -> None:
    with Apart(Probe, {"start": 3}, threads=1) as probe:
        assert probe.call("add", number=4) == {"sum": 7, "threads": "1"}
        assert probe.call("divide", number=0) == {"failed": "ZeroDivisionError: division by zero"}
        assert probe.call("add", number=1)["sum"] == 4
        assert "the process ended (3): farewell" in probe.call("leave")["failed"]
        assert "the process ended (3)" in probe.call("add", number=1)["failed"]


def test_an_object_that_cannot_be_made_in_another_process_says_why_at_every_call() -> None:
    with Apart(Probe, {}, threads=1) as probe:
        for _ in range(2):
            assert "missing 1 required positional argument: 'start'" in probe.call("add", number=1)["failed"]


class Probe:
    """Served in another process by the tests."""

    def __init__(self, start: int) -> None:
        self.start = start

    def add(self, number: int) -> dict[str, object]:
        print("noise on stdout")
        return {"sum": self.start + number, "threads": os.environ["OMP_NUM_THREADS"]}

    def divide(self, number: int) -> dict[str, object]:
        return {"quotient": self.start / number}

    def leave(self) -> None:
        print("farewell", file=sys.stderr, flush=True)
        os._exit(3)


def test_agreement_is_what_is_worked_out_by_hand() -> None:
    found = agreement(np.array([[3.0, 4.0], [0.0, 1.0]]), np.array([[3.0, 4.25], [1.0, 0.0]]))
    assert found.largest_difference == 1.0
    assert found.lowest_cosine == 0.0
    assert found.mean_cosine == pytest.approx((9 + 17) / 5 / np.hypot(3, 4.25) / 2)


def test_shares_of_the_machine_are_taken_within_a_round_from_the_fastest_product() -> None:
    products = {
        "one": [{"float32": {"a": 50.0, "b": 100.0}}, {"float32": {"a": 200.0}, "int8": {"a": 900.0}}],
        "other": [{"float32": {"a": 80.0}}, {"failed": "for want of memory"}],
    }
    runs = [{"batch_size": 1, "step_s": [2.0]}, {"batch_size": 1, "step_s": [1.0]}]
    assert shares(runs, products, "float32", 100) == [0.5, 0.5]
    assert shares(runs, products, "bfloat16", 100) == []
    assert shares([{"failed": "gone"}, runs[1]], products, "float32", 100) == [0.5]
    assert best_rate(products["one"], "int8") == 900.0


def test_latencies_are_compared_by_their_medians_within_a_round() -> None:
    slow = [{"calls_s": [4.0, 6.0, 90.0]}, {"calls_s": [8.0]}, {"calls_s": [9.0]}]
    quick = [{"calls_s": [2.0]}, {"calls_s": [2.0]}, {"calls_s": [1.0]}]
    assert latency_ratio(quick, slow) == 4.0
    assert latency_ratio([{"failed": "gone"}] * 3, slow) is None


def test_a_course_says_how_far_memory_goes_from_its_middle_and_where_it_tends() -> None:
    found = course([100, 98, 100, 100, 104, 100, 100, 100, 100, 110])
    assert (found.middle_bytes, found.num_glances) == (100, 10)
    assert found.above == pytest.approx(0.10)
    assert found.below == pytest.approx(0.02)
    assert found.growth == pytest.approx(0.10)


def test_folders_differ_in_bytes_in_files_and_in_facts_of_the_manifest(tmp_path: Path) -> None:
    for name, seconds in (("one", 1), ("other", 2)):
        (tmp_path / name / "in").mkdir(parents=True)
        (tmp_path / name / "in" / "same").write_bytes(b"same")
        (tmp_path / name / "in" / "changed").write_bytes(name.ljust(5).encode())
        manifest = {"kind": "vectors", "facts": {"seconds": seconds, "count": 3}}
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "other" / "more").touch()
    assert differing(tmp_path / "one", tmp_path / "other") == ["in/changed", "manifest.json: facts.seconds", "more"]
    assert differing(tmp_path / "one", tmp_path / "one") == []


READER = """
import sys, time
with open(sys.argv[1], "rb", buffering=0) as stream:
    for _ in range(4):
        stream.read(25)
        time.sleep(0.1)
    if len(sys.argv) > 2:
        time.sleep(60)
sys.exit("done")
"""


def test_a_process_is_watched_by_its_place_in_its_input_and_killed_in_time(tmp_path: Path) -> None:
    source = tmp_path.resolve() / "texts.txt"
    source.write_bytes(bytes(100))
    command = [sys.executable, "-c", READER, str(source)]
    whole = watch(command, source, tmp_path / "messages", every_s=0.02)
    assert (whole.exit_code, whole.messages) == (1, "done\n")
    seen = [glance.share for glance in whole.glances]
    assert seen == sorted(seen)
    assert {0.25, 0.5, 0.75, 1.0} <= set(seen)
    assert all(whole.peak_bytes >= glance.resident_bytes > glance.own_bytes > 0 for glance in whole.glances)
    killed = watch([*command, "wait"], source, tmp_path / "messages", every_s=0.02, kill_after_s=0.2)
    assert (killed.exit_code, killed.messages) == (-9, "")


def test_kills_never_come_after_the_end_and_are_the_same_for_a_seed() -> None:
    assert all(sum(kill_shares(seed)) < 0.95 for seed in range(100))
    assert list(kill_shares(1)) == list(kill_shares(1)) != list(kill_shares(2))


def test_texts_to_encode_have_the_tokens_that_are_said(tmp_path: Path) -> None:
    path = random_model(tmp_path / "model", "bert", layers=1, width=32, max_tokens=16, toy=True)
    model = read_model(path)
    assert single_words(model) == list("abcdefghijklmnopqrstuvwxyz")
    assert model.tokenizer()(texts_of_length(model, 12, 5)).lengths.tolist() == [12] * 5
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('["a b", "a b c d"]\n["e", "f g"]\n["h", "i"]\n')
    found = corpora(pairs, 2, model)
    assert found["bodies"].texts == ["a b c d", "f g"]
    assert found["titles"].texts == ["a b", "e", "h"]
    assert found["mixed"].texts == ["a b", "a b c d", "e", "f g"]
    assert found["mixed"].num_tokens == 9 + 4 * 2
    assert found["titles"].first(2, "sample").lengths.tolist() == [4, 3]


def test_a_file_of_short_texts_has_as_many_lines_as_are_asked_for(tmp_path: Path) -> None:
    lines = write_short_texts(tmp_path / "texts.txt", ["a", "bc"], 60_000).read_text().splitlines()
    assert len(lines) == 60_000
    assert {len(line.split()) for line in lines} == set(range(3, 17))
    assert set(" ".join(lines[:100]).split()) == {"a", "bc"}


def test_texts_in_order_are_cut_into_parts_and_none_is_lost() -> None:
    assert in_order(list("abcde"), 2) == [["a", "b"], ["c", "d"], ["e"]]


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
