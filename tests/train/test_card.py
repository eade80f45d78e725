"""The card says what is so, its snippets run, and no name breaks it."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from pairloom import Encoder
from pairloom.artifacts import read_manifest
from pairloom.models.heads import Dense, Normalize, Pooling
from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.models.write import write_model
from pairloom.recipe import Recipe, parse_recipe
from pairloom.train.card import write_card
from pairloom.train.loop import train

from ..conftest import FAMILIES
from .test_report import HOSTILE, evaluation

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def model(model_folder: Path) -> Model:
    return read_model(model_folder)


def recipe(base: str = "base", name: str = "b|c", **sections: Any) -> Recipe:
    raw = {
        "model": {"base": base},
        "data": {"datasets": [{"shards": Path("a")}, {"shards": Path("b"), "name": name}]},
        "train": {"steps": 4, "batch_size": 8, "warmup_steps": 0},
    }
    return parse_recipe(raw | sections, where="test")


def facts(run: Recipe | None = None, **more: Any) -> dict[str, Any]:
    run = run or recipe()
    data = [
        {"name": one.dataset_name, "pairs": 40, "weight": 1.0, "pairs_drawn": 16, "fingerprint": "f" * 32}
        for one in run.data.datasets
    ]
    return {
        "recipe": run.model_dump(mode="json"),
        "data": data,
        "steps": 4,
        "device": "cpu",
        "torch": "2",
        "evaluations": [],
        "hardware": {"device": "Fast Chip, 2 cores", "num_devices": 1, "memory_bytes": 8e9, "peak_memory_bytes": 1e9},
        "training_s": 7200.0,
        "versions": {"pairloom": "1", "python": "3.11"},
        "base_on_hub": None,
    } | more


def card_of(model: Model, records: list[dict[str, Any]] | None = None, name: str = "tiny", **more: Any) -> str:
    run = more.pop("recipe", None) or recipe()
    return write_card(name, model, facts(run, **more), records or [], run)


OLD: list[dict[str, Any]] = [
    {"step": 1, "loss": 4.0, "dataset": "a"},
    {"step": 2, "loss": 3.0, "dataset": "a + b|c"},
    {"step": 3, "loss": 2.0, "dataset": "a"},
    {"step": 3, "evaluation": {"task": "t"}},
    {"step": 4, "loss": 1.0, "dataset": "b|c"},
]
NEW: list[dict[str, Any]] = [
    {"step": 1, "loss": 4.0, "datasets": {"a": {"pairs": 8, "loss": 4.0}}},
    {"step": 2, "loss": 3.0, "datasets": {"a": {"pairs": 4, "loss": 2.0}, "b|c": {"pairs": 4, "loss": 1.0}}},
    {"step": 3, "loss": 2.0, "datasets": {"a": {"pairs": 8, "loss": 2.0}}},
    {"step": 4, "loss": 1.0, "datasets": {"b|c": {"pairs": 8, "loss": 1.0}}},
]


@pytest.mark.parametrize("records", [OLD, NEW], ids=["old", "new"])
def test_the_card_tells_the_losses_and_epochs(model: Model, records: list[dict[str, Any]]) -> None:
    card = card_of(model, records)
    assert "| a | 40 | 1 | 16 | 0.4 | 4.000 | 2.000 |" in card
    assert "| b\\|c | 40 | 1 | 16 | 0.4 | 1.000 | 1.000 |" in card
    assert "| **in all** | 80 |  | 32 | 0.4 |  |  |" in card
    assert "The mean loss was 3.500 over the first 2 steps and 1.500 over the last 2;" in card


def test_a_run_without_records_says_so(model: Model) -> None:
    card = card_of(model)
    assert "| a | 40 | 1 | 16 | 0.4 | – | – |" in card
    assert "The loss was not recorded." in card
    assert "No task was given to the run, so nothing was measured." in card


def test_the_card_tells_of_groups_past_contexts_and_two_encoders(model: Model) -> None:
    plain = card_of(model)
    for phrase in ("in groups of", "past contexts", "of each encoder"):
        assert phrase not in plain
    run = recipe(model={"base": "base", "encoders": "two"}, faithful=True, train={"steps": 4, "warmup_steps": 0})
    told = facts(run)
    told["data"][0]["columns"] = ["anchor", "positive", "context"]
    card = write_card("tiny", model, told, [], run, document=model)
    assert "Steps came in groups of 8, from 2 draws of a dataset, no text twice in a group." in card
    assert "Replies with past contexts have the mean of three such losses" in card
    assert "| Gradient norm | clipped to 1, of each encoder by itself |" in card


def test_the_card_tells_the_options_of_the_run(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    run = recipe_for(schedule="cosine", freeze_layers=1, average_decay=0.9)
    loss = run.loss.model_copy(update={"learn_scale": True, "query_query": True, "matryoshka_dimensions": (8, 32)})
    train(run.model_copy(update={"loss": loss}), tmp_path / "model", show_progress=False, device="cpu")
    card = " ".join((tmp_path / "model" / "README.md").read_text().split())
    for words in (
        "times a scale of 20 at first, which was learnt and came to ",
        "For pairs also the other way, from positives to anchors.",
        "Anchors also compete among themselves, in one denominator.",
        "The mean is taken over the losses of the first 8, 32 components.",
        "| Schedule | cosine decay |",
        "| Frozen | the first 1 layers |",
        "| Weights | a moving average with decay 0.9 |",
        "hours in training steps",
        ", of which a process held ",
    ):
        assert words in card, words


def test_the_machine_is_told(model: Model) -> None:
    card = card_of(model)
    assert "| Device | Fast Chip, 2 cores |" in card
    assert "| Memory | 8.0 GB, of which a process held 1.0 GB at most |" in card
    assert "| Time | 2.00 hours in training steps (2 h 0 min), over all resumptions |" in card
    assert "| python | 3.11 |" in card
    hardware = {"device": "Big GPU", "num_devices": 4, "memory_bytes": 0, "peak_memory_bytes": 0}
    card = card_of(model, device="4 × cuda", hardware=hardware, training_s=0)
    assert "| Device | 4 × Big GPU |" in card
    assert "| Memory |" not in card
    assert "| Time |" not in card
    assert "| Energy |" not in card
    for energy, shown in ((0.0338, "0.0338 Wh"), (99.4, "99.4 Wh"), (1234.0, "1.23 kWh")):
        assert f"| Energy | {shown} in training steps, of processors and memory" in card_of(model, energy_wh=energy)


def test_limits_say_what_was_trained_on(model: Model) -> None:
    datasets = [{"shards": "a", "positive_max_tokens": 60}, {"shards": "b"}]
    data = {"datasets": datasets, "anchor_max_tokens": 16, "positive_max_tokens": 32}
    card = card_of(model, recipe=recipe(data=data))
    assert "cut after 64 tokens" in card
    assert "anchors were cut after 16 tokens and\npositives after 60, so it may do worse on longer text." in card
    assert "do worse on longer text" not in card_of(model, recipe=recipe())


def test_evaluations_have_intervals_and_stand_in_the_metadata(model: Model) -> None:
    run = recipe(base="owner/base", name="owner/data")
    tasks = [evaluation(0, "FAQ", 0.4), evaluation(4, "FAQ", 0.512345678, 0.4), evaluation(4, "ﬀ☕", 0.3)]
    card = card_of(model, recipe=run, evaluations=tasks, base_on_hub="owner/base")
    assert "| FAQ | nDCG@10 | 0.5123 | 0.5023 … 0.5223 | 0.4000 | +0.1123 (+0.0923 … +0.1323) |" in card
    data = metadata(card)
    assert (data.library_name, data.pipeline_tag, data.base_model) == (
        "sentence-transformers",
        "sentence-similarity",
        "owner/base",
    )
    assert "sentence-transformers" in data.tags
    assert data.datasets == ["owner/data"], "only names that the hub could have"
    first, second = data.eval_results
    assert (first.task_type, first.dataset_name, first.dataset_type) == ("information-retrieval", "FAQ", "faq")
    assert (first.metric_type, first.metric_name, first.metric_value) == ("ndcg_at_10", "nDCG@10", 0.512346)
    assert (second.dataset_name, second.metric_value) == ("ﬀ☕", 0.3)
    assert data.model_name == "tiny"
    bare = metadata(card_of(model)).to_dict()
    assert not {"base_model", "datasets", "model-index", "model_name"} & set(bare)


def test_two_tasks_never_share_an_entry_of_the_metadata(model: Model) -> None:
    tasks = [evaluation(4, name, 0.1 * number) for number, name in enumerate(["a b", "a_b", "☕", "茶"], start=1)]
    results = metadata(card_of(model, evaluations=tasks)).eval_results
    assert [(one.dataset_name, one.metric_value) for one in results] == [
        ("a b", 0.1),
        ("a_b", 0.2),
        ("☕", 0.3),
        ("茶", 0.4),
    ]


def test_the_recipe_in_the_card_is_the_recipe(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    run = recipe_for(schedule="cosine")
    command = ["pairloom", "train", "my recipe.toml", "--out", "model", "--set", "train.schedule=cosine"]
    train(run, tmp_path / "model", show_progress=False, device="cpu", command=command)
    card = (tmp_path / "model" / "README.md").read_text()
    (toml,) = re.findall(r"```toml\n(.*?)```", card, re.DOTALL)
    assert parse_recipe(tomllib.loads(toml), where="card") == run
    line = "pairloom train 'my recipe.toml' --out model --set train.schedule=cosine"
    assert f"```\n{line}\n```" in card
    kept = read_manifest(tmp_path / "model").facts
    assert kept["command"] == line
    assert kept["training_s"] >= 0


def test_a_resumed_run_says_that_its_command_was_the_last(model: Model) -> None:
    card = card_of(model, command="pairloom train adapt --out model --resume")
    assert "The command that finished the run, which was interrupted:" in card


def with_pooling(model: Model, pooling: str, normalize: bool, similarity: Any) -> Model:
    heads = (Normalize(),) if normalize else ()
    return replace(model, pooling=Pooling((pooling,)), heads=heads, similarity=similarity, has_modules=True)  # type: ignore[arg-type]


def run_snippets(card: str, *, but: str = "nothing of the kind") -> list[dict[str, Any]]:
    """Runs each snippet by itself, in float32, and returns the names that it leaves; those with a word in them are left out."""
    namespaces = []
    for snippet in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        if but in snippet:
            continue
        snippet = re.sub(r"^(encoder = Encoder\(.*)\)$", r'\1, precision="float32")', snippet, flags=re.MULTILINE)
        names: dict[str, Any] = {}
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(snippet, "snippet", "exec"), names)
        scores = [float(line.split(maxsplit=1)[0]) for line in out.getvalue().splitlines()]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == 2
        namespaces.append(names | {"shown": scores})
    return namespaces


def numbers(vectors: Any) -> npt.NDArray[np.float64]:
    return np.asarray(vectors, dtype=np.float64)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("pooling", "normalize", "similarity"),
    [("mean", True, "cosine"), ("mean", False, "cosine"), ("cls", False, "dot"), ("cls", True, "dot")],
)
def test_all_snippets_give_the_same_vectors(
    family: str,
    pooling: str,
    normalize: bool,
    similarity: str,
    backbone_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "a model's `name`"
    model = with_pooling(read_model(backbone_folder(family)), pooling, normalize, similarity)
    card = card_of(model, name=name)
    (tmp_path / name).mkdir()
    write_model(model, tmp_path / name, readme=card)
    monkeypatch.chdir(tmp_path)
    ours, theirs, bare = run_snippets(card)
    for other in (theirs, bare):
        for vectors in ("query_vector", "document_vectors"):
            np.testing.assert_allclose(numbers(other[vectors]), numbers(ours[vectors]), atol=1e-5)
        np.testing.assert_allclose(other["shown"], ours["shown"], atol=2e-4)
    lengths = np.linalg.norm(numbers(bare["document_vectors"]), axis=1)
    assert np.allclose(lengths, 1, atol=1e-5) == normalize
    long = ["how to brew coffee " * 200]
    np.testing.assert_allclose(numbers(bare["encode"](long)), numbers(ours["encoder"].encode(long)), atol=1e-5)


def test_snippets_of_two_encoders_take_each_for_its_texts(
    backbone_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, document = (
        replace(with_pooling(read_model(backbone_folder(family)), "mean", True, "cosine"), max_tokens=64)
        for family in ("bert", "roberta")
    )
    run = recipe()
    card = write_card("two", query, facts(run), [], run, document=document)
    for half, model in (("Q", query), ("A", document)):
        (tmp_path / "two" / half).mkdir(parents=True)
        write_model(model, tmp_path / "two" / half, readme=card)
    monkeypatch.chdir(tmp_path)
    assert "from pairloom import DualEncoder" in card
    for names in run_snippets(card, but="DualEncoder"):
        halves = Encoder(query, precision="float32"), Encoder(document, precision="float32")
        expected = halves[0].encode(names["query"]), halves[1].encode(names["documents"])
        np.testing.assert_allclose(numbers(names["query_vector"]), expected[0], atol=1e-5)
        np.testing.assert_allclose(numbers(names["document_vectors"]), expected[1], atol=1e-5)


def test_snippets_put_prompts_before_texts(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = {"query": "how to: ", "passage": "answer: "}
    model = replace(read_model(model_folder), prompts=prompts, default_prompt="passage", lower_case=True)
    card = card_of(model)
    (tmp_path / "tiny").mkdir()
    write_model(model, tmp_path / "tiny", readme=card)
    monkeypatch.chdir(tmp_path)
    ours, theirs, bare = run_snippets(card)
    plain = Encoder(replace(model, prompts={}, default_prompt=None), precision="float32")
    for other in (ours, theirs, bare):
        np.testing.assert_allclose(
            numbers(other["query_vector"]), plain.encode("how to: How do I brew coffee?"), atol=1e-5
        )
        expected = plain.encode([f"answer: {text}" for text in other["documents"]])
        np.testing.assert_allclose(numbers(other["document_vectors"]), expected, atol=1e-5)
    assert "| Prompt `query` | `how to:` |" in card


def test_what_takes_more_than_a_few_lines_has_no_bare_snippet(model: Model) -> None:
    dense = Dense(np.zeros((8, 32), dtype=np.float32), None, "tanh")
    for other in (
        replace(model, pooling=Pooling(("max",))),
        replace(model, pooling=Pooling(("cls", "mean"))),
        replace(model, heads=(dense,)),
        replace(model, prompts={"query": "q: "}, pooling=Pooling(("mean",), include_prompt=False)),
    ):
        card = card_of(other)
        assert "AutoModel" not in card
        assert "pooling and the modules after it have to be computed" in card


def metadata(card: str) -> Any:
    """The head, as the hub's library reads it."""
    return ModelCard(card).data


