from __future__ import annotations

import re
from pathlib import Path

import pytest

from pairloom.errors import InputError
from pairloom.listing import find_listing, read_listing
from pairloom.sources.corpora import published
from pairloom.sources.dumps import Dumps, unnamed
from tests.conftest import make_pairs, make_shards


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "dumps"


def write(place: Path, *names: str) -> None:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"x")


def found(place: Path, name: str) -> list[str]:
    """What is found for a dataset of the lists, relative to the place."""
    known = published(name)
    assert known is not None
    way, match = known
    return [path.relative_to(place).as_posix() for path in way.find(Dumps([place]), match)]


def test_sites_under_their_usual_names(place: Path) -> None:
    write(
        place,
        *("se/coffee.stackexchange.com.7z", "se/stackoverflow.com-Posts.7z", "se/stackoverflow.com-PostLinks.7z"),
        *("se/beer.stackexchange.com/beer.stackexchange.com.7z", "se/serverfault.com/Posts.xml.gz"),
        *("se/math.stackexchange.com.7z", "se/unpacked/math.stackexchange.com/Posts.xml", "se/ai/Posts.xml.bz2"),
        *("se/es.stackoverflow.com.7z", "photos.7z", "se/.hidden/dba.stackexchange.com.7z", "mathoverflow/Posts.xml"),
    )
    sites = {
        site: [path.relative_to(place).as_posix() for path in paths] for site, paths in Dumps([place]).sites.items()
    }
    assert sites == {
        "ai.stackexchange.com": ["se/ai/Posts.xml.bz2"],
        "beer.stackexchange.com": ["se/beer.stackexchange.com/beer.stackexchange.com.7z"],
        "coffee.stackexchange.com": ["se/coffee.stackexchange.com.7z"],
        "es.stackoverflow.com": ["se/es.stackoverflow.com.7z"],
        "math.stackexchange.com": ["se/unpacked/math.stackexchange.com/Posts.xml"],
        "mathoverflow.net": ["mathoverflow/Posts.xml"],
        "serverfault.com": ["se/serverfault.com/Posts.xml.gz"],
        "stackoverflow.com": ["se/stackoverflow.com-Posts.7z"],
    }
    assert found(place, "stackexchange_title_body/serverfault.com") == ["se/serverfault.com/Posts.xml.gz"]
    assert found(place, "stackexchange_Title_Answer/stackoverflow.com-Posts") == ["se/stackoverflow.com-Posts.7z"]
    assert found(place, "stackexchange_title_body/unix.stackexchange.com") == []


def test_stack_overflow_may_come_in_parts(place: Path) -> None:
    write(place, "stackoverflow.com-Posts/Posts.xml", "stackoverflow_2/Posts.xml.gz", "stackoverflow-3/Posts.xml")
    assert len(found(place, "stackexchange_title_body/stackoverflow.com-Posts")) == 3


def test_small_sites_are_those_that_the_list_does_not_name(place: Path) -> None:
    """Skeptics has a file of its own for titles and bodies, but too few answers for one of titles and answers."""
    sites = [
        "skeptics.stackexchange.com.7z",
        "coffee.stackexchange.com.7z",
        "ru.stackoverflow.com.7z",
        "superuser.com.7z",
    ]
    write(place, *sites, "stackoverflow.com-Posts.7z")
    assert found(place, "stackexchange_title_body/small_stackexchanges") == ["coffee.stackexchange.com.7z"]
    assert found(place, "stackexchange_Title_Answer/small_stackexchanges") == [
        "coffee.stackexchange.com.7z",
        "skeptics.stackexchange.com.7z",
    ]
    path = find_listing("all_datasets_v4")
    assert path is not None
    names = [re.sub(r"-Posts|\.jsonl\.gz", "", one.name).rpartition("/")[2] for one in read_listing(path)]
    assert unnamed(names, names) == []


def test_duplicates_need_links(place: Path) -> None:
    write(place, "a.stackexchange.com/Posts.xml", "b.stackexchange.com/Posts.xml", "b.stackexchange.com/PostLinks.xml")
    write(place, "c.stackexchange.com.7z", "stackoverflow.com-Posts.7z")
    name = "stackexchange_duplicate_questions_title_title"
    assert found(place, name) == ["b.stackexchange.com/Posts.xml", "c.stackexchange.com.7z"]
    write(place, "stackoverflow.com-PostLinks.7z")
    assert found(place, name)[-1] == "stackoverflow.com-Posts.7z"


