"""Training runs: what comes out, what interrupts them, and how they go on."""

from __future__ import annotations

import dataclasses
import json
import logging
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from _thread import interrupt_main
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from pairloom import Encoder
from pairloom.artifacts import only_one, verify
from pairloom.errors import ArtifactError, PairloomError, RecipeError, TrainingError
from pairloom.evaluate.evaluation import evaluate
from pairloom.models.families import family_of
from pairloom.models.read import read_model
from pairloom.models.write import write_model
from pairloom.pairs.dataset import open_datasets
from pairloom.pairs.mixture import Mixture
from pairloom.pairs.shards import Shards
from pairloom.recipe import Recipe, parse_recipe
from pairloom.train.learner import Learner
from pairloom.train.loop import TrainingInterruptedError, train
from pairloom.train.metrics import MetricsLog
from pairloom.train.step import BatchTokenizer
from tests.conftest import make_pairs, make_shards

MakeRecipe = Callable[..., Recipe]


def quietly(recipe: Recipe, out: Path, **options: Any) -> dict[str, Any]:
    return train(recipe, out, show_progress=False, device="cpu", **options).facts


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.joinpath("metrics.jsonl").read_text().splitlines()]


def weights(path: Path) -> dict[str, Any]:
    return read_model(path).weights


def test_the_loss_falls_and_the_folder_loads_everywhere(
    recipe_for: MakeRecipe, task_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    facts = quietly(recipe_for([task_folder], steps=40), out)
    assert verify(out).kind == "model"
    losses = [record["loss"] for record in metrics(out) if "loss" in record]
    assert len(losses) == 40
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:5])
    texts = ["how to brew coffee 3", "1 2"]
    encoder, oracle = Encoder(out, precision="float32"), SentenceTransformer(str(out), device="cpu")
    np.testing.assert_allclose(encoder.encode(texts), oracle.encode(texts), atol=1e-5)
    assert encoder.fingerprint == facts["fingerprint"] != facts["base"]["fingerprint"]


def test_metrics_and_card_tell_what_happened(recipe_for: MakeRecipe, task_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    quietly(recipe_for([task_folder]), out)
    first, last = (record for record in metrics(out) if "evaluation" in record)
    assert (first["step"], last["step"]) == (0, 6)
    assert "difference" in last["evaluation"]["metrics"]["nDCG@10"]
    step = next(record for record in metrics(out) if record["step"] == 2 and "loss" in record)
    assert step["learning_rate"] == pytest.approx(1e-3)
    assert step["gradient_norm"] > 0
    assert 0 <= step["padding"] < 0.5
    assert step["replayed"] == 0, "so small a batch is embedded once"
    assert 0 <= step["accuracy"] <= 1
    assert step["datasets"]["pairs"]["pairs"] == 8
    assert step["scale"] == 20
    assert step["model_flops_per_s"] > 0
    assert 0 < step["utilisation"] < 1.5
    assert step["memory_bytes"] > 2**20
    report = (out / "report.html").read_text()
    assert "nDCG@10" in report
    assert "how to" in report or "coffee" in report, "it shows neighbours of held-out texts"
    card = (out / "README.md").read_text()
    assert "6 steps of 8 pairs (48 pairs drawn" in card
    assert f"{last['evaluation']['metrics']['nDCG@10']['value']:.4f}" in card


def test_triplets_are_trained_on(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    rows = [(anchor, positive, f"no {positive}") for anchor, positive in make_pairs(20)]
    shards = make_shards(tmp_path / "triplets", rows)
    recipe = recipe_for()
    dataset = recipe.data.datasets[0].model_copy(update={"shards": shards})
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"datasets": (dataset,)})})
    quietly(recipe, tmp_path / "model")
    assert metrics(tmp_path / "model")[0]["loss"] > np.log(8), "16 candidates are harder than 8"


