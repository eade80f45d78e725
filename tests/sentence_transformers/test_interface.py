"""Names and signatures: those of sentence-transformers 6.2, and what importing them costs."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest
import sentence_transformers as theirs

import pairloom.sentence_transformers as ours


def test_public_names() -> None:
    assert ours.__all__ == ["SentenceTransformer", "SimilarityFunction", "quantize_embeddings", "util"]
    assert ours.util.__all__ == [
        "SimilarityFunction",
        "community_detection",
        "cos_sim",
        "dot_score",
        "euclidean_sim",
        "manhattan_sim",
        "normalize_embeddings",
        "pairwise_cos_sim",
        "pairwise_dot_score",
        "pairwise_euclidean_sim",
        "pairwise_manhattan_sim",
        "paraphrase_mining",
        "paraphrase_mining_embeddings",
        "pytorch_cos_sim",
        "quantize_embeddings",
        "semantic_search",
        "truncate_embeddings",
    ]
    assert all(hasattr(ours.util, name) for name in ours.util.__all__)


def parameters(function: Any) -> list[tuple[str, Any]]:
    """Names and defaults in their order; functions by their names, and a catch-all left out."""
    found = inspect.signature(function).parameters.values()
    return [
        (one.name, getattr(one.default, "__name__", one.default)) for one in found if one.kind is not one.VAR_KEYWORD
    ]


@pytest.mark.parametrize(
    "name", [name for name in ours.util.__all__ if name not in ("SimilarityFunction", "pytorch_cos_sim")]
)
def test_functions_are_called_the_same_way(name: str) -> None:
    assert parameters(getattr(ours.util, name)) == parameters(getattr(theirs.util, name))


@pytest.mark.parametrize("name", ["encode", "similarity", "similarity_pairwise", "truncate_embeddings"])
def test_methods_are_called_the_same_way(name: str) -> None:
    mine, other = (getattr(package.SentenceTransformer, name) for package in (ours, theirs))
    assert parameters(mine) == parameters(other)


def test_every_option_of_the_constructor_is_taken_or_refused() -> None:
    from pairloom.sentence_transformers.refusals import _OPTIONS

    taken = {name for name, _ in parameters(ours.SentenceTransformer)}
    known = {name for name, _ in parameters(theirs.SentenceTransformer)}
    assert known <= taken | _OPTIONS.keys()


def test_every_method_is_there_or_refused_with_a_sentence() -> None:
    from pairloom.sentence_transformers.refusals import _NAMES

    known = {
        name
        for part in theirs.SentenceTransformer.__mro__
        if part.__module__.startswith("sentence_transformers.")
        for name in vars(part)
        if not name.startswith("_")
    }
    of_no_use = """
        SUPPORTED_SIMILARITY_FN_NAMES call_super_init clear_placement_cache default_huggingface_organization get_backend
        get_model_kwargs get_sentence_features is_singular_input load modalities model_card_data_class model_type
        smart_batching_collate supports active_adapter active_adapters check_peft_compatible_model add_adapter delete_adapter disable_adapters
        enable_adapters get_adapter_state_dict has_peft_compatible_model load_adapter set_adapter
    """
    assert known - set(of_no_use.split()) <= set(dir(ours.SentenceTransformer)) | _NAMES.keys()


def test_neither_oracle_is_imported() -> None:
    code = "import pairloom.sentence_transformers, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "torch" in loaded
    assert not loaded & {"transformers", "sentence_transformers", "scipy", "sklearn", "pyarrow"}


def test_without_torch_a_sentence_says_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None\nimport pairloom.sentence_transformers"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "pairloom.errors.MissingExtraError: pairloom.sentence_transformers needs torch, which is not installed: "
        "pip install 'pairloom[torch]'"
    )
