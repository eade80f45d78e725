from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from pairloom.pairs.configuration import Configuration, ConfiguredDataset, read_configuration
from pairloom.pairs.forecast import Forecast, forecast
from pairloom.pairs.forecast_report import panels, render, to_json
from pairloom.plot import Bars, Ranking, save_picture


def of(*datasets: ConfiguredDataset, steps: int = 100, batch_size: int = 10, **options: Any) -> Forecast:
    return forecast(Configuration(datasets), steps=steps, batch_size=batch_size, **options)


def lines(result: Forecast, *, width: int = 100, **options: Any) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(render(result, **options))
    assert all(len(line) <= width for line in stream.getvalue().splitlines())
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def shown(result: Forecast, **options: Any) -> str:
    return " ".join(" ".join(lines(result, **options)).split())


def test_a_table_sorted_by_share_with_sums() -> None:
    small, large = ConfiguredDataset("small", 1, 40), ConfiguredDataset("[red]large", 3, 3000)
    found = lines(of(small, large, ConfiguredDataset("unknown", 0.001)))
    assert found[0] == "dataset share batches rows drawn rows epochs"
    assert found[2:6] == [
        "[red]large 74.98 % 75 750 3,000 0.25",
        "small 24.99 % 25 250 40 6.25",
        "unknown 0.02 % 0.025 0.25 ? ?",
        "in all 100.00 % 100 1,000 3,040 0.329",
    ]
    text = " ".join(found)
    assert "3 datasets, whose weights add up to 4.001; 100 steps of 10 pairs" in text
    assert "the rows of 1 dataset are unknown and left out of sums" in text
    assert "hardly seen, less than a batch or 1 % of the rows: 1 dataset: unknown (0.025 batches)" in text
    assert "repeated" not in text


def test_remarks() -> None:
    often = [ConfiguredDataset(f"often {number}", 1, 10 + number) for number in range(6)]
    text = shown(of(*often, ConfiguredDataset("large", 1, 10**6), repeat_limit=3))
    assert "repeated more than 3 times: 6 datasets, 85.71 % of the batches: often 0 (14.3), often 1 (13), " in text
    assert "often 3 (11), … and 2 more hardly seen" in text
    assert "1 dataset: large (0.01 % of its rows)" in text
    limited = [ConfiguredDataset("a", 1, 100, max_epochs=1), ConfiguredDataset("b", 1, max_epochs=1)]
    text = shown(of(*limited, ConfiguredDataset("c", 1, 9)))
    assert "passed over once max_epochs are reached: a (step 30)" in text
    assert "rows unknown, so max_epochs was not applied: b" in text
    assert "fewer rows than a batch, so training will refuse: c" in text
    assert "all run out after 10 steps" in shown(of(limited[0]))


def test_a_long_name_is_cut_and_its_note_kept() -> None:
    text = shown(of(ConfiguredDataset("x" * 300, 1, 1)))
    assert f": {'x' * 80} … (1,000)" in text


def test_names_cannot_steer_the_terminal() -> None:
    text = shown(of(ConfiguredDataset("[bold]a[/] :smile: \x1b[2J\nb", 1, 1), ConfiguredDataset("x" * 300, 1, 1)))
    assert "[bold]a[/] :smile: [2J b" in text
    assert "\x1b" not in text


def test_what_all_names_end_in_is_said_once() -> None:
    files = [ConfiguredDataset(name, 1, 100) for name in ("x/a.com.jsonl.gz", "b.org.jsonl.gz")]
    found = lines(of(*files))
    assert [line.split()[0] for line in found[2:4]] == ["x/a.com", "b.org"]
    assert "every name also ends in .jsonl.gz" in found
    for names in (["a.gz"], ["a.gz", ".gz"], ["abc", "bc"], ["a.x", "a.y"]):
        assert "ends in" not in shown(of(*[ConfiguredDataset(name, 1, 100) for name in names]))


def test_hundreds_are_cut_in_the_middle(shared: Path) -> None:
    read = read_configuration(shared / "configs" / "all_datasets_v4.json")
    result = forecast(read, steps=200_000, batch_size=1024)
    found = lines(result, width=140)
    assert "yahoo_answers_title_answer 5.21 % 10,429 10,678,826 1,198,260 8.91" in found
    assert "codesearchnet 0.02 % 42.2 43,234 1,151,414 0.0375" in found
    # 262 others: neither among the 20 of largest share nor among the last 8.
    kept = sorted(result.datasets, key=lambda one: -one.share)[20:-8]
    rows = sum(one.dataset.num_rows or 0 for one in kept)
    share = 100 * sum(one.dataset.weight for one in kept) / 4737
    assert any(
        line.startswith(f"… 262 others (--all shows them) {share:.2f} %") and f" {rows:,} " in line for line in found
    )
    assert any(line.startswith("in all 100.00 % 200,000 204,800,000 1,170,060,424 0.175") for line in found)
    assert "290 datasets, whose weights add up to 4,737; 200,000 steps of 1,024 pairs" in found
    assert len(found) < 45
    everything = lines(result, width=140, show_all=True)
    assert not any("others" in line for line in everything)
    assert len(everything) == len(found) - 29 + 290


