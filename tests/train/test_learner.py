"""A step of training against a plain transcription, and what is frozen, averaged, learnt besides and kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional

from pairloom.errors import RecipeError
from pairloom.models.heads import Dense
from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.models.tokenizer import Tokens
from pairloom.models.weights import Weights
from pairloom.network.packed import pack
from pairloom.recipe import Recipe, parse_recipe
from pairloom.train.flops import model_flops
from pairloom.train.learner import Learner, NotFiniteError, StepResult
from pairloom.train.step import BatchTokens
from tests.conftest import FAMILIES
from tests.network.texts import CPU, make_tokens

BackboneFolder = Callable[[str], Path]


def make_recipe(loss: dict[str, Any] | None = None, **train: Any) -> Recipe:
    settings = {
        "steps": 20,
        "warmup_steps": 0,
        "learning_rate": 1e-3,
        "micro_batch_tokens": 64,
        # Large, so that a gradient that is nothing but rounding moves no weight by a whole step.
        "epsilon": 1e-3,
    }
    raw: dict[str, Any] = {
        "model": {"base": "none"},
        "data": {"datasets": [{"shards": Path("none")}]},
        "loss": loss or {},
        "train": {**settings, **train},
    }
    return parse_recipe(raw, where="test")


def make_learner(model: Model, loss: dict[str, Any] | None = None, **train: Any) -> Learner:
    return Learner(model, make_recipe(loss, **train), similarity="cosine", device=CPU)


def make_batch(num_pairs: int = 8, *, columns: int = 2, seed: int = 0) -> BatchTokens:
    lengths = np.random.default_rng(seed).integers(2, 13, size=num_pairs * columns).tolist()
    return BatchTokens(make_tokens(lengths, seed=seed), num_pairs, columns)


def without_dropout(model: Model) -> Model:
    architecture = dataclasses.replace(
        model.architecture, hidden_dropout=0.0, attention_output_dropout=0.0, attention_dropout=0.0
    )
    return dataclasses.replace(model, architecture=architecture)


@pytest.fixture
def model(backbone_folder: BackboneFolder) -> Model:
    return read_model(backbone_folder("bert"))


def weights_of(learner: Learner) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in learner.network.named_parameters()}


class Transcription:
    """Training as it is written in any tutorial: transformers, mean pooling, two cross-entropies, AdamW."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.network = transformers.AutoModel.from_pretrained(folder).eval()  # no dropout
        self.recipe = recipe
        vectors = [weight for name, weight in self.network.named_parameters() if "bias" in name and weight.ndim == 1]
        vectors += [w for n, w in self.network.named_parameters() if "norm" in n.lower() and "bias" not in n]
        others = [w for w in self.network.parameters() if not any(w is vector for vector in vectors)]
        groups = [{"params": others, "weight_decay": recipe.train.weight_decay}, {"params": vectors, "weight_decay": 0}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=1.0, betas=recipe.train.betas, eps=recipe.train.epsilon, foreach=False
        )

    def embed(self, tokens: Tokens) -> Tensor:
        ids = torch.from_numpy(tokens.padded(np.arange(len(tokens)), self.network.config.pad_token_id))
        mask = (torch.arange(ids.shape[1]) < torch.from_numpy(tokens.lengths)[:, None]).float()
        states = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
        vectors = (states * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return functional.normalize(vectors, dim=1)

    def step(self, batch: BatchTokens, rate: float) -> tuple[float, float]:
        vectors = self.embed(batch.tokens)
        scores = 20 * vectors[: batch.num_pairs] @ vectors[batch.num_pairs :].T
        labels = torch.arange(batch.num_pairs)
        loss = functional.cross_entropy(scores, labels)
        if batch.num_columns == 2:
            loss = (loss + functional.cross_entropy(scores.T, labels)) / 2
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.train.max_gradient_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return loss.item(), norm.item()

    def weights(self, path: Path) -> Weights:
        self.network.save_pretrained(path)
        return read_model(path).weights


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("columns", [2, 3])
def test_steps_equal_those_of_a_plain_transcription(
    family: str, columns: int, backbone_folder: BackboneFolder, tmp_path: Path
) -> None:
    folder = backbone_folder(family)
    recipe = make_recipe(
        {"mask_false_negatives": False},
        warmup_steps=2,
        steps=4,
        weight_decay=0.1,
        max_gradient_norm=0.5,
        graph_memory_mib=1 if columns == 2 else 0,
    )
    base = without_dropout(read_model(folder))
    learner = Learner(base, recipe, similarity="cosine", device=CPU)
    transcription = Transcription(folder, recipe)
    for number, share in enumerate((1 / 2, 1, 2 / 3, 1 / 3), start=1):
        batch = make_batch(columns=columns, seed=number)
        result = learner.step(batch, number)
        loss, norm = transcription.step(batch, share * recipe.train.learning_rate)
        assert result.learning_rate == pytest.approx(share * 1e-3)
        assert result.loss == pytest.approx(loss, rel=1e-5)
        assert result.gradient_norm == pytest.approx(norm, rel=1e-4)
        assert norm > recipe.train.max_gradient_norm, "so the gradient is clipped"
    ours = learner.network.updated(base).weights
    (tmp_path / "files").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "files" / name).write_bytes((folder / name).read_bytes())
    theirs = transcription.weights(tmp_path / "files")
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        np.testing.assert_allclose(ours[name], weight, atol=1e-5, err_msg=name)
        # Softmax does not see what is added to all scores of a query, so the bias of keys has no gradient.
        assert (np.abs(weight - base.weights[name]).max() > 1e-4) != name.endswith("key.bias"), name


