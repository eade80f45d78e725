"""The tokenizer against transformers, for the three kinds of tokenizer that the families use."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from pairloom.errors import ModelError
from pairloom.models.tokenizer import Tokenizer, Tokens
from tests.conftest import WORDS, make_tokenizer

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
TEXTS = [
    "how do I brew coffee?",
    "",
    " ",
    "naïve Ärger 🍲",
    "a" * 300,
    "the <mask> of </s> water",
    "of " * 40,
    "\tnew\nline",
]


def byte_level() -> Backend:
    """As RoBERTa's: byte-level BPE."""
    backend = Backend(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    return backend


def unigram() -> Backend:
    """As XLM-R's: SentencePiece's unigram model."""
    backend = Backend(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    return backend


def with_specials(make: Callable[[], Backend]) -> transformers.PreTrainedTokenizerFast:
    backend = make()
    pairs = [(token, backend.token_to_id(token)) for token in ("<s>", "</s>")]
    backend.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=pairs)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level", "unigram"])
@pytest.mark.parametrize("limit", [3, 16, 512, None])
@pytest.mark.parametrize("short", [0, 10**9])
def test_equals_transformers(kind: str, limit: int | None, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairloom.models.tokenizer._SHORT", short)  # so it does one by one, and all at once
    oracle = {
        "wordpiece": lambda: make_tokenizer(roberta_like=False),
        "byte-level": lambda: with_specials(byte_level),
        "unigram": lambda: with_specials(unigram),
    }[kind]()
    tokenizer = Tokenizer(oracle.backend_tokenizer.to_str().encode(), max_tokens=limit)
    expected = oracle(TEXTS, truncation=limit is not None, max_length=limit)["input_ids"]
    whole = oracle(TEXTS)["input_ids"]
    tokens = tokenizer(TEXTS)
    assert np.split(tokens.ids, np.cumsum(tokens.lengths)[:-1])[0].tolist() == expected[0]
    assert tokens.ids.tolist() == [token for row in expected for token in row]
    assert tokens.lengths.tolist() == list(map(len, expected))
    assert tokens.truncated.tolist() == [limit is not None and len(row) > limit for row in whole]
    assert tokenizer.vocabulary_size == max(oracle.get_vocab().values()) + 1


def test_rows_are_padded_on_the_right() -> None:
    tokens = Tokens(np.arange(1, 7, dtype=np.int32), np.array([1, 3, 2]), np.zeros(3, dtype=bool))
    assert tokens.padded(np.array([2, 0, 1]), 9).tolist() == [[5, 6, 9], [1, 9, 9], [2, 3, 4]]
    both = Tokens.concatenate([tokens, tokens])
    assert both.padded(np.array([4]), 9).tolist() == [[2, 3, 4]]


def test_what_is_no_tokenizer() -> None:
    with pytest.raises(ModelError, match=r"tokenizer.json: not a tokenizer"):
        Tokenizer(b'{"a": 1}', max_tokens=8)


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level", "unigram"])
@pytest.mark.parametrize("limit", [3, 16, None])
def test_token_numbers_with_and_without_special_ones(kind: str, limit: int | None) -> None:
    oracle = {
        "wordpiece": lambda: make_tokenizer(roberta_like=False),
        "byte-level": lambda: with_specials(byte_level),
        "unigram": lambda: with_specials(unigram),
    }[kind]()
    tokenizer = Tokenizer(oracle.backend_tokenizer.to_str().encode(), max_tokens=limit)
    expected = tokenizer(TEXTS)
    for special in (True, False):
        rows = oracle(TEXTS, add_special_tokens=special)["input_ids"]
        found = tokenizer.around(rows)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.lengths, expected.lengths)
        np.testing.assert_array_equal(found.truncated, expected.truncated)
    assert len(tokenizer.around([])) == 0


def test_a_prompt_before_token_numbers() -> None:
    content = make_tokenizer(roberta_like=False).backend_tokenizer.to_str().encode()
    tokenizer = Tokenizer(content, max_tokens=8)
    texts = ["coffee bean", "", "the cup is hot and the water is cold"]
    rows = [oracle[1:-1] for oracle in make_tokenizer(roberta_like=False)(texts)["input_ids"]]
    expected, found = tokenizer(["what is " + text for text in texts]), tokenizer.around(rows, "what is ")
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    np.testing.assert_array_equal(found.truncated, expected.truncated)


def test_a_tokenizer_without_special_tokens_puts_none_around() -> None:
    tokenizer = Tokenizer(unigram().to_str().encode(), max_tokens=4)
    found = tokenizer.around([[5, 6], [1, 2, 3, 4, 5]])
    assert found.ids.tolist() == [5, 6, 1, 2, 3, 4]
    assert found.truncated.tolist() == [False, True]