def with_data(recipe: Recipe, datasets: list[dict[str, Any]], **section: Any) -> Recipe:
    raw = recipe.model_dump(mode="json")
    raw["data"] |= {"datasets": datasets, **section}
    return parse_recipe(raw, where="test")


@pytest.mark.parametrize("group", [{}, {"steps_per_group": 5, "datasets_per_group": 2}])
def test_prefetching_changes_nothing_even_over_a_resumption(
    recipe_for: MakeRecipe, tmp_path: Path, group: dict[str, int]
) -> None:
    recipe = recipe_for(checkpoint_every_steps=2)
    datasets = [dataset.model_dump(mode="json") for dataset in recipe.data.datasets]
    quietly(with_data(recipe, datasets, prefetch_batches=0, **group), tmp_path / "one")
    quietly(with_data(recipe, datasets, prefetch_batches=3, **group), tmp_path / "two")
    (tmp_path / "two.run").rename(tmp_path / "three.run")
    shutil.rmtree(tmp_path / "three.run" / "checkpoints" / "step-00000006")
    quietly(with_data(recipe, datasets, prefetch_batches=1, **group), tmp_path / "three", resume=True)
    one, two, three = (weights(tmp_path / name) for name in ("one", "two", "three"))
    assert all(np.array_equal(one[name], two[name]) and np.array_equal(one[name], three[name]) for name in one)