def test_dropout_follows_seed_step_and_place_alone(model: Model) -> None:
    batch = make_batch()

    def loss(number: int = 3, **train: Any) -> float:
        return make_learner(model, **train).step(batch, number).loss

    first = loss()
    assert loss(micro_batch_tokens=32) == pytest.approx(first, rel=1e-5)
    assert loss(graph_memory_mib=0) == first
    assert loss(checkpoint_layers=True) == first
    for other in (loss(number=4), loss(seed=1)):
        assert abs(other - first) > 1e-3


def test_equal_texts_of_a_batch_drop_differently(model: Model) -> None:
    text = make_tokens([6])
    batch = BatchTokens(Tokens.concatenate([text] * 16), 8, 2)
    without_masks = {"mask_false_negatives": False}
    alike = make_learner(without_dropout(model), without_masks).step(batch, 1).loss
    assert alike == pytest.approx(np.log(8), rel=1e-5)
    assert abs(make_learner(model, without_masks).step(batch, 1).loss - alike) > 1e-2


def test_memory_for_graphs_changes_no_weight(model: Model) -> None:
    one, two = make_learner(model, graph_memory_mib=0), make_learner(model, graph_memory_mib=1000)
    replayed = []
    for learner in (one, two):
        results = [learner.step(make_batch(seed=number), number) for number in (1, 2, 3)]
        replayed.append([result.num_replayed_tokens for result in results])
    assert min(replayed[0]) > 0
    assert max(replayed[1]) == 0
    theirs = weights_of(two)
    assert all(weight.equal(theirs[name]) for name, weight in weights_of(one).items())


