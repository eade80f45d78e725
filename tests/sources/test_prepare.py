from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairloom.artifacts import read_manifest, verify
from pairloom.errors import ArtifactError, InputError, PairloomError, RecipeError, UsageError
from pairloom.evaluate.selection import SelectionTask
from pairloom.evaluate.tasks import read_task
from pairloom.pairs.clean import clean_text, text_hash
from pairloom.pairs.shards import Shards
from pairloom.recipe import SourcesSection, load_sources
from pairloom.records import Pair
from pairloom.sources import SOURCES, pieces, spill
from pairloom.sources.prepare import prepare

Prepare = Callable[..., dict[str, Any]]


@pytest.fixture
def prepared(tmp_path: Path) -> Prepare:
    """Prepares rows of texts as the pair file ``in.jsonl`` into ``out``, or ``task`` for what is held out."""

    def run(
        rows: list[Any], *, view: str | None = None, overrides: tuple[str, ...] = (), **more: Any
    ) -> dict[str, Any]:
        (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if more.get("holdout"):
            more["holdout_out"] = tmp_path / "task"
        options = {"settings": load_sources(overrides), "show_progress": False, **more}
        return prepare("pair-files", [tmp_path / "in.jsonl"], view, tmp_path / "out", **options)

    return run


def test_cleaned_filtered_counted(tmp_path: Path, prepared: Prepare) -> None:
    rows = [
        ["  The\nanchor ", "cafe\u0301"],
        ["THE anchor", "CAFÉ"],
        ["the anchor", "another"],
        ["x", "too short"],
        ["Same text", "same  TEXT"],
        ["long enough", "p" * 21],
        ["long enough", "p" * 20],
    ]
    facts = prepared(rows, overrides=("pair-files.anchor_min_chars=2", "pair-files.positive_max_chars=20"))
    shards = Shards(tmp_path / "out")
    assert set(shards) == {Pair("THE anchor", "CAFÉ"), Pair("the anchor", "another"), Pair("long enough", "p" * 20)}
    assert len(shards) == 3
    assert facts["dropped"] == {
        "duplicate pair": 1,
        "anchor shorter than 2 characters": 1,
        "two texts of it are the same": 1,
        "positive longer than 20 characters": 1,
    }
    assert facts["num_records"] == 7 == facts["num_rows"] + sum(facts["dropped"].values())
    assert facts["num_distinct"] == {"anchor": 2, "positive": 3}
    assert facts["broken"] == {"count": 0, "places": []}
    assert facts["filters"]["anchor_min_chars"] == 2
    (origin,) = facts["origins"]
    assert origin["name"] == str(tmp_path / "in.jsonl")
    assert json.loads(json.dumps(facts)) == facts
    stored = verify(tmp_path / "out").facts
    assert {key: facts[key] for key in stored if key in facts} == {key: stored[key] for key in stored if key in facts}
    assert (stored["source"], stored["view"]) == ("pair-files", "pairs")


def test_triplets(tmp_path: Path, prepared: Prepare) -> None:
    facts = prepared([["a", "b", "c"], ["a", "b", "d"], ["a", "b", "A"], ["a", "b", "C"]], view="triplets")
    assert set(Shards(tmp_path / "out")) == {Pair("a", "b", ("C",)), Pair("a", "b", ("d",))}
    assert facts["columns"] == ["anchor", "positive", "negative"]
    assert facts["dropped"] == {"two texts of it are the same": 1, "duplicate pair": 1}


def test_hold_out(tmp_path: Path, prepared: Prepare) -> None:
    rows = [[f"anchor {number // 2}", f"positive {number // 3}"] for number in range(300)]
    facts = prepared(rows, holdout=10, holdout_documents=30, seed=3)
    task = read_manifest(tmp_path / "task", "task")
    assert task.facts["holdout"] == facts["holdout"]
    assert facts["holdout"]["num_queries"] == 10
    assert facts["holdout"]["num_documents"] >= 30
    assert sorted(task.files) == ["corpus.jsonl", "qrels/test.tsv", "queries.jsonl"]
    assert sorted(read_manifest(tmp_path / "out").files) == ["part-00000.arrow"]
    assert facts["dropped"]["a text of it occurs in the held-out task"] > 0
    assert facts["num_records"] == 300
    assert facts["num_records"] == facts["num_rows"] + facts["holdout"]["num_pairs"] + sum(facts["dropped"].values())
    first = (tmp_path / "task" / "queries.jsonl").read_text()
    (tmp_path / "again").mkdir()
    rows.reverse()
    (tmp_path / "again" / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(
        "pair-files",
        [tmp_path / "again" / "in.jsonl"],
        "pairs",
        tmp_path / "again" / "out",
        holdout=10,
        holdout_documents=30,
        holdout_out=tmp_path / "again" / "task",
        seed=3,
        show_progress=False,
    )
    assert (tmp_path / "again" / "task" / "queries.jsonl").read_text() == first


def test_hold_out_of_candidate_sets(tmp_path: Path) -> None:
    rows = [[f"Anchor {number % 700}", f"positive {number % 800}"] for number in range(900)]
    made: list[dict[str, Any]] = []
    for number, (its_rows, name) in enumerate(((rows, "task.jsonl"), (rows[::-1], "task.jsonl.gz"))):
        path = write_rows(tmp_path / f"{number}.jsonl", its_rows)
        task = tmp_path / str(number) / name
        out = tmp_path / f"out{number}"
        made.append(prepare("pair-files", [path], None, out, holdout=200, holdout_out=task, show_progress=False))
        assert list(task.parent.iterdir()) == [task]
    assert made[0]["holdout"] == {
        "seed": 0, "num_pairs": 200, "num_queries": 200, "num_sets": 2, "candidates": 100
    }  # fmt: skip
    first, second = (read_task(tmp_path / name) for name in ("0/task.jsonl", "1/task.jsonl.gz"))
    assert isinstance(first, SelectionTask)
    assert (first.num_sets, first.set_size, first.remarks) == (2, 100, ())
    assert first == second
    assert part_files(tmp_path / "out0") == part_files(tmp_path / "out1")
    texts = [text_hash(text) for text in (*first.queries, *first.responses)]
    assert len(set(texts)) == len(texts) == 400
    assert {*zip(first.queries, first.responses, strict=True)} <= {(anchor, positive) for anchor, positive in rows}
    trained = {text_hash(text) for pair in Shards(tmp_path / "out0") for text in pair.texts}
    assert not trained & set(texts)
    facts = read_manifest(tmp_path / "out0").facts
    assert facts["holdout"] == made[0]["holdout"]
    leaking = facts["dropped"]["a text of it occurs in the held-out task"]
    assert facts["num_rows"] + 200 + leaking == facts["num_records"] == 900
    assert leaking > 0
    with pytest.raises(ArtifactError, match=r"task\.jsonl: already there"):
        prepare("pair-files", [path], None, tmp_path / "more", holdout=100, holdout_out=tmp_path / "0" / "task.jsonl")


def test_who_answers_is_found_and_not_asked(tmp_path: Path) -> None:
    """Reddit's pairs begin with the reply."""
    records = [
        {"id": f"{name}{n}", "parent_id": parent, "link_id": f"t3_{n}", "body": f"{body} number {n}", "author": "x"}
        for n in range(150)
        for name, parent, body in (
            ("a", f"t3_{n}", "earlier"),
            ("b", f"t1_a{n}", "question"),
            ("c", f"t1_b{n}", "answer"),
        )
    ]
    (tmp_path / "RC").write_text("".join(json.dumps(record) + "\n" for record in records))
    settings = load_sources(['reddit.split="all"'])
    for view in ("single-context", "contexts"):
        task, out = tmp_path / f"{view}.jsonl", tmp_path / view
        options: dict[str, Any] = {"settings": settings, "holdout": 100, "holdout_out": task, "show_progress": False}
        prepare("reddit", [tmp_path / "RC"], view, out, **options)
        read = read_task(task)
        assert isinstance(read, SelectionTask)
        asked = {"question"} if view == "contexts" else {"question", "earlier"}
        answers = {"answer"} if view == "contexts" else {"answer", "question"}
        assert {text.split()[0] for text in read.queries} == asked
        assert {text.split()[0] for text in read.responses} == answers
        numbers = [
            (one.split()[-1], other.split()[-1]) for one, other in zip(read.queries, read.responses, strict=True)
        ]
        assert all(one == other for one, other in numbers)
        assert len(Shards(out)) > 0


TEXT = st.text("aAbB \u0301\ud800", max_size=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=40),
    queries=st.integers(1, 3),
    more=st.integers(0, 3),
    seed=st.integers(0, 5),
)
def test_training_never_sees_a_text_of_the_task(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], queries: int, more: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("prepare")
    rows = [row for row in rows if all(map(clean_text, row))]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        prepare(
            "pair-files",
            [folder / "in.jsonl"],
            "pairs",
            folder / "out",
            holdout=queries,
            holdout_documents=queries + more,
            holdout_out=folder / "task",
            seed=seed,
            show_progress=False,
        )
    except (UsageError, InputError):
        assert [path.name for path in folder.iterdir()] == ["in.jsonl"]
        return
    evaluated = set()
    for name in ("queries.jsonl", "corpus.jsonl"):
        texts = [json.loads(line)["text"] for line in (folder / "task" / name).read_text().splitlines()]
        assert len(texts) == len({text_hash(text) for text in texts})
        evaluated |= {text_hash(text) for text in texts}
    trained = {text_hash(text) for pair in Shards(folder / "out") for text in (pair.anchor, pair.positive)}
    assert not trained & evaluated


def test_stackexchange_section_applies(tmp_path: Path) -> None:
    rows = [(20, 20, 0), (19, 20, 0), (20, 19, 0), (20, 4096, 0), (20, 4097, 0), (20, 20, -1)]
    body = "".join(
        f'<row Id="{number}" PostTypeId="1" Score="{score}" Title="{number}{"t" * (title - 1)}" Body="{"b" * length}"/>'
        for number, (title, length, score) in enumerate(rows)
    )
    (tmp_path / "Posts.xml").write_text(f"<posts>{body}</posts>")
    facts = prepare("stackexchange", [tmp_path], "title-body", tmp_path / "out", show_progress=False)
    assert facts["num_rows"] == 2
    assert facts["dropped"] == {
        "title shorter than 20 characters": 1,
        "positive shorter than 20 characters": 1,
        "positive longer than 4096 characters": 1,
        "score below 0": 1,
    }


def test_python_docs(tmp_path: Path) -> None:
    facts = prepare("python-docs", ["argparse", "json"], None, tmp_path / "out", show_progress=False)
    assert facts["num_rows"] > 10
    assert facts["view"] == "summary-description"
    assert [Path(origin["name"]).name for origin in facts["origins"]] == ["argparse.py", "json"]
    assert facts["origins"][1]["files"] == facts["num_records"] - 1 > 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"source": "usenet"},
            UsageError,
            "there is no source usenet; there are stackexchange, ",
        ),
        ({"view": "titles"}, UsageError, "pair-files has no view titles; it has pairs, triplets"),
        ({"inputs": []}, UsageError, r"pair-files needs an input: \.jsonl"),
        ({"holdout": 5}, UsageError, "needs both the number of queries and the place"),
        ({"holdout_out": Path("task")}, UsageError, "needs both the number of queries and the place"),
        ({"holdout": -1}, UsageError, "cannot be negative"),
        (
            {"holdout": 5, "holdout_documents": 4, "holdout_out": Path("t")},
            UsageError,
            "5 queries cannot have 4 documents",
        ),
        ({"holdout": 2, "holdout_out": Path("out")}, UsageError, "need a place each"),
        (
            {"holdout": 200, "holdout_out": Path("t")},
            UsageError,
            "200 queries cannot be held out of 100 different anchors",
        ),
        ({"holdout": 100, "holdout_out": Path("t")}, InputError, "no pair is left"),
        (
            {"holdout": 50, "holdout_out": Path("t.jsonl")},
            UsageError,
            r"t\.jsonl: 50 pairs make no whole number of candidate sets of 100; ask for 100$",
        ),
        ({"holdout": 250, "holdout_out": Path("t.jsonl.gz")}, UsageError, "ask for 200 or 300"),
        (
            {"holdout": 100, "holdout_documents": 100, "holdout_out": Path("t.jsonl")},
            UsageError,
            r"t\.jsonl: candidate sets have no documents beside the pairs",
        ),
        (
            {"holdout": 200, "holdout_out": Path("t.jsonl")},
            UsageError,
            "200 pairs cannot be held out: no more than 100 were found",
        ),
        ({"holdout": 100, "holdout_out": Path("t.jsonl")}, InputError, "no pair is left"),
        ({"holdout": 100, "holdout_out": Path("in.jsonl")}, ArtifactError, r"in\.jsonl: already there"),
        ({"inputs": ["missing.jsonl"]}, InputError, r"missing\.jsonl: no such file"),
        ({"inputs": ["folder.jsonl"]}, InputError, r"folder\.jsonl: is no regular file"),
        ({"inputs": ["in.jsonl", "empty.jsonl"]}, InputError, r"empty\.jsonl: holds no record"),
        ({"num_processes": 0}, UsageError, "0 processes cannot read anything"),
        ({"out": Path("in.jsonl")}, ArtifactError, r"in\.jsonl: already there"),
        (
            {"settings": load_sources(["pair-files.anchor_min_chars=99"])},
            InputError,
            "no pair is left; dropped: anchor shorter than 99 characters: 100$",
        ),
    ],
)
def test_what_cannot_be_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    error: type[PairloomError],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text("".join(f'["anchor {number}", "positive {number}"]\n' for number in range(100)))
    Path("empty.jsonl").touch()
    Path("folder.jsonl").mkdir()
    before = sorted(tmp_path.iterdir())
    usual = {
        "source": "pair-files",
        "inputs": ["in.jsonl"],
        "view": "pairs",
        "out": Path("out"),
        "show_progress": False,
    }
    with pytest.raises(error, match=message):
        prepare(**{**usual, **arguments})
    assert sorted(tmp_path.iterdir()) == before


