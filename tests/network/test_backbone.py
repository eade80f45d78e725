"""The torch backbone against transformers, for every family."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from pairloom.models.read import read_model
from pairloom.models.tokenizer import Tokens
from pairloom.network.backbone import Backbone
from pairloom.network.noise import DeviceNoise, KeyedNoise
from pairloom.network.packed import Packed, pack
from tests.conftest import FAMILIES

BackboneFolder = Callable[[str], Path]


def packed(ids: torch.Tensor, lengths: list[int] | None = None) -> Packed:
    """A rectangle of token numbers, packed."""
    lengths = lengths or [ids.shape[1]] * len(ids)
    flat = np.concatenate([row[:length].numpy() for row, length in zip(ids, lengths, strict=True)])
    tokens = Tokens(flat.astype(np.int32), np.array(lengths), np.zeros(len(lengths), dtype=np.bool_))
    return pack(tokens, np.arange(len(lengths)), torch.device("cpu"))


def load(folder: Path) -> Backbone:
    model = read_model(folder)
    backbone = Backbone(model.architecture)
    backbone.load_canonical(model.weights)
    return backbone.eval()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lengths", [[1], [160], [7, 7, 7], list(range(1, 161))], ids=["1", "160", "equal", "all"])
def test_token_vectors_equal_those_of_transformers(
    family: str, lengths: list[int], backbone_folder: BackboneFolder
) -> None:
    folder = backbone_folder(family)
    oracle = transformers.AutoModel.from_pretrained(folder).eval()
    backbone = load(folder)
    pad = backbone.architecture.pad_token_id
    inside = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    torch.manual_seed(1)
    ids = torch.randint(4, backbone.architecture.vocabulary_size, inside.shape).masked_fill(~inside, pad)
    with torch.inference_mode():
        ours = backbone(packed(ids, lengths))
        theirs = oracle(input_ids=ids, attention_mask=inside.long()).last_hidden_state
    np.testing.assert_allclose(ours.numpy(), theirs[inside].numpy(), atol=1e-5)


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_a_padding_token_inside_a_text_takes_no_position(family: str, backbone_folder: BackboneFolder) -> None:
    folder = backbone_folder(family)
    oracle, backbone = transformers.AutoModel.from_pretrained(folder).eval(), load(folder)
    ids = torch.tensor([[0, 5, 1, 6, 7, 2]])
    with torch.inference_mode():
        ours = backbone(packed(ids))
        theirs = oracle(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    np.testing.assert_allclose(ours.numpy(), theirs[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("place", ["hidden", "attention"])
def test_dropout_is_where_each_family_has_it(family: str, place: str, backbone_folder: BackboneFolder) -> None:
    """With everything dropped at one kind of place, training is no longer random and must equal transformers."""
    names = {
        "hidden": {"distilbert": "dropout"}.get(family, "hidden_dropout_prob"),
        "attention": {"distilbert": "attention_dropout"}.get(family, "attention_probs_dropout_prob"),
    }
    settings = {name: float(kind == place) for kind, name in names.items()}
    oracle = transformers.AutoModel.from_pretrained(backbone_folder(family), **settings).train()
    model = read_model(backbone_folder(family))
    all_or_nothing = dataclasses.replace(
        model.architecture,
        hidden_dropout=float(place == "hidden"),
        attention_output_dropout=float(place == "hidden" and model.architecture.attention_output_dropout > 0),
        attention_dropout=float(place == "attention"),
    )
    backbone = Backbone(all_or_nothing)
    backbone.load_canonical(model.weights)
    ids = torch.randint(4, 40, (2, 9), generator=torch.Generator().manual_seed(3))
    texts = packed(ids)
    theirs = oracle(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.flatten(0, 1)
    for noise in (KeyedNoise(torch.tensor([1, 2]), texts), DeviceNoise(0)):
        ours = backbone(texts, noise)
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), atol=1e-5)


def test_weights_survive_the_round_trip(backbone_folder: BackboneFolder) -> None:
    model = read_model(backbone_folder("mpnet"))
    backbone = load(backbone_folder("mpnet"))
    back = backbone.canonical()
    assert back.keys() == model.weights.keys()
    for name, weight in model.weights.items():
        np.testing.assert_array_equal(back[name], weight)


def test_the_relative_bias_is_trained(backbone_folder: BackboneFolder) -> None:
    backbone = load(backbone_folder("mpnet"))
    ids = torch.randint(4, 40, (2, 12))
    backbone(packed(ids)).square().sum().backward()
    assert backbone.relative_bias.weight.grad is not None
    assert bool((backbone.relative_bias.weight.grad != 0).any())
