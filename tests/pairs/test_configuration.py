from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairloom.errors import ArtifactError, InputError, PairloomError, RecipeError
from pairloom.pairs.configuration import Configuration, ConfiguredDataset, dataset_weights, read_configuration
from pairloom.pairs.layout import TRIPLET_COLUMNS
from pairloom.recipe import load_data_recipe
from tests.conftest import make_pairs, make_shards

GOOD: list[Any] = [{"name": "a/b.jsonl.gz", "lines": 12, "weight": 3}, {"name": "c", "weight": 0.5}]


@pytest.fixture
def listing(tmp_path: Path) -> Callable[[Any], Path]:
    def write(content: Any) -> Path:
        path = tmp_path / "data_config.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    monkeypatch.chdir(tmp_path)  # paths of shards are relative to it

    def write(content: str) -> Path:
        path = tmp_path / "mix.toml"
        path.write_text(content)
        return path

    return write


def refusal(path: Path, kind: type[PairloomError] = RecipeError) -> str:
    with pytest.raises(PairloomError) as caught:
        read_configuration(path)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "num_datasets", "weight", "num_rows"),
    [
        ("reddit", 4, 400, None),
        ("stackoverflow", 1, 100, 18_562_443),
        ("multi-qa_v1", 188, 6454, 214_988_242),
        ("all_datasets_v4", 290, 4737, 1_170_060_424),
    ],
)
def test_published_configurations(
    shared: Path, name: str, num_datasets: int, weight: int, num_rows: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    read = read_configuration(shared / "configs" / f"{name}.json")
    assert len(read.datasets) == num_datasets
    assert sum(dataset.weight for dataset in read.datasets) == weight
    rows = [dataset.num_rows for dataset in read.datasets]
    assert (None if None in rows else sum(one or 0 for one in rows)) == num_rows
    assert caplog.records == []


def test_a_listing(listing: Callable[[Any], Path], tmp_path: Path) -> None:
    expected = Configuration((ConfiguredDataset("a/b.jsonl.gz", 3.0, 12), ConfiguredDataset("c", 0.5)))
    assert read_configuration(listing(GOOD)) == expected
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(json.dumps(GOOD).encode()))
    assert read_configuration(tmp_path / "x.json.gz") == expected
    nothing_known = [{"name": "a", "weight": 1, "lines": None}]
    assert read_configuration(listing(nothing_known)).datasets[0].num_rows is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"name": "d", "weight": 0}, "entry 3 (d): its weight is 0; it must be a number above 0"),
        ({"name": "d", "weight": -2}, "entry 3 (d): its weight is -2;"),
        ({"name": "d", "weight": float("nan")}, "entry 3 (d): its weight is nan;"),
        ({"name": "d", "weight": float("inf")}, "entry 3 (d): its weight is inf;"),
        ({"name": "d", "weight": 10**400}, "entry 3 (d): its weight is 1000"),
        ({"name": "d"}, "entry 3 (d): its weight is missing"),
        ({"name": "d", "weight": None}, "entry 3 (d): its weight is None;"),
        ({"name": "d", "weight": "7"}, "entry 3 (d): its weight is '7';"),
        ({"name": "d", "weight": True}, "entry 3 (d): its weight is True;"),
        ({"weight": 1}, "entry 3: its name is missing"),
        ({"name": "", "weight": 1}, "entry 3: its name is ''; it must be a text"),
        ({"name": " \n", "weight": 1}, "entry 3: its name is"),
        ({"name": 3, "weight": 1}, "entry 3: its name is 3;"),
        ({"name": "c", "weight": 1}, "entry 3 (c): has the name of entry 2; remove or rename one"),
        ({"name": "d\x1b\n[2J", "weight": 0}, "entry 3 (d [2J): its weight"),
        ({"name": "d", "weight": 1, "lines": -1}, "entry 3 (d): its lines are -1; they must be a whole number above 0"),
        ({"name": "d", "weight": 1, "lines": 0}, "entry 3 (d): its lines are 0;"),
        ({"name": "d", "weight": 1, "lines": "9"}, "entry 3 (d): its lines are '9';"),
        ({"name": "d", "weight": 1, "lines": True}, "entry 3 (d): its lines are True;"),
        ({"name": "d", "weight": 1, "lines": 1.5}, "entry 3 (d): its lines are 1.5;"),
        ({"name": "d", "weight": 1, "lines": float("nan")}, "entry 3 (d): its lines are nan;"),
        ({"name": "d", "weight": 1, "lines": float("inf")}, "entry 3 (d): its lines are inf;"),
        ("d", 'entry 3: must be {"name": …, "lines": …, "weight": …}, not a text'),
        (None, "not null"),
        ([], "not a list"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(listing: Callable[[Any], Path], entry: Any, expected: str) -> None:
    path = listing([*GOOD, entry])
    message = refusal(path)
    assert message.startswith(f"{path}, entry 3")
    assert expected in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [([], "lists no dataset"), ({"name": "a"}, "not an object"), (3, "not a number"), ("true", "not true or false")],
)
def test_what_is_no_list_of_datasets(listing: Callable[[Any], Path], content: Any, expected: str) -> None:
    assert expected in refusal(listing(content))


def test_files_that_cannot_be_read(
    listing: Callable[[Any], Path], recipe: Callable[[str], Path], tmp_path: Path
) -> None:
    for content in ("", "[{", "[1]]", '"\ud800'.encode("utf-8", "replace").decode(), "[" * 100_000):
        assert "not JSON" in refusal(listing(content), InputError)
    assert "no such file" in refusal(tmp_path / "no.json", InputError)
    (tmp_path / "folder.json").mkdir()
    assert "is no regular file" in refusal(tmp_path / "folder.json", InputError)
    assert "is a directory" in refusal(tmp_path)
    assert "not TOML" in refusal(recipe("[data"))
    assert "no such recipe" in refusal(tmp_path / "no.toml")


