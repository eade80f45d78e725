from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairloom.artifacts import read_manifest, verify
from pairloom.errors import ArtifactError, InputError, PairloomError, RecipeError, UsageError
from pairloom.pairs.clean import clean_text, text_hash
from pairloom.pairs.shards import Shards
from pairloom.recipe import SourcesSection, load_sources
from pairloom.records import Pair
from pairloom.sources import SOURCES
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
    assert list(shards) == [Pair("The anchor", "café"), Pair("the anchor", "another"), Pair("long enough", "p" * 20)]
    assert facts["dropped"] == {
        "duplicate pair": 1,
        "anchor shorter than 2 characters": 1,
        "two texts of it are the same": 1,
        "positive longer than 20 characters": 1,
    }
    assert facts["num_read"] == 7 == facts["num_rows"] + sum(facts["dropped"].values())
    assert facts["filters"]["anchor_min_chars"] == 2
    (origin,) = facts["origins"]
    assert origin["name"] == str(tmp_path / "in.jsonl")
    assert json.loads(json.dumps(facts)) == facts
    stored = verify(tmp_path / "out").facts
    assert {key: facts[key] for key in stored if key in facts} == {key: stored[key] for key in stored if key in facts}
    assert (stored["source"], stored["view"]) == ("pair-files", "pairs")


def test_triplets(tmp_path: Path, prepared: Prepare) -> None:
    facts = prepared([["a", "b", "c"], ["a", "b", "d"], ["a", "b", "A"], ["a", "b", "C"]], view="triplets")
    assert list(Shards(tmp_path / "out")) == [Pair("a", "b", ("c",)), Pair("a", "b", ("d",))]
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
    assert facts["num_read"] == 300
    assert facts["num_read"] == facts["num_rows"] + facts["holdout"]["num_pairs"] + sum(facts["dropped"].values())
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
        "anchor shorter than 20 characters": 1,
        "positive shorter than 20 characters": 1,
        "positive longer than 4096 characters": 1,
        "score below 0": 1,
    }


def test_python_docs(tmp_path: Path) -> None:
    facts = prepare("python-docs", ["argparse", "json"], None, tmp_path / "out", show_progress=False)
    assert facts["num_rows"] > 10
    assert facts["view"] == "summary-description"
    assert facts["num_read"] == facts["num_rows"] + sum(facts["dropped"].values())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"source": "reddit"},
            UsageError,
            "there is no source reddit; there are stackexchange, python-docs, pair-files",
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
        ({"inputs": ["missing.jsonl"]}, InputError, r"missing\.jsonl: no such file"),
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
    usual = {
        "source": "pair-files",
        "inputs": ["in.jsonl"],
        "view": "pairs",
        "out": Path("out"),
        "show_progress": False,
    }
    with pytest.raises(error, match=message):
        prepare(**{**usual, **arguments})
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


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
holdout = {"holdout": 5, "holdout_out": folder / "task"} if sys.argv[2] == "holdout" else {}
try:
    prepare("pair-files", [folder / "in.jsonl.gz"], "pairs", folder / "out", show_progress=False, **holdout)
except ArtifactError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on the size of files")
@pytest.mark.parametrize("mode", ["plain", "holdout"])
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
        ("reddit.x=1", "reddit is not a setting"),
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
    assert facts["num_read"] == facts["num_rows"] + sum(facts["dropped"].values())
    assert facts["num_rows"] == len(Shards(tmp_path / "out")) > 3000
