"""`SentenceTransformer` beside that of sentence-transformers 6.2: the same values, types and shapes for the same calls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sentence_transformers import SentenceTransformer as Theirs
from torch import Tensor

from pairloom import Encoder
from pairloom.errors import ArtifactError, UsageError
from pairloom.sentence_transformers import SentenceTransformer, SimilarityFunction
from tests.conftest import WORDS
from tests.sentence_transformers.conftest import EncoderFolder, edit

TEXTS = ["how do i brew coffee", "", "a", "the water is hot and the cup is cold " * 20, "what is a vector?"]
PROMPTS = {"query": "what is ", "passage": "the text ", "summary": "in one line "}


@pytest.fixture(scope="module")
def folder(encoder_folder: EncoderFolder) -> Path:
    return encoder_folder("mpnet", normalize=False, prompts=PROMPTS)


@pytest.fixture(scope="module")
def both(folder: Path) -> tuple[SentenceTransformer, Theirs]:
    return SentenceTransformer(folder, device="cpu"), Theirs(str(folder), device="cpu")


def assert_same(ours: Any, theirs: Any, *, atol: float = 1e-5) -> None:
    if isinstance(theirs, list):
        assert isinstance(ours, list)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other, atol=atol)
        return
    assert isinstance(ours, Tensor) == isinstance(theirs, Tensor)
    assert ours.shape == theirs.shape
    if len(theirs):
        assert ours.dtype == theirs.dtype
    if isinstance(theirs, Tensor):
        assert ours.device == theirs.device
        ours, theirs = ours.numpy(), theirs.numpy()
    np.testing.assert_allclose(ours, theirs, atol=atol)


@pytest.mark.parametrize("returned", [{}, {"convert_to_tensor": True}, {"convert_to_numpy": False}])
@pytest.mark.parametrize(
    "inputs",
    [
        "one text",
        "",
        TEXTS,
        tuple(TEXTS),
        TEXTS[:1],
        ("two", "texts"),
        [],
        (),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        np.str_("one text"),
    ],
    ids=lambda inputs: f"{type(inputs).__name__}-{len(inputs)}",
)
def test_inputs_and_what_is_returned(
    both: tuple[SentenceTransformer, Theirs], inputs: Any, returned: dict[str, Any]
) -> None:
    ours, theirs = both
    assert_same(ours.encode(inputs, **returned), theirs.encode(inputs, **returned))


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 2},
        {"show_progress_bar": False},
        {"prompt_name": "query"},
        {"prompt_name": "summary"},
        {"prompt": "list of "},
        {"prompt": ""},
        {"prompt": "list of ", "prompt_name": "query"},
        {"normalize_embeddings": True},
        {"truncate_dim": 7},
        {"truncate_dim": 100},
        {"truncate_dim": 7, "normalize_embeddings": True},
        {"truncate_dim": 7, "convert_to_tensor": True, "normalize_embeddings": True},
        {"precision": None},
        {"precision": "float32"},
        {"precision": "binary"},
        {"precision": "ubinary", "truncate_dim": 12},
        {"precision": "ubinary", "convert_to_tensor": True},
        {"precision": "binary", "convert_to_numpy": False},
        {"convert_to_tensor": True, "convert_to_numpy": True},
        {"device": "cpu"},
        {"device": torch.device("cpu")},
        {"pool": None, "chunk_size": None},
    ],
    ids=str,
)
def test_arguments_of_encode(both: tuple[SentenceTransformer, Theirs], arguments: dict[str, Any]) -> None:
    ours, theirs = both
    assert_same(ours.encode(TEXTS, **arguments), theirs.encode(TEXTS, **arguments))
    assert_same(ours.encode(TEXTS[0], **arguments), theirs.encode(TEXTS[0], **arguments))
    assert_same(ours.encode([], **arguments), theirs.encode([], **arguments))


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_bytes_are_the_same_but_for_the_rounding_of_the_embeddings(
    both: tuple[SentenceTransformer, Theirs], precision: str
) -> None:
    ours, theirs = (model.encode([f"{word} of water" for word in WORDS], precision=precision) for model in both)
    assert ours.dtype == theirs.dtype == precision
    differences = np.abs(ours.astype(int) - theirs)
    assert differences.max() <= 1
    assert (differences > 0).mean() < 0.01
    for model in both:
        with pytest.raises(ValueError, match=r"(one|single) embedding"):
            model.encode("one text", precision=precision)


def test_arguments_by_place_and_by_their_earlier_name(both: tuple[SentenceTransformer, Theirs]) -> None:
    ours, theirs = both
    place = (TEXTS, "query", None, 8, False, "sentence_embedding", "float32", True, True, None, True, 5)
    assert_same(ours.encode(*place), theirs.encode(*place))
    assert_same(ours.encode_query(TEXTS, None, None, 8), theirs.encode_query(TEXTS, None, None, 8))
    earlier: dict[str, Any] = {"sentences": TEXTS}
    for name in ("encode", "encode_query", "encode_document"):
        assert_same(getattr(ours, name)(**earlier), getattr(theirs, name)(TEXTS))
        with pytest.raises(TypeError, match="'inputs' and 'sentences'"):
            getattr(ours, name)(inputs=TEXTS, **earlier)


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"prompts": PROMPTS},
        {"prompts": PROMPTS, "default_prompt_name": "summary"},
        {"prompts": {"document": "a ", "query": "", "corpus": "b "}, "default_prompt_name": "corpus"},
        {"prompts": {"corpus": "b "}},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"prompts": {"query": "why "}},
        {"prompts": {"query": "", "document": "of "}},
        {"prompts": {"mine": "my "}, "default_prompt_name": "mine"},
    ],
    ids=str,
)
def test_prompts_of_the_folder_and_of_the_call(
    encoder_folder: EncoderFolder, stored: dict[str, Any], given: dict[str, Any]
) -> None:
    folder = encoder_folder("bert", **stored)
    ours, theirs = SentenceTransformer(folder, **given), Theirs(str(folder), **given)
    assert ours.prompts == theirs.prompts
    assert ours.default_prompt_name == theirs.default_prompt_name
    for method in ("encode", "encode_query", "encode_document"):
        for arguments in ({}, {"prompt": "list "}, {"prompt_name": "query"}):
            one, other = (getattr(model, method)(TEXTS, **arguments) for model in (ours, theirs))
            assert_same(one, other)


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_prompts_that_pooling_leaves_out(encoder_folder: EncoderFolder, family: str) -> None:
    folder = encoder_folder(family, include_prompt=False, prompts=PROMPTS)
    ours, theirs = SentenceTransformer(folder), Theirs(str(folder))
    without = ours.encode_query(TEXTS)
    assert_same(without, theirs.encode_query(TEXTS))
    assert_same(ours.encode(TEXTS, prompt="list of "), theirs.encode(TEXTS, prompt="list of "))
    ours.set_pooling_include_prompt(True)
    theirs.set_pooling_include_prompt(True)
    assert_same(ours.encode_query(TEXTS), theirs.encode_query(TEXTS))
    assert np.abs(ours.encode_query(TEXTS) - without).max() > 1e-3


def test_prompts_may_be_added_later(folder: Path) -> None:
    ours, theirs = SentenceTransformer(folder), Theirs(str(folder))
    for model in (ours, theirs):
        model.prompts["late"] = "open the "
        model.default_prompt_name = "late"
    assert_same(ours.encode(TEXTS), theirs.encode(TEXTS))
    with pytest.raises(ValueError, match="prompt 'other' is not one of the model's"):
        ours.encode(TEXTS, prompt_name="other")
    with pytest.raises(ValueError, match="prompt 'other' is not one of the model's"):
        SentenceTransformer(folder, default_prompt_name="other")


def test_the_longest_text_is_read_and_set(folder: Path) -> None:
    ours, theirs = SentenceTransformer(folder), Theirs(str(folder))
    assert ours.max_seq_length == ours.get_max_seq_length() == theirs.max_seq_length == 64
    full = ours.encode(TEXTS)
    for limit in (9, 3, 64, 160):
        ours.max_seq_length = theirs.max_seq_length = limit
        assert ours.max_seq_length == theirs.max_seq_length == limit
        assert ours.tokenizer.model_max_length == limit
        assert_same(ours.encode(TEXTS), theirs.encode(TEXTS))
    assert np.abs(ours.encode(TEXTS) - full).max() > 1e-3, "the long text is longer than 64"
    for wrong in (2, 161, None, "64"):
        with pytest.raises(ValueError, match=r"max_seq_length is .*; this model takes 3 to 160 tokens"):
            ours.max_seq_length = wrong  # type: ignore[assignment]


def test_dimensions_and_cutting(encoder_folder: EncoderFolder) -> None:
    folder = encoder_folder("bert", truncate_dim=16)
    for given in (None, 8, 24, 100):
        ours, theirs = SentenceTransformer(folder, truncate_dim=given), Theirs(str(folder), truncate_dim=given)
        size = theirs.get_embedding_dimension()
        assert ours.get_embedding_dimension() == ours.get_sentence_embedding_dimension() == size
        assert_same(ours.encode(TEXTS), theirs.encode(TEXTS))
        assert_same(ours.encode(TEXTS, truncate_dim=20), theirs.encode(TEXTS, truncate_dim=20))
        with ours.truncate_embeddings(5), theirs.truncate_embeddings(5):
            assert_same(ours.encode(TEXTS), theirs.encode(TEXTS))
            assert ours.get_embedding_dimension() == 5
        with ours.truncate_sentence_embeddings(None):
            assert ours.encode(TEXTS).shape == (5, 32)
        assert ours.get_embedding_dimension() == size


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity(both: tuple[SentenceTransformer, Theirs], name: str) -> None:
    ours, theirs = both
    ours.similarity_fn_name = theirs.similarity_fn_name = name
    assert ours.similarity_fn_name == theirs.similarity_fn_name == name
    vectors = theirs.encode(TEXTS)
    for a, b in [(vectors, vectors[:2]), (vectors[0], vectors), (torch.tensor(vectors), torch.tensor(vectors))]:
        assert_same(ours.similarity(a, b), theirs.similarity(a, b))
    assert_same(
        ours.similarity_pairwise(vectors[:2], vectors[2:4]), theirs.similarity_pairwise(vectors[:2], vectors[2:4])
    )


def test_the_name_of_the_similarity(encoder_folder: EncoderFolder) -> None:
    dot, silent = encoder_folder("bert", similarity="dot"), encoder_folder("bert", similarity_fn_name=None)
    assert SentenceTransformer(dot).similarity_fn_name == "dot"
    assert SentenceTransformer(silent).similarity_fn_name == "cosine"
    assert SentenceTransformer(dot, similarity_fn_name="manhattan").similarity_fn_name == "manhattan"
    model = SentenceTransformer(dot, similarity_fn_name=SimilarityFunction.EUCLIDEAN)
    assert model.similarity_fn_name == "euclidean"
    model.similarity_fn_name = None
    assert model.similarity_fn_name == "cosine"
    with pytest.raises(ValueError, match="'maxsim' is not supported; these are: cosine, dot, euclidean, manhattan"):
        model.similarity_fn_name = "maxsim"


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_tokens(encoder_folder: EncoderFolder, family: str) -> None:
    folder = encoder_folder(family)
    ours, theirs = SentenceTransformer(folder), Theirs(str(folder))
    mine, tokens = ours.tokenize(TEXTS), theirs.tokenize(TEXTS)
    for name in ("input_ids", "attention_mask"):
        torch.testing.assert_close(mine[name], tokens[name], rtol=0, atol=0)
    assert len(ours.tokenizer) == len(theirs.tokenizer)
    calls: list[dict[str, Any]] = [{}, {"truncation": True}, {"padding": True}]
    for options in calls:
        for text in (TEXTS, TEXTS[0]):
            expected = theirs.tokenizer(text, **options)
            assert ours.tokenizer(text, **options) == {name: expected[name] for name in ("input_ids", "attention_mask")}
    one = ours.tokenizer(TEXTS[0], return_tensors="pt")
    torch.testing.assert_close(one["input_ids"], theirs.tokenizer(TEXTS[0], return_tensors="pt")["input_ids"])
    assert ours.tokenizer.tokenize(TEXTS[0]) == theirs.tokenizer.tokenize(TEXTS[0])
    ids = ours.tokenizer.encode(TEXTS[0])
    assert ids == theirs.tokenizer.encode(TEXTS[0])
    assert ours.tokenizer.decode(ids) == theirs.tokenizer.decode(ids)
    with pytest.raises(ValueError, match="padding=True"):
        ours.tokenizer(TEXTS, return_tensors="pt")
    with pytest.raises(UsageError, match="'np' is not supported"):
        ours.tokenizer(TEXTS, return_tensors="np")


def test_devices(folder: Path) -> None:
    model = SentenceTransformer(folder, device=torch.device("cpu"))
    assert model.device == torch.device("cpu")
    assert model.to("cpu") is model.cpu() is model.eval() is model
    assert "device='cpu'" in repr(model)
    for wrong in ("cuda:77", "toaster"):
        with pytest.raises(UsageError, match=f"device '{wrong}' is not available here"):
            model.to(wrong)
        with pytest.raises(UsageError, match=f"device '{wrong}' is not available here"):
            model.encode(TEXTS, device=wrong)
    assert model.encode(TEXTS).shape == (5, 32)


def test_a_gpu_gives_the_same(folder: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU is at hand")
    here, there = SentenceTransformer(folder, device="cpu"), SentenceTransformer(folder, device="cuda")
    tensor = there.encode(TEXTS, convert_to_tensor=True)
    assert tensor.device.type == there.device.type == "cuda"
    np.testing.assert_allclose(tensor.cpu().numpy(), here.encode(TEXTS), atol=1e-4)
    assert there.encode(TEXTS, precision="ubinary", convert_to_tensor=True).device.type == "cpu", (
        "as the original has it"
    )
    np.testing.assert_allclose(here.encode(TEXTS, device="cuda:0"), here.cpu().encode(TEXTS), atol=1e-4)


def test_saved_models_are_read_by_everyone(folder: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(folder, prompts={"query": "why "}, similarity_fn_name="dot", truncate_dim=20)
    model.max_seq_length = 30
    model.save(tmp_path / "one")
    model.save_pretrained(str(tmp_path / "two"), model_name="my model")
    expected = model.encode_query(TEXTS)
    assert_same(Encoder(tmp_path / "one", precision="float32").encode_query(TEXTS), expected)
    for read in (SentenceTransformer(tmp_path / "two"), Theirs(str(tmp_path / "two"))):
        assert_same(read.encode_query(TEXTS), expected)
        assert read.similarity_fn_name == "dot"
        assert read.max_seq_length == 30
        assert read.prompts == model.prompts
        assert read.get_embedding_dimension() == 20
    assert "# one\n" in (tmp_path / "one" / "README.md").read_text()
    assert "# my model\n" in (tmp_path / "two" / "README.md").read_text()
    with pytest.raises(ArtifactError, match="one"):
        model.save(tmp_path / "one")


def test_an_unchanged_model_keeps_its_fingerprint_when_it_is_saved(folder: Path, tmp_path: Path) -> None:
    SentenceTransformer(folder).save(tmp_path / "copy", create_model_card=False)
    assert Encoder(tmp_path / "copy").fingerprint == Encoder(folder).fingerprint
    assert not (tmp_path / "copy" / "README.md").exists()


def test_a_similarity_that_a_folder_cannot_keep_is_not_saved(folder: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(folder, similarity_fn_name="manhattan")
    with pytest.raises(UsageError, match="keeps cosine or dot as its similarity, not manhattan"):
        model.save(tmp_path / "model")
    with pytest.raises(UsageError, match="safetensors only"):
        model.save(tmp_path / "model", safe_serialization=False)
    assert not (tmp_path / "model").exists()


def test_lower_case_and_bare_backbones(encoder_folder: EncoderFolder, backbone_folder: Callable[[str], Path]) -> None:
    lower = encoder_folder("bert")
    edit(lower / "sentence_bert_config.json", do_lower_case=True)
    texts = ["How DO I brew Coffee", "WHAT [SEP] is"]
    for path in (lower, backbone_folder("distilbert")):
        assert_same(SentenceTransformer(str(path)).encode(texts), Theirs(str(path)).encode(texts))


def test_progress_is_shown_when_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairloom.progress._PLAIN_LINE_EVERY_S", 0.0)
    model = SentenceTransformer(folder)
    shown: dict[Any, bool] = {}
    for argument in (True, False, None):
        model.encode(TEXTS, show_progress_bar=argument)
        shown[argument] = "encoding" in capsys.readouterr().err
    assert shown == {True: True, False: False, None: False}
    logging.getLogger("pairloom").setLevel(logging.INFO)
    model.encode(TEXTS)
    assert "encoding" in capsys.readouterr().err


def test_embeddings_are_the_callers_own(both: tuple[SentenceTransformer, Theirs]) -> None:
    ours, _ = both
    array: npt.NDArray[np.float32] = ours.encode(TEXTS, truncate_dim=4)
    assert array.flags.c_contiguous
    array[:] = 0
    tensor = ours.encode(TEXTS, convert_to_tensor=True)
    assert not tensor.is_inference(), "autograd may use it"
    assert tensor.abs().min() > 0
