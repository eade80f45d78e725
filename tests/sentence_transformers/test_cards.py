"""The published cards' code with one import changed: the same vectors, scores and order as with sentence-transformers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer as Theirs

from pairloom.sentence_transformers import SentenceTransformer, util
from tests.sentence_transformers.cards import (
    ASYMMETRIC,
    REDDIT,
    SEARCH,
    SNIPPETS,
    STACKOVERFLOW,
    WITHOUT_LIBRARY,
    Snippet,
    run,
)

OURS, THEIRS = "pairloom.sentence_transformers", "sentence_transformers"
DISTILBERT = "sentence-transformers/multi-qa-distilbert-cos-v1"
HALVES = "flax-sentence-embeddings/multi-QA_v1-mpnet-asymmetric-"


@pytest.fixture(scope="module")
def distilbert(encoder_folder: Callable[..., Path]) -> Path:
    return encoder_folder("distilbert")


@pytest.mark.parametrize(
    ("snippet", "name"),
    [
        (STACKOVERFLOW, "flax-sentence-embeddings/stackoverflow_mpnet-base"),
        (REDDIT, "flax-sentence-embeddings/reddit_single-context_mpnet-base"),
    ],
)
def test_one_text(snippet: Snippet, name: str, encoder_folder: Callable[..., Path]) -> None:
    folders = {name: encoder_folder("mpnet")}
    ours, theirs = (run(snippet, folders, package=package)["text_embbedding"] for package in (OURS, THEIRS))
    assert isinstance(ours, np.ndarray)
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape) == (np.float32, (32,))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.abs(ours).max() > 0.1


def test_two_encoders_one_for_questions_and_one_for_answers(encoder_folder: Callable[..., Path]) -> None:
    folders = {HALVES + "Q": encoder_folder("mpnet"), HALVES + "A": encoder_folder("mpnet", noise=0.05)}
    ours, theirs = (run(ASYMMETRIC, folders, package=package) for package in (OURS, THEIRS))
    for name in ("question_embedding", "answer_embedding"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-5)
    assert ours["answer_likeliness"].shape == (1, 1)
    torch.testing.assert_close(ours["answer_likeliness"], theirs["answer_likeliness"], rtol=0, atol=1e-5)
    again = ours["model_Q"].encode(ours["answer"])
    assert np.abs(again - ours["answer_embedding"]).max() > 1e-3, "the two encoders differ"


def test_search(distilbert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = (run(SEARCH, {DISTILBERT: distilbert}, package=package) for package in (OURS, THEIRS))
    for name in ("query_emb", "doc_emb", "scores"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-5)
    printed = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert printed[:2] == printed[2:] == [text for text, _ in theirs["doc_score_pairs"]]


def test_the_code_without_the_library_gives_our_vectors_and_scores(distilbert: Path) -> None:
    theirs = run(WITHOUT_LIBRARY, {DISTILBERT: distilbert}, package=THEIRS)
    ours = run(SEARCH, {DISTILBERT: distilbert}, package=OURS)
    np.testing.assert_allclose(ours["query_emb"], theirs["query_emb"][0].numpy(), atol=1e-5)
    np.testing.assert_allclose(ours["doc_emb"], theirs["doc_emb"].numpy(), atol=1e-5)
    assert [text for text, _ in ours["doc_score_pairs"]] == [text for text, _ in theirs["doc_score_pairs"]]
    np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=1e-5)


def test_first_token_and_dot_product_as_in_the_card_of_multi_qa_mpnet_base_dot(
    encoder_folder: Callable[..., Path],
) -> None:
    folder = encoder_folder("mpnet", pooling="cls", normalize=False, similarity="dot")
    texts = ["how do i brew coffee", "grind the bean", "open the file in python and read it"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        expected = network(**inputs).last_hidden_state[:, 0]
    model = SentenceTransformer(folder)
    vectors = model.encode(texts)
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(vectors, Theirs(str(folder)).encode(texts), atol=1e-5)
    assert model.similarity_fn_name == "dot"
    scores = util.dot_score(vectors[0], vectors[1:])
    torch.testing.assert_close(model.similarity(vectors[0], vectors[1:]), scores)
    torch.testing.assert_close(scores, expected[:1] @ expected[1:].T, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: f"{snippet.card}-{snippet.block}")
def test_the_snippets_are_those_of_the_cards(snippet: Snippet, shared: Path) -> None:
    card = (shared / "seeds" / snippet.card).read_text(encoding="utf-8")
    code = " ".join(re.findall(r"```python\s(.*?)```", card, re.DOTALL)[snippet.block].split())
    for slip, mended in snippet.slips:
        assert slip in code
        code = code.replace(slip, mended)
    assert " ".join(snippet.code.split()) == code
