"""Search over a vectors artifact, and how hits are shown."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pairloom import DualEncoder, Encoder
from pairloom.encode.bulk import encode_texts
from pairloom.encode.storage import Storage
from pairloom.encode.vectors import VectorSet
from pairloom.errors import ArtifactError, ModelError, UsageError
from pairloom.models.dual import DualModel
from pairloom.models.read import read_model
from pairloom.models.write import write_model
from pairloom.records import Hit, Text
from pairloom.search.exact import ExactSearch
from pairloom.search.show import mark, render_hits
from tests.conftest import make_pairs


@pytest.fixture(scope="module")
def vectors(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "vectors"
    texts = [Text(str(number), positive) for number, (_, positive) in enumerate(make_pairs(30))]
    encode_texts(Encoder(model_folder), texts, path, origin="test", show_progress=False)
    return path


def test_a_text_finds_itself_and_scores_fall(vectors: Path) -> None:
    search = ExactSearch(vectors)
    text = search.vectors.texts([11])[0].text
    hits = search.search(text, 5)
    assert (hits[0].id, hits[0].text) == ("11", text)
    assert hits[0].score == pytest.approx(1.0, abs=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len(search.search("coffee", 1000)) == 30


def test_k_below_one(vectors: Path) -> None:
    with pytest.raises(UsageError, match="k is 0"):
        ExactSearch(vectors).search("coffee", 0)


def test_another_model_is_refused(vectors: Path, model_folder: Path) -> None:
    model = read_model(model_folder)
    model.weights["embeddings.norm.bias"] = model.weights["embeddings.norm.bias"] + np.float32(0.5)
    with pytest.raises(ArtifactError, match="made by"):
        ExactSearch(vectors, Encoder(model))


def test_words_of_the_query_are_marked() -> None:
    shown = mark("How to BREW the coffee?", "Brewing coffee the slow way. [bold]not markup[/bold]")
    marked = [shown.plain[span.start : span.end] for span in shown.spans]
    assert marked == ["Brewing", "coffee"]
    assert "[bold]not markup" in shown.plain


def test_a_long_text_is_shown_around_the_first_marked_word() -> None:
    shown = mark("needle", "hay " * 500 + "needle" + " hay" * 500).plain
    assert "needle" in shown
    assert shown.startswith("… ")
    assert shown.endswith(" …")
    assert len(shown) < 410
    assert mark("nothing", "hay " * 500).plain.startswith("hay")
    assert mark("", "text").plain == "text"


def test_hits_are_wrapped() -> None:
    console = Console(file=io.StringIO(), width=40)
    console.print(render_hits("coffee", [Hit("d1", 0.5, "coffee " * 30)]))
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0.500" in output
    assert "d1" in output
    assert max(map(len, output.splitlines())) <= 40


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    console = Console(file=io.StringIO(), width=60, force_terminal=False)
    console.print(render_hits("red", [Hit("a\x1b[2J", 0.5, "\x1b[31mred\x1b]0;title\x07 [bold]x[/bold] \ud800")]))
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in output
    assert "\x07" not in output
    assert "[bold]x[/bold] ?" in output


@pytest.mark.parametrize("name", ["vectors-00000.npy", "texts-00000.jsonl", "offsets-00000.npy"])
def test_a_file_that_is_not_whole_is_named_before_anything_is_answered(
    vectors: Path, tmp_path: Path, name: str
) -> None:
    copy = Path(shutil.copytree(vectors, tmp_path / "copy"))
    (copy / name).write_bytes((copy / name).read_bytes()[:-5])
    with pytest.raises(ArtifactError, match=f"{name}: has .* bytes instead of"):
        ExactSearch(copy)


@pytest.mark.parametrize("store", ["float16", "int8"])
def test_vectors_of_fewer_bytes_find_the_same(
    vectors: Path, model_folder: Path, tmp_path: Path, store: Storage
) -> None:
    texts = ExactSearch(vectors).vectors.texts(range(30))
    encode_texts(Encoder(model_folder), texts, tmp_path / store, origin="test", store=store, show_progress=False)
    search = ExactSearch(tmp_path / store)
    for text in texts:
        assert search.search(text.text, 1)[0].id == text.id


def test_a_model_that_has_gone_is_asked_for(model_folder: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(model_folder, tmp_path / "model"))
    encode_texts(Encoder(model), [Text("a", "coffee")], tmp_path / "vectors", origin="test", show_progress=False)
    model.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match="say where it is with --model"):
        ExactSearch(tmp_path / "vectors")
    assert ExactSearch(tmp_path / "vectors", Encoder(tmp_path / "moved")).search("coffee")[0].id == "a"


def test_an_empty_query(vectors: Path) -> None:
    with pytest.raises(UsageError, match="the query is empty"):
        ExactSearch(vectors).search("  ")


# Two encoders: what is made by one half is searched with both.


@pytest.fixture(scope="module")
def dual_folder(backbone_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dual") / "model"
    path.mkdir()
    query, document = (read_model(backbone_folder(family)) for family in ("bert", "mpnet"))
    write_model(DualModel("none", query, document), path, readme="")
    return path


def index(encoder: Encoder | DualEncoder, path: Path) -> Path:
    texts = [Text(str(number), positive) for number, (_, positive) in enumerate(make_pairs(30))]
    encode_texts(encoder, texts, path, origin="test", show_progress=False)
    return path


def test_two_encoders_search_what_they_made(dual_folder: Path, tmp_path: Path) -> None:
    encoder = DualEncoder(dual_folder)
    path = index(encoder, tmp_path / "vectors")
    documents = [positive for _, positive in make_pairs(30)]
    np.testing.assert_array_equal(VectorSet(path).rows(range(30)), encoder.document.encode(documents))
    scores = encoder.similarity(encoder.encode_query("coffee"), encoder.encode_document(documents))[0]
    hits = ExactSearch(path).search("coffee", 5)
    assert [hit.id for hit in hits] == [str(number) for number in np.argsort(-scores)[:5]]
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:5], atol=1e-5)


def test_two_names_are_remembered(dual_folder: Path, tmp_path: Path) -> None:
    path = index(DualEncoder(dual_folder / "Q", dual_folder / "A"), tmp_path / "vectors")
    assert VectorSet(path).models == (str(dual_folder / "Q"), str(dual_folder / "A"))
    assert ExactSearch(path).search("coffee") == ExactSearch(path, DualEncoder(dual_folder)).search("coffee")


def test_the_queries_half_alone_is_refused(dual_folder: Path, tmp_path: Path) -> None:
    query = Encoder(dual_folder / "Q")
    made_by_both = index(DualEncoder(dual_folder), tmp_path / "both")
    with pytest.raises(ArtifactError, match=r"Q is its queries' half .* alone; search with both halves: .*model"):
        ExactSearch(made_by_both, query)
    made_by_one = index(Encoder(dual_folder / "A"), tmp_path / "one")
    with pytest.raises(ArtifactError, match=r"made by .*A as it was then .*, not by .*Q .*both together"):
        ExactSearch(made_by_one, query)


def test_the_documents_half_alone_cannot_ask(dual_folder: Path, tmp_path: Path) -> None:
    document = Encoder(dual_folder / "A")
    path = index(DualEncoder(dual_folder), tmp_path / "vectors")
    with pytest.raises(
        ArtifactError, match=r"has an encoder of its own for queries .*search with both halves: .*model"
    ):
        ExactSearch(path, document)
    with pytest.raises(ArtifactError, match="has an encoder of its own for queries"):
        ExactSearch(path, DualEncoder(document, document))
    with pytest.raises(ArtifactError, match="search with both halves"):
        ExactSearch(path, DualEncoder(document, Encoder(dual_folder / "Q")))


def test_both_search_what_the_documents_half_made(
    dual_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = DualEncoder(dual_folder)
    one, both = index(encoder.document, tmp_path / "one"), index(encoder, tmp_path / "both")
    assert ExactSearch(one, encoder).search("coffee") == ExactSearch(both).search("coffee")
    assert not caplog.text
    ExactSearch(one)
    assert f"is one half of {dual_folder}" in caplog.text
