"""A batch as tokens: places, and which texts are the same for the model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import models, pre_tokenizers, processors

from pairloom.models.dual import AnyModel, DualModel
from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.pairs.batch import Batch, Part
from pairloom.pairs.dataset import Dataset
from pairloom.recipe import DataSection, DatasetSection, parse_recipe
from pairloom.train.learner import Learner
from pairloom.train.step import BatchTokenizer, BatchTokens
from tests.network.texts import make_tokens
from tests.pairs.fakes import different

Pairs = Sequence[tuple[str, ...]]


@pytest.fixture
def model(backbone_folder: Callable[[str], Path]) -> Model:
    return read_model(backbone_folder("bert"))


@pytest.fixture
def spaced_model(model: Model) -> Model:
    """A model whose tokens carry the space before them, as RoBERTa's do."""
    words = ["how", "brew", "coffee", "tea", "query", "text"]
    vocabulary = ["<s>", "</s>", *pre_tokenizers.ByteLevel.alphabet()]
    merges = []
    for word in words:
        merges += [(word[:size], word[size]) for size in range(1, len(word))] + [("Ġ", word)]
    vocabulary += [first + second for first, second in merges]
    numbers = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    backend = tokenizers.Tokenizer(models.BPE(numbers, list(dict.fromkeys(merges))))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", numbers["<s>"]), ("</s>", numbers["</s>"])]
    )
    return dataclasses.replace(model, tokenizer_files={"tokenizer.json": backend.to_str().encode()})


def make_batch(*parts: tuple[Pairs, dict[str, Any]], begin: int = 0, end: int | None = None) -> Batch:
    """A batch, or a rank's share of it."""
    columns = tuple(list(column) for column in zip(*(row for rows, _ in parts for row in rows), strict=True))
    datasets = [
        Part(Dataset(f"set {number}", different(len(rows)), **facts), np.arange(len(rows)))
        for number, (rows, facts) in enumerate(parts)
    ]
    num_pairs = sum(len(rows) for rows, _ in parts)
    end = num_pairs if end is None else end
    return Batch(0, tuple(datasets), begin, end, tuple(column[begin:end] for column in columns), {})


def tokenize(model: AnyModel, *parts: tuple[Pairs, dict[str, Any]], limit: int = 128, **share: int) -> BatchTokens:
    section = DataSection(datasets=(DatasetSection(shards=Path("none")),), anchor_max_tokens=limit)
    section = section.model_copy(update={"positive_max_tokens": limit})
    return BatchTokenizer(model, section)(make_batch(*parts, **share))


def keys(model: AnyModel, rows: Pairs, *, limit: int = 128, **facts: Any) -> list[int]:
    found: list[int] = tokenize(model, (rows, facts), limit=limit).text_keys.tolist()
    return found


def test_places_count_through_the_whole_batch() -> None:
    whole = BatchTokens(make_tokens([2] * 6), 3, 2)
    assert whole.num_pairs_in_all == 3
    assert whole.places.tolist() == [0, 1, 2, 3, 4, 5]
    share = BatchTokens(make_tokens([2] * 6), 2, 3, begin=4, num_pairs_of_batch=10)
    assert share.num_pairs_in_all == 10
    assert share.places.tolist() == [4, 5, 14, 15, 24, 25]


def test_shares_put_together_are_the_whole(model: Model) -> None:
    rows = [(f"how to brew {number}", f"coffee {number * 7}", f"not tea {number}") for number in range(7)]
    facts = {"anchor_prompt": "query: "}
    whole = tokenize(model, (rows[:3], facts), (rows[3:], {}))
    texts, its_keys = np.split(whole.tokens.ids, np.cumsum(whole.tokens.lengths)[:-1]), whole.text_keys
    seen = []
    for begin, end in ((0, 2), (2, 5), (5, 7)):
        share = tokenize(model, (rows[:3], facts), (rows[3:], {}), begin=begin, end=end)
        own = np.split(share.tokens.ids, np.cumsum(share.tokens.lengths)[:-1])
        for place, text, key in zip(share.places.tolist(), own, share.text_keys, strict=True):
            np.testing.assert_array_equal(text, texts[place])
            assert key == its_keys[place]
            seen.append(place)
    assert sorted(seen) == list(range(21))


def test_different_texts_have_different_keys(model: Model) -> None:
    rows = [("coffee", "tea"), ("cup", "coffee cup"), ("cup coffee", "c")]
    assert len(set(keys(model, rows))) == 6


def test_what_the_model_reads_alike_has_the_same_key(model: Model) -> None:
    rows = [("how to brew", "How  to BREW"), ("how to brew", "how to brew?")]
    one, again, same, other = keys(model, rows)
    assert one == again == same != other


def test_what_differs_beyond_the_limit_has_the_same_key(model: Model) -> None:
    rows = [("how to brew coffee", "how to brew tea"), ("how to", "how to grind")]
    assert len(set(keys(model, rows))) == 4
    one, short, other, grind = keys(model, rows, limit=5)
    assert one == other != short
    assert grind not in (one, short)


@pytest.mark.parametrize("prompts", [("query: ", "text: "), ("", "text: "), ("how to brew ", "not how "), ("a ", "")])
def test_prompts_do_not_make_the_same_text_another(model: Model, prompts: tuple[str, str]) -> None:
    rows = [("how to brew", "how to brew"), ("coffee", "tea")]
    one, coffee, same, tea = keys(model, rows, anchor_prompt=prompts[0], positive_prompt=prompts[1])
    assert one == same
    assert len({one, coffee, tea}) == 3