def test_several_datasets_a_batch(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    other = make_shards(tmp_path / "other", make_pairs(30, seed=3))
    datasets: list[dict[str, Any]] = [
        {"shards": str(tmp_path / "pairs")},
        {"shards": str(other), "name": "second", "weight": 2.0},
    ]
    out = tmp_path / "model"
    facts = quietly(with_data(recipe_for(), datasets, datasets_per_batch=2), out)
    for record in metrics(out):
        parts = record["datasets"]
        assert {name: part["pairs"] for name, part in parts.items()} == {"pairs": 4, "second": 4}
        assert np.mean([part["loss"] for part in parts.values()]) == pytest.approx(record["loss"], abs=1e-5)
        assert np.mean([part["accuracy"] for part in parts.values()]) == pytest.approx(record["accuracy"], abs=1e-4)
    assert [(data["name"], data["pairs_drawn"]) for data in facts["data"]] == [("pairs", 24), ("second", 24)]
    card = (out / "README.md").read_text()
    assert "(48 pairs drawn, each batch from up to 2 datasets" in card
    assert "| second | 30 | 2 | 24 |" in card


def test_a_faithful_run_draws_in_groups_and_its_manifest_says_what_it_did(
    recipe_for: MakeRecipe, tmp_path: Path
) -> None:
    rows = [(anchor, positive, f"no {positive}") for anchor, positive in make_pairs(70, seed=3)]
    raw = recipe_for(steps=16, batch_size=4).model_dump(mode="json")
    chosen = [{"shards": raw["data"]["datasets"][0]["shards"]}]
    chosen.append({"shards": str(make_shards(tmp_path / "other", make_pairs(60, seed=2)))})
    chosen.append({"shards": str(make_shards(tmp_path / "triplets", rows))})
    raw = {"faithful": True, "model": raw["model"], "data": {"datasets": chosen}, "train": raw["train"]}
    out = tmp_path / "model"
    facts = quietly(parse_recipe(raw, where="test"), out)
    names = [next(iter(record["datasets"])) for record in metrics(out) if "loss" in record]
    assert len(names) == 16
    for first in range(0, 16, 4):
        assert len(set(names[first : first + 4])) == 1
    for first in (0, 8):
        assert len({name == "triplets" for name in names[first : first + 8]}) == 1
    recipe = facts["recipe"]
    assert (recipe["faithful"], recipe["data"]["steps_per_group"], recipe["data"]["datasets_per_group"]) == (True, 8, 2)
    assert recipe["loss"]["mask_false_negatives"] is False
    assert "equal to the anchor" not in (out / "README.md").read_text()


def test_each_dataset_has_its_prompts_and_limits(model_folder: Path, recipe_for: MakeRecipe, tmp_path: Path) -> None:
    rows = [(f"how to grind {number}", f"coffee bean {number} " * 5, f"not tea {number}") for number in range(20)]
    make_shards(tmp_path / "a", rows)
    datasets = [
        {"shards": str(tmp_path / "a"), "anchor_prompt": "query: ", "positive_max_tokens": 7},
        {"shards": str(tmp_path / "a"), "name": "b", "positive_prompt": "text: ", "anchor_max_tokens": 4, "swap": True},
    ]
    recipe = with_data(recipe_for(), datasets, positive_max_tokens=9)
    model = read_model(model_folder)
    mixture = Mixture(open_datasets(recipe.data.datasets), batch_size=6, seed=1, datasets_per_batch=2)
    batch = next(mixture)
    tokens = BatchTokenizer(model, recipe.data)(batch)
    assert (tokens.num_pairs, tokens.num_columns, len(tokens.tokens)) == (6, 3, 18)
    expected = []
    for column in range(3):
        for part in batch.parts:
            for row in part.rows.tolist():
                first = part.dataset.name == "a"
                text = (rows[row] if first else (rows[row][1], rows[row][0], rows[row][2]))[column]
                if column == 0:
                    prompt, limit = ("query: ", 128) if first else ("", 4)
                else:
                    prompt, limit = ("", 7) if first else ("text: ", 9)
                expected.append(model.tokenizer(limit)([prompt + text]).ids)
    assert tokens.tokens.ids.tolist() == np.concatenate(expected).tolist()


def test_limits_of_epochs_must_suffice_for_the_steps(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    datasets = [{"shards": str(tmp_path / "pairs"), "max_epochs": 1}]
    quietly(with_data(recipe_for(steps=5), datasets), tmp_path / "enough")
    with pytest.raises(RecipeError, match=r"train.steps = 6: there are pairs for only 5 steps"):
        quietly(with_data(recipe_for(steps=6), datasets), tmp_path / "model")


def test_a_stream_that_ends_before_the_run_is_one_sentence(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    """A row that never fits, because its texts are equal, makes the epoch shorter than counting its rows says."""
    shards = make_shards(tmp_path / "shorter", [*make_pairs(39), ("the same", "the same")])
    with pytest.raises(TrainingError, match="step 5: every dataset has reached its max_epochs"):
        quietly(with_data(recipe_for(steps=5), [{"shards": str(shards), "max_epochs": 1}]), tmp_path / "model")


def test_a_prompt_that_pooling_leaves_out_is_refused(
    recipe_for: MakeRecipe, tmp_path: Path, model_folder: Path
) -> None:
    model = read_model(model_folder)
    base = tmp_path / "base"
    base.mkdir()
    write_model(
        dataclasses.replace(model, pooling=dataclasses.replace(model.pooling, include_prompt=False)), base, readme=""
    )
    recipe = with_data(recipe_for(), [{"shards": str(tmp_path / "pairs"), "anchor_prompt": "query: "}])
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"base": str(base)})})
    with pytest.raises(RecipeError, match="leaves prompts out of its pooling"):
        quietly(recipe, tmp_path / "model")


