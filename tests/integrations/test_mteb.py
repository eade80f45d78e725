"""mteb's numbers on tasks of our own, beside our numbers on the same data; nothing is fetched and nothing is cached."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import EncoderProtocol, SearchProtocol
from mteb.types import PromptType

from pairloom import Collection, Document, DualEncoder, Encoder
from pairloom.errors import UsageError
from pairloom.evaluate.evaluation import evaluate
from pairloom.evaluate.searching import evaluate_search
from pairloom.evaluate.tasks import RetrievalTask, SentencePairTask
from pairloom.integrations.mteb import PairloomEncoder, PairloomSearch
from pairloom.records import Text
from pairloom.search.protocol import Mode
from pairloom.search.settings import Settings
from tests.conftest import make_pairs
from tests.integrations.conftest import PROMPTS, with_prompts

EXACT = Settings(kind="exact", storage="float32")


def retrieval_task() -> RetrievalTask:
    """Forty queries, each with the document that was made with it and, of a lower grade, the next one."""
    pairs = make_pairs(40, seed=3)
    return RetrievalTask(
        "tiny",
        tuple(Text(f"q{number}", anchor) for number, (anchor, _) in enumerate(pairs)),
        tuple(Text(f"d{number}", positive) for number, (_, positive) in enumerate(pairs)),
        {f"q{number}": {f"d{number}": 2, f"d{(number + 1) % 40}": 1} for number in range(40)},
    )


def pair_task() -> SentencePairTask:
    pairs = make_pairs(30, seed=4)
    scores = np.random.default_rng(0).uniform(0, 5, size=30)
    return SentencePairTask(
        "tiny", "score", tuple(one for one, _ in pairs), tuple(other for _, other in pairs), tuple(scores.tolist())
    )


def about(name: str, kind: str, main_score: str) -> TaskMetadata:
    return TaskMetadata(
        name=name,
        description="A task of the tests.",
        dataset={"path": "none", "revision": "none"},
        type=kind,
        category="t2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main_score,
    )


class TinyRetrieval(AbsTaskRetrieval):
    metadata = about("TinyRetrieval", "Retrieval", "ndcg_at_10")

    def load_data(self, *_: Any, **__: Any) -> None:
        task = retrieval_task()
        # mteb joins titles and texts, as we do.
        titled = [(document.id, *document.text.split(" ", 1)) for document in task.documents]
        self.dataset = {
            "default": {
                "test": RetrievalSplitData(
                    corpus=Dataset.from_list(
                        [{"id": id_, "title": title, "text": text} for id_, title, text in titled]
                    ),
                    queries=Dataset.from_list([{"id": query.id, "text": query.text} for query in task.queries]),
                    relevant_docs={query: dict(grades) for query, grades in task.judgements.items()},
                    top_ranked=None,
                )
            }
        }
        self.data_loaded = True


class OtherRetrieval(TinyRetrieval):
    """The same under a name for which the model has no prompt."""

    metadata = about("OtherRetrieval", "Retrieval", "ndcg_at_10")


class TinyPairs(AbsTaskSTS):
    metadata = about("TinyPairs", "STS", "cosine_spearman")

    def load_data(self, *_: Any, **__: Any) -> None:
        task = pair_task()
        columns = {"sentence1": task.sentences1, "sentence2": task.sentences2, "score": task.targets}
        self.dataset = {"test": Dataset.from_dict({name: list(values) for name, values in columns.items()})}
        self.data_loaded = True


def measured(model: Any, task: mteb.AbsTask) -> dict[str, Any]:
    result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
    (scores,) = result.task_results[0].scores["test"]
    return dict(scores)


def assert_same(scores: dict[str, Any], own: Any) -> None:
    """Up to the fifth decimal, to which mteb rounds."""
    for theirs, ours in (("ndcg_at_10", "nDCG@10"), ("recall_at_10", "Recall@10"), ("map_at_100", "MAP@100")):
        assert scores[theirs] == pytest.approx(own.metrics[ours].value, abs=1e-5), theirs
    assert 0.1 < scores["ndcg_at_10"] < 0.99


@pytest.fixture(scope="module")
def plain(model_folder: Path) -> Encoder:
    return Encoder(model_folder, device="cpu", precision="float32")


def test_retrieval_measures_what_we_measure(prompted: Encoder) -> None:
    own = evaluate(prompted, retrieval_task(), num_resamples=10)
    assert_same(measured(PairloomEncoder(prompted), OtherRetrieval()), own)


def test_retrieval_by_a_pair_measures_what_we_measure(prompted: Encoder, plain: Encoder) -> None:
    pair = DualEncoder(prompted, plain)
    own = evaluate(pair, retrieval_task(), num_resamples=10)
    assert_same(measured(PairloomEncoder(pair), OtherRetrieval()), own)


def test_pairs_of_sentences_measure_what_we_measure(plain: Encoder) -> None:
    own = evaluate(plain, pair_task(), num_resamples=10)
    scores = measured(PairloomEncoder(plain), TinyPairs())
    assert scores["cosine_spearman"] == pytest.approx(own.metrics["Spearman"].value, abs=1e-5)
    assert scores["spearman"] == pytest.approx(own.metrics["Spearman"].value, abs=1e-5)


@pytest.mark.parametrize("mode", ["vector", "words", "hybrid"])
def test_a_search_measures_what_our_evaluation_of_a_collection_measures(
    prompted: Encoder, tmp_path: Path, mode: Mode
) -> None:
    task = retrieval_task()
    with Collection(tmp_path / "collection", prompted) as collection:
        collection.upsert(Document(document.id, document.text) for document in task.documents)
        (own,) = evaluate_search(collection, task, modes=[mode], num_resamples=10)
    assert_same(measured(PairloomSearch(prompted, mode=mode), OtherRetrieval()), own)


def test_an_exact_search_measures_what_the_encoder_measures(prompted: Encoder) -> None:
    search = PairloomSearch(prompted, mode="vector", settings=EXACT)
    own = evaluate(prompted, retrieval_task(), num_resamples=10)
    assert_same(measured(search, OtherRetrieval()), own)
    assert_same(measured(search, OtherRetrieval()), own)


def test_the_protocols_are_mteb_s(plain: Encoder) -> None:
    encoder, search = PairloomEncoder(plain), PairloomSearch(plain)
    assert isinstance(encoder, EncoderProtocol) and not isinstance(encoder, SearchProtocol)
    assert isinstance(search, SearchProtocol) and not isinstance(search, EncoderProtocol)


TEXTS = ["a file", "hot coffee in a cup", "stop"]
BATCHES = [{"text": TEXTS[:2]}, {"text": TEXTS[2:]}]


@pytest.mark.parametrize(
    ("task", "kind", "prompt"),
    [
        (OtherRetrieval, PromptType.query, "query"),
        (OtherRetrieval, PromptType.document, "document"),
        (OtherRetrieval, None, None),
        (TinyRetrieval, PromptType.query, "TinyRetrieval-query"),
        (TinyRetrieval, PromptType.document, "document"),
        (TinyPairs, None, "STS"),
        (TinyPairs, PromptType.query, "STS"),
    ],
)
def test_prompts_are_honoured(
    prompted: Encoder, task: type[mteb.AbsTask], kind: PromptType | None, prompt: str | None
) -> None:
    vectors = PairloomEncoder(prompted).encode(
        BATCHES, task_metadata=task.metadata, hf_split="test", hf_subset="default", prompt_type=kind, batch_size=2
    )
    np.testing.assert_array_equal(vectors, prompted.encode(TEXTS, prompt_name=prompt))
    others = [name for name in (None, *PROMPTS) if name != prompt]
    assert all(not np.allclose(vectors, prompted.encode(TEXTS, prompt_name=name), atol=1e-2) for name in others)


def test_queries_and_documents_are_encoded_as_they_are_without_mteb(
    prompted: Encoder, model_folder: Path, tmp_path: Path
) -> None:
    # The names that other models have for it.
    passages = Encoder(
        with_prompts(model_folder, tmp_path / "model", {"query": "what is ", "passage": "a list of "}),
        device="cpu",
        precision="float32",
    )
    pair = DualEncoder(prompted, passages)
    for encoder in (prompted, passages, pair):
        encode: Callable[..., Any] = PairloomEncoder(encoder).encode
        for kind, expected in (
            (PromptType.query, encoder.encode_query(TEXTS)),
            (PromptType.document, encoder.encode_document(TEXTS)),
            (None, encoder.encode(TEXTS)),
        ):
            vectors = encode(BATCHES, task_metadata=OtherRetrieval.metadata, prompt_type=kind)
            np.testing.assert_array_equal(vectors, expected)


def test_vectors_in_another_precision_are_refused(plain: Encoder) -> None:
    with pytest.raises(UsageError, match="precision is 'binary', and vectors are float32"):
        PairloomEncoder(plain).encode(BATCHES, task_metadata=OtherRetrieval.metadata, precision="binary")


def searched(
    search: PairloomSearch, texts: Sequence[tuple[str, str]], queries: Sequence[tuple[str, str]], **more: Any
) -> Any:
    facts: dict[str, Any] = {
        "task_metadata": OtherRetrieval.metadata,
        "hf_split": "test",
        "hf_subset": "default",
        "encode_kwargs": {"batch_size": 8},
        "num_proc": None,
    }
    search.index(Dataset.from_list([{"id": id_, "text": text} for id_, text in texts]), **facts)
    return search.search(Dataset.from_list([{"id": id_, "text": text} for id_, text in queries]), **facts, **more)


@pytest.mark.parametrize("mode", ["vector", "words", "hybrid"])
def test_of_few_candidates_only_they_are_found(prompted: Encoder, mode: Mode) -> None:
    task = retrieval_task()
    documents = [(document.id, document.text) for document in task.documents]
    queries = [(query.id, query.text) for query in task.queries[:4]]
    candidates = {"q0": ["d3", "d0", "d9"], "q1": ["d1"], "q2": []}
    found = searched(PairloomSearch(prompted, mode=mode), documents, queries, top_k=2, top_ranked=candidates)
    assert list(found) == ["q0", "q1", "q2", "q3"]
    assert set(found["q0"]) <= set(candidates["q0"]) and len(found["q0"]) == (1 if mode == "words" else 2)
    assert set(found["q1"]) == {"d1"}
    assert found["q2"] == found["q3"] == {}


def test_candidates_are_ordered_as_the_model_orders_them(prompted: Encoder) -> None:
    task = retrieval_task()
    documents = [(document.id, document.text) for document in task.documents]
    few = [document.id for document in task.documents[5:15]]
    search = PairloomSearch(prompted, mode="vector", settings=EXACT)
    found = searched(search, documents, [("q", task.queries[0].text)], top_k=10, top_ranked={"q": few})["q"]
    similarities = prompted.similarity(
        prompted.encode_query(task.queries[0].text), prompted.encode_document([text for _, text in documents[5:15]])
    )[0]
    assert list(found) == [few[row] for row in np.argsort(-similarities)]
    np.testing.assert_allclose(list(found.values()), np.sort(similarities)[::-1], atol=1e-5)


def test_the_order_of_hits_stands_also_where_fused_ranks_are_equal(prompted: Encoder, tmp_path: Path) -> None:
    task = retrieval_task()
    documents = [(document.id, document.text) for document in task.documents]
    queries = [(query.id, query.text) for query in task.queries]
    found = searched(PairloomSearch(prompted), documents, queries, top_k=40)
    num_equal = 0
    with Collection(tmp_path / "collection", prompted) as collection:
        collection.upsert(Document(*document) for document in documents)
        for query, text in queries:
            hits = collection.search(text, 40)
            num_equal += sum(one.score == other.score for one, other in itertools.pairwise(hits))
            # As trec_eval orders: by score in float32, then by id, both descending.
            ranked = sorted(found[query].items(), key=lambda hit: (np.float32(hit[1]), hit[0]), reverse=True)
            assert [id_ for id_, _ in ranked] == [hit.id for hit in hits]
            np.testing.assert_allclose([score for _, score in ranked], [hit.score for hit in hits], rtol=1e-5)
    assert num_equal > 0


def test_a_query_without_text_finds_nothing(plain: Encoder) -> None:
    found = searched(PairloomSearch(plain), [("d", "a file")], [("q", "a file"), ("empty", " ")], top_k=5)
    assert set(found["q"]) == {"d"}
    assert found["empty"] == {}


def test_each_search_needs_a_corpus_and_leaves_nothing(
    plain: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    search = PairloomSearch(plain)
    searched(search, [("d", "a file")], [("q", "a file")], top_k=5)
    assert list(tmp_path.glob("pairloom-mteb-*")) == []
    with pytest.raises(UsageError, match="no corpus to search"):
        search.search([], task_metadata=OtherRetrieval.metadata, top_k=5, encode_kwargs={})
    with pytest.raises(UsageError, match="the id '' is empty"):
        searched(search, [("", "a file")], [("q", "a file")], top_k=5)
    assert list(tmp_path.glob("pairloom-mteb-*")) == []


def test_what_mteb_is_told_is_true(prompted: Encoder, plain: Encoder) -> None:
    meta = PairloomEncoder(prompted).mteb_model_meta
    sizes = {name: int(np.prod(shape)) for name, shape in prompted.model.architecture.weight_shapes()}
    assert meta.name == "local/prompted"
    assert meta.revision == prompted.fingerprint
    assert meta.n_parameters == sum(sizes.values())
    assert meta.n_embedding_parameters == sizes["embeddings.word.weight"]
    assert meta.memory_usage_mb == pytest.approx(meta.calculate_memory_usage_mb(), abs=0.5)
    assert (meta.max_tokens, meta.embed_dim, meta.use_instructions) == (64, 32, True)
    assert meta.similarity_fn_name is not None and meta.similarity_fn_name.value == "cosine"
    assert meta.experiment_kwargs is None
    # What nobody has said is not made up.
    unknown = ("license", "languages", "open_weights", "release_date", "training_datasets", "public_training_data")
    assert [getattr(meta, name) for name in unknown] == [None] * len(unknown)
    assert PairloomEncoder(plain).mteb_model_meta.use_instructions is False
    pair = PairloomEncoder(DualEncoder(prompted, plain)).mteb_model_meta
    assert pair.name == "local/prompted+tiny"
    assert pair.n_parameters == 2 * sum(sizes.values())
    assert PairloomEncoder(plain, name="me/mine").mteb_model_meta.name == "me/mine"


def test_results_are_kept_apart_by_what_makes_them_differ(plain: Encoder, model_folder: Path) -> None:
    half = Encoder(model_folder, device="cpu", precision="bfloat16", engine="torch")
    metas = [
        PairloomEncoder(plain).mteb_model_meta,
        PairloomEncoder(half).mteb_model_meta,
        PairloomSearch(plain).mteb_model_meta,
        PairloomSearch(half).mteb_model_meta,
        PairloomSearch(plain, mode="vector").mteb_model_meta,
        PairloomSearch(plain, mode="vector", settings=EXACT).mteb_model_meta,
    ]
    assert len({(meta.name, meta.revision, meta.experiment_name) for meta in metas}) == len(metas)
    assert [meta.model_type for meta in metas[2:5]] == [["hybrid"], ["hybrid"], ["dense"]]