def test_groups_are_told_if_there_are_any() -> None:
    datasets = (ConfiguredDataset("a", 1, 79), ConfiguredDataset("b", 1, 100))

    def grouped(steps: int, turns: int) -> Forecast:
        return forecast(Configuration(datasets, 1, None, None, steps, turns), steps=100, batch_size=10)

    assert "group" not in shown(of(*datasets))
    text = shown(grouped(8, 2))
    assert (
        "in groups of 8 steps, in which no text comes twice; each from 2 draws of a dataset, which take turns" in text
    )
    assert "fewer rows than a group of steps, so training will refuse: a" in text
    assert "in groups of 4 steps, in which no text comes twice; each from 1 draw of a dataset" in shown(grouped(4, 1))
    facts = to_json(grouped(8, 9))
    assert (facts["steps_per_group"], facts["datasets_per_group"], facts["too_small"]) == (8, 8, ["a"])
    assert to_json(of(*datasets))["steps_per_group"] == 1


def test_29_datasets_are_shown_whole() -> None:
    datasets = [ConfiguredDataset(f"d{number}", 1, 100) for number in range(30)]
    assert "others" not in shown(of(*datasets[:29]))
    assert "… 2 others" in shown(of(*datasets))


def test_json_is_unrounded_and_in_the_order_of_the_configuration() -> None:
    facts = to_json(of(ConfiguredDataset("a", 1, 30), ConfiguredDataset("b", 2, max_epochs=3)))
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["weight"] == 3
    assert facts["num_rows"] == 30
    assert facts["num_datasets_of_unknown_rows"] == 1
    assert facts["rows_drawn"] == pytest.approx(1000)
    assert facts["repeated"] == ["a"]
    assert facts["hardly_seen"] == facts["too_small"] == []
    assert facts["datasets"][0] == {
        "name": "a",
        "weight": 1,
        "num_rows": 30,
        "columns": None,
        "batch_size": None,
        "max_epochs": None,
        "share": pytest.approx(1 / 3),
        "batches": pytest.approx(100 / 3),
        "rows_drawn": pytest.approx(1000 / 3),
        "epochs": pytest.approx(100 / 9),
        "runs_out_at": None,
    }
    assert facts["datasets"][1]["epochs"] is None


def test_panels_of_few_datasets(tmp_path: Path) -> None:
    drawn = panels(of(ConfiguredDataset("a", 1, 300), ConfiguredDataset("b", 3, 100), ConfiguredDataset("c", 4)))
    shares, epochs = drawn
    assert isinstance(shares, Bars)
    assert isinstance(epochs, Ranking)
    assert shares.names == ["c", "b", "a"]
    np.testing.assert_allclose(shares.series["share of batches"], [50, 37.5, 12.5])
    np.testing.assert_allclose(shares.series["share of rows"], [np.nan, 25, 75])
    assert dict(zip(epochs.names, epochs.values, strict=True)) == pytest.approx({"b": 3.75, "a": 125 / 300})
    assert epochs.marks == {1.0: "once", 10.0: "10 times"}
    save_picture(tmp_path / "a.png", "x", drawn)


def test_panels_of_many_datasets(tmp_path: Path) -> None:
    datasets = [ConfiguredDataset(f"d{number}", 100 - number, 1000) for number in range(60)]
    shares, epochs = drawn = panels(of(*datasets))
    assert isinstance(shares, Bars)
    assert isinstance(epochs, Ranking)
    assert len(shares.names) == 24
    assert shares.names[-1] == "37 others"
    for values in shares.series.values():
        assert values.sum() == pytest.approx(100)
    assert len(epochs.values) == 60
    save_picture(tmp_path / "a.png", "x", drawn)


def test_panels_without_rows(tmp_path: Path) -> None:
    (shares,) = drawn = panels(of(ConfiguredDataset("a", 1)))
    assert isinstance(shares, Bars)
    assert list(shares.series) == ["share of batches"]
    save_picture(tmp_path / "a.png", "x", drawn)