def test_a_bad_line_late_in_the_input_leaves_nothing(tmp_path: Path, prepared: Prepare) -> None:
    with pytest.raises(InputError, match=r"in\.jsonl, line 5001: has one text"):
        prepared([*([f"a{number}", "p"] for number in range(5000)), ["alone"]], holdout=5)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_nothing_is_overwritten(tmp_path: Path, prepared: Prepare) -> None:
    prepared([["a", "p"]])
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    with pytest.raises(ArtifactError, match="out: already there"):
        prepared([["b", "q"]])
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before


FILL_THE_DISK = """
import resource, signal, sys
from pathlib import Path
from pairloom.errors import ArtifactError
from pairloom.sources.prepare import prepare
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
folder = Path(sys.argv[1])
more = {"holdout": {"holdout": 5, "holdout_out": folder / "task"}, "processes": {"num_processes": 2}}.get(sys.argv[2], {})
if __name__ == "__main__":
    try:
        prepare("pair-files", [folder / "in.jsonl.gz"], "pairs", folder / "out", show_progress=False, **more)
    except ArtifactError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on the size of files")
@pytest.mark.parametrize("mode", ["plain", "holdout", "processes"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, mode: str) -> None:
    rows = "".join(f'["anchor {number}", "{"p" * 100}{number}"]\n' for number in range(5000))
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    command = [sys.executable, "-W", "error", "-c", FILL_THE_DISK, str(tmp_path), mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "the disk is full; free some space and run again" in done.stdout
    assert done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl.gz"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stackexchange.min_scores=1", "stackexchange.min_scores is not a setting"),
        ("stackexchange.min_score=many", "stackexchange.min_score = .many.: Input should be a valid integer"),
        ("python-docs.anchor_min_chars=0", "python-docs.anchor_min_chars = 0: .* greater than or equal to 1"),
        ("usenet.x=1", "usenet is not a setting"),
        ("stackexchange", "write section.key=value"),
    ],
)
def test_bad_settings_are_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_sources([override])


def test_settings() -> None:
    assert load_sources() == SourcesSection()
    changed = load_sources(["stackexchange.min_score=2", "python-docs.positive_max_chars=99", "pair-files.anchor=q"])
    assert (changed.stackexchange.min_score, changed.stackexchange.anchor_min_chars) == (2, 20)
    assert changed.python_docs.positive_max_chars == 99
    assert changed.pair_files.anchor == "q"


ROWS = [[f"Anchor {number % 400}", f"positive {number % 700}"] for number in range(3000)]


def part_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.arrow"))}


def write_rows(path: Path, rows: list[list[str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_same_pairs_give_the_same_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order of the input, the number of files, pieces and buckets, and the spelling that comes first."""
    whole = write_rows(tmp_path / "whole.jsonl", ROWS)
    backwards = [[row[0].swapcase(), row[1]] for row in ROWS[:1500]] + ROWS[::-1]
    halves = [
        write_rows(tmp_path / f"{number}.jsonl", rows) for number, rows in enumerate((backwards[:999], backwards[999:]))
    ]
    lower = [[row[0].swapcase(), row[1]] for row in ROWS[:1500]] + ROWS
    both = write_rows(tmp_path / "both.jsonl", lower)
    prepare("pair-files", [both], None, tmp_path / "a", show_progress=False)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 5000)
    monkeypatch.setattr(spill, "_BUFFER_BYTES", 10_000)
    monkeypatch.setattr(spill, "_BUCKET_BYTES", 5000)
    prepare("pair-files", halves, None, tmp_path / "b", show_progress=False)
    assert part_files(tmp_path / "a") == part_files(tmp_path / "b")
    facts = prepare("pair-files", [whole], None, tmp_path / "c", show_progress=False)
    expected = {(text_hash(anchor), text_hash(positive)) for anchor, positive in ROWS}
    found = [(text_hash(pair.anchor), text_hash(pair.positive)) for pair in Shards(tmp_path / "c")]
    assert len(found) == len(set(found)) == len(expected) == 2800
    assert set(found) == expected
    assert facts["dropped"] == {"duplicate pair": 200}
    assert facts["num_distinct"] == {"anchor": 400, "positive": 700}


