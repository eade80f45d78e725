"""Two encoders as one: which half encodes what, what belongs together, and the folders of sentence-transformers."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub.utils._paths import filter_repo_objects
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense as TheirDense
from sentence_transformers.base.modules import Normalize as TheirNormalize
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling as TheirPooling

from pairloom import DualEncoder, Encoder
from pairloom.encode.dual_encoder import load_encoder
from pairloom.errors import ModelError, UsageError
from pairloom.models import names
from pairloom.models.dual import DualModel, read_dual
from pairloom.models.heads import Dense, Normalize
from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.models.write import write_model
from tests.models.test_names import make_distribution

BackboneFolder = Callable[[str], Path]

QUERIES = ["how do i brew coffee", "", "what is a vector?"]
DOCUMENTS = ["the water is hot and the cup is cold " * 30, "grind the bean", "a vector", "read a file"]


def save_halves(path: Path, query: Model, document: Model) -> Path:
    path.mkdir()
    write_model(DualModel("none", query, document), path, readme="# two\n")
    return path


@pytest.fixture(scope="module")
def halves(backbone_folder: BackboneFolder) -> tuple[Model, Model]:
    """Of two families, with tokenizers of their own and limits of their own."""
    query, document = (read_model(backbone_folder(family)) for family in ("bert", "mpnet"))
    return (
        dataclasses.replace(query, heads=(Normalize(),), max_tokens=20),
        dataclasses.replace(document, heads=(Normalize(),), max_tokens=50),
    )


@pytest.fixture(scope="module")
def folder(halves: tuple[Model, Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_halves(tmp_path_factory.mktemp("dual") / "model", *halves)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> DualEncoder:
    return DualEncoder(folder, device="cpu", precision="float32")


def test_each_half_encodes_its_own(encoder: DualEncoder, folder: Path) -> None:
    query, document = Encoder(folder / "Q", precision="float32"), Encoder(folder / "A", precision="float32")
    queries, documents = encoder.encode_query(QUERIES), encoder.encode_document(DOCUMENTS)
    np.testing.assert_array_equal(queries, query.encode_query(QUERIES))
    np.testing.assert_array_equal(documents, document.encode_document(DOCUMENTS))
    np.testing.assert_array_equal(encoder.encode(QUERIES), query.encode(QUERIES))
    assert not np.allclose(encoder.encode_document(QUERIES), queries, atol=0.1)
    np.testing.assert_allclose(encoder.similarity(queries, documents), queries @ documents.T, atol=1e-6)
    assert encoder.encode_query("how").shape == (encoder.dimensions,) == (32,)
    assert encoder.similarity_name == "cosine"


def test_each_half_loads_alone_in_sentence_transformers_with_the_same_vectors(
    encoder: DualEncoder, folder: Path, tmp_path: Path
) -> None:
    for half, ours in (("Q", encoder.encode_query(DOCUMENTS)), ("A", encoder.encode_document(DOCUMENTS))):
        alone = Path(shutil.copytree(folder / half, tmp_path / "somewhere" / half))
        oracle = SentenceTransformer(str(alone), device="cpu")
        np.testing.assert_allclose(ours, oracle.encode(DOCUMENTS), atol=1e-5)


def test_all_ways_to_name_the_two(encoder: DualEncoder, folder: Path, halves: tuple[Model, Model]) -> None:
    made = [
        DualEncoder(str(folder), precision="float32"),
        DualEncoder(folder / "Q", folder / "A", precision="float32"),
        DualEncoder(*halves, precision="float32"),
        DualEncoder(*(Encoder(half, precision="float32") for half in halves)),
        DualEncoder(DualModel("both", *halves), precision="float32"),
    ]
    for other in made:
        assert other.fingerprint == encoder.fingerprint
        np.testing.assert_array_equal(other.encode_document(DOCUMENTS), encoder.encode_document(DOCUMENTS))
    assert [other.names for other in made[:2]] == [(str(folder),), (str(folder / "Q"), str(folder / "A"))]


def test_the_fingerprint_is_of_both_in_their_order(halves: tuple[Model, Model]) -> None:
    query, document = halves
    shorter = [dataclasses.replace(half, max_tokens=10) for half in halves]
    pairs = [halves, (shorter[0], document), (query, shorter[1]), (document, query), (query, query)]
    found = {DualModel("two", *pair).fingerprint for pair in pairs}
    assert len(found) == len(pairs)
    assert all(len(fingerprint) == 32 for fingerprint in found)


def test_tokens_and_cut_texts_of_both_are_counted(folder: Path) -> None:
    encoder = DualEncoder(folder, precision="float32")
    long = "coffee " * 30
    encoder.encode_query([long, "fast"])
    assert (encoder.num_truncated, encoder.num_tokens) == (1, 20 + 3)
    encoder.encode_document([long, long, "coffee " * 60])
    assert encoder.num_truncated == 1 + 1, "the documents' half has a limit of its own"
    assert encoder.num_tokens == 23 + 32 + 32 + 50


def test_one_function_loads_one_or_two(folder: Path) -> None:
    assert isinstance(load_encoder(folder, precision="float32"), DualEncoder)
    assert isinstance(load_encoder(folder / "Q", folder / "A", precision="float32"), DualEncoder)
    alone = load_encoder(folder / "A", precision="float32")
    assert isinstance(alone, Encoder)
    assert alone.fingerprint == DualEncoder(folder, precision="float32").document.fingerprint


def test_two_encoders_are_not_one(folder: Path) -> None:
    for name in (folder, str(folder)):
        with pytest.raises(ModelError, match=r"model: is two encoders.*; use DualEncoder, or one of them: .*Q or .*A"):
            Encoder(name, precision="float32")


def test_one_encoder_is_not_two(folder: Path, halves: tuple[Model, Model], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Q: is not two encoders .*; use Encoder, or name two models"):
        DualEncoder(folder / "Q", precision="float32")
    with pytest.raises(UsageError, match="is one encoder; give another one for the documents"):
        DualEncoder(halves[0], precision="float32")
    with pytest.raises(UsageError, match="both: is two encoders already"):
        DualEncoder(DualModel("both", *halves), halves[1], precision="float32")
    (tmp_path / "half" / "Q").mkdir(parents=True)
    shutil.copytree(folder / "Q", tmp_path / "half" / "Q", dirs_exist_ok=True)
    with pytest.raises(ModelError, match="is not two encoders"):
        DualEncoder(tmp_path / "half", precision="float32")
    with pytest.raises(ModelError, match="no such model folder"):
        read_dual(tmp_path / "nowhere")


def test_what_does_not_belong_together_is_refused(halves: tuple[Model, Model], folder: Path, tmp_path: Path) -> None:
    query, document = halves
    smaller = dataclasses.replace(document, heads=(Dense(np.ones((12, 32), dtype=np.float32), None, "tanh"),))
    with pytest.raises(ModelError, match=r"makes vectors of 32 numbers, and .* of 12; they are not the two halves"):
        DualEncoder(query, smaller)
    with pytest.raises(ModelError, match=r"is made for similarity 'cosine', and .* for 'dot'; they are not the two"):
        DualEncoder(query, dataclasses.replace(document, similarity="dot"))
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    shutil.rmtree(copy / "A")
    (copy / "A").mkdir()
    write_model(smaller, copy / "A", readme="")
    with pytest.raises(ModelError, match=r"copy/Q makes vectors of 32 numbers, and .*copy/A of 12"):
        DualEncoder(copy, precision="float32")


def test_two_encoders_in_an_installed_package(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, weights in (("whole", ""), ("changed", "sha256=AAAA")):
        make_distribution(tmp_path / name, folder, hash_of_weights=weights)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "whole")])
    assert (
        DualEncoder("carrier", precision="float32").fingerprint == DualEncoder(folder, precision="float32").fingerprint
    )
    monkeypatch.setattr(sys, "path", [*sys.path[:-1], str(tmp_path / "changed")])
    with pytest.raises(ModelError, match="differs from what its package recorded"):
        DualEncoder("carrier", precision="float32")


# The Router of sentence-transformers.


def make_chain(folder: Path, *, max_tokens: int, dimensions: int | None = None) -> list[Any]:
    """Their modules up to the vector, whole."""
    modules = [Transformer(str(folder), max_seq_length=max_tokens), TheirPooling(32, pooling_mode="mean")]
    return modules if dimensions is None else [*modules, TheirDense(32, dimensions)]


def make_router(kind: str, backbone_folder: BackboneFolder) -> SentenceTransformer:
    one, two = (backbone_folder(family) for family in ("bert", "distilbert"))
    query, document = make_chain(one, max_tokens=20), make_chain(two, max_tokens=50)
    match kind:
        case "whole pipelines":
            query, document = (
                make_chain(one, max_tokens=20, dimensions=12),
                make_chain(two, max_tokens=50, dimensions=12),
            )
            rest: list[Any] = []
            router = Router.for_query_document([*query, TheirNormalize()], [*document, TheirNormalize()])
        case "shared ends":
            rest = [TheirPooling(32, pooling_mode="cls"), TheirNormalize()]
            router = Router.for_query_document(query[:1], document[:1], default_route=None)
        case "shared backbone":
            rest = [TheirNormalize()]
            both = query[0]
            dense = TheirDense(32, 32)
            router = Router.for_query_document([both, query[1]], [both, document[1], dense])
        case "mapped":
            rest = []
            mappings: dict[Any, str] = {("query", "text"): "short", (None, "text"): "long"}
            router = Router({"long": document, "short": query}, route_mappings=mappings)
        case "by modality":
            rest = []
            router = Router({"query": query, "text": document}, route_mappings={("document", None): "text"})
    model = SentenceTransformer(modules=[router, *rest], device="cpu", similarity_fn_name="dot")
    model.prompts = {"query": "what is ", "document": "text "}
    return model


KINDS = ("whole pipelines", "shared ends", "shared backbone", "mapped", "by modality")


@pytest.mark.parametrize("kind", KINDS)
def test_a_router_equals_sentence_transformers(kind: str, backbone_folder: BackboneFolder, tmp_path: Path) -> None:
    make_router(kind, backbone_folder).save(str(tmp_path))
    oracle, encoder = SentenceTransformer(str(tmp_path), device="cpu"), DualEncoder(tmp_path, precision="float32")
    assert encoder.similarity_name == "dot"
    queries, documents = oracle.encode_query(DOCUMENTS), oracle.encode_document(DOCUMENTS)
    np.testing.assert_allclose(encoder.encode_query(DOCUMENTS), queries, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_document(DOCUMENTS), documents, atol=1e-5)
    assert not np.allclose(queries, documents, atol=0.1), "so each went its own way"
    assert encoder.dimensions == queries.shape[1]


@pytest.fixture
def router_folder(backbone_folder: BackboneFolder, tmp_path: Path) -> Path:
    make_router("shared ends", backbone_folder).save(str(tmp_path / "router"))
    return tmp_path / "router"


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_router_is_two_encoders(router_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"router: is two encoders, .*; use DualEncoder$"):
        Encoder(router_folder, precision="float32")
    loaded = load_encoder(router_folder, precision="float32")
    assert isinstance(loaded, DualEncoder)
    assert loaded.names == (str(router_folder),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"structure": {"query": ["query_0_Transformer"]}},
            "has no route for the task 'document'; its routes are: query",
        ),
        ({"structure": {"query": [], "document": []}}, "module 0 is Pooling; supported are Transformer, then"),
        ({"structure": {"query": ["x"], "document": ["x"]}}, "names 'x', but does not say what it is"),
        (
            {"types": {"query_0_Transformer": "sentence_transformers.models.BoW"}},
            "'sentence_transformers.models.BoW' is not",
        ),
        (
            {"types": {"../x": "a.Transformer"}, "structure": {"query": ["../x"]}},
            "'../x' leads out of the model folder",
        ),
        ({"structure": ["query"]}, "structure must be an object"),
        (
            {"parameters": {"route_mappings": {"('query', 'text')": "none"}}},
            "names 'none', but does not say what it is",
        ),
    ],
)
def test_routers_that_are_not_supported_are_refused(router_folder: Path, changes: dict[str, Any], message: str) -> None:
    change(router_folder / "router_config.json", **changes)
    with pytest.raises(ModelError, match=message) as caught:
        DualEncoder(router_folder, precision="float32")
    assert "router_config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_router_without_its_configuration_is_not_whole(router_folder: Path) -> None:
    (router_folder / "router_config.json").unlink()
    with pytest.raises(ModelError, match=r"router_config.json: missing"):
        DualEncoder(router_folder, precision="float32")


def test_all_that_is_read_is_asked_for_on_the_hub(folder: Path, router_folder: Path) -> None:
    for path in (folder, router_folder):
        files = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        wanted = set(filter_repo_objects(files, allow_patterns=list(names._HUB_FILES)))
        assert {Path(file).name for file in set(files) - wanted} <= {"README.md"}
        copy = path.with_name("fetched")
        for file in wanted:
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path / file, copy / file)
        assert DualEncoder(copy, precision="float32").fingerprint == DualEncoder(path, precision="float32").fingerprint