def test_weight_decay_is_for_matrices_only(model: Model) -> None:
    dense = Dense(np.eye(32, dtype=np.float32), np.zeros(32, dtype=np.float32), "tanh")
    learner = make_learner(dataclasses.replace(model, heads=(dense, *model.heads)), weight_decay=0.1)
    decays = {
        id(w): group["weight_decay"] for group in learner.towers[0].optimizer.param_groups for w in group["params"]
    }
    assert len(decays) == len(list(learner.network.parameters()))
    for name, weight in learner.network.named_parameters():
        spared = name.endswith("bias") or ".norm." in name
        assert decays[id(weight)] == (0.0 if spared else 0.1), name


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet"])
@pytest.mark.parametrize(("layers", "embeddings"), [(1, False), (0, True), (1, True), (2, False)])
def test_what_is_frozen_keeps_its_bits_and_the_rest_learns(
    family: str, layers: int, embeddings: bool, backbone_folder: BackboneFolder
) -> None:
    model = read_model(backbone_folder(family))
    learner = make_learner(model, freeze_layers=layers, freeze_embeddings=embeddings, weight_decay=0.1)
    before = weights_of(learner)
    for number in (1, 2):
        learner.step(make_batch(seed=number), number)
    frozen = [f"backbone.layers.{number}." for number in range(layers)] + ["backbone.embeddings."] * embeddings
    for name, weight in weights_of(learner).items():
        assert weight.equal(before[name]) == name.startswith(tuple(frozen)), name


def test_freezing_below_leaves_the_gradients_above_as_they_are(model: Model) -> None:
    batch, gradients = make_batch(), []
    frozen: dict[str, Any] = {"freeze_embeddings": True, "freeze_layers": 1}
    for settings in ({}, frozen):
        learner = make_learner(model, max_gradient_norm=1e9, **settings)
        learner.step(batch, 1)
        gradients.append({name: weight.grad for name, weight in learner.network.named_parameters()})
    for name, gradient in gradients[1].items():
        if name.startswith("backbone.layers.1."):
            torch.testing.assert_close(gradient, gradients[0][name], rtol=1e-5, atol=1e-6)
        else:
            assert gradient is None, name


def test_more_layers_than_there_are_cannot_be_frozen(model: Model) -> None:
    with pytest.raises(RecipeError, match=r"train\.freeze_layers = 3: the base has only 2 layers"):
        make_learner(model, freeze_layers=3)


def test_something_must_be_left_to_train(model: Model) -> None:
    frozen: dict[str, Any] = {"freeze_layers": 2, "freeze_embeddings": True}
    with pytest.raises(RecipeError, match=r"train\.freeze_layers = 2.*leave nothing to train"):
        make_learner(model, {"learn_scale": True}, **frozen)
    dense = Dense(np.eye(32, dtype=np.float32), None, "tanh")
    learner = make_learner(dataclasses.replace(model, heads=(dense, *model.heads)), **frozen)
    learner.step(make_batch(), 1)
    assert not np.array_equal(weights_of(learner)["heads.0.linear.weight"].numpy(), dense.weight)


# The learnt scale.


def test_the_scales_gradient_equals_differences_of_the_loss(model: Model) -> None:
    batch = make_batch()

    def loss(scale: float) -> float:
        return make_learner(model, {"scale": scale}).step(batch, 1).loss

    learner = make_learner(model, {"scale": 5.0, "learn_scale": True}, max_gradient_norm=1e9, epsilon=1e-9)
    result = learner.step(batch, 1)
    assert result.scale == pytest.approx(5.0), "that of the step, not of the next one"
    assert result.loss == pytest.approx(loss(5.0), rel=1e-6)
    assert learner._log_scale is not None
    assert learner._log_scale.grad is not None
    expected = 5.0 * (loss(5.05) - loss(4.95)) / 0.1
    assert abs(expected) > 0.1
    assert learner._log_scale.grad.item() == pytest.approx(expected, rel=2e-3)
    # The first step of Adam goes against the gradient's sign, by the learning rate.
    assert np.log(learner.scale / 5.0) == pytest.approx(-result.learning_rate * np.sign(expected), rel=1e-3)


def test_a_scale_that_is_not_learnt_stays(model: Model) -> None:
    learner = make_learner(model, {"scale": 7.0})
    assert [learner.step(make_batch(), number).scale for number in (1, 2)] == [7.0, 7.0]


