from __future__ import annotations

import pytest

from pairloom.listing import bare_name, find_listing, packaged_listings, read_listing
from pairloom.sources import SOURCES
from pairloom.sources.corpora import PUBLISHED, published


def listed(name: str) -> list[str]:
    path = find_listing(name)
    assert path is not None
    return [bare_name(dataset.name) for dataset in read_listing(path)]


@pytest.mark.parametrize(("name", "count"), [("multi-qa_v1", 188), ("all_datasets_v4", 290), ("reddit", 4)])
def test_each_listed_file_is_made_in_exactly_one_way(name: str, count: int) -> None:
    names = listed(name)
    assert len(names) == count
    for one in names:
        assert sum(way.names.fullmatch(one) is not None for way in PUBLISHED) == 1, one


def test_no_way_is_for_nothing() -> None:
    names = {one for name in packaged_listings() for one in listed(name)} | {"reddit_contexts/reddit_2015"}
    for way in PUBLISHED:
        assert any(way.names.fullmatch(name) for name in names), way.names.pattern


def test_views_exist_and_have_the_columns_of_the_file() -> None:
    for way in PUBLISHED:
        if way.source is None:
            assert (way.view, way.settings) == (None, ())
        else:
            view = SOURCES[way.source].view(way.view)
            assert 2 + view.num_negatives + view.has_context == way.num_columns
            assert way.corpus.licence == SOURCES[way.source].licence
        assert way.corpus.address.startswith("http")
        assert way.corpus.dump
        assert way.corpus.licence


@pytest.mark.parametrize(
    ("name", "source", "view"),
    [
        ("stackexchange_title_body/math.stackexchange.com", "stackexchange", "title-body"),
        ("stackexchange_Title_Answer/small_stackexchanges", "stackexchange", "title-answer"),
        ("stackexchange_TitleBody_Answer/stackoverflow.com-Posts", "stackexchange", "title-body-answer"),
        ("stackexchange_duplicate_questions_title-body_title-body", "stackexchange", "duplicate-title-body"),
        ("yahoo_answers_title_question", "yahoo-answers", "title-question"),
        ("msmarco-query_passage_negative", "ms-marco", "triplets"),
        ("msmarco-query_passage_negative_v2", "ms-marco", "triplets"),
        ("quora_duplicates_triplets", "quora", "triplets"),
        ("reddit/reddit_2018", "reddit", "single-context"),
        ("S2ORC_citation_pairs_abstract", None, None),
        ("AllNLI", None, None),
    ],
)
def test_how_some_files_are_made(name: str, source: str | None, view: str | None) -> None:
    found = published(name)
    assert found is not None
    assert (found[0].source, found[0].view) == (source, view)


def test_others_are_unknown() -> None:
    assert published("pairs") is None
    assert published("gooaq_pairs_2") is None
