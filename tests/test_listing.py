from __future__ import annotations

import json
from pathlib import Path

import pytest

from pairloom.listing import bare_name, find_listing, packaged_listings, read_listing, some
from pairloom.pairs.configuration import read_configuration


@pytest.mark.parametrize(
    ("name", "num_datasets", "weight", "num_rows"),
    [
        ("reddit", 4, 400, 726_484_430),
        ("stackoverflow", 1, 100, 18_562_443),
        ("multi-qa_v1", 188, 6454, 214_988_242),
        ("all_datasets_v4", 290, 4737, 1_170_060_424),
    ],
)
def test_lists_that_come_with_pairloom(name: str, num_datasets: int, weight: int, num_rows: int) -> None:
    path = find_listing(name)
    assert path is not None
    listed = read_listing(path)
    assert len(listed) == num_datasets
    assert sum(one.weight for one in listed) == weight
    assert sum(one.num_rows or 0 for one in listed) == num_rows
    assert len(read_configuration(Path(name)).datasets) == num_datasets


def test_they_say_what_the_published_ones_say(shared: Path) -> None:
    for name in packaged_listings():
        ours, theirs = find_listing(name), json.loads((shared / "configs" / f"{name}.json").read_text())
        assert ours is not None
        for mine, other in zip(json.loads(ours.read_text()), theirs, strict=True):
            assert {**mine, **other} == mine


def test_lists_are_found_by_name_or_file() -> None:
    assert packaged_listings() == ["all_datasets_v4", "multi-qa_v1", "reddit", "stackoverflow"]
    assert find_listing("some/where.json.gz") == Path("some/where.json.gz")
    assert find_listing("nothing") is None


def test_names_of_datasets() -> None:
    assert bare_name("a/b.com.jsonl.gz") == "a/b.com"
    assert bare_name("b.jsonl") == "b"
    assert bare_name("b.com-Posts") == "b.com-Posts"


def test_some_of_many() -> None:
    assert some(["a"]) == "a"
    assert some(list("abcdef")) == "a, b, c, d and 2 more"
