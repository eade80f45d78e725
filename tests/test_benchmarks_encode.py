"""The program that compares encoding with sentence-transformers': at toy size, and its parts by hand."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks._encode_agreement import agreement
from benchmarks._encode_apart import Apart
from benchmarks._encode_bulk import kill_shares
from benchmarks._encode_latency import latency_ratio
from benchmarks._encode_padded import embed_padded, padded_inputs
from benchmarks._encode_products import best_rate
from benchmarks._encode_sides import in_order
from benchmarks._encode_table import shares
from benchmarks._encode_texts import corpora, random_model, single_words, texts_of_length, write_short_texts
from benchmarks._encode_watch import course, differing, watch
from benchmarks._train_models import Family
from benchmarks._train_table import Figures, Rounds

from pairloom.encode.openvino_engine import OpenVINOEngine
from pairloom.models.read import read_model
from tests.test_benchmarks import ROOT, command


@pytest.mark.slow
def test_the_encoding_program_at_toy_size_shows_both_sides_and_that_vectors_agree() -> None:
    parts = words("--part", "main", "batches", "budgets", "agreement", "latency")
    printed = command("encode", "--toy", "--corpus", "titles", *parts)
    rows = [line.split() for line in printed.splitlines() if "largest difference" in line]
    assert {row[0] for row in rows} == {"float32", "bfloat16", "int8"}
    assert all(float(row[3]) < 1e-5 for row in rows if row[0] == "float32")
    for side in ("sentence-transformers as installed", "sentence-transformers tuned", "pairloom, float32"):
        assert re.search(rf"^  {side} .* tokens/s .* installed .* tuned", printed, re.MULTILINE), side
    assert printed.count("of the best product's rate") == 3
    assert printed.count("p99") >= 2 * 5
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


PROBE = """
import os, sys

class Probe:
    def __init__(self, start):
        self.start = start

    def add(self, number):
        print("noise on stdout")
        return {"sum": self.start + number, "threads": os.environ["OMP_NUM_THREADS"]}

    def divide(self, number):
        return {"quotient": self.start / number}

    def answer_what_is_not_json(self):
        return {"it": self}

    def leave(self):
        sys.exit("farewell")
"""


@pytest.fixture
def probe_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type:
    """A class in a module that imports nothing heavy."""
    (tmp_path / "probe_apart.py").write_text(PROBE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT / "src"), str(ROOT)]))
    found: type = importlib.import_module("probe_apart").Probe
    return found


def test_an_object_in_another_process_answers_and_says_why_it_cannot(probe_class: type) -> None:
    with Apart(probe_class, {"start": 3}, threads=1) as probe:
        assert probe.call("add", number=4) == {"sum": 7, "threads": "1"}
        assert probe.call("divide", number=0) == {"failed": "ZeroDivisionError: division by zero"}
        assert "not JSON serializable" in probe.call("answer_what_is_not_json")["failed"]
        assert probe.call("add", number=1)["sum"] == 4
        assert probe.call("leave")["failed"] == "the process ended (1): farewell"
        assert probe.call("add", number=1)["failed"] == "the process ended (1): farewell"


def test_an_object_that_cannot_be_made_in_another_process_says_why_at_every_call(probe_class: type) -> None:
    with Apart(probe_class, {}, threads=1) as probe:
        for _ in range(2):
            assert "missing 1 required positional argument: 'start'" in probe.call("add", number=1)["failed"]


def test_agreement_is_what_is_worked_out_by_hand() -> None:
    found = agreement(np.array([[3.0, 4.0], [0.0, 1.0]]), np.array([[3.0, 4.25], [1.0, 0.0]]))
    assert found.largest_difference == 1.0
    assert found.lowest_cosine == 0.0
    assert found.mean_cosine == pytest.approx((9 + 17) / 5 / np.hypot(3, 4.25) / 2)


def test_shares_of_the_machine_are_taken_within_a_round_from_the_fastest_product() -> None:
    products: Rounds = {
        "one": [{"float32": {"a": 50.0, "b": 100.0}}, {"float32": {"a": 200.0}, "int8": {"a": 900.0}}],
        "other": [{"float32": {"a": 80.0}}, {"failed": "for want of memory"}],
    }
    runs: list[Figures] = [{"batch_size": 1, "step_s": [2.0]}, {"batch_size": 1, "step_s": [1.0]}]
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
    reader = [sys.executable, "-c", READER, str(source)]
    whole = watch(reader, source, tmp_path / "messages", every_s=0.02)
    assert (whole.exit_code, whole.messages) == (1, "done\n")
    seen = [glance.share for glance in whole.glances]
    assert seen == sorted(seen)
    assert {0.25, 0.5, 0.75, 1.0} <= set(seen)
    assert all(whole.peak_bytes >= glance.resident_bytes > glance.own_bytes > 0 for glance in whole.glances)
    killed = watch([*reader, "wait"], source, tmp_path / "messages", every_s=0.02, kill_after_s=0.2)
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


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_padded_batches_give_the_vectors_that_the_engine_gives(tmp_path: Path, family: Family) -> None:
    model = read_model(
        random_model(tmp_path / "model", family, layers=2, width=32, max_tokens=64, toy=True, spread=0.2)
    )
    engine = OpenVINOEngine(model, precision="float32")
    tokens = model.tokenizer()(["a b", "c d e f g h i j k l m n o p q", "r"])
    inputs = padded_inputs(model, tokens)
    assert len(inputs["ids"]) >= 3 * int(tokens.lengths.max()) > int(tokens.lengths.sum())
    np.testing.assert_allclose(embed_padded(engine, model, tokens), engine.embed(tokens), atol=1e-5)


def test_texts_in_order_are_cut_into_parts_and_none_is_lost() -> None:
    assert in_order(list("abcde"), 2) == [["a", "b"], ["c", "d"], ["e"]]
