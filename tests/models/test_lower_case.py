"""Two files of a tokenizer that contradict each other are said, and tokenizer.json counts."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers

from pairloom.models.lower_case import lower_case_conflict
from pairloom.models.read import read_model


def files(normalizer: Any, **config: Any) -> dict[str, bytes]:
    return {
        "tokenizer_config.json": json.dumps(config).encode(),
        "tokenizer.json": json.dumps({"normalizer": normalizer}).encode(),
    }


LOWER, CASED = ({"type": "BertNormalizer", "lowercase": lowercase} for lowercase in (True, False))


@pytest.mark.parametrize("name", ["BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "MPNetTokenizerFast"])
def test_a_contradiction_is_one_sentence(name: str) -> None:
    said = lower_case_conflict(files(LOWER, tokenizer_class=name, do_lower_case=False))
    assert said.startswith(
        "tokenizer_config.json says do_lower_case = false, but tokenizer.json lower-cases and is what"
    )
    said = lower_case_conflict(files(CASED, tokenizer_class=name, do_lower_case=True))
    assert said.startswith(
        "tokenizer_config.json says do_lower_case = true, but tokenizer.json keeps capitals and is what"
    )


@pytest.mark.parametrize(
    "content",
    [
        files(LOWER, tokenizer_class="BertTokenizer", do_lower_case=True),
        files(CASED, tokenizer_class="BertTokenizer", do_lower_case=False),
        files(LOWER, tokenizer_class="BertTokenizer"),
        files(LOWER, tokenizer_class="BertTokenizer", do_lower_case="false"),
        files(LOWER, tokenizer_class="PreTrainedTokenizerFast", do_lower_case=False),
        files(LOWER, do_lower_case=False),
        files(None, tokenizer_class="BertTokenizer", do_lower_case=True),
        files({"type": "Lowercase"}, tokenizer_class="BertTokenizer", do_lower_case=False),
        {**files(LOWER, tokenizer_class="BertTokenizer", do_lower_case=False), "tokenizer_config.json": b"{"},
        {**files(LOWER), "tokenizer_config.json": b"[]"},
        {"tokenizer.json": b"{}"},
    ],
)
def test_what_agrees_or_has_no_effect_is_not_mentioned(content: dict[str, bytes]) -> None:
    assert lower_case_conflict(content) == ""


@pytest.mark.parametrize(("asked", "differs"), [(False, True), (True, False)])
def test_the_warning_comes_where_transformers_reads_otherwise(
    asked: bool, differs: bool, model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    file = folder / "tokenizer_config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"tokenizer_class": "BertTokenizer", "do_lower_case": asked})
    )
    with caplog.at_level(logging.WARNING, logger="pairloom"):
        model = read_model(folder)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ([str(folder)] if differs else [])
    oracle = transformers.AutoTokenizer.from_pretrained(folder)
    ours, theirs = model.tokenizer()(["HOW to brew"]).ids.tolist(), oracle("HOW to brew")["input_ids"]
    assert (ours != theirs) == differs
    assert ours == model.tokenizer()(["how to brew"]).ids.tolist(), "as tokenizer.json has it"


def test_lower_casing_before_the_tokenizer_makes_the_question_idle(
    model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    for name, changes in (
        ("tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": False}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
    ):
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))
    with caplog.at_level(logging.WARNING, logger="pairloom"):
        read_model(folder)
    assert caplog.records == []