def test_several_processes_give_the_same_shards(tmp_path: Path) -> None:
    posts = [
        f'<row Id="{number}" PostTypeId="{1 + number % 2}" ParentId="{number - 1}" Score="{number % 3}" '
        f'Title="What is question number {number}?" Body="&lt;p&gt;The body of the post {number}.&lt;/p&gt;" />\n'
        for number in range(40_000)
    ]
    (tmp_path / "Posts.xml").write_text(f"<posts>\n{''.join(posts)}</posts>")
    (tmp_path / "Posts.xml.gz").write_bytes(gzip.compress((tmp_path / "Posts.xml").read_bytes()))
    made = [
        prepare(
            *("stackexchange", [tmp_path / name], "title-answer", tmp_path / f"out{number}"),
            num_processes=number,
            show_progress=False,
        )
        for name, number in (("Posts.xml", 1), ("Posts.xml", 2), ("Posts.xml.gz", 3))
    ]
    assert made[0]["num_rows"] == 20_000
    assert part_files(tmp_path / "out1") == part_files(tmp_path / "out2") == part_files(tmp_path / "out3")
    for key in ("num_rows", "num_records", "dropped", "num_distinct"):
        assert made[0][key] == made[1][key] == made[2][key]


def test_excluded_texts(tmp_path: Path, prepared: Prepare) -> None:
    rows = [["Known  question", "a"], ["other", "KNOWN answer"], ["third", "b"], ["fourth", "known"]]
    facts = prepared(rows, exclude={"task": ["known question", "Known answer", "", "unseen"], "more": ["b"]})
    assert list(Shards(tmp_path / "out")) == [Pair("fourth", "known")]
    assert facts["dropped"] == {
        "a text of it occurs in the excluded task task": 2,
        "a text of it occurs in the excluded task more": 1,
    }
    assert facts["excluded"] == {"task": 3, "more": 1}