def test_the_same_seed_gives_the_same_model(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    for name in ("one", "two"):
        quietly(recipe_for(seed=4), tmp_path / name)
    quietly(recipe_for(seed=5), tmp_path / "three")
    one, two, three = (weights(tmp_path / name) for name in ("one", "two", "three"))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert any(not np.array_equal(one[name], three[name]) for name in one)


def test_bfloat16_trains(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    quietly(recipe_for(precision="bfloat16", steps=20), tmp_path / "model")
    losses = [record["loss"] for record in metrics(tmp_path / "model")]
    assert losses[-1] < losses[0]
    assert all(weight.dtype == np.float32 for weight in weights(tmp_path / "model").values())


def test_only_the_last_checkpoints_are_kept(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    quietly(recipe_for(checkpoint_every_steps=1, keep_checkpoints=2), tmp_path / "model")
    folder = tmp_path / "model.run" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000005", "step-00000006"]
    assert Encoder(folder / "step-00000006" / "model").fingerprint == Encoder(tmp_path / "model").fingerprint


def test_an_interrupted_run_saves_and_its_continuation_equals_the_unbroken_run(
    recipe_for: MakeRecipe, task_folder: Path, tmp_path: Path
) -> None:
    recipe = recipe_for([task_folder], steps=60)
    quietly(recipe, tmp_path / "unbroken")
    with pytest.raises(TrainingInterruptedError, match="--resume"):
        metrics_file = tmp_path / "broken.run" / "metrics.jsonl"
        watcher = threading.Thread(target=_interrupt_once_running, args=(metrics_file,))
        watcher.start()
        quietly(recipe, tmp_path / "broken")
    watcher.join()
    assert not (tmp_path / "broken").exists()
    with pytest.raises(TrainingError, match="continue it with --resume"):
        quietly(recipe, tmp_path / "broken")
    quietly(recipe, tmp_path / "broken", resume=True)
    one, two = weights(tmp_path / "unbroken"), weights(tmp_path / "broken")
    assert all(np.array_equal(one[name], two[name]) for name in one)
    steps = [record["step"] for record in metrics(tmp_path / "broken") if "loss" in record]
    assert steps == list(range(1, 61)), "each step is recorded once"


def _interrupt_once_running(metrics_file: Path) -> None:
    while not metrics_file.exists() or metrics_file.read_text().count("loss") < 5:
        time.sleep(0.005)
    interrupt_main(signal.SIGINT)


def test_a_damaged_checkpoint_is_passed_over_aloud(
    recipe_for: MakeRecipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_for(checkpoint_every_steps=2)
    quietly(recipe, tmp_path / "unbroken")
    (tmp_path / "unbroken.run").rename(tmp_path / "again.run")
    newest = tmp_path / "again.run" / "checkpoints" / "step-00000006" / "optimizer.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    quietly(recipe, tmp_path / "again", resume=True)
    assert "step-00000006 is damaged, so the one before it is used" in caplog.text
    one, two = weights(tmp_path / "unbroken"), weights(tmp_path / "again")
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_another_recipe_or_other_data_do_not_resume(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    first = recipe_for()
    quietly(first, tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    with pytest.raises(TrainingError, match=r"train.learning_rate = 0.001, the recipe says 0.01"):
        quietly(recipe_for(learning_rate=1e-2), tmp_path / "model", resume=True)
    other = make_shards(tmp_path / "other", make_pairs(40, seed=9))
    (tmp_path / "pairs").rename(tmp_path / "old-pairs")
    other.rename(tmp_path / "pairs")
    with pytest.raises(TrainingError, match="other shards"):
        quietly(first, tmp_path / "model", resume=True)


def test_a_run_goes_on_with_other_data_where_that_is_allowed(
    recipe_for: MakeRecipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_for(checkpoint_every_steps=2)
    quietly(recipe, tmp_path / "model")
    shutil.rmtree(tmp_path / "model")
    shutil.rmtree(tmp_path / "model.run" / "checkpoints" / "step-00000006")
    make_shards(tmp_path / "other", make_pairs(40, seed=9))
    datasets = [{"shards": str(tmp_path / "other")}]
    other = with_data(recipe_for(checkpoint_every_steps=2, batch_size=4, seed=1), datasets)
    for changed, message in ((other, "other shards"), (recipe_for(batch_size=4), r"train\.batch_size = 8")):
        with pytest.raises(TrainingError, match=rf"{message}.*or go on with --allow-changes"):
            quietly(changed, tmp_path / "model", resume=True)
    with pytest.raises(TrainingError, match=r"train\.learning_rate = 0\.001"):
        quietly(recipe_for(learning_rate=1e-2), tmp_path / "model", resume=True, allow_changes=True)
    with caplog.at_level("WARNING", logger="pairloom"):
        facts = quietly(other, tmp_path / "model", resume=True, allow_changes=True)
    assert facts["steps"] == 6
    assert [(data["name"], data["pairs_drawn"]) for data in facts["data"]] == [("other", 8)]
    assert "going on with another mixture" in caplog.text


def test_weights_are_computed_from_the_rows(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    make_shards(tmp_path / "other", make_pairs(10, seed=3))
    datasets = [{"shards": str(tmp_path / name)} for name in ("pairs", "other")]
    out = tmp_path / "model"
    facts = quietly(with_data(recipe_for(), datasets, weights="proportional"), out)
    assert [data["weight"] for data in facts["data"]] == [40, 10]
    assert "| pairs | 40 | 40 |" in (out / "README.md").read_text()


def test_nothing_to_resume(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to resume"):
        quietly(recipe_for(), tmp_path / "model", resume=True)


def test_an_existing_model_is_not_overwritten(recipe_for: MakeRecipe, tmp_path: Path, model_folder: Path) -> None:
    with pytest.raises(ArtifactError, match="already there"):
        quietly(recipe_for(), model_folder)


def test_longer_texts_than_positions(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    recipe = recipe_for()
    longer = recipe.data.model_copy(update={"anchor_max_tokens": 161})
    with pytest.raises(RecipeError, match=r"data.anchor_max_tokens = 161: .* has only 160 positions"):
        quietly(recipe.model_copy(update={"data": longer}), tmp_path / "model")
    own = with_data(recipe, [{"shards": str(tmp_path / "pairs"), "positive_max_tokens": 161}])
    with pytest.raises(RecipeError, match=r"data.datasets.0.positive_max_tokens = 161: .* has only 160 positions"):
        quietly(own, tmp_path / "model")


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_batch(
    recipe_for: MakeRecipe, tmp_path: Path, model_folder: Path
) -> None:
    """A base whose weights are numbers, but so large that a layer norm of them is none."""
    model = read_model(model_folder)
    model.weights["embeddings.word.weight"] = model.weights["embeddings.word.weight"] * np.float32(1e37)
    huge = tmp_path / "huge"
    huge.mkdir()
    write_model(model, huge, readme="")
    recipe = recipe_for()
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"base": str(huge)})})
    with pytest.raises(TrainingError, match=r"step 1: the loss is nan; the batch came from .*pairs, rows \d+, \d+"):
        quietly(recipe, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    quietly(recipe_for(), tmp_path / "model")  # without a checkpoint there is nothing in the way of a new start


def test_weights_that_are_no_numbers_are_not_saved(recipe_for: MakeRecipe, model_folder: Path) -> None:
    learner = Learner(read_model(model_folder), recipe_for(), similarity="cosine", device=torch.device("cpu"))
    learner.check_weights()
    with torch.no_grad():
        learner.network.backbone.embeddings.word.weight[3, 3] = torch.nan
    with pytest.raises(TrainingError, match=r"the weight backbone\.embeddings\.word\.weight is nan"):
        learner.check_weights()


def test_another_base_does_not_resume(recipe_for: MakeRecipe, tmp_path: Path, model_folder: Path) -> None:
    base = Path(shutil.copytree(model_folder, tmp_path / "base"))
    recipe = recipe_for()
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"base": str(base)})})
    quietly(recipe, tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    limits = base / "sentence_bert_config.json"
    limits.write_text(limits.read_text().replace("64", "63"))
    with pytest.raises(TrainingError, match="made from another base"):
        quietly(recipe, tmp_path / "model", resume=True)


def test_two_runs_do_not_share_a_folder(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    with only_one(tmp_path / "model.run"), pytest.raises(ArtifactError, match="another process is at work"):
        quietly(recipe_for(), tmp_path / "model")
    quietly(recipe_for(), tmp_path / "model")


def test_an_interruption_before_the_first_step_can_be_started_again(
    recipe_for: MakeRecipe, task_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the base is measured stops at once."""

    def interrupting(*arguments: Any, **options: Any) -> Any:
        interrupt_main(signal.SIGINT)

    recipe = recipe_for([task_folder])
    with monkeypatch.context() as patch:
        patch.setattr("pairloom.train.measuring.evaluate", interrupting)
        with pytest.raises(TrainingInterruptedError, match="before the first checkpoint; run the same command"):
            quietly(recipe, tmp_path / "model")
    quietly(recipe, tmp_path / "model")


def test_an_interruption_of_the_last_evaluation_keeps_the_training(
    recipe_for: MakeRecipe, task_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def interrupting_the_second_time(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            interrupt_main(signal.SIGTERM)
        return evaluate(*arguments, **options)

    recipe = recipe_for([task_folder])
    with monkeypatch.context() as patch:
        patch.setattr("pairloom.train.measuring.evaluate", interrupting_the_second_time)
        with pytest.raises(TrainingInterruptedError, match="step 6 of 6 is saved: run the same command with --resume"):
            quietly(recipe, tmp_path / "model")
    facts = quietly(recipe, tmp_path / "model", resume=True)
    assert [evaluation["step"] for evaluation in facts["evaluations"]] == [0, 6]


def test_a_half_written_line_of_metrics_is_passed_over(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    assert log.records() == []
    for step in (1, 2, 3):
        log.append(step=step, loss=1.0)
    with log.path.open("a") as stream:
        stream.write('{"step": 4, "lo')
    assert [record["step"] for record in log.records()] == [1, 2, 3]
    log.go_back_to(2)
    assert [record["step"] for record in log.records()] == [1, 2]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("max_gradient_norm", [0.05, 1e9])
def test_steps_equal_plain_torch(
    recipe_for: MakeRecipe, model_folder: Path, weight_decay: float, max_gradient_norm: float
) -> None:
    """Three steps against sentence-transformers' network, its loss, and torch's own AdamW, clipping and schedule."""
    recipe = recipe_for(
        steps=3, warmup_steps=1, weight_decay=weight_decay, max_gradient_norm=max_gradient_norm, learning_rate=1e-2
    )
    model = read_model(model_folder)
    still: dict[str, Any] = {"hidden_dropout": 0.0, "attention_output_dropout": 0.0, "attention_dropout": 0.0}
    model = dataclasses.replace(model, architecture=dataclasses.replace(model.architecture, **still))
    learner = Learner(model, recipe, similarity="cosine", device=torch.device("cpu"))

    oracle = SentenceTransformer(str(model_folder), device="cpu").eval()  # no dropout
    named = dict(oracle.named_parameters())
    free = [weight for name, weight in named.items() if "LayerNorm" in name or name.endswith("bias")]
    decayed = [weight for name, weight in named.items() if not ("LayerNorm" in name or name.endswith("bias"))]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-6)
    mixture = Mixture(open_datasets(recipe.data.datasets), batch_size=8, seed=0)
    tokenize = BatchTokenizer(model, recipe.data)
    for number, share in ((1, 1.0), (2, 2 / 3), (3, 1 / 3)):
        batch = next(mixture)
        result = learner.step(tokenize(batch), number)
        anchors, positives = (oracle(oracle.preprocess(column))["sentence_embedding"] for column in batch.columns)
        scores = torch.nn.functional.normalize(anchors) @ torch.nn.functional.normalize(positives).T * 20
        cross_entropy, targets = torch.nn.functional.cross_entropy, torch.arange(8)
        loss = (cross_entropy(scores, targets) + cross_entropy(scores.T, targets)) / 2
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(oracle.parameters(), max_gradient_norm)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * share
        optimizer.step()
        assert result.loss == pytest.approx(loss.item(), rel=1e-4)
        assert result.gradient_norm == pytest.approx(norm.item(), rel=1e-3)
        assert result.learning_rate == pytest.approx(1e-2 * share)
    trained = learner.network.updated(model)
    family = family_of(model.config, model_folder)
    theirs = {name.split("model.", 1)[-1]: weight.detach().numpy() for name, weight in named.items()}
    compared = 0
    for canonical, key in family.keys(model.architecture):
        # The softmax does not see a key's bias: its gradient is rounding, which Adam makes visible.
        tolerance = 2e-3 if canonical.endswith("key.bias") else 2e-4
        np.testing.assert_allclose(trained.weights[canonical], theirs[key], atol=tolerance, err_msg=key)
        compared += 1
    assert compared == len(trained.weights)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from pairloom.cli import main
# Larger files than this cannot be written, as when the disk is full in the middle of one.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
main()
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="the system cannot limit the size of files")
def test_a_disk_that_fills_during_a_checkpoint_leaves_the_earlier_ones(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    out = tmp_path / "model"
    quietly(recipe_for(checkpoint_every_steps=2), out)
    out.rename(tmp_path / "elsewhere")
    before = sorted((tmp_path / "model.run" / "checkpoints").iterdir())
    (before[-1] / "state.json").unlink()  # so that the run goes on from the one before, and writes this one again
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(_toml(recipe_for(checkpoint_every_steps=2)))
    size = (before[0] / "model" / "model.safetensors").stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(size // 2), "train", str(recipe), "--out", str(out), "--resume"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "disk is full" in done.stderr
    verify(before[0])
    assert not list((tmp_path / "model.run" / "checkpoints").glob(".*partial*"))


def _toml(recipe: Recipe) -> str:
    """The recipe as a file (JSON values are TOML values, but for null)."""
    raw = recipe.model_dump(mode="json", exclude_none=True)
    lines = [f"faithful = {json.dumps(raw.pop('faithful'))}"]
    for section, values in raw.items():
        if section == "data":
            values = dict(values)
            lines.append("[[data.datasets]]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.pop("datasets")[0].items()]
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines)


def test_too_small_a_dataset_fails_before_anything_is_loaded(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(PairloomError, match="too few for a batch of 41"):
        quietly(recipe_for(batch_size=41), tmp_path / "model")
    assert not (tmp_path / "model.run").exists()


def test_all_shards_that_are_missing_are_named_at_once(
    recipe_for: MakeRecipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("pairs", "nowhere", "elsewhere")
    recipe = recipe_for(steps=3)
    recipe = with_data(recipe, [{"shards": str(tmp_path / name)} for name in names])
    with pytest.raises(ArtifactError) as caught:
        quietly(recipe, tmp_path / "model")
    first, own, *_, last = str(caught.value).splitlines()
    assert first == "2 of the 3 datasets of the recipe have no shards yet:"
    assert "your own: 2 datasets (nowhere, elsewhere): pairloom prepare" in own
    assert last.startswith("Or train on what is there, 1 dataset")
    assert not (tmp_path / "model.run").exists()
    with caplog.at_level(logging.WARNING, logger="pairloom"):
        facts = quietly(
            recipe.model_copy(update={"data": recipe.data.model_copy(update={"missing": "leave-out"})}),
            tmp_path / "model",
        )
    assert [data["name"] for data in facts["data"]] == ["pairs"]
    assert [record.getMessage() for record in caplog.records if "left out" in record.getMessage()] == [
        "left out for want of shards: nowhere, elsewhere (66.7% of the weight)"
    ]


def test_shards_fingerprint_is_content(tmp_path: Path) -> None:
    one = Shards(make_shards(tmp_path / "one", make_pairs(9)))
    two = Shards(make_shards(tmp_path / "two", make_pairs(9)))
    assert one.fingerprint == two.fingerprint
