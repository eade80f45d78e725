"""Training of two encoders: against plain transcriptions, one encoder, and itself however it is cut and interrupted."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch.nn import functional

from pairloom import DualEncoder
from pairloom.artifacts import verify
from pairloom.errors import RecipeError
from pairloom.evaluate.evaluation import evaluate
from pairloom.evaluate.tasks import read_task
from pairloom.models.dual import DualModel, read_dual
from pairloom.models.heads import Dense
from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.models.write import write_model
from pairloom.network.encoder import EncoderNetwork
from pairloom.network.packed import pack
from pairloom.recipe import Recipe, parse_recipe
from pairloom.train.base import start_model
from pairloom.train.flops import model_flops
from pairloom.train.learner import Learner, NotFiniteError
from pairloom.train.step import BatchTokens
from tests.network.texts import CPU, make_tokens
from tests.test_cli import bad, facts
from tests.train.test_faults import Commands, codes
from tests.train.test_learner import Transcription, make_batch, make_recipe, saved, without_dropout

BackboneFolder = Callable[[str], Path]


@pytest.fixture
def model(backbone_folder: BackboneFolder) -> DualModel:
    """Of two families."""
    return DualModel("two", *(read_model(backbone_folder(family)) for family in ("bert", "mpnet")))


def make_learner(model: Model | DualModel, loss: dict[str, Any] | None = None, **train: Any) -> Learner:
    return Learner(model, make_recipe(loss, **train), similarity="cosine", device=CPU)


def dry(model: DualModel) -> DualModel:
    return DualModel(model.name, without_dropout(model.query), without_dropout(model.document))


def bits_of(learner: Learner) -> dict[str, bytes]:
    """All that training changes."""
    weights = {name: weight for tower in learner.towers for name, weight in tower.named_parameters().items()}
    return {name: tensor.detach().numpy().tobytes() for name, tensor in {**weights, **learner.state()}.items()}


# Against plain computations.


@pytest.mark.parametrize("families", [("bert", "mpnet"), ("distilbert", "distilbert")])
@pytest.mark.parametrize("columns", [2, 3])
def test_steps_equal_those_of_two_plain_networks(
    families: tuple[str, str], columns: int, backbone_folder: BackboneFolder, tmp_path: Path
) -> None:
    folders = [backbone_folder(family) for family in families]
    recipe = make_recipe(
        {"mask_false_negatives": False}, warmup_steps=2, steps=4, weight_decay=0.1, max_gradient_norm=0.5
    )
    base = DualModel("two", *(without_dropout(read_model(folder)) for folder in folders))
    learner = Learner(base, recipe, similarity="cosine", device=CPU)
    plain = [Transcription(folder, recipe) for folder in folders]
    for number, share in enumerate((1 / 2, 1, 2 / 3, 1 / 3), start=1):
        batch = make_batch(columns=columns, seed=number)
        result = learner.step(batch, number)
        vectors = [one.embed(tokens) for one, (_, tokens) in zip(plain, batch.sides(), strict=True)]
        scores = 20 * vectors[0] @ vectors[1].T
        loss = functional.cross_entropy(scores, torch.arange(8))
        if columns == 2:
            loss = (loss + functional.cross_entropy(scores.T, torch.arange(8))) / 2
        for one in plain:
            one.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norms = []
        for one in plain:
            norms.append(torch.nn.utils.clip_grad_norm_(one.network.parameters(), 0.5).item())
            one.optimizer.param_groups[0]["lr"] = one.optimizer.param_groups[1]["lr"] = share * 1e-3
            one.optimizer.step()
        assert min(norms) > 0.5, "so both gradients are clipped"
        assert result.loss == pytest.approx(loss.item(), rel=1e-5)
        assert result.gradient_norm == pytest.approx(math.hypot(*norms), rel=1e-4)
    trained = learner.updated(base)
    assert isinstance(trained, DualModel)
    for half, (folder, ours, begun, one) in enumerate(
        zip(folders, (trained.query, trained.document), (base.query, base.document), plain, strict=True)
    ):
        files = tmp_path / str(half)
        files.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(folder / name, files / name)
        theirs = one.weights(files)
        assert ours.weights.keys() == theirs.keys()
        for name, weight in theirs.items():
            np.testing.assert_allclose(ours.weights[name], weight, atol=1e-5, err_msg=name)
            assert (np.abs(weight - begun.weights[name]).max() > 1e-4) != name.endswith("key.bias"), name


def test_gradients_equal_those_of_autograd(model: DualModel) -> None:
    base, batch = dry(model), make_batch(columns=3)
    learner = make_learner(base, {"mask_false_negatives": False, "scale": 5.0}, max_gradient_norm=1e9)
    learner.step(batch, 1)
    networks = [EncoderNetwork(base.query), EncoderNetwork(base.document)]
    queries, documents = (
        functional.normalize(network(pack(tokens, np.arange(len(tokens)), CPU)), dim=1)
        for network, (_, tokens) in zip(networks, batch.sides(), strict=True)
    )
    functional.cross_entropy(5 * queries @ documents.T, torch.arange(8)).backward()  # type: ignore[no-untyped-call]
    for tower, network in zip(learner.towers, networks, strict=True):
        expected = dict(network.named_parameters())
        for name, weight in tower.network.named_parameters():
            torch.testing.assert_close(weight.grad, expected[name].grad, rtol=1e-4, atol=1e-6, msg=name)


def test_the_gradients_of_two_equal_encoders_add_up_to_that_of_one(model: DualModel) -> None:
    """Dropout included: it depends on a text's place in the batch, and not on whose text it is."""
    batch = make_batch()
    one = make_learner(model.query, max_gradient_norm=1e9)
    two = make_learner(DualModel("same", model.query, model.query), max_gradient_norm=1e9)
    ours, theirs = two.step(batch, 3), one.step(batch, 3)
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    np.testing.assert_allclose(ours.rows, theirs.rows, rtol=1e-4, atol=1e-5)
    parts = [dict(tower.network.named_parameters()) for tower in two.towers]
    for name, weight in one.network.named_parameters():
        gradients = [part[name].grad for part in parts]
        assert gradients[0] is not None
        assert gradients[1] is not None
        torch.testing.assert_close(gradients[0] + gradients[1], weight.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_each_gradient_is_clipped_by_its_own_norm(model: DualModel) -> None:
    free, clipped = (make_learner(model, max_gradient_norm=most) for most in (1e9, 0.05))
    results = [learner.step(make_batch(), 1) for learner in (free, clipped)]
    assert results[0].gradient_norm == results[1].gradient_norm, "that before clipping"

    def norms(learner: Learner) -> list[float]:
        gradients = ([weight.grad for weight in tower.trained if weight.grad is not None] for tower in learner.towers)
        return [torch.nn.utils.get_total_norm(of_tower).item() for of_tower in gradients]

    assert math.hypot(*norms(free)) == pytest.approx(results[0].gradient_norm, rel=1e-5)
    assert norms(clipped) == pytest.approx([0.05, 0.05], rel=1e-3)


def test_anchors_do_not_reach_the_documents_encoder_nor_the_others_that_of_queries(model: DualModel) -> None:
    """Only the loss joins the two: without a place in the gradient, a tower's words stay as they are."""
    anchors, others = make_tokens([3] * 4, seed=1, vocabulary_size=20), make_tokens([3] * 4, seed=2, vocabulary_size=20)
    batch = BatchTokens(
        dataclasses.replace(
            anchors,
            ids=np.concatenate([anchors.ids, others.ids + 20]),
            lengths=np.full(8, 3),
            truncated=np.zeros(8, dtype=np.bool_),
        ),
        4,
        2,
    )
    learner = make_learner(model, {"mask_false_negatives": False})
    learner.step(batch, 1)
    for tower, used in zip(learner.towers, (set(anchors.ids.tolist()), set((others.ids + 20).tolist())), strict=True):
        gradient = tower.network.backbone.embeddings.word.weight.grad
        assert isinstance(gradient, torch.Tensor)
        assert set(gradient.abs().sum(dim=1).nonzero().ravel().tolist()) == used


def test_flops_and_tokens_are_counted_for_each_tower(model: DualModel) -> None:
    dense = Dense(np.eye(32, dtype=np.float32), None, "tanh")
    two = DualModel("two", model.query, dataclasses.replace(model.document, heads=(dense,)))
    lengths = np.array([3, 9, 4, 4, 2, 2])
    result = make_learner(two, micro_batch_tokens=32).step(BatchTokens(make_tokens(lengths.tolist()), 3, 2), 1)
    query = model_flops(model.query.architecture, lengths[:3])
    document = model_flops(model.document.architecture, lengths[3:], (dense,))
    assert result.num_flops == 3 * (query + document)
    assert result.num_tokens == 24
    # Each tower has rectangles of its own, in which 9 tokens take 16 places, and 4 take 8.
    assert result.num_padding == (3 * 16 - 16) + (3 * 8 - 8)


# However it is cut.


@pytest.mark.parametrize("columns", [2, 3])
def test_memory_for_graphs_changes_no_bit(model: DualModel, columns: int) -> None:
    learners = [make_learner(model, graph_memory_mib=memory) for memory in (0, 1, 1000)]
    replayed = []
    for learner in learners:
        results = [learner.step(make_batch(40, columns=columns, seed=number), number) for number in (1, 2)]
        replayed.append([result.num_replayed_tokens / result.num_tokens for result in results])
    assert replayed[0] == [1, 1]
    assert all(0 < share < 1 for share in replayed[1])
    assert replayed[2] == [0, 0]
    first, *others = map(bits_of, learners)
    assert all(other == first for other in others)


def test_both_share_the_memory_for_graphs(model: DualModel) -> None:
    learner = make_learner(model, graph_memory_mib=2, micro_batch_tokens=32)
    sides, _ = learner._embed(make_batch(40), 1)
    kept = [side.passes.num_graph_bytes for side in sides]
    assert min(kept) > 0
    # The last micro-batch that is begun may take a little more than was foreseen.
    assert sum(kept) < 1.1 * 2 * 2**20
    assert sum(side.passes.num_replayed_tokens for side in sides) > 0


def test_another_cut_changes_rounding_only(model: DualModel) -> None:
    first, other = (make_learner(model, micro_batch_tokens=size).step(make_batch(), 3) for size in (32, 500))
    assert first.loss == pytest.approx(other.loss, rel=1e-5)
    assert first.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-4)