def test_what_is_excluded_is_not_held_out(tmp_path: Path, prepared: Prepare) -> None:
    rows = [[f"anchor {number}", f"positive {number}"] for number in range(20)]
    prepared(rows, exclude={"task": [row[0] for row in rows[:10]]}, holdout=9)
    held_out = (tmp_path / "task" / "queries.jsonl").read_text()
    assert all(f'"{row[0]}"' not in held_out for row in rows[:10])


def test_broken_records_up_to_a_limit(tmp_path: Path, prepared: Prepare) -> None:
    rows = [["a", "p"], ["alone"], ["b", "q"], 7, ["c", "r"]]
    facts = prepared(rows, overrides=("pair-files.max_broken_records=2",))
    assert facts["num_rows"] == 3
    path = tmp_path / "in.jsonl"
    assert facts["broken"] == {
        "count": 2,
        "places": [
            f"{path}, line 2: has one text where the view wants 2",
            f"{path}, line 4: holds a number, not a list or an object with texts",
        ],
    }
    (tmp_path / "out").rename(tmp_path / "kept")
    with pytest.raises(
        InputError, match=r"more than 1 records are broken; the first: .*in\.jsonl, line 2: has one text"
    ):
        prepared(rows, overrides=("pair-files.max_broken_records=1",))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_places_are_lines_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """However the file was cut into pieces."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 100)
    lines = [f'["anchor {number}", "positive {number}"]' for number in range(500)]
    for number in (0, 250, 499):
        lines[number] = f'["broken {number}"'
    content = "\r\n".join(lines).encode()
    path = tmp_path / f"in.jsonl{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    settings = load_sources(["pair-files.max_broken_records=3"])
    facts = prepare("pair-files", [path], None, tmp_path / "out", settings=settings, show_progress=False)
    assert [re.search(r"line (\d+)", place)[1] for place in facts["broken"]["places"]] == ["1", "251", "500"]  # type: ignore[index]
    assert facts["num_rows"] == 497


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a small archive of zeros that would fill the memory."""
    monkeypatch.setattr(pieces, "MAX_RECORD_BYTES", 1 << 20)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1 << 16)
    for name in ("bomb.jsonl.gz", "bomb.jsonl"):
        zeros = bytes(20 << 20)
        (tmp_path / name).write_bytes(gzip.compress(zeros) if name.endswith(".gz") else zeros)
        with pytest.raises(InputError, match=rf"{re.escape(name)}: has a record of more than"):
            prepare("pair-files", [tmp_path / name], None, tmp_path / "out", show_progress=False)