def test_prompts_count_against_the_limit(model: Model) -> None:
    tokens = tokenize(model, ([("how to brew", "how")], {"anchor_prompt": "query: "}), limit=4)
    assert tokens.tokens.lengths.tolist() == [4, 3]
    prompt_only = tokenize(
        model, ([("how to brew", "how"), ("cup", "tea")], {"anchor_prompt": "the list of : "}), limit=4
    )
    one, other, *_ = prompt_only.text_keys.tolist()
    assert one == other, "nothing of either text is read"


def test_datasets_with_other_prompts_have_the_same_keys(model: Model) -> None:
    one = ([("coffee", "cup")], {"anchor_prompt": "query: ", "positive_prompt": "text: "})
    two = ([("cup", "coffee")], {"anchor_prompt": "question: "})
    coffee, cup, also_cup, also_coffee = tokenize(model, one, two).text_keys.tolist()
    assert coffee == also_coffee != cup == also_cup


def test_a_prompt_whose_last_space_belongs_to_the_texts_first_word(spaced_model: Model) -> None:
    rows = [("coffee brew", "tea brew"), ("tea brew", "how brew")]
    prompts = {"anchor_prompt": "query: ", "positive_prompt": "text: "}
    tokens = tokenize(spaced_model, (rows, prompts))
    assert tokens.tokens.lengths[0] == len(["<s>", "query", ":", "Ġcoffee", "Ġbrew", "</s>"]), "as the test means it"
    coffee, tea, also_tea, how = tokens.text_keys.tolist()
    assert len({coffee, tea, how}) == 3, "the first word is not the prompt's"
    assert tea == also_tea


# Two encoders.


def with_words_swapped(model: Model, one: str, other: str) -> Model:
    """The same model, whose tokenizer gives each of two words the number of the other."""
    content = json.loads(model.tokenizer_files["tokenizer.json"])
    vocabulary = content["model"]["vocab"]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    files = {**model.tokenizer_files, "tokenizer.json": json.dumps(content).encode()}
    return dataclasses.replace(model, tokenizer_files=files)


def test_each_side_has_its_tokenizer_and_its_limit(model: Model) -> None:
    two = DualModel("two", model, with_words_swapped(model, "coffee", "water"))
    section = DataSection(datasets=(DatasetSection(shards=Path("none")),), anchor_max_tokens=4, positive_max_tokens=5)
    rows = [("hot coffee cup bean", "hot coffee cup bean", "water")]
    batch = BatchTokenizer(two, section)(make_batch((rows, {})))
    anchors, candidates = (tokens for _, tokens in batch.sides())
    assert [rows for rows, _ in batch.sides()] == [slice(0, 1), slice(1, 3)]
    one, other = two.query.tokenizer(4), two.document.tokenizer(5)
    assert anchors.ids.tolist() == one(["hot coffee"]).ids.tolist()
    assert candidates.ids.tolist() == other(["hot coffee cup", "water"]).ids.tolist()
    assert candidates.lengths.tolist() == [5, 3]
    assert (anchors.truncated.tolist(), candidates.truncated.tolist()) == ([True], [True, False])


def test_texts_of_two_tokenizers_are_never_taken_for_each_other(model: Model) -> None:
    rows = [("coffee", "water"), ("cup", "cup"), ("hot", "water"), ("coffee", "bean")]
    found = keys(DualModel("two", model, with_words_swapped(model, "coffee", "water")), rows)
    coffee, cup, hot, also_coffee, water, its_cup, also_water, bean = found
    assert coffee == also_coffee
    assert water == also_water
    assert len({coffee, cup, hot, water, its_cup, bean}) == 6, "coffee has the number that water has on the other side"


def test_equal_tokenizers_have_equal_keys_on_both_sides(model: Model) -> None:
    rows = [("coffee", "water"), ("cup", "coffee")]
    # Written otherwise, and of other weights, but the same for any text.
    again = json.dumps(json.loads(model.tokenizer_files["tokenizer.json"]), indent=7).encode()
    files = {**model.tokenizer_files, "tokenizer.json": again}
    document = dataclasses.replace(model, tokenizer_files=files, weights={}, max_tokens=9)
    assert keys(DualModel("two", model, document), rows) == keys(model, rows)


def test_texts_that_the_model_reads_alike_are_no_negatives(model: Model) -> None:
    def losses(rows: Pairs, limit: int) -> list[float]:
        tokens = tokenize(model, (rows, {}), limit=limit)
        found = []
        for mask in (True, False):
            recipe = parse_recipe(
                {
                    "model": {"base": "none"},
                    "data": {"datasets": [{"shards": Path("none")}]},
                    "loss": {"mask_false_negatives": mask},
                    "train": {"steps": 2, "warmup_steps": 0},
                },
                where="test",
            )
            learner = Learner(model, recipe, similarity="cosine", device=torch.device("cpu"))
            found.append(learner.step(tokens, 1).loss)
        return found

    rows = [("brew", "coffee cup in the hot water"), ("grind", "Coffee CUP in the cold water"), ("run", "fast")]
    masked, unmasked = losses(rows, 128)
    assert masked == unmasked
    masked, unmasked = losses(rows, 6)
    assert masked < unmasked - 1e-3
