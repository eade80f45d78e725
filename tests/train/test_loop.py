"""Training runs: what comes out, what interrupts them, and how they go on."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from pairloom import Encoder
from pairloom.artifacts import verify
from pairloom.errors import ArtifactError, PairloomError, RecipeError, TrainingError
from pairloom.models.read import read_model
from pairloom.pairs.mixture import Batch
from pairloom.pairs.shards import Shards
from pairloom.recipe import Recipe
from pairloom.train.loop import TrainingInterruptedError, train
from pairloom.train.step import BatchTokenizer, embed
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
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:5])
    texts = ["how to brew coffee 3", "1 2"]
    encoder, oracle = Encoder(out), SentenceTransformer(str(out), device="cpu")
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


def test_micro_batches_do_not_change_vectors_or_gradients(model_folder: Path) -> None:
    from pairloom.network.encoder import EncoderNetwork

    model = read_model(model_folder)
    pairs = make_pairs(16)
    batch = Batch(
        0, np.arange(16), ([pair[0] for pair in pairs], [pair[1] * (n % 3 + 1) for n, pair in enumerate(pairs)])
    )
    from pairloom.recipe import DataSection

    section = DataSection.model_validate({"datasets": [{"shards": "x"}]})
    tokens = BatchTokenizer(model, section)(batch).tokens
    found = []
    for budget in (10_000, 40):
        network = EncoderNetwork(model).eval()
        vectors, places = embed(
            network, tokens, device=torch.device("cpu"), precision="float32", micro_batch_tokens=budget
        )
        (vectors[:16] * vectors[16:]).sum().backward()  # type: ignore[no-untyped-call]
        gradient = network.backbone.embeddings.word.weight.grad
        assert gradient is not None
        found.append((vectors.detach(), gradient, places))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-5, rtol=1e-5)
    assert found[1][2] < found[0][2], "small micro-batches spend less on padding"


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
    os.kill(os.getpid(), signal.SIGINT)


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


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_batch(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    recipe = recipe_for(learning_rate=1e30, max_gradient_norm=1e30, checkpoint_every_steps=1, steps=50)
    with pytest.raises(
        TrainingError, match=r"step \d+: the (loss|gradient) is (nan|inf|-inf); .*pairs, rows \d+"
    ) as caught:
        quietly(recipe, tmp_path / "model")
    assert "checkpoints are untouched" in str(caught.value)
    for checkpoint in (tmp_path / "model.run" / "checkpoints").iterdir():
        verify(checkpoint)


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
    lines = []
    for section, values in recipe.model_dump(mode="json", exclude_none=True).items():
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


def test_shards_fingerprint_is_content(tmp_path: Path) -> None:
    one = Shards(make_shards(tmp_path / "one", make_pairs(9)))
    two = Shards(make_shards(tmp_path / "two", make_pairs(9)))
    assert one.fingerprint == two.fingerprint
