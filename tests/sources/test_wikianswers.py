from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.errors import InputError, RecordError
from pairloom.pairs.clean import text_hash
from pairloom.recipe import WikiAnswersSection
from pairloom.records import Pair
from pairloom.sources.formats import TEXT_LINES, InputFile
from pairloom.sources.source import Intake
from pairloom.sources.wikianswers import read_cluster
from tests.sources.preparing import prepare_pairs

CLUSTERS = [
    "q:How many of india's population are muslim?\tq:What is population of muslims in india?\ta:Over 160 million.",
    "q:who is  it\tq:Who is it\tq:who was it\tq:",
    "q:alone\tq:Alone\ta:an answer",
    "a:an answer without a question",
    "q:one\tnote\tq:two",
]


def pairs(line: str, limit: int = 3) -> tuple[list[Pair], Intake]:
    intake = Intake()
    return list(
        read_cluster(line, InputFile(Path("x"), TEXT_LINES), WikiAnswersSection(pairs_per_cluster=limit), intake)
    ), intake


def test_clusters(tmp_path: Path) -> None:
    (tmp_path / "part-00000.gz").write_bytes(gzip.compress("\n".join(CLUSTERS[:2]).encode()))
    (tmp_path / "part-00001.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + "\r\n".join(CLUSTERS[2:]).encode()))
    (tmp_path / "README").write_text("not a cluster")
    found, facts = prepare_pairs("wikianswers", tmp_path)
    assert {frozenset((pair.anchor, pair.positive)) for pair in found} == {
        frozenset(("How many of india's population are muslim?", "What is population of muslims in india?")),
        frozenset(("Who is it", "who was it")),
        frozenset(("one", "two")),
    }
    assert facts["num_rows"] == len(found) == 3
    assert facts["num_records"] == 5
    assert facts["dropped"] == {
        "cluster without two different questions": 2,
        "field that is neither question nor answer": 1,
    }
    assert facts["broken"]["count"] == 0


@settings(deadline=None)
@given(
    questions=st.lists(st.text("abAB ", max_size=3), max_size=9),
    limit=st.integers(1, 8),
    seed=st.randoms(use_true_random=False),
)
def test_a_ring_of_different_questions(questions: list[str], limit: int, seed: Any) -> None:
    found, intake = pairs("\t".join(["a:answer", *(f"q:{question}" for question in questions)]), limit)
    different = {" ".join(question.split()).casefold() for question in questions} - {""}
    assert len(found) == min(limit, {0: 0, 1: 0, 2: 1}.get(len(different), len(different)))
    assert bool(found) == (not intake.dropped)
    anchors = [pair.anchor.casefold() for pair in found]
    positives = [pair.positive.casefold() for pair in found]
    assert len(set(anchors)) == len(anchors) == len(set(positives))
    assert set(anchors + positives) <= different
    # A chain in the order of the hashes, which closes where there is room.
    assert positives[:-1] == anchors[1:]
    chosen = sorted(different, key=text_hash)[: limit + 1]
    assert set(anchors + positives) == (set(chosen) if len(different) > 1 else set())
    seed.shuffle(questions)
    assert pairs("\t".join([*(f"q:{question}" for question in questions), "a:answer"]), limit)[0] == found


def test_a_huge_cluster_gives_no_more_than_another() -> None:
    questions = [f"question {number}" for number in range(20_000)]
    chain = sorted(questions, key=text_hash)[:4]
    found, _ = pairs("\t".join(f"q:{question}" for question in questions * 2))
    assert found == [*map(Pair, chain, chain[1:])]


def test_what_is_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"^has no field that begins with q: or a:, but 'some text'$"):
        pairs("some text")
    (tmp_path / "clusters.txt").write_bytes(b"q:a\tq:b\nq:caf\xe9\tq:b\n\nq:c\tq:d\nnonsense")
    found, facts = prepare_pairs("wikianswers", tmp_path)
    assert len(found) == 2
    assert [place.partition(", ")[2] for place in facts["broken"]["places"]] == [
        "line 2: not UTF-8 (byte 6 of the line)",
        "line 5: has no field that begins with q: or a:, but 'nonsense'",
    ]
    (tmp_path / "part-00000.gz").write_bytes(gzip.compress(b"q:a\tq:b\n" * 999)[:-9])
    with pytest.raises(InputError, match=r"part-00000\.gz: the gzip stream ends too early"):
        prepare_pairs("wikianswers", tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"none: holds no files of clusters such as part-00000\.gz"):
        prepare_pairs("wikianswers", tmp_path / "none")