# State.


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("extras", [False, True])
def test_it_goes_on_from_its_state_bit_for_bit(model: DualModel, steps: int, extras: bool) -> None:
    loss: dict[str, Any] = {"learn_scale": extras, "scale": 10.0}
    settings: dict[str, Any] = {"average_decay": 0.9} if extras else {}
    one, two = (make_learner(model, loss, weight_decay=0.1, **settings) for _ in range(2))
    for number in range(1, steps + 1):
        one.step(make_batch(seed=number), number)
    _, state = saved(one)
    for ours, theirs in zip(two.towers, one.towers, strict=True):
        ours.network.load_state_dict(theirs.network.state_dict())
    two.load_state(state)
    for learner in (one, two):
        for number in range(steps + 1, steps + 4):
            learner.step(make_batch(seed=number), number)
    assert bits_of(one) == bits_of(two)
    assert (one.scale != 10.0) == extras
    alone = [make_learner(half, **settings) for half in (model.query, model.document)]
    of_the_scale = 4 if extras else 0
    assert len(bits_of(one)) == sum(len(bits_of(learner)) for learner in alone) + of_the_scale


def test_both_are_frozen_and_averaged(model: DualModel) -> None:
    learner = make_learner(model, freeze_layers=1, freeze_embeddings=True, average_decay=0.5, learning_rate=0.05)
    before = {name: one.detach().clone() for tower in learner.towers for name, one in tower.named_parameters().items()}
    learner.step(make_batch(), 1)
    for tower, begun in zip(learner.towers, (model.query, model.document), strict=True):
        for name, weight in tower.named_parameters().items():
            stays = ".embeddings." in name or ".layers.0." in name
            assert weight.equal(before[name]) == stays, name
        assert tower.result is not tower.network
        assert tower.result.updated(begun).fingerprint not in (
            begun.fingerprint,
            tower.network.updated(begun).fingerprint,
        )
    finished, now = learner.updated(model, finished=True), learner.updated(model)
    assert len({finished.fingerprint, now.fingerprint, model.fingerprint}) == 3