@pytest.mark.parametrize(
    ("name", "wanted", "others"),
    [
        ("gooaq_pairs", ["x/gooaq.jsonl.gz"], ["gooaq_more.jsonl"]),
        ("squad_pairs", ["a/train-v1.1.json"], ["a/train-v2.0.json", "a/dev-v1.1.json"]),
        ("squad_pairs", ["train-v2.0.json"], ["dev-v2.0.json"]),
        (
            "NQ-train_pairs",
            ["nq-train-00.jsonl.gz", "nq-train-01.jsonl.gz"],
            ["nq-dev-00.jsonl.gz", "nq-train-kilt.jsonl"],
        ),
        ("NQ-train_pairs", ["v1.0-simplified_simplified-nq-train.jsonl.gz"], []),
        ("TriviaQA_pairs", ["triviaqa-rc/qa/web-train.json"], ["triviaqa-rc/qa/wikipedia-train.json", "web-dev.json"]),
        ("quora_duplicates_triplets", ["quora_duplicate_questions.tsv"], ["quora/train.csv", "train.csv"]),
        ("eli5_question_answer", ["eli5-train-kilt.jsonl"], ["eli5-dev-kilt.jsonl"]),
        ("yahoo_answers_title_answer", ["yahoo_answers_csv/train.csv"], ["yahoo_answers_csv/test.csv", "x/train.csv"]),
        ("searchQA_question_top5_snippets_merged", ["SearchQA/x/train.zip"], ["SearchQA/x/val.zip", "train.zip"]),
        ("amazon-qa-train-pairs", ["qa_Baby.json.gz", "qa_Video_Games.json.gz"], ["reviews_Baby.json.gz"]),
        ("PAQ_pairs", ["PAQ.metadata.jsonl.gz", "psgs_w100.tsv.gz"], ["PAQ_unfiltered_metadata.jsonl.gz", "PAQ.jsonl"]),
        ("WikiAnswers_pairs", ["wikianswers-1.0/part-00000.gz"], ["else/part-00000.gz"]),
        ("msmarco-query_passage_negative_v2", ["triples.train.small.tsv.gz"], ["triples.dev.tsv", "collection.tsv"]),
        ("msmarco-query_passage_negative", ["qidpidtriples.train.full.2.tsv"], ["qrels.train.tsv"]),
        ("reddit/reddit_2016", ["RC_2016-01.zst", "RC_2016-12.bz2"], ["RC_2015-12.zst", "RS_2016-01.zst"]),
    ],
)
def test_dumps_under_their_usual_names(place: Path, name: str, wanted: list[str], others: list[str]) -> None:
    assert found_nothing(place, name)
    write(place, *wanted, *others)
    assert found(place, name) == wanted


def found_nothing(place: Path, name: str) -> bool:
    place.mkdir()
    return found(place, name) == []


def test_the_name_of_the_place_counts_and_files_can_be_given(tmp_path: Path) -> None:
    write(tmp_path, "yahoo/train.csv", "gooaq.jsonl")
    known = published("yahoo_answers_title_answer")
    assert known is not None
    for place in (tmp_path / "yahoo", tmp_path / "yahoo" / "train.csv"):
        assert known[0].find(Dumps([place]), known[1]) == [tmp_path / "yahoo" / "train.csv"]
    assert Dumps([tmp_path / "gooaq.jsonl"]).named(r"gooaq\.jsonl") == [tmp_path / "gooaq.jsonl"]


def test_ready_files_have_the_folder_of_the_list(place: Path) -> None:
    write(place, "gooaq_pairs.jsonl.gz", "reddit/reddit_2015.jsonl.gz", "other/reddit_2016.jsonl.gz")
    write(place, "stackexchange_title_body/ell.stackexchange.com.jsonl.gz")
    dumps = Dumps([place])
    assert dumps.ready("gooaq_pairs") == [place / "gooaq_pairs.jsonl.gz"]
    assert dumps.ready("reddit/reddit_2015") == [place / "reddit" / "reddit_2015.jsonl.gz"]
    assert dumps.ready("reddit/reddit_2016") == []
    assert dumps.ready("stackexchange_Title_Answer/ell.stackexchange.com") == []
    assert dumps.ready("stackexchange_title_body/ell.stackexchange.com") != []


def test_what_pairloom_made_is_no_dump_and_circles_end(place: Path) -> None:
    write(place, "a/gooaq.jsonl")
    (place / "a" / "circle").symlink_to(place)
    make_shards(place / "shards", make_pairs(9))
    write(place, "shards/train-v1.1.json")
    dumps = Dumps([place, place / "a"])
    assert dumps.named(r"gooaq\.jsonl") == [place / "a" / "gooaq.jsonl"]
    assert dumps.named(r"train-v1\.1\.json") == []


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        Dumps([tmp_path / "nowhere"])
