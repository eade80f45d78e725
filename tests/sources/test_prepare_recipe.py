from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from pairloom.artifacts import read_manifest, verify
from pairloom.errors import ArtifactError, InputError
from pairloom.pairs.shards import Shards
from pairloom.recipe import DatasetSection, Recipe, load_data_recipe, load_recipe
from pairloom.records import Pair
from pairloom.sources.prepare_recipe import describe, make, plan, sources_settings, to_json, with_shards
from tests.conftest import make_pairs, make_shards
from tests.sources.tiny_dumps import MADE, write_dumps, write_site

MULTI_QA = "multi-qa-mpnet-base-dot-v1"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shards are relative to where the command is run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    return write_dumps(tmp_path / "dumps")


def datasets(recipe: str = MULTI_QA, *overrides: str) -> tuple[DatasetSection, ...]:
    return load_data_recipe(Path(recipe), overrides).data.datasets


def make_all(dumps: Path, recipe: str = MULTI_QA) -> dict[str, tuple[object, ...]]:
    made: dict[str, tuple[object, ...]] = {}
    for one in plan(datasets(recipe), [dumps]).to_make:
        facts = make(one, show_progress=False)
        made[one.name] = (facts["source"], facts["view"], len(facts["columns"]))
    return made


def test_every_corpus_of_a_recipe_becomes_shards(dumps: Path) -> None:
    assert make_all(dumps) == MADE
    for name in MADE:
        assert len(Shards(Path("shards", name))) > 0
        verify(Path("shards", name), "shards")
    small = Shards(Path("shards/stackexchange_title_body/small_stackexchanges"))
    assert {pair.anchor.partition(":")[0] for pair in small} == {"coffee.stackexchange.com"}
    assert set(Shards(Path("shards/msmarco-query_passage_negative_v2"))) == {Pair("a query", "a passage", ("another",))}
    assert set(Shards(Path("shards/NQ-train_pairs"))) == {Pair("who", "a text")}


def test_what_is_there_is_left_alone(dumps: Path) -> None:
    first, second, *others = plan(datasets(), [dumps]).to_make
    for one in (first, second):
        make(one, show_progress=False)
    before = read_manifest(first.shards)
    found = plan(datasets(), [dumps])
    assert set(found.whole) == {first.name, second.name}
    assert [one.name for one in found.to_make] == [one.name for one in others]
    make_all(dumps)
    assert set(plan(datasets(), [dumps]).whole) == MADE.keys()
    assert read_manifest(first.shards) == before


def test_shards_that_are_not_whole_are_named(dumps: Path) -> None:
    make_all(dumps)
    part = Path("shards/gooaq_pairs/part-00000.arrow")
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"gooaq_pairs/part-00000\.arrow: has"):
        plan(datasets(), [dumps])
    Path("shards/squad_pairs.txt").write_text("")
    with pytest.raises(ArtifactError, match="is a file"):
        plan((DatasetSection(shards=Path("shards/squad_pairs.txt")),), [dumps])


def test_an_empty_folder_is_no_shards(dumps: Path) -> None:
    Path("shards/gooaq_pairs").mkdir(parents=True)
    assert "gooaq_pairs" in make_all(dumps)


def test_ready_files_are_taken_before_dumps(dumps: Path) -> None:
    def write(name: str, *rows: object) -> None:
        (dumps / "ready" / name).parent.mkdir(parents=True, exist_ok=True)
        (dumps / "ready" / name).write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))

    write("gooaq_pairs.jsonl.gz", ["ready", "pair"])
    write("AllNLI.jsonl.gz", ["a", "b", "c"])
    write("reddit/reddit_2015.jsonl.gz", {"context": "was it?", "response": "it was"})
    write("stackexchange_TitleBody_Answer/ell.stackexchange.com.jsonl.gz", ["q", "a"])
    made = make_all(dumps, "all-MiniLM-L6-v2")
    assert made["gooaq_pairs"] == ("pair-files", "pairs", 2)
    assert made["AllNLI"] == ("pair-files", "triplets", 3)
    assert made["stackexchange_TitleBody_Answer/ell.stackexchange.com"] == ("pair-files", "pairs", 2)
    assert set(Shards(Path("shards/gooaq_pairs"))) == {Pair("ready", "pair")}
    assert set(Shards(Path("shards/reddit/reddit_2015"))) == {Pair("it was", "was it?")}


