from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lxml import etree

from pairloom.train.neighbours import Neighbour, Neighbours
from pairloom.train.report import column, duration, shown, write_report

HOSTILE = [
    "<script>alert(1)</script>",
    "\"quoted\" 'single' & <b>",
    "☕ emoji \U0001f600",
    "كيف أطحن القهوة؟",
    "\u202eright to left",
    "x" * 10_000,
    "control \x00\x1b[31m\x07 \ufffe\uffff half \udce4",
    "{{ 7 * 7 }} {% raw %}",
    "</title></style><img src=http://example.org/x>",
    "two\nlines",
]


def step(number: int, **values: Any) -> dict[str, Any]:
    record = {
        "step": number,
        "loss": 4.0 / number,
        "learning_rate": 1e-5,
        "gradient_norm": 2.0,
        "accuracy": 0.5,
        "datasets": {"one": {"pairs": 8, "loss": 4.0 / number, "accuracy": 0.5}},
        "pairs_per_s": 4.0,
    }
    return record | values


def evaluation(number: int, task: str, value: float, before: float | None = None) -> dict[str, Any]:
    measured: dict[str, Any] = {"value": value, "interval": [value - 0.01, value + 0.01]}
    if before is not None:
        change = value - before
        measured |= {
            "baseline": before,
            "difference": change,
            "difference_interval": [change - 0.02, change + 0.02],
            "clear": abs(change) > 0.02,
        }
    return {"step": number, "task": task, "kind": "retrieval", "queries": 12, "metrics": {"nDCG@10": measured}}


def facts(names: tuple[str, ...] = ("one", "two"), **more: Any) -> dict[str, Any]:
    data = [
        {"name": name, "pairs": 40, "weight": 1.0, "pairs_drawn": 8 * (len(names) - place), "fingerprint": "d" * 32}
        for place, name in enumerate(names)
    ]
    recipe = {"model": {"base": "some/base"}, "train": {"batch_size": 8, "precision": "float32"}}
    return {
        "fingerprint": "a" * 32,
        "recipe": recipe,
        "base": {"name": "some/base", "fingerprint": "b" * 32},
        "data": data,
        "steps": 3,
        "device": "cpu",
        "torch": "2.9",
        "evaluations": [],
    } | more


def written(path: Path, **arguments: Any) -> etree._Element:
    """Writes a report and reads it as XML, which forgives nothing; namespaces are taken off."""
    settings: dict[str, Any] = {"name": "tiny", "facts": facts(), "records": [step(1), step(2), step(3)]} | arguments
    write_report(path / "report.html", **settings)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    root = etree.fromstring((path / "report.html").read_bytes(), parser)
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = etree.QName(element).localname
    return root


def text_of(element: etree._Element) -> str:
    return " ".join("".join(map(str, element.itertext())).split())


def cells(root: etree._Element, heading: str) -> list[list[str]]:
    """The rows of the first table in the section with this heading."""
    section = next(one for one in root.iter("section") if one.get("aria-labelledby") == heading)
    table = next(section.iter("table"))
    return [[text_of(cell) for cell in row] for row in table.iterfind("tbody/tr")]


def titles(root: etree._Element) -> list[str]:
    return [text_of(caption) for caption in root.iter("figcaption")]


