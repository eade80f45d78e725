"""Models of two encoders: each task goes through its own, as through a Router of sentence-transformers 6.2."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer as Theirs

from pairloom import DualEncoder
from pairloom.errors import UsageError
from pairloom.models.dual import read_dual
from pairloom.models.heads import Normalize
from pairloom.models.read import read_model
from pairloom.sentence_transformers import SentenceTransformer
from tests.encode.test_dual_encoder import KINDS, make_router, save_halves
from tests.sentence_transformers.test_model import assert_same

BackboneFolder = Callable[[str], Path]

TEXTS = ["how do i brew coffee", "", "the water is hot and the cup is cold " * 20, "what is a vector?"]


@pytest.fixture
def router(backbone_folder: BackboneFolder, tmp_path: Path) -> Path:
    make_router("shared ends", backbone_folder).save(str(tmp_path / "router"))
    return tmp_path / "router"


@pytest.fixture
def halves(backbone_folder: BackboneFolder, tmp_path: Path) -> Path:
    """Q and A, with limits and prompts of their own."""
    query, document = (
        dataclasses.replace(
            read_model(backbone_folder(family)),
            heads=(Normalize(),),
            max_tokens=max_tokens,
            prompts=prompts,
            has_modules=True,
        )
        for family, max_tokens, prompts in (
            ("bert", 20, {"query": "what is ", "short": "in one line "}),
            ("mpnet", 50, {"document": "the text ", "long": "in a page "}),
        )
    )
    return save_halves(tmp_path / "halves", query, document)


def change_router(folder: Path, **parameters: Any) -> dict[str, Any]:
    file = folder / "router_config.json"
    config: dict[str, Any] = json.loads(file.read_text())
    config["parameters"] |= parameters
    file.write_text(json.dumps(config))
    return config


@pytest.mark.parametrize("kind", KINDS)
def test_a_router_gives_what_sentence_transformers_gives(
    kind: str, backbone_folder: BackboneFolder, tmp_path: Path
) -> None:
    make_router(kind, backbone_folder).save(str(tmp_path))
    ours, theirs = SentenceTransformer(tmp_path, device="cpu"), Theirs(str(tmp_path), device="cpu")
    assert ours.prompts == theirs.prompts
    assert ours.similarity_fn_name == theirs.similarity_fn_name == "dot"
    assert ours.get_embedding_dimension() == theirs.get_embedding_dimension()
    calls: list[dict[str, Any]] = [
        {},
        {"prompt": "list of "},
        {"prompt_name": "document"},
        {"truncate_dim": 5, "normalize_embeddings": True, "convert_to_tensor": True},
        {"precision": "ubinary", "truncate_dim": 8},
    ]
    for method in ("encode", "encode_query", "encode_document"):
        for arguments in calls:
            one, other = (getattr(model, method)(TEXTS, **arguments) for model in (ours, theirs))
            assert_same(one, other)
        assert_same(getattr(ours, method)("a text"), getattr(theirs, method)("a text"))
        assert_same(getattr(ours, method)([]), getattr(theirs, method)([]))
    for task in ("query", "document", None):
        assert_same(ours.encode(TEXTS, task=task), theirs.encode(TEXTS, task=task))
    assert not np.allclose(ours.encode(TEXTS, task="query"), ours.encode(TEXTS, task="document"), atol=0.1)


@pytest.mark.parametrize("route", ["query", "document", None])
def test_texts_of_no_task_take_the_default_route(router: Path, route: str | None) -> None:
    config = change_router(router, default_route=route, allow_empty_key=True)
    ours, theirs = SentenceTransformer(router), Theirs(str(router))
    taken = route or next(iter(config["structure"]))
    assert_same(ours.encode(TEXTS), theirs.encode(TEXTS))
    np.testing.assert_array_equal(ours.encode(TEXTS), ours.encode(TEXTS, task=taken))


def test_without_a_default_route_the_task_must_be_told(router: Path) -> None:
    change_router(router, default_route=None, allow_empty_key=False)
    ours, theirs = SentenceTransformer(router), Theirs(str(router))
    with pytest.raises(ValueError, match="Could not determine route"):
        theirs.encode(TEXTS)
    with pytest.raises(
        ValueError, match=r"no encoder for texts of which no task is told; use encode_query or"
    ) as caught:
        ours.encode(TEXTS)
    assert isinstance(caught.value, UsageError)
    assert_same(ours.encode_query(TEXTS), theirs.encode_query(TEXTS))
    assert_same(ours.encode_document(TEXTS), theirs.encode_document(TEXTS))
    with pytest.raises(ValueError, match="no encoder for the task 'poem'"):
        ours.encode(TEXTS, task="poem")


def test_a_default_route_of_its_own_is_refused_and_no_other_taken(router: Path) -> None:
    file = router / "router_config.json"
    config = json.loads(file.read_text())
    query, document = (config["structure"][task] for task in ("query", "document"))
    config["structure"]["text"] = document
    file.write_text(json.dumps(config))
    ours, theirs = SentenceTransformer(router), Theirs(str(router))
    assert_same(ours.encode(TEXTS), theirs.encode(TEXTS))
    config["structure"]["text"] = [*query, *document]
    file.write_text(json.dumps(config))
    with pytest.raises(UsageError, match="of which no task is told"):
        SentenceTransformer(router).encode(TEXTS)


def test_one_encoder_serves_any_task(model_folder: Path) -> None:
    ours, theirs = SentenceTransformer(model_folder), Theirs(str(model_folder))
    for task in ("query", "document", "poem", None):
        assert_same(ours.encode(TEXTS, task=task), theirs.encode(TEXTS, task=task))
    with pytest.raises(TypeError, match="task"):
        ours.encode_query(TEXTS, task="document")


def test_the_longest_text_and_the_device_are_set_for_both(router: Path) -> None:
    ours, theirs = SentenceTransformer(router), Theirs(str(router))
    assert ours.max_seq_length == theirs.max_seq_length == 50
    for limit in (9, 60):
        ours.max_seq_length = theirs.max_seq_length = limit
        for method in ("encode_query", "encode_document"):
            assert_same(getattr(ours, method)(TEXTS), getattr(theirs, method)(TEXTS))
    before = ours.encode_query(TEXTS), ours.encode_document(TEXTS)
    assert ours.to("cpu") is ours
    np.testing.assert_array_equal(ours.encode_query(TEXTS, device="cpu"), before[0])
    np.testing.assert_array_equal(ours.encode_document(TEXTS, device="cpu"), before[1])


def test_prompts_that_pooling_leaves_out_are_left_out_by_both(halves: Path) -> None:
    model = SentenceTransformer(halves)
    methods = model.encode_query, model.encode_document
    before = [method(TEXTS[:1]) for method in methods]
    model.set_pooling_include_prompt(False)
    for method, one in zip(methods, before, strict=True):
        assert np.abs(method(TEXTS[:1]) - one).max() > 1e-3


def test_halves_each_encode_their_own_with_their_own_prompts(halves: Path) -> None:
    ours = SentenceTransformer(halves)
    query, document = Theirs(str(halves / "Q")), Theirs(str(halves / "A"))
    assert_same(ours.encode_query(TEXTS), query.encode_query(TEXTS))
    assert_same(ours.encode_document(TEXTS), document.encode_document(TEXTS))
    assert_same(ours.encode(TEXTS), query.encode(TEXTS))
    assert_same(ours.encode(TEXTS, prompt_name="long", task="document"), document.encode(TEXTS, prompt_name="long"))
    dual = DualEncoder(halves, precision="float32")
    for method in ("encode", "encode_query", "encode_document"):
        assert_same(getattr(ours, method)(TEXTS), getattr(dual, method)(TEXTS))
    assert ours.tokenizer.tokenize("a text") == query.tokenizer.tokenize("a text")
    assert "halves" in repr(ours)


def test_two_encoders_that_are_saved_are_two_encoders(halves: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(halves)
    model.save(tmp_path / "same")
    assert read_dual(tmp_path / "same").fingerprint == read_dual(halves).fingerprint
    model.max_seq_length, model.truncate_dim = 30, 12
    model.prompts["late"] = "open the "
    model.default_prompt_name = "late"
    model.save(tmp_path / "changed")
    again = SentenceTransformer(tmp_path / "changed")
    assert again.max_seq_length == 30
    assert again.prompts == model.prompts
    for method in ("encode", "encode_query", "encode_document"):
        assert_same(getattr(again, method)(TEXTS), getattr(model, method)(TEXTS))
    assert_same(Theirs(str(tmp_path / "changed" / "Q")).encode(TEXTS), model.encode(TEXTS))


def test_the_card_of_two_encoders_runs(router: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SentenceTransformer(router).save(tmp_path / "saved")
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "Queries are cut to 20 tokens, documents to 50." in card
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(snippet, "snippet", "exec"), names)
    assert_same(names["queries"], Theirs(str(router)).encode_query(["a question"]))
    assert_same(names["documents"], Theirs(str(router)).encode_document(["an answer", "another answer"]))