def test_settings_of_a_source_reach_it(dumps: Path) -> None:
    of_sources, of_recipe = sources_settings(
        ["stackexchange.min_score=2", 'data.only=["x"]', "search-qa.joined=true", "train.steps=3"]
    )
    assert (of_sources, of_recipe) == (
        ["stackexchange.min_score=2", "search-qa.joined=true"],
        ['data.only=["x"]', "train.steps=3"],
    )
    one = next(one for one in plan(datasets(), [dumps], of_sources).to_make if one.name == "squad_pairs")
    facts = make(one, overrides=["squad.anchor_min_chars=2"], exclude={"t": ["nothing"]}, show_progress=False)
    assert facts["filters"]["anchor_min_chars"] == 2
    assert facts["excluded"] == {"t": 1}
    trivia = next(one for one in plan(datasets(), [dumps]).to_make if one.name == "TriviaQA_pairs")
    assert make(trivia, show_progress=False)["filters"]["max_evidence"] == 1


def test_what_of_a_dump_is_missing_is_said(dumps: Path) -> None:
    (dumps / "paq" / "psgs_w100.tsv").unlink()
    (dumps / "triviaqa-rc" / "evidence" / "wikipedia" / "A.txt").unlink()
    (dumps / "triviaqa-rc" / "evidence" / "wikipedia").rmdir()
    missing = {one.name: one for one in plan(datasets(), [dumps]).missing}
    assert "the passages are missing; give psgs_w100.tsv.gz, too" in missing["PAQ_pairs"].missing
    assert "has no folder evidence beside it" in missing["TriviaQA_pairs"].missing
    assert missing["stackexchange_title_body/unix.stackexchange.com"].missing == "not found"
    facts = to_json(missing["PAQ_pairs"])
    assert (facts["name"], facts["shards"]) == ("PAQ_pairs", "shards/PAQ_pairs")
    assert facts["corpus"]["address"] == "https://github.com/facebookresearch/PAQ"
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        plan(datasets(), [dumps, dumps / "nowhere"])


def test_everything_is_missing_where_nothing_is() -> None:
    missing = plan(datasets(), []).missing
    assert len(missing) == 188
    short, long = describe(missing), describe(missing, all_names=True)
    assert len(short) == 3 * 13
    assert short[:3] == [
        (
            "Stack Exchange: 175 datasets (stackexchange_title_body/skeptics.stackexchange.com, "
            "stackexchange_Title_Answer/islam.stackexchange.com, stackexchange_Title_Answer/anime.stackexchange.com, "
            "stackexchange_title_body/writers.stackexchange.com and 171 more)"
        ),
        "  published at https://archive.org/details/stackexchange; licence: CC BY-SA",
        "  needed: <site>.7z, or a folder called <site> with Posts.xml in it, and PostLinks.xml for duplicates",
    ]
    assert len(long) == len(short) + 188
    assert "  - gooaq_pairs: not found" in long


@pytest.fixture
def recipe() -> Callable[..., Recipe]:
    def load(*overrides: str) -> Recipe:
        Path("mix.toml").write_text(
            '[model]\nbase = "b"\n[train]\nsteps = 9\nwarmup_steps = 0\n[data]\nconfiguration = "multi-qa_v1"\n'
            'only = ["gooaq_pairs", "squad_pairs", "stackexchange_title_body/m*"]\n[[data.datasets]]\nshards = "mine"\n'
        )
        return load_recipe(Path("mix.toml"), overrides)

    return load


def refusal(recipe: Recipe, *overrides: str) -> str:
    with pytest.raises(ArtifactError) as caught:
        with_shards(recipe, name="mix.toml", overrides=overrides)
    return str(caught.value)


def test_training_names_all_that_is_missing_at_once(recipe: Callable[..., Recipe]) -> None:
    make_shards(Path("shards/squad_pairs"), make_pairs(9))
    overrides = ['data.only=["gooaq_pairs", "squad_pairs", "mine", "*/m*"]', "train.steps=3"]
    message = refusal(recipe(*overrides), *overrides).splitlines()
    assert message[0] == "22 of the 23 datasets of mix.toml have no shards yet:"
    assert message[1].startswith("  Stack Exchange: 20 datasets (stackexchange_Title_Answer/m")
    assert "    published at https://archive.org/details/stackexchange; licence: CC BY-SA" in message
    assert "    published at https://github.com/allenai/gooaq; licence: not for commercial use" in message
    assert "  your own: 1 dataset (mine): pairloom prepare SOURCE INPUT… --out mine" in message
    assert message[-2] == (
        "With the dumps at hand: pairloom prepare --recipe mix.toml --set "
        '\'data.only=["gooaq_pairs", "squad_pairs", "mine", "*/m*"]\' DUMPS…'
    )
    assert message[-1].startswith("Or train on what is there, 1 dataset (")
    assert message[-1].endswith(" of the weight): --set data.missing=leave-out")