@pytest.mark.parametrize("half", [0, 1])
def test_a_batch_from_which_nothing_can_be_learnt_leaves_both_as_they_were(model: DualModel, half: int) -> None:
    learner = make_learner(model, {"learn_scale": True}, average_decay=0.9)
    learner.step(make_batch(), 1)
    with torch.no_grad():
        learner.towers[half].network.backbone.embeddings.norm.bias[0] = torch.inf
    before = bits_of(learner)
    with pytest.raises(NotFiniteError, match="the loss is nan"):
        learner.step(make_batch(seed=1), 2)
    name = ("query", "document")[half]
    with pytest.raises(NotFiniteError, match=rf"weight {name}\.backbone\.embeddings\.norm\.bias"):
        learner.check_weights()
    assert bits_of(learner) == before


# What a recipe begins with.


@pytest.fixture
def recipe_of(recipe_for: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """A recipe of two encoders; keyword arguments go into its ``[model]`` section."""

    def make(data: dict[str, Any] | None = None, **section: Any) -> Recipe:
        raw = recipe_for(checkpoint_every_steps=2).model_dump(mode="json")
        raw["model"] |= {"encoders": "two", **section}
        raw["data"] |= data or {}
        return parse_recipe(raw, where="test")

    return make


def save(path: Path, model: Model, **changes: Any) -> Path:
    path.mkdir()
    write_model(dataclasses.replace(model, **changes), path, readme="")
    return path


def test_both_start_from_the_base_or_from_two(
    recipe_of: Callable[..., Recipe], backbone_folder: BackboneFolder, model_folder: Path, tmp_path: Path
) -> None:
    same = start_model(recipe_of(max_tokens=30))
    assert isinstance(same, DualModel)
    expected = dataclasses.replace(read_model(model_folder), max_tokens=30).fingerprint
    assert same.query.fingerprint == same.document.fingerprint == expected
    other = start_model(recipe_of(document_base=str(backbone_folder("mpnet"))))
    assert isinstance(other, DualModel)
    assert (other.query.architecture.family, other.document.architecture.family) == ("bert", "mpnet")
    assert other.document.normalized, "as a bare backbone is, with cosine"
    (tmp_path / "both").mkdir()
    write_model(other, tmp_path / "both", readme="")
    again = start_model(recipe_of(base=str(tmp_path / "both")))
    assert again.fingerprint == other.fingerprint
    assert isinstance(start_model(recipe_of(encoders="shared")), Model)


def test_bases_that_do_not_go_together(
    recipe_of: Callable[..., Recipe], model_folder: Path, model: DualModel, tmp_path: Path
) -> None:
    dense = Dense(np.ones((12, 32), dtype=np.float32), None, "tanh")
    smaller = str(save(tmp_path / "smaller", read_model(model_folder), heads=(dense,)))
    with pytest.raises(RecipeError, match=r"document_base = .*smaller: makes vectors of 12 numbers, and .*tiny of 32"):
        start_model(recipe_of(document_base=smaller))
    dot = str(save(tmp_path / "dot", read_model(model_folder), similarity="dot"))
    with pytest.raises(RecipeError, match=r"dot: is made for dot, and .*tiny for cosine; set model.similarity"):
        start_model(recipe_of(document_base=dot))
    assert start_model(recipe_of(document_base=dot, similarity="dot")).similarity == "dot"
    (tmp_path / "both").mkdir()
    write_model(model, tmp_path / "both", readme="")
    both = str(tmp_path / "both")
    with pytest.raises(RecipeError, match=r'model.base = .*both: is two encoders; set model.encoders = "two"'):
        start_model(recipe_of(base=both, encoders="shared"))
    with pytest.raises(RecipeError, match=r"model.document_base = .*both: is two encoders"):
        start_model(recipe_of(document_base=both))
    with pytest.raises(RecipeError, match=r"model.base = .*both: is two encoders, so leave model.document_base out"):
        start_model(recipe_of(base=both, document_base=dot))
    with pytest.raises(RecipeError, match=r'document_base is for encoders = "two", but encoders is "shared"'):
        recipe_of(encoders="shared", document_base=dot)


def test_each_side_has_the_limits_of_its_encoder(
    recipe_of: Callable[..., Recipe], backbone_folder: BackboneFolder, model: DualModel, tmp_path: Path
) -> None:
    other = str(backbone_folder("mpnet"))
    with pytest.raises(RecipeError, match=r"data.anchor_max_tokens = 161: .*tiny has only 160 positions"):
        start_model(recipe_of({"anchor_max_tokens": 161}, document_base=other))
    with pytest.raises(RecipeError, match=r"data.positive_max_tokens = 161: .*mpnet\d* has only 160 positions"):
        start_model(recipe_of({"positive_max_tokens": 161}, document_base=other))
    pooling = dataclasses.replace(model.document.pooling, include_prompt=False)
    without = str(save(tmp_path / "without", model.document, pooling=pooling))
    datasets = recipe_of().model_dump(mode="json")["data"]["datasets"]
    start_model(recipe_of({"datasets": [{**datasets[0], "anchor_prompt": "query: "}]}, document_base=without))
    with pytest.raises(RecipeError, match=r"has prompts, but .*without leaves prompts out"):
        start_model(recipe_of({"datasets": [{**datasets[0], "positive_prompt": "text: "}]}, document_base=without))


# Runs.


@pytest.fixture
def commands(tmp_path: Path, model_folder: Path, backbone_folder: BackboneFolder) -> Iterator[Commands]:
    made = Commands(tmp_path, model_folder)
    made.raw["model"] |= {"encoders": "two", "document_base": str(backbone_folder("mpnet"))}
    try:
        yield made
    finally:
        for process in made.started:
            process.kill()
            process.join()
            process.close()


def same_bits(one: Path, two: Path) -> bool:
    ours, theirs = read_dual(one), read_dual(two)
    pairs = [(ours.query.weights, theirs.query.weights), (ours.document.weights, theirs.document.weights)]
    return all(
        mine.keys() == other.keys() and all(np.array_equal(mine[name], other[name]) for name in mine)
        for mine, other in pairs
    )


def test_a_killed_run_goes_on_to_the_same_bits(commands: Commands) -> None:
    commands.raw["train"] |= {"checkpoint_every_steps": 2, "steps": 20}
    unbroken = commands.copy("unbroken")
    assert unbroken.finish() == [0], unbroken.said()
    (process,) = commands.start()
    folder = commands.run / "checkpoints"
    commands.wait_for(lambda: (folder / "step-00000004").is_dir(), process)
    os.kill(int(process.pid or 0), signal.SIGKILL)
    assert codes([process]) == [-signal.SIGKILL]
    assert not commands.out.exists()
    assert commands.finish("--resume") == [0], commands.said()
    assert same_bits(commands.out, unbroken.out)
    assert commands.losses() == unbroken.losses()
    checkpoint = folder / "step-00000020"
    assert read_dual(checkpoint / "model").dimensions == 32
    for name in ("optimizer.safetensors", "state.json"):
        assert (checkpoint / name).read_bytes() == (unbroken.run / "checkpoints" / checkpoint.name / name).read_bytes()


def test_another_number_of_encoders_does_not_resume(commands: Commands) -> None:
    assert commands.finish() == [0]
    commands.out.rename(commands.folder / "elsewhere")
    commands.raw["model"] = {"base": commands.raw["model"]["base"]}
    assert commands.finish("--resume") == [1]
    assert 'was made with model.encoders = "two", the recipe says "shared"' in commands.said()


def test_the_whole_way(task_folder: Path, model_folder: Path, commands: Commands) -> None:
    """Trained, looked at, measured, encoded and searched, as a user would type it."""
    commands.raw["evaluate"] = {"tasks": [str(task_folder)]}
    here = commands.folder
    trained = facts("train", commands.recipe(), "--out", "model", "--set", "train.steps=30", cwd=here)
    assert verify(here / "model").kind == "model"
    encoder = DualEncoder(here / "model", device="cpu", precision="float32")
    assert trained["fingerprint"] == encoder.fingerprint
    assert trained["encoders"] == {"query": encoder.query.fingerprint, "document": encoder.document.fingerprint}
    assert encoder.query.fingerprint != read_model(model_folder).fingerprint
    measured = evaluate(encoder, read_task(task_folder), show_progress=False).metrics["nDCG@10"].value
    assert trained["evaluations"][-1]["metrics"]["nDCG@10"]["value"] == pytest.approx(measured)
    records = [json.loads(line) for line in (here / "model" / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "loss" in record]
    assert np.mean(losses[-10:]) < np.mean(losses[:5])
    for half, ours in (("Q", encoder.encode_query), ("A", encoder.encode_document)):
        oracle = SentenceTransformer(str(here / "model" / half), device="cpu")
        np.testing.assert_allclose(ours(["how to brew coffee 3"]), oracle.encode(["how to brew coffee 3"]), atol=1e-5)
        assert "DualEncoder" in (here / "model" / half / "README.md").read_text()

    assert facts("info", "model", cwd=here)["encoders"] == trained["encoders"]
    precision = ["--precision", "float32"]
    (result,) = facts("evaluate", "model", task_folder, "--baseline", model_folder, *precision, cwd=here)
    assert result["metrics"]["nDCG@10"]["value"] == pytest.approx(measured)
    encoded = facts("encode", "model", task_folder, "--out", "vectors", cwd=here)
    assert encoded["fingerprint"] == encoder.document.fingerprint
    assert encoded["query_fingerprint"] == encoder.query.fingerprint
    assert len(facts("search", "vectors", "coffee", "-k", 3, cwd=here)) == 3
    assert "search with both halves" in bad("search", "vectors", "coffee", "--model", "model/A", cwd=here)
