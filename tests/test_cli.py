"""The command line, in processes of its own: the whole way on a small scale, and one sentence for each mistake."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairloom import __version__
from pairloom.artifacts import new_artifact, verify
from pairloom.cli import info
from tests.conftest import make_pairs, make_shards, write_modules
from tests.sources.tiny_dumps import MADE, write_dumps

COMMANDS = ("demo", "prepare", "mixture", "train", "evaluate", "encode", "merge", "index", "search", "serve", "info")


def run(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pairloom", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env=environment,
    )


def good(*words: object, cwd: Path | None = None) -> str:
    done = run(*words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def facts(*words: object, cwd: Path | None = None) -> Any:
    """What a command prints with --json, which must be JSON and nothing else."""
    return json.loads(good(*words, "--json", cwd=cwd))


def bad(*words: object, code: int = 1, cwd: Path | None = None) -> str:
    done = run(*words, cwd=cwd)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture
def pair_file(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(json.dumps(pair) for pair in make_pairs(120)))
    return file


def test_the_whole_way(pair_file: Path, model_folder: Path, tmp_path: Path) -> None:
    """A smoke test of all stages as a user would type them."""
    prepared = facts(
        "prepare", "pair-files", pair_file, "--out", "pairs", "--holdout", 20, "--holdout-out", "task", cwd=tmp_path
    )
    assert prepared["num_rows"] == 100
    settings = ["--set", f"model.base={model_folder}", "--set", "train.steps=12", "--set", "train.batch_size=16"]
    settings += ["--set", "train.warmup_steps=2", "--set", "train.learning_rate=1e-3"]
    settings += ["--set", "data.anchor_max_tokens=32", "--set", "data.positive_max_tokens=32"]
    trained = facts("train", "adapt", "--out", "model", *settings, cwd=tmp_path)
    assert [evaluation["step"] for evaluation in trained["evaluations"]] == [0, 12]
    (measured,) = facts("evaluate", "model", "task", "--baseline", model_folder, cwd=tmp_path)
    assert measured["metrics"]["nDCG@10"]["value"] == pytest.approx(
        trained["evaluations"][-1]["metrics"]["nDCG@10"]["value"]
    )
    encoded = facts("encode", "model", "task", "--out", "vectors", cwd=tmp_path)
    assert encoded["fingerprint"] == trained["fingerprint"]
    hits = facts("search", "vectors", "coffee", "-k", 3, cwd=tmp_path)
    assert len(hits) == 3
    assert hits[0]["text"] in good("search", "vectors", "coffee", cwd=tmp_path)
    for folder, kind in (("pairs", "shards"), ("task", "task"), ("model", "model"), ("vectors", "vectors")):
        assert facts("info", folder, cwd=tmp_path)["kind"] == kind
    assert "made by" in bad("search", "vectors", "coffee", "--model", model_folder, cwd=tmp_path)


def test_candidate_sets_are_held_out_and_measured(pair_file: Path, model_folder: Path, tmp_path: Path) -> None:
    words = ("prepare", "pair-files", pair_file, "--out", "pairs", "--holdout", 100, "--holdout-out", "talk.jsonl.gz")
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "held out in talk.jsonl.gz: seed 0, pairs 100, queries 100, sets 1, candidates 100" in done.stderr
    shown = good("evaluate", model_folder, "talk.jsonl.gz", cwd=tmp_path)
    assert " accuracy@1" in shown
    assert "talk: 100 queries, 1 sets, 100 candidates; fewer than 20 sets" in shown
    (measured,) = facts("evaluate", model_folder, "talk.jsonl.gz", cwd=tmp_path)
    assert (measured["kind"], measured["warnings"]) == ("selection", [])
    excluded = ("--exclude", "talk.jsonl.gz", "--out", "rest")
    assert facts("prepare", "pair-files", pair_file, *excluded, cwd=tmp_path)["num_rows"] == 20


def test_another_similarity_than_the_models_is_warned_of_once(
    backbone_folder: Callable[[str], Path], task_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(backbone_folder("bert"), tmp_path / "dotted")
    write_modules(tmp_path / "dotted", normalize=False, similarity="dot")
    lines = ["score\tsentence1\tsentence2", "1\thot coffee\tcoffee", "0\ta list\thot water"]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines))
    words = ("evaluate", tmp_path / "dotted", task_folder, tmp_path / "pairs.tsv", "--quiet")
    assert run(*words).stderr == ""
    done = run(*words, "--similarity", "cosine", "--json")
    assert [measured["similarity"] for measured in json.loads(done.stdout)] == ["cosine", "cosine"]
    assert done.stderr == (
        "warning: the model was made for dot product and is compared by cosine, which ignores the lengths of its vectors; "
        "in training they counted\n"
    )


def test_help_has_an_example_of_every_command() -> None:
    for command in COMMANDS:
        assert f"Example: pairloom {command}" in " ".join(good(command, "--help").replace("│", " ").split()), command


def test_version() -> None:
    assert good("--version") == f"pairloom {__version__}\n"


def test_the_sources_are_listed() -> None:
    listed = {source["source"]: source for source in facts("prepare", "--list")}
    assert {"stackexchange", "reddit", "python-docs", "pair-files"} <= set(listed)
    assert listed["stackexchange"]["views"]["title-body"]["num_published"] == 25_316_456
    shown = good("prepare", "--list")
    for source in listed.values():
        assert source["source"] in shown
        assert all(view in shown for view in source["views"])


TINY_QA = [name for name in MADE if name != "gooaq_pairs"]


@pytest.fixture
def qa_recipe(model_folder: Path, tmp_path: Path) -> Path:
    """The corpora of multi-qa that have tiny dumps, but for one, and two that have none; a small model and few steps."""
    write_dumps(tmp_path / "dumps")
    (tmp_path / "dumps" / "gooaq" / "gooaq.jsonl").unlink()
    only = json.dumps([*MADE, "stackexchange_title_body/ux*"])
    pairs = [{"question": f"question {number}", "answer": f"answer {number}"} for number in range(30)]
    (tmp_path / "dumps" / "amazon" / "qa_Baby.json").write_text("\n".join(map(str, pairs)))
    (tmp_path / "qa.toml").write_text(
        f'[model]\nbase = "{model_folder}"\n[data]\nconfiguration = "multi-qa_v1"\nonly = {only}\n'
        "[train]\nsteps = 3\nbatch_size = 8\nwarmup_steps = 1\n"
    )
    return tmp_path / "qa.toml"


def test_from_raw_dumps_to_a_model_by_a_recipe(qa_recipe: Path, tmp_path: Path) -> None:
    words = ("prepare", "--recipe", "qa.toml", "dumps")
    done = run(*words, "--dry-run", cwd=tmp_path)
    assert done.returncode == 1
    assert "amazon-qa-train-pairs: amazon-qa, view question-answer, from dumps/amazon/qa_Baby.json" in done.stderr
    assert done.stderr.strip().endswith("already there 0, to make 17, failed 0, missing 2")
    assert not (tmp_path / "shards").exists()

    done = run(*words, "--json", cwd=tmp_path)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert {one["name"] for one in found["made"]} == set(TINY_QA)
    assert {one["name"]: one["corpus"]["licence"] for one in found["missing"]} == {
        "gooaq_pairs": "not for commercial use",
        "stackexchange_title_body/ux.stackexchange.com": "CC BY-SA",
    }
    assert "published at https://github.com/allenai/gooaq; licence: not for commercial use" in done.stderr

    done = run(*words, "--partial", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.strip().endswith("already there 17, made 0, failed 0, missing 2")

    train = ("train", "qa.toml", "--out", "model")
    done = run(*train, cwd=tmp_path)
    assert done.returncode == 1
    assert "2 of the 19 datasets of qa.toml have no shards yet:" in done.stderr
    assert "pairloom prepare --recipe qa.toml DUMPS" in done.stderr
    assert "Traceback" not in done.stderr
    settings = ("--set", "data.missing=leave-out", "--set", 'data.only=["amazon*", "gooaq*"]')
    trained = facts(*train, *settings, cwd=tmp_path)
    assert [data["name"] for data in trained["data"]] == ["amazon-qa-train-pairs"]
    assert trained["data"][0]["weight"] == 451
    assert trained["recipe"]["data"]["datasets"][0]["shards"] == "shards/amazon-qa-train-pairs"


def test_a_damaged_dump_does_not_keep_the_others_from_being_made(qa_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "dumps" / "squad" / "train-v1.1.json").write_text('{"data": [')
    only = ("--set", 'data.only=["squad_pairs", "amazon*"]')
    done = run("prepare", "--recipe", "qa.toml", "dumps", "--partial", *only, cwd=tmp_path)
    assert done.returncode == 1
    assert "failed: " in done.stderr
    assert "train-v1.1.json: not whole JSON" in done.stderr
    assert done.stderr.strip().endswith("already there 0, made 1, failed 1, missing 0")
    done = run("prepare", "--recipe", "qa.toml", "--partial", "--set", 'data.only=["squad_pairs"]', cwd=tmp_path)
    assert done.returncode == 1  # nothing is there, so it was hardly meant


def test_a_task_is_kept_out_of_all_datasets_of_a_recipe(qa_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "dev.tsv").write_text("score\tsentence1\tsentence2\n1\tWHY\tquestion 3\n0\twhich\tquestion 7\n")
    (tmp_path / "dumps" / "gooaq" / "gooaq.jsonl").write_text('{"question": "what", "answer": "which"}')
    only = ("--set", 'data.only=["gooaq_pairs", "squad_pairs", "eli5*", "amazon*"]')
    found = run("prepare", "--recipe", "qa.toml", "dumps", "--exclude", "dev.tsv", *only, cwd=tmp_path)
    assert found.returncode == 1
    assert "wrote 28 pairs to shards/amazon-qa-train-pairs" in found.stderr
    assert found.stderr.count("no pair is left; dropped: a text of it occurs in the excluded task dev.tsv: 1") == 3


def test_a_killed_preparation_goes_on_where_it_stopped(qa_recipe: Path, tmp_path: Path) -> None:
    def manifests() -> list[Path]:
        return [
            path for start in ("", "stackexchange*/") for path in tmp_path.glob(f"shards/{start}[!.]*/manifest.json")
        ]

    words = [sys.executable, "-m", "pairloom", "prepare", "--recipe", "qa.toml", "dumps"]
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL)
    while not manifests():
        time.sleep(0.01)
        assert process.poll() is None
    process.kill()
    process.wait()
    first = {path: path.stat().st_mtime_ns for path in manifests()}
    assert 0 < len(first) < len(TINY_QA)
    assert run(*words[3:], "--partial", cwd=tmp_path).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert len(manifests()) == len(TINY_QA)
    for path in manifests():
        verify(path.parent, "shards")


def test_mixture_by_name_without_data(tmp_path: Path) -> None:
    """The recipe, and its list with the same steps, come to the same."""
    of_recipe = facts("mixture", "multi-qa-mpnet-base-dot-v1", cwd=tmp_path)
    assert (of_recipe["steps"], of_recipe["batch_size"], of_recipe["weight"]) == (200_000, 1024, 6454)
    assert of_recipe["num_rows"] == 214_988_242
    of_list = facts("mixture", "multi-qa_v1", cwd=tmp_path)
    assert of_list["num_rows"] == of_recipe["num_rows"]
    assert sorted(f"{name}.jsonl.gz" for name in of_recipe["repeated"]) == sorted(of_list["repeated"])
    assert list(tmp_path.iterdir()) == []


def test_a_task_is_excluded_and_broken_records_are_told(tmp_path: Path) -> None:
    rows = [json.dumps([f"Anchor {number}", f"positive {number}"]) for number in range(10)]
    (tmp_path / "pairs.jsonl").write_text("\n".join([*rows, '["half a', "[1, 2]"]))
    (tmp_path / "dev.tsv").write_text("score\tsentence1\tsentence2\n1\tanchor 3\tx\n0\ty\tPOSITIVE 7\n")
    words = ("prepare", "pair-files", "pairs.jsonl", "--exclude", "dev.tsv", "--set", "pair-files.max_broken_records=2")
    done = run(*words, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0
    assert "wrote 8 pairs to out" in done.stderr
    assert "dropped 2: a text of it occurs in the excluded task dev.tsv" in done.stderr
    assert "warning: 2 broken records were left out: pairs.jsonl, line 11: not JSON" in done.stderr
    assert "pairs.jsonl, line 12: text 1 is a number, not a text" in done.stderr
    assert "nothing.tsv: no such file" in bad(*words[:3], "--exclude", "nothing.tsv", "--out", "more", cwd=tmp_path)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["prepare"], "say which SOURCE to read"),
        (["train", "adapt", "--out", "y", "--allow-changes"], "give --resume, too"),
        (["prepare", "usenet", "x", "--out", "y"], "there is no source usenet"),
        (["prepare", "pair-files", "--out", "y"], "needs an input"),
        (["prepare", "pair-files", "x", "--out", "y", "--view", "z"], "has no view z; it has pairs, triplets"),
        (["prepare", "pair-files", "x", "--out", "y", "--holdout", "3"], "needs both"),
        (["prepare", "pair-files", "x", "--out", "y", "--set", "pair-files.x=1"], "pair-files.x is not a setting"),
        (["train", "adapt", "--out", "y", "--set", "train.steps=0"], "train.steps = 0"),
        (["train", "nothing", "--out", "y"], "no such recipe"),
        (["mixture", "nothing"], "no such recipe"),
        (["mixture", "multi-qa_v1", "--set", "data.weights=equal"], "is for recipes, and multi-qa_v1 is none"),
        (["mixture", "all-MiniLM-L6-v2", "--set", "data.missing=leave-out"], "leaves nothing"),
        (["prepare", "--recipe", "nothing"], "no such recipe"),
        (["prepare", "--recipe", "adapt", "x", "--out", "y"], "with --recipe the recipe says what is made"),
        (["prepare", "--recipe", "adapt", "--set", 'data.only=["x"]'], "data.only.0"),
        (["prepare", "--recipe", "adapt", "--set", "stackexchange.x=1"], "stackexchange.x is not a setting"),
        (["prepare", "pair-files", "x", "--out", "y", "--dry-run"], "are for --recipe"),
        (["mixture", "adapt", "--plot", "a.pdf"], "a picture is a PNG"),
        (["mixture", "adapt", "--repeat-limit", "nan"], "must be above 0"),
        (["mixture", "adapt", "--set", "data.weights=fair"], 'data.weights = "fair"'),
        (["mixture", "adapt", "--set", "data.datasets.0.weight=0"], "data.datasets.0.weight = 0"),
    ],
)
def test_mistakes_in_the_command_exit_with_2(words: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in bad(*words, code=2, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["prepare", "pair-files", "nothing.jsonl", "--out", "y"], "nothing.jsonl: no such file"),
        (["train", "adapt", "--out", "y"], "pairs: no such folder"),
        (["evaluate", "nothing/here", "nothing"], "nothing: no such"),
        (["encode", "no/model", "in.txt", "--out", "y"], "in.txt: no such file"),
        (["search", "nothing", "query"], "nothing: no such folder"),
        (["info", "nothing"], "nothing: no such folder"),
        (["mixture", "nothing.json"], "nothing.json: no such file"),
        (["prepare", "--recipe", "adapt", "nothing"], "nothing: no such file or folder"),
    ],
)
def test_what_is_missing_exits_with_1(words: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in bad(*words, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_found_by_info(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "pairs", make_pairs(9))
    part = shards / "part-00000.arrow"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    assert "part-00000.arrow: its content has changed" in bad("info", shards)


def test_info_shows_what_is_in_shards(model_folder: Path, tmp_path: Path) -> None:
    make_shards(tmp_path / "pairs", make_pairs(30))
    words = ("info", "pairs", "--model", model_folder, "--seed", 7)
    done = run(*words, "--plot", "lengths.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pairs: shards, whole" in done.stderr
    assert "drew lengths.png" in done.stderr
    assert (tmp_path / "lengths.png").read_bytes().startswith(b"\x89PNG")
    found = facts(*words, cwd=tmp_path)
    assert (found["kind"], found["num_rows"]) == ("shards", 30)
    statistics = found["statistics"]
    assert statistics["tokens"]["max_tokens"] == 64
    assert statistics["tokens"]["columns"]["anchor"]["cut"] == {"64": 0.0, "128": 0.0}
    assert statistics["seed"] == 7
    for sample in statistics["samples"]:
        assert make_pairs(30)[sample["row"]] == (sample["anchor"], sample["positive"])
        assert f"row {sample['row']}" in done.stdout
    assert str(statistics["characters"]["positive"]["p95"]) in done.stdout


def test_info_does_without_tokens_where_no_model_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(info, "DEFAULT_MODEL", "a-package-that-nobody-installed")
    shards = make_shards(tmp_path / "pairs", make_pairs(9))
    info.info(shards, as_json=True)
    assert json.loads(capsys.readouterr().out)["statistics"]["tokens"] is None
    info.info(shards)
    assert "name the model whose tokens are to be counted with --model" in " ".join(capsys.readouterr().out.split())


def test_info_counts_tokens_beyond_the_limit_of_the_model(model_folder: Path, tmp_path: Path) -> None:
    make_shards(tmp_path / "pairs", [("coffee " * 500, "water")])
    tokens = facts("info", "pairs", "--model", model_folder, cwd=tmp_path)["statistics"]["tokens"]["columns"]
    assert tokens["anchor"]["max"] == 502
    assert tokens["anchor"]["cut"] == {"64": 1.0, "128": 1.0}
    assert tokens["positive"]["max"] == 3


def test_info_refuses_what_it_cannot_do_before_it_reads(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "pairs", make_pairs(9))
    (shards / "part-00000.arrow").write_bytes(bytes((shards / "part-00000.arrow").stat().st_size))
    assert "a picture is a PNG" in bad("info", shards, "--plot", "lengths.pdf", code=2)
    assert "there is no folder" in bad("info", shards, "--plot", tmp_path / "no" / "a.png")
    assert "no/model: no such folder" in bad("info", shards, "--model", "no/model")
    assert "its content has changed" in bad("info", shards, "--plot", tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_info_of_other_kinds_takes_no_options_of_shards(tmp_path: Path) -> None:
    with new_artifact(tmp_path / "task", "task"):
        pass
    for words in (["--plot", "a.png"], ["--model", "m"], ["--seed", "0"]):
        assert "are for shards, and this is of the kind task" in bad("info", "task", *words, code=2, cwd=tmp_path)
    assert facts("info", "task", cwd=tmp_path)["kind"] == "task"


@pytest.mark.parametrize(
    ("name", "weight", "num_rows", "num_repeated"),
    [
        ("reddit", 400, 0, 0),
        ("stackoverflow", 100, 18_562_443, 1),
        ("multi-qa_v1", 6454, 214_988_242, 6),
        ("all_datasets_v4", 4737, 1_170_060_424, 13),
    ],
)
def test_mixture_shows_published_configurations(
    shared: Path, tmp_path: Path, name: str, weight: int, num_rows: int, num_repeated: int
) -> None:
    """As many are repeated as have a weight above 10 · rows · all weights / rows drawn: counted apart from the program."""
    path = shared / "configs" / f"{name}.json"
    found = facts("mixture", path, "--steps", 200_000, "--batch-size", 1024, "--plot", tmp_path / "a.png")
    assert (found["weight"], found["num_rows"], found["rows_drawn"]) == (weight, num_rows, pytest.approx(204_800_000))
    entries = json.loads(path.read_text())
    often = [one["name"] for one in entries if one["weight"] * 20_480_000 > one.get("lines", 10**12) * weight]
    assert sorted(found["repeated"]) == sorted(often)
    assert len(often) == num_repeated
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_mixture_of_a_recipe_takes_its_steps(tmp_path: Path) -> None:
    make_shards(tmp_path / "pairs", make_pairs(40))
    words = ("mixture", "adapt", "--set", "data.datasets.0.num_rows=50")
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pairs 100.00 % 100 6,400 40 160" in " ".join(done.stdout.split())
    assert "1 dataset, whose weights add up to 1; 100 steps of 64 pairs" in done.stdout
    assert "fewer rows than a batch, so training will refuse: pairs" in done.stdout
    assert "warning: adapt: shards have other numbers of rows than it says" in done.stderr
    assert "pairs (40 instead of 50)" in done.stderr
    found = facts(*words, "--steps", 7, "--batch-size", 8, "--repeat-limit", 1.5, cwd=tmp_path)
    assert (found["steps"], found["rows_drawn"], found["repeated"]) == (7, 56, [])


def test_mixture_shows_all_when_asked(tmp_path: Path) -> None:
    listed = [{"name": f"d{number}", "weight": 1, "lines": 10**6} for number in range(40)]
    (tmp_path / "c.json").write_text(json.dumps(listed))
    assert "… 12 others (--all shows them)" in good("mixture", tmp_path / "c.json")
    shown = good("mixture", tmp_path / "c.json", "--all")
    assert all(f"d{number} " in shown for number in range(40))


def test_a_truncated_text_is_said(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("coffee " * 100 + "\nwater\n")
    done = run("encode", model_folder, "a.txt", "--out", "vectors", cwd=tmp_path)
    assert done.returncode == 0
    assert "1 of 2 texts were longer than 64 tokens and were cut" in done.stderr
    lines = ["score\tsentence1\tsentence2", "1\t" + "coffee " * 100 + "\tcoffee", "0\ta list\thot water"]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines))
    done = run("evaluate", model_folder, "pairs.tsv", "--quiet", cwd=tmp_path)
    assert done.returncode == 0
    assert "texts longer than it takes, which were cut: 1" in done.stderr


def test_square_brackets_in_names_are_letters(pair_file: Path, tmp_path: Path) -> None:
    done = run(
        "prepare", "pair-files", pair_file, "--out", "x[/b]", "--holdout", 2, "--holdout-out", "[red]", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "pairs to x[/b]" in done.stderr
    assert "held out in [red]" in done.stderr
    assert "x[/b]: shards, whole" in run("info", "x[/b]", cwd=tmp_path).stderr


def test_a_task_inside_the_shards_is_refused_at_once(pair_file: Path, tmp_path: Path) -> None:
    words = ["prepare", "pair-files", pair_file, "--out", "t/o", "--holdout", "2", "--holdout-out", "t"]
    assert "not one inside the other" in bad(*words, code=2, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


@pytest.mark.parametrize("name", ["link", "dangling", "loop"])
def test_links_are_followed_or_refused_before_the_work(pair_file: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("new")
    (tmp_path / "loop").symlink_to("loop")
    if name == "loop":
        assert "cannot be the name of a folder" in bad("prepare", "pair-files", pair_file, "--out", name, cwd=tmp_path)
    else:
        good("prepare", "pair-files", pair_file, "--out", name, cwd=tmp_path)
        assert facts("info", name, cwd=tmp_path)["num_rows"] == 120