def test_training_on_what_is_there(recipe: Callable[..., Recipe], caplog: pytest.LogCaptureFixture) -> None:
    loaded = recipe("data.missing=leave-out", 'data.only=["gooaq_pairs", "squad_pairs"]')
    assert "2 of the 2 datasets" in refusal(loaded)
    assert "Or train" not in refusal(loaded)
    make_shards(Path("shards/squad_pairs"), make_pairs(9))
    with caplog.at_level(logging.WARNING):
        left = with_shards(loaded, name="mix.toml")
    assert [one.dataset_name for one in left.data.datasets] == ["squad_pairs"]
    assert left.data.datasets[0].weight == 40
    # 451 of 451 + 40
    assert [record.getMessage() for record in caplog.records] == [
        "left out for want of shards: gooaq_pairs (91.9% of the weight)"
    ]
    make_shards(Path("shards/gooaq_pairs"), make_pairs(9))
    assert with_shards(loaded, name="mix.toml") is loaded


def test_a_single_dataset_of_ones_own_is_one_line() -> None:
    assert refusal(load_recipe(Path("adapt"))) == "pairs: no such folder; make it with pairloom prepare"


SAMPLED = MADE.keys() - {
    *("PAQ_pairs", "WikiAnswers_pairs", "msmarco-query_passage_negative_v2"),  # no sample, or one of another kind
    "quora_duplicates_triplets",  # the sample's few pairs make no triplet
    "NQ-train_pairs",  # KILT's layout, which has no paragraphs
    *(name for name in MADE if "math." in name),
}


def test_real_samples_become_shards(shared: Path, tmp_path: Path) -> None:
    samples = shared / "formats" / "trivia_qa"
    (tmp_path / "triviaqa-rc" / "qa").mkdir(parents=True)  # of the questions for training the sample has no evidence
    (tmp_path / "triviaqa-rc" / "qa" / "web-train.json").symlink_to(next(samples.rglob("unfiltered-web-dev.json")))
    (tmp_path / "triviaqa-rc" / "evidence").symlink_to(next(samples.rglob("evidence")))
    places = [shared / "data", shared / "formats", tmp_path / "triviaqa-rc"]
    only = [name for name in MADE if name in SAMPLED] + ["*/stackoverflow.com-Posts"]
    found = plan(datasets(MULTI_QA, f"data.only={json.dumps(only)}"), places)
    assert [str(one) for one in found.missing] == []
    for one in found.to_make:
        facts = make(one, show_progress=False)
        assert facts["num_rows"] > 0, one.name
        assert facts["broken"]["count"] == 0, one.name
    assert {one.name for one in found.to_make} == SAMPLED | {
        f"{folder}/stackoverflow.com-Posts" for folder in ("stackexchange_title_body", "stackexchange_Title_Answer")
    }


def test_stack_overflow_alone(tmp_path: Path) -> None:
    write_site(tmp_path / "dumps" / "stackoverflow.com-Posts", 5)
    assert make_all(tmp_path / "dumps", "stackoverflow_mpnet-base") == {
        "stackexchange_title_body/stackoverflow.com-Posts": ("stackexchange", "title-body", 2)
    }
    assert len(Shards(Path("shards/stackexchange_title_body/stackoverflow.com-Posts"))) == 5


@pytest.mark.parametrize("recipe", ["reddit_single-context_mpnet-base", "reddit_multi-context_mpnet-base"])
def test_reddit_by_years(tmp_path: Path, recipe: str) -> None:
    comments = [
        {"id": "a", "parent_id": "t3_t", "link_id": "t3_t", "body": "the first comment of all", "author": "x"},
        {"id": "b", "parent_id": "t1_a", "link_id": "t3_t", "body": "an answer to the first", "author": "y"},
        {"id": "c", "parent_id": "t1_b", "link_id": "t3_t", "body": "an answer to the answer", "author": "x"},
    ]
    (tmp_path / "dumps").mkdir()
    for month in ("2015-01", "2015-02", "2017-12"):
        (tmp_path / "dumps" / f"RC_{month}").write_text("\n".join(map(json.dumps, comments)))
    folder = "reddit" if "single" in recipe else "reddit_contexts"
    assert make_all(tmp_path / "dumps", recipe).keys() == {f"{folder}/reddit_2015", f"{folder}/reddit_2017"}
    assert len(plan(datasets(recipe), [tmp_path / "dumps"]).missing) == 2