def test_the_scale_stays_at_most_100(model: Model) -> None:
    anchors = make_tokens([4, 5, 6, 7])
    batch = BatchTokens(Tokens.concatenate([anchors, anchors]), 4, 2)
    learner = make_learner(
        without_dropout(model), {"scale": 60.0, "learn_scale": True}, learning_rate=0.1, epsilon=1e-9
    )
    assert learner.scale == pytest.approx(60.0)
    # Anchors that equal their positives call for ever larger scales.
    scales = [learner.step(batch, number).scale for number in range(1, 13)]
    assert scales == sorted(scales)
    assert 99.9 < scales[-1] <= 100
    assert make_learner(model, {"scale": 100.0, "learn_scale": True}).scale <= 100


# The average.


def test_the_average_equals_one_kept_by_hand(model: Model) -> None:
    learner = make_learner(model, average_decay=0.5, learning_rate=0.05)
    average = {name: weight.double() for name, weight in weights_of(learner).items()}
    for number in range(1, 16):
        learner.step(make_batch(seed=number), number)
        decay = min(0.5, (1 + number) / (10 + number))
        for name, weight in weights_of(learner).items():
            average[name] = decay * average[name] + (1 - decay) * weight
    assert learner.result is not learner.network
    for name, weight in learner.result.named_parameters():
        np.testing.assert_allclose(weight.numpy(), average[name].numpy(), atol=1e-6, err_msg=name)
        assert not weight.requires_grad
        assert not weight.equal(weights_of(learner)[name])


def test_without_an_average_the_result_is_the_network(model: Model) -> None:
    learner = make_learner(model)
    assert learner.result is learner.network


def test_averaging_does_not_change_training(model: Model) -> None:
    one, two = make_learner(model), make_learner(model, average_decay=0.9)
    for learner in (one, two):
        for number in (1, 2):
            learner.step(make_batch(seed=number), number)
    theirs = weights_of(two)
    assert all(weight.equal(theirs[name]) for name, weight in weights_of(one).items())


# State.


def saved(learner: Learner) -> tuple[dict[str, Tensor], dict[str, npt.NDArray[np.float32]]]:
    state = {name: np.atleast_1d(tensor.detach().numpy()).copy() for name, tensor in learner.state().items()}
    return weights_of(learner), state


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("extras", [False, True])
def test_a_learner_goes_on_from_its_state_bit_for_bit(model: Model, steps: int, extras: bool) -> None:
    loss, settings = {"learn_scale": extras, "scale": 10.0}, {"average_decay": 0.9} if extras else {}
    one = make_learner(model, loss, weight_decay=0.1, **settings)
    for number in range(1, steps + 1):
        one.step(make_batch(seed=number), number)
    weights, state = saved(one)
    two = make_learner(model, loss, weight_decay=0.1, **settings)
    two.network.load_state_dict(weights)
    two.load_state(state)
    assert two.scale == one.scale
    for learner in (one, two):
        for number in range(steps + 1, steps + 4):
            learner.step(make_batch(seed=number), number)
    ours, theirs = saved(one), saved(two)
    assert all(weight.equal(theirs[0][name]) for name, weight in ours[0].items())
    assert ours[1].keys() == theirs[1].keys()
    assert all(np.array_equal(array, theirs[1][name]) for name, array in ours[1].items())
    assert two.scale == one.scale
    assert (one.scale != 10.0) == extras


def test_asking_for_the_state_changes_nothing(model: Model) -> None:
    one, two = make_learner(model), make_learner(model)
    one.state()
    for learner in (one, two):
        learner.step(make_batch(), 1)
    theirs = weights_of(two)
    assert all(weight.equal(theirs[name]) for name, weight in weights_of(one).items())


# What a step tells.


def step_once(model: Model, batch: BatchTokens, **train: Any) -> StepResult:
    return make_learner(model, **train).step(batch, 1)