def check_self_contained(root: etree._Element) -> None:
    """Nothing is loaded from anywhere, nothing is run, and no handler is attached."""
    tags = {element.tag for element in root.iter() if isinstance(element.tag, str)}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use", "video"}
    for element in root.iter():
        for name, value in element.attrib.items():
            assert etree.QName(name).localname not in {"src", "href", "srcset", "action", "data"}
            assert not str(name).startswith("on")
            assert "url(" not in value
    styles = "".join(element.text or "" for element in root.iter("style"))
    assert "url(" not in styles
    assert "@import" not in styles
    (policy,) = [one.get("content") for one in root.iter("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_the_summary_says_what_happened(tmp_path: Path) -> None:
    evaluations = [evaluation(0, "faq", 0.4), evaluation(3, "faq", 0.5, 0.4), evaluation(3, "stsb", 0.7, 0.71)]
    root = written(tmp_path, facts=facts(evaluations=evaluations))
    assert text_of(next(root.iter("h1"))) == "tiny"
    summary = next(one for one in root.iter("p") if one.get("class") == "lead")
    assert text_of(summary) == (
        "tiny was trained from some/base for 3 steps of 8 pairs on cpu: 24 pairs drawn from 2 datasets, in about 6 s of "
        "training steps. The loss fell from 4.000 to 1.333 (first and last step). On faq, nDCG@10 went from 0.400 to 0.500 "
        "(+0.100, 95 % interval +0.080 … +0.120: clearly better). On stsb, nDCG@10 went from 0.710 to 0.700 (−0.010, 95 % "
        "interval −0.030 … +0.010: no clear change)."
    )


def test_many_tasks_are_counted(tmp_path: Path) -> None:
    ends = [0.5, 0.6, 0.41, 0.3, 0.39]
    root = written(
        tmp_path, facts=facts(evaluations=[evaluation(3, f"t{place}", end, 0.4) for place, end in enumerate(ends)])
    )
    summary = text_of(next(one for one in root.iter("p") if one.get("class") == "lead"))
    assert summary.endswith(
        "Of 5 held-out tasks, 2 went clearly better, 1 clearly worse, and 2 without a clear change."
    )


def test_the_tables_by_hand(tmp_path: Path) -> None:
    evaluations = [evaluation(0, "faq", 0.4), evaluation(3, "faq", 0.5, 0.4)]
    records = [step(1), step(2, datasets={"two": {"pairs": 8, "loss": 0.25}}), step(3)]
    root = written(tmp_path, facts=facts(evaluations=evaluations), records=records)
    changes = "+0.1000 +0.0800 … +0.1200".split(" ", 1)
    assert cells(root, "tasks") == [
        [
            "nDCG@10",
            "0.40000.3900 … 0.4100",
            "0.50000.4900 … 0.5100",
            "".join(changes),
            "",
            "better",
        ]
    ]
    assert cells(root, "datasets") == [
        ["one", "40", "1", "16", "0.4", "4.000", "1.333"],
        ["two", "40", "1", "8", "0.2", "0.250", "0.250"],
    ]
    versions = dict(row for row in cells(root, "settings"))
    assert versions["model's fingerprint"] == "a" * 32
    assert versions["base's fingerprint"] == "b" * 32
    assert versions["fingerprint of two"] == "d" * 32
    assert (versions["torch"], versions["device"]) == ("2.9", "cpu")
    assert json.loads(text_of(next(root.iter("code")))) == facts()["recipe"]


def test_the_interval_is_drawn_where_it_lies(tmp_path: Path) -> None:
    root = written(tmp_path, facts=facts(evaluations=[evaluation(3, "faq", 0.5, 0.4)]))
    (picture,) = [one for one in root.iter("svg") if str(one.get("class")).startswith("interval")]
    reach = [one for one in picture.iter("line") if one.get("class") == "reach"]
    low, high = float(reach[0].get("x1", "")), float(reach[0].get("x2", ""))
    (dot,) = picture.iter("circle")
    assert picture.get("class") == "interval better"
    # 0 at 80, the farthest end, 0.12, at 152.
    assert (low, float(dot.get("cx", "")), high) == (128.0, 140.0, 152.0)


def test_each_curve_has_a_picture_in_words(tmp_path: Path) -> None:
    records = [step(1), step(2, datasets={"two": {"pairs": 8, "loss": 0.25}}), step(3)]
    root = written(tmp_path, records=records)
    assert titles(root) == [
        "Loss nats",
        "Loss by dataset nats",
        "In-batch accuracy % of anchors that find their positive first",
        "Learning rate × 10⁻⁵",
        "Gradient norm before clipping",
        "Throughput pairs a second",
    ]
    for figure in root.iter("figure"):
        (picture,) = [one for one in figure.iter("svg") if one.get("role") == "img"]
        assert str(picture.get("aria-label")).endswith(".")
    assert "Loss: from 4 at step 1 to 1.333 at step 3." in {one.get("aria-label") for one in root.iter("svg")}
    for table in root.iter("table"):
        assert all(cell.get("scope") == "col" for cell in table.iterfind("thead/tr/th"))
        assert all(row[0].tag == "th" and row[0].get("scope") == "row" for row in table.iterfind("tbody/tr"))


def test_a_task_that_was_measured_on_the_way_has_a_curve(tmp_path: Path) -> None:
    evaluations = [evaluation(number, "faq", 0.4 + 0.1 * number) for number in range(3)]
    assert titles(written(tmp_path, facts=facts(evaluations=evaluations)))[-1] == "nDCG@10 on faq"


def test_records_of_earlier_versions_can_be_drawn(tmp_path: Path) -> None:
    old = {"learning_rate": 1e-5, "gradient_norm": 2.0, "pairs_per_s": 4.0, "tokens_per_s": 9.0, "padding": 0.1}
    records = [
        {"step": 1, "loss": 3.0, "dataset": "one", **old},
        {"step": 2, "loss": 2.0, "dataset": "one + two", **old},
        {"step": 3, "loss": 1.0, "dataset": "two", **old},
    ]
    root = written(tmp_path, records=records)
    assert [row[-2:] for row in cells(root, "datasets")] == [["3.000", "3.000"], ["1.000", "1.000"]]
    assert "Loss by dataset nats" in titles(root)


def test_of_many_datasets_some_are_drawn_and_the_rest_is_said(tmp_path: Path) -> None:
    names = tuple(f"set {place}" for place in range(20))
    shares = {name: {"pairs": 1, "loss": 1.0} for name in names}
    root = written(tmp_path, facts=facts(names), records=[step(number, datasets=shares) for number in (1, 2)])
    (legend,) = [one for one in root.iter("ul") if one.get("class") == "legend"]
    assert [text_of(item) for item in legend] == [f"set {place} 1" for place in range(12)]
    assert "The 12 datasets with the most pairs drawn; the table has the other 8." in text_of(root)
    assert len(cells(root, "datasets")) == 20


def test_neighbours_stand_side_by_side(tmp_path: Path) -> None:
    hits = (Neighbour("first", 0.5, False), Neighbour("second", 0.25, True))
    found = Neighbours("faq", "where?", hits, hits[::-1], tuple(f"answer {place}" for place in range(7)), 1200)
    root = written(tmp_path, neighbours=[found])
    (article,) = root.iter("article")
    assert text_of(next(article.iter("h3"))) == "where?"
    assert [[text_of(item) for item in side] for side in article.iter("ol")] == [
        ["first0.500", "second0.250 · ✓ relevant"],
        ["second0.250 · ✓ relevant", "first0.500"],
    ]
    assert "Judged relevant: 7 of 1,200 documents (faq)" in text_of(article)
    assert "… and 2 more" in text_of(article)
    assert "chosen by the hashes of their texts" in text_of(root)


def test_whatever_texts_hold_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    hits = tuple(Neighbour(text, 0.5, True) for text in HOSTILE)
    found = [Neighbours(text, text, hits, hits, tuple(HOSTILE), 9) for text in HOSTILE]
    shares = {name: {"pairs": 1, "loss": 1.0} for name in HOSTILE}
    tasks = [evaluation(number, text, 0.5, 0.4) | {"remarks": HOSTILE} for text in HOSTILE for number in range(3)]
    given = facts(tuple(HOSTILE), evaluations=tasks, device=HOSTILE[0], note=HOSTILE[8])
    given["recipe"] = given["recipe"] | {"model": {"base": HOSTILE[0]}, "prompts": HOSTILE}
    for name in HOSTILE:
        records = [step(1, datasets=shares), step(2, datasets=shares)]
        root = written(tmp_path, name=name, facts=given, records=records, neighbours=found)
        check_self_contained(root)
    assert len((tmp_path / "report.html").read_bytes()) < 1_000_000
    assert "<script>alert(1)</script>" in text_of(root)
    assert "{{ 7 * 7 }} {% raw %}" in text_of(root)
    parsed = etree.HTML((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert parsed.find(".//script") is None
    assert parsed.find(".//img") is None
    assert {one.get("dir") for one in root.iter("h3")} == {"auto"}


@pytest.mark.parametrize(
    "records",
    [
        [],
        [step(1)],
        [step(number, loss=math.nan, gradient_norm=math.inf, pairs_per_s=0.0) for number in (1, 2)],
        [{"step": 1, "loss": None, "accuracy": "0.5", "gradient_norm": [1], "datasets": "x", "pairs_per_s": True}],
        [{"step": 1, "loss": 10**400, "datasets": {"one": 3, "two": {"loss": "x"}}}, step(2)],
        [{"step": 1, "loss": [1.0]}, {"step": 2, "loss": [2.0]}],
        [{"step": 5, "evaluation": {"task": "t"}}],
        [step(3), step(1), step(1)],
    ],
)
def test_no_record_is_too_odd(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    root = written(tmp_path, records=records)
    check_self_contained(root)
    assert len(cells(root, "datasets")) == 2


def test_numbers_that_are_none_are_dashes(tmp_path: Path) -> None:
    odd = evaluation(3, "faq", math.nan, 0.4)
    root = written(tmp_path, facts=facts(evaluations=[odd]))
    (row,) = cells(root, "tasks")
    assert row == ["nDCG@10", "0.4000", "–– … –", "–– … –", "", "unclear"]


def test_a_long_run_makes_a_small_page(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    noise = dice.normal(size=20_000).tolist()
    names = tuple(f"set {place}" for place in range(15))
    records = [
        step(number, loss=3 + noise[number - 1], datasets={names[number % 15]: {"pairs": 8, "loss": noise[number - 1]}})
        for number in range(1, 20_001)
    ]
    check_self_contained(written(tmp_path, facts=facts(names, steps=20_000), records=records))
    assert (tmp_path / "report.html").stat().st_size < 300_000


def test_columns_and_durations_by_hand() -> None:
    records: list[dict[str, Any]] = [{"a": 1}, {"a": None}, {}, {"a": 2.5}]
    assert column(records, "a").tolist() == pytest.approx([1, np.nan, np.nan, 2.5], nan_ok=True)
    assert column([{"a": "x"}, {"a": 0.5}, {"a": 7}], "a").tolist() == pytest.approx([np.nan, 0.5, 7], nan_ok=True)
    times = [0.4, 59.6, 90, 3600, 5400, 3600 * 5 + 60 * 59.8, 3600 * 50]
    assert [duration(time) for time in times] == [
        "0 s",
        "60 s",
        "2 min",
        "60 min",
        "1 h 30 min",
        "6 h 0 min",
        "2 d 2 h",
    ]


def test_shown_texts_are_one_line_and_no_longer_than_asked() -> None:
    assert shown("a\n b\t\x1bc\ufffe") == "a b c "
    assert shown("x" * 100, 10) == "x" * 10 + " …"


def test_the_extra_is_named_when_it_is_missing(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from pairloom.errors import MissingExtraError
from pairloom.train.report import write_report
sys.modules["jinja2"] = None
try:
    write_report(Path(sys.argv[1]), name="x", facts={}, records=[])
except MissingExtraError as error:
    print(error)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "report.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert re.fullmatch(r"a run's report needs jinja2, .*: pip install 'pairloom\[train\]'", done.stdout.strip())