def outline(card: str) -> list[str]:
    """Headings, tables and blocks: what must not depend on names."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(card.split("\n---\n", 1)[1])
    return [token.type for token in tokens if token.type not in ("inline", "text")]


def test_no_name_breaks_the_card(model: Model) -> None:
    plain_run = recipe(base="base", name="name")
    expected = outline(
        card_of(model, recipe=plain_run, evaluations=[evaluation(4, "task", 0.5, 0.4)], command="x", name="model")
    )
    for hostile in [*HOSTILE, "# a", "a | b", "```", "---", "<details>", "a: b", "- x", "@x", "null", "1.5", "[x](y)"]:
        whole = hostile.encode("utf-8", "replace").decode()
        run = recipe(base=whole, name=whole)
        tasks = [evaluation(4, hostile, 0.5, 0.4)]
        command = f"pairloom {json.dumps(whole)}"
        card = card_of(model, recipe=run, evaluations=tasks, command=command, name=hostile, base_on_hub=None)
        card.encode()  # every character can be written
        assert outline(card) == expected, hostile
        data = metadata(card)
        assert isinstance(data.eval_results[0].dataset_name, str)
        assert isinstance(data.model_name, str)
        for token in MarkdownIt("commonmark").enable("table").parse(card.split("\n---\n", 1)[1]):
            for child in token.children or []:
                assert child.type != "html_inline", hostile
                assert child.type != "link_open" or "hugging" in str(child.attrs) or "sbert" in str(child.attrs), (
                    hostile
                )