def test_counts_by_hand(model: Model) -> None:
    lengths = [3, 9, 4, 4, 2, 2]
    batch = BatchTokens(make_tokens(lengths), 3, 2)
    result = step_once(model, batch, micro_batch_tokens=32)
    # 9, 4 and 4 in rectangles of 16; then 3, 2 and 2 in rectangles of 8.
    assert (result.num_pairs, result.num_tokens) == (3, 24)
    assert result.num_padding == (3 * 16 - 17) + (3 * 8 - 7)
    assert result.num_replayed_tokens == 0
    assert result.num_flops == 3 * model_flops(model.architecture, np.array(lengths))
    assert step_once(model, batch, micro_batch_tokens=32, graph_memory_mib=0).num_replayed_tokens == 24
    assert step_once(model, batch, micro_batch_tokens=32, graph_memory_mib=0).num_flops == result.num_flops


def test_texts_that_were_cut_are_counted_on_each_side(model: Model) -> None:
    truncated = np.array([True, False, True, False, False, True, False, False, False])
    batch = BatchTokens(dataclasses.replace(make_tokens([4] * 9), truncated=truncated), 3, 3)
    result = step_once(model, batch)
    assert (result.num_anchors_truncated, result.num_candidates_truncated) == (2, 1)


def test_rows_and_correct_by_hand(model: Model) -> None:
    bare = without_dropout(model)
    batch = make_batch()
    result = make_learner(bare, {"symmetric": False, "mask_false_negatives": False}).step(batch, 1)
    network = make_learner(bare).network
    with torch.no_grad():
        vectors = network(pack(batch.tokens, np.arange(16), CPU)).double()
    unit = functional.normalize(vectors, dim=1)
    scores = 20 * unit[:8] @ unit[8:].T
    rows = scores.logsumexp(dim=1) - scores.diagonal()
    np.testing.assert_allclose(result.rows, rows.numpy(), rtol=1e-4, atol=1e-5)
    assert result.correct.tolist() == (scores.argmax(dim=1) == torch.arange(8)).tolist()
    assert result.loss == pytest.approx(rows.mean().item(), rel=1e-5)


def test_a_batch_from_which_nothing_can_be_learnt_leaves_all_as_it_was(model: Model) -> None:
    learner = make_learner(model, {"learn_scale": True}, average_decay=0.9)
    learner.step(make_batch(), 1)
    with torch.no_grad():
        learner.network.backbone.embeddings.norm.bias[0] = torch.inf
    before = saved(learner)
    with pytest.raises(NotFiniteError, match="the loss is nan"):
        learner.step(make_batch(seed=1), 2)
    with pytest.raises(NotFiniteError, match=r"weight backbone\.embeddings\.norm\.bias"):
        learner.check_weights()
    after = saved(learner)
    assert all(weight.equal(after[0][name]) for name, weight in before[0].items())
    assert all(np.array_equal(array, after[1][name]) for name, array in before[1].items())


# False negatives: what is the same for the model.


def repeat_row(batch: BatchTokens, row: int, like: int) -> BatchTokens:
    """The batch with one text in another's place."""
    texts = np.split(batch.tokens.ids, np.cumsum(batch.tokens.lengths)[:-1])
    texts[row] = texts[like]
    lengths = np.array([len(text) for text in texts])
    return dataclasses.replace(batch, tokens=Tokens(np.concatenate(texts), lengths, batch.tokens.truncated))


@pytest.mark.parametrize(("row", "like"), [(9, 10), (9, 0), (1, 0)], ids=["two positives", "an anchor", "two anchors"])
def test_repeated_texts_are_left_out_where_masking_is_on(model: Model, row: int, like: int) -> None:
    def losses(batch: BatchTokens) -> Sequence[float]:
        return [make_learner(model, {"mask_false_negatives": mask}).step(batch, 1).loss for mask in (True, False)]

    with_mask, without = losses(make_batch())
    assert with_mask == without, "nothing is repeated"
    with_mask, without = losses(repeat_row(make_batch(), row, like))
    # Two equal anchors are candidates on the way back, from the positives.
    assert with_mask < without - 1e-3