def test_a_long_line_is_read(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "in.jsonl", [["a", "long " * 10_000_000], ["b", "short"]])
    facts = prepare(
        *("pair-files", [path], None, tmp_path / "out"),
        settings=load_sources(["pair-files.positive_max_chars=1000"]),
        show_progress=False,
    )
    assert (facts["num_rows"], facts["dropped"]) == (1, {"positive longer than 1000 characters": 1})


COMMAND = [sys.executable, "-m", "pairloom", "prepare", "pair-files"]


def start(path: Path, out: Path, processes: int) -> subprocess.Popen[str]:
    command = [*COMMAND, str(path), "--out", str(out), "--processes", str(processes)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_until_gone(processes: list[int]) -> None:
    deadline = time.monotonic() + 30
    while any(map(_is_running, processes)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Path]:
    """A pipe is refused, so a file that takes some seconds to read."""
    path = tmp_path / "slow.jsonl"
    with path.open("wb") as stream:
        for number in range(14):
            stream.write(b"".join(b'["anchor %d", "positive %d"]\n' % (number, line) for line in range(50_000)))
    yield path
    path.unlink()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_run_again(tmp_path: Path, slow: Path, processes: int) -> None:
    out = tmp_path / "out"
    process = start(slow, out, processes)
    wait_for(lambda: any(tmp_path.glob(".out.partial-*/aside")), process)
    children = _children(process.pid)
    process.kill()
    process.communicate()
    assert not out.exists()
    assert any(tmp_path.glob(".out.partial-*")), "what a killed process leaves does not look whole"
    wait_until_gone(children)
    small = write_rows(tmp_path / "small.jsonl", [["a", "p"]])
    subprocess.run([*COMMAND, str(small), "--out", str(out)], check=True, capture_output=True, timeout=60)
    assert not any(tmp_path.glob(".out.partial-*"))
    assert len(Shards(out)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_interrupted(tmp_path: Path, slow: Path) -> None:
    process = start(slow, tmp_path / "out", 2)
    wait_for(lambda: any(tmp_path.glob(".out.partial-*/aside")), process)
    children = _children(process.pid)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "pairloom: interrupted"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slow.jsonl"]
    wait_until_gone(children)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the processes in /proc")
def test_a_process_that_dies_is_told(tmp_path: Path, slow: Path) -> None:
    process = start(slow, tmp_path / "out", 2)

    def workers() -> list[int]:
        return [
            child for child in _children(process.pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]

    wait_for(lambda: bool(workers()) and any(tmp_path.glob(".out.partial-*/aside")), process)
    os.kill(workers()[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a process ended with code -9, before its work was done" in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slow.jsonl"]


def _children(pid: int) -> list[int]:
    if not Path("/proc/self/task").is_dir():
        return []
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def test_two_at_once_in_the_same_place(tmp_path: Path, slow: Path) -> None:
    """Both work, one wins, the other says so."""
    small = write_rows(tmp_path / "small.jsonl", [["a", "p"]])
    process = start(slow, tmp_path / "out", 1)
    wait_for(lambda: any(tmp_path.glob(".out.partial-*/aside")), process)
    subprocess.run([*COMMAND, str(small), "--out", str(tmp_path / "out")], check=True, capture_output=True, timeout=60)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "out: already there; choose another place or remove it first" in errors
    assert len(Shards(tmp_path / "out")) == 1
    assert not any(tmp_path.glob(".out.partial-*"))


def test_every_source_has_its_section_and_can_be_listed() -> None:
    for name, source in SOURCES.items():
        assert source.name == name
        assert hasattr(SourcesSection(), name.replace("-", "_"))
        assert all((source.description, source.inputs, source.licence, source.citation, source.views))
        assert source.view() is source.views[0]


def test_listing_sources_needs_no_extra() -> None:
    code = (
        "import sys\nfor name in ('lxml', 'py7zr', 'pyarrow'): sys.modules[name] = None\n"
        "from pairloom.sources import SOURCES\nprint(*SOURCES)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == list(SOURCES)


def test_real_dumps_all_at_once(tmp_path: Path, shared: Path) -> None:
    folder = shared / "data" / "stackexchange"
    facts = prepare("stackexchange", [folder], None, tmp_path / "out", show_progress=False)
    assert len(facts["origins"]) == 8
    assert facts["num_records"] == facts["num_rows"] + sum(facts["dropped"].values())
    for origin in facts["origins"]:
        assert origin["sha256"] == hashlib.sha256(Path(origin["name"]).read_bytes()).hexdigest()
    assert facts["num_rows"] == len(Shards(tmp_path / "out")) > 3000