def test_keys_that_nobody_reads_are_said(listing: Callable[[Any], Path], caplog: pytest.LogCaptureFixture) -> None:
    entries = [
        *GOOD,
        {"name": "d", "weight": 1, "prompt": "q: ", "batch_size": 7},
        {"name": "e", "weight": 1, "prompt": ""},
    ]
    path = listing(entries)
    assert len(read_configuration(path).datasets) == 4
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: its entries have keys that nobody reads: prompt (in 2), batch_size (in 1); options belong in a recipe"
    ]


def test_a_listing_takes_no_settings(listing: Callable[[Any], Path]) -> None:
    with pytest.raises(RecipeError, match=r"--set data.weights=equal: is for recipes, and .*data_config.json is none"):
        read_configuration(listing(GOOD), ["data.weights=equal"])


def test_a_recipe_may_consist_of_its_data(recipe: Callable[[str], Path]) -> None:
    path = recipe("""
        [[data.datasets]]
        shards = "some/pairs"
        weight = 3
        num_rows = 12
        batch_size = 64
        max_epochs = 2
        [[data.datasets]]
        shards = "other/pairs"
        name = "others"
    """)
    first = ConfiguredDataset("pairs", 3.0, 12, None, 64, 2)
    assert read_configuration(path) == Configuration((first, ConfiguredDataset("others", 1.0)))
    with_steps = read_configuration(path, ["train.steps=7", "train.warmup_steps=0", "data.datasets_per_batch=2"])
    assert (with_steps.steps, with_steps.batch_size, with_steps.datasets_per_batch) == (7, 128, 2)


def test_the_groups_of_a_faithful_recipe(recipe: Callable[[str], Path]) -> None:
    read = read_configuration(recipe('faithful = true\n[[data.datasets]]\nshards = "some/pairs"'))
    assert (read.steps, read.steps_per_group, read.datasets_per_group, read.datasets_per_batch) == (None, 8, 2, 1)


def test_a_recipe_that_comes_with_pairloom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    read = read_configuration(Path("adapt"))
    assert (read.steps, read.batch_size, [dataset.name for dataset in read.datasets]) == (100, 64, ["pairs"])


def test_shards_know_better_than_the_recipe(recipe: Callable[[str], Path], caplog: pytest.LogCaptureFixture) -> None:
    path = recipe('[[data.datasets]]\nshards = "a"\nnum_rows = 50\n[[data.datasets]]\nshards = "b"\nnum_rows = 3')
    for name in "ab":
        make_shards(path.parent / name, [(*pair, "no") for pair in make_pairs(9)])
    read = read_configuration(path, ["data.datasets.1.num_rows=9"])
    assert [(dataset.num_rows, dataset.columns) for dataset in read.datasets] == [(9, TRIPLET_COLUMNS)] * 2
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: shards have other numbers of rows than it says, and theirs count: a (9 instead of 50)"
    ]
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("fact", [None, True, 0, "many"])
def test_shards_that_are_damaged_are_not_passed_over(recipe: Callable[[str], Path], fact: Any) -> None:
    path = recipe('[[data.datasets]]\nshards = "a"')
    manifest = make_shards(path.parent / "a", make_pairs(9)) / "manifest.json"
    content = json.loads(manifest.read_text())
    content["facts"]["num_rows"] = fact
    manifest.write_text(json.dumps(content))
    assert refusal(path, ArtifactError) == "a: its manifest is damaged; make the folder again"
    (path.parent / "a" / "part-00000.arrow").unlink()
    assert "part-00000.arrow: missing" in refusal(path, ArtifactError)


RULED = """
[data]
weights = "proportional"
[[data.datasets]]
shards = "a"
num_rows = 400
[[data.datasets]]
shards = "b"
num_rows = 100
[[data.datasets]]
shards = "c"
num_rows = 2_000_000
weight = 7
"""


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], [400, 100]),
        (["data.weights=equal"], [1, 1]),
        (["data.weights=power"], [20, 10]),
        (["data.weights=power", "data.weights_alpha=0"], [1, 1]),
        (["data.weights=capped"], [4, 1]),
        (["data.weights=capped", "data.weights_cap=300", "data.weights_total=70"], [30, 10]),
        (
            ["data.weights=capped", "data.weights_cap=300", "data.weights_total=70", "data.datasets.0.divisor=4"],
            [8, 10],
        ),
    ],
)
def test_rules_of_weights_and_an_exception_by_hand(
    recipe: Callable[[str], Path], settings: list[str], expected: list[float]
) -> None:
    read = read_configuration(recipe(RULED), settings)
    assert [dataset.weight for dataset in read.datasets] == [*expected, 7]


def test_rules_count_the_rows_that_are_there(recipe: Callable[[str], Path]) -> None:
    path = recipe(RULED)
    make_shards(path.parent / "b", make_pairs(9))
    assert [dataset.weight for dataset in read_configuration(path).datasets] == [400, 9, 7]
    data = load_data_recipe(path).data
    assert dataset_weights(data, [10, 20, 30]) == [10, 20, 7]


def test_a_rule_needs_rows(recipe: Callable[[str], Path]) -> None:
    path = recipe(RULED.replace("num_rows = 100\n", ""))
    message = refusal(path)
    assert message == (
        f'{path}: weights = "proportional" needs the rows of b, which are unknown: there are no shards b; prepare them, '
        "or give data.datasets.1.num_rows"
    )
    assert len(read_configuration(path, ["data.weights=equal"]).datasets) == 3
