"""Each published system from its recipe, at reduced size: real samples to shards, a run, and what its card says of the model."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from pairloom import Encoder
from pairloom.encode.dual_encoder import load_encoder
from pairloom.evaluate.evaluation import evaluate
from pairloom.evaluate.tasks import RetrievalTask
from pairloom.models.write import write_model
from pairloom.pairs.shards import Shards
from pairloom.recipe import DatasetSection, Recipe, load_data_recipe, load_recipe
from pairloom.records import Pair, Text
from pairloom.sources.prepare_recipe import make, plan, with_shards
from pairloom.train.base import start_model
from pairloom.train.loop import train
from pairloom.train.metrics import first_and_last, losses_by_dataset

NUM_WORDS = 2000
NUM_POSITIONS = 514
NUM_HELD_OUT = 200
STEPS, BATCH_SIZE = 100, 32
# Of the samples, those of which a pair is left; some have a handful of records.
ONLY = [
    *("*/small_stackexchanges", "*/stackoverflow.com-Posts", "stackexchange_duplicate_*", "searchQA_*", "amazon-qa-*"),
    *("eli5_*", "yahoo_answers_*", "gooaq_pairs", "reddit/*", "reddit_contexts/*"),
]


@dataclass(frozen=True)
class System:
    """What a published system's card and files say of it, and in which dataset's pairs it is measured here."""

    recipe: str
    family: str
    pooling: str
    normalized: bool
    similarity: str
    max_tokens: int
    measured_on: str
    num_datasets: int


TITLES = "stackexchange_title_body/small_stackexchanges"
SYSTEMS = (
    System(
        "stackoverflow_mpnet-base",
        "mpnet",
        "mean",
        True,
        "cosine",
        128,
        "stackexchange_title_body/stackoverflow.com-Posts",
        1,
    ),
    System("reddit_single-context_mpnet-base", "mpnet", "mean", True, "cosine", 128, "reddit/reddit_2015", 1),
    System("reddit_multi-context_mpnet-base", "mpnet", "mean", True, "cosine", 128, "reddit_contexts/reddit_2015", 1),
    System("multi-qa_v1-mpnet-asymmetric", "mpnet", "mean", True, "cosine", 256, TITLES, 11),
    System("multi-qa-mpnet-base-dot-v1", "mpnet", "cls", False, "dot", 512, TITLES, 11),
    System("multi-qa-distilbert-cos-v1", "distilbert", "mean", True, "cosine", 512, TITLES, 11),
    System("all-MiniLM-L6-v2", "bert", "mean", True, "cosine", 256, TITLES, 17),
)


@pytest.fixture(scope="module")
def dumps(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The real samples; Reddit's questions and answers stand in for its comments, of which there are only two threads."""
    lines = gzip.decompress((shared / "data" / "reddit_question_answer.jsonl.gz").read_bytes()).splitlines()[:1500]
    rows = [json.loads(line) for line in lines]
    pairs = [row["texts"] if isinstance(row, dict) else row for row in rows]
    folder = tmp_path_factory.mktemp("dumps")
    for name in ("reddit/reddit_2015", "reddit_contexts/reddit_2015"):
        records = [{"context": question, "response": answer, "context/0": answer[:80]} for question, answer in pairs]
        path = folder / f"{name}.jsonl.gz"
        path.parent.mkdir()
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, records)).encode()))
    return [shared / "data", shared / "formats", folder]


@dataclass(frozen=True)
class Made:
    """Shards of all datasets that the samples give, in a folder, and the pairs that were kept out of all of them."""

    folder: Path
    held_out: dict[str, list[Pair]]


@pytest.fixture(scope="module")
def made(dumps: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    before, here = Path.cwd(), tmp_path_factory.mktemp("systems")
    kept: dict[str, list[Pair]] = {}
    (here / "first").mkdir()
    os.chdir(here / "first")
    for system in SYSTEMS:
        for one in plan(datasets(system.recipe), dumps).to_make:
            if one.name == system.measured_on:
                make(one, show_progress=False)
                kept[one.name] = held_out(list(Shards(one.shards)))
    texts = [text for rows in kept.values() for row in rows for text in (row.anchor, row.positive)]
    os.chdir(here)
    for system in SYSTEMS:
        for one in plan(datasets(system.recipe), dumps).to_make:
            make(one, exclude={"held out": texts}, show_progress=False)
    yield Made(here, kept)
    os.chdir(before)


def held_out(rows: list[Pair]) -> list[Pair]:
    """Some rows, a quarter of all at most, of which no two have a text in common."""
    seen: set[str] = set()
    found = []
    for row in rows:
        if seen.isdisjoint((row.anchor, row.positive)):
            seen |= {row.anchor, row.positive}
            found.append(row)
    return found[: min(NUM_HELD_OUT, len(rows) // 4)]


def datasets(recipe: str) -> tuple[DatasetSection, ...]:
    """Those of a recipe of which there are samples."""
    every = load_data_recipe(Path(recipe)).data.datasets
    return tuple(one for one in every if any(fnmatchcase(one.dataset_name, pattern) for pattern in ONLY))


def make_base(path: Path, system: System, texts: list[str]) -> None:
    """A random network of two layers, which knows the commonest words of the texts."""
    # The first token knows nothing of the others while attention is even, as it is with the usual small weights.
    spread = 0.2 if system.pooling == "cls" else 0.02
    counts = Counter(word.strip(".,?!:;()").lower() for text in texts for word in text.split())
    words = [word for word, _ in counts.most_common(NUM_WORDS) if word.isalnum()]
    first, pad, last, unknown = (
        ("<s>", "<pad>", "</s>", "<unk>") if system.family == "mpnet" else ("[CLS]", "[PAD]", "[SEP]", "[UNK]")
    )
    special = [first, pad, last, unknown]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys([*special, *words]))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        cls_token=first,
        sep_token=last,
        pad_token=pad,
        unk_token=unknown,
        model_max_length=512,
    )
    common = {"vocab_size": len(vocabulary), "pad_token_id": vocabulary[pad], "max_position_embeddings": NUM_POSITIONS}
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "initializer_range": spread,
    }
    torch.manual_seed(0)
    match system.family:
        case "mpnet":
            model = transformers.MPNetModel(transformers.MPNetConfig(**common, **sizes))
        case "bert":
            model = transformers.BertModel(transformers.BertConfig(**common, **sizes))
        case "distilbert":
            config = transformers.DistilBertConfig(
                **common, dim=32, n_layers=2, n_heads=4, hidden_dim=64, initializer_range=spread
            )
            model = transformers.DistilBertModel(config)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def task_of(rows: list[Pair]) -> RetrievalTask:
    """Each row's positive is to be found by its anchor among those of all."""
    return RetrievalTask(
        name="held out",
        queries=tuple(Text(f"q{number}", row.anchor) for number, row in enumerate(rows)),
        documents=tuple(Text(f"d{number}", row.positive) for number, row in enumerate(rows)),
        judgements={f"q{number}": {f"d{number}": 1} for number in range(len(rows))},
    )


def of_few_rows(datasets: Iterable[DatasetSection]) -> dict[str, int]:
    """Settings for datasets with too few pairs for a batch: smaller batches, and no more than two epochs of them."""
    settings: dict[str, int] = {}
    for one in datasets:
        columns = zip(*((row.anchor, row.positive, *row.negatives) for row in Shards(one.shards)), strict=True)
        if (fewest := min(len(set(column)) for column in columns)) < BATCH_SIZE:
            settings |= {f'data.datasets."{one.dataset_name}".batch_size': fewest}
            settings |= {f'data.datasets."{one.dataset_name}".max_epochs': 2}
    return settings


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.recipe)
def test_a_published_system_from_its_recipe(
    system: System, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.folder)
    there = [one for one in datasets(system.recipe) if one.shards.exists()]
    assert len(there) == system.num_datasets
    rows = [row for one in there for row in Shards(one.shards)]
    make_base(tmp_path / "base", system, [text for row in rows for text in (row.anchor, row.positive)])
    settings = {
        "data.missing": "leave-out",
        "model.base": str(tmp_path / "base"),
        "train.steps": STEPS,
        "train.warmup_steps": 5,
        "train.batch_size": BATCH_SIZE,
        "train.learning_rate": 2e-3,  # of a network of this size
    }
    if "multi-context" not in system.recipe:
        settings["data.only"] = json.dumps([one.dataset_name for one in there])
    settings |= of_few_rows(there)
    recipe = load_recipe(Path(system.recipe), [f"{key}={value}" for key, value in settings.items()])
    out = tmp_path / "model"
    result = train(with_shards(recipe, name=system.recipe), out, show_progress=False)

    drawn = {data["name"]: data for data in result.facts["data"]}
    assert {name: data["weight"] for name, data in drawn.items()} == {one.dataset_name: one.weight for one in there}
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    _, losses = losses_by_dataset(records, list(drawn))[system.measured_on]
    first, last, _ = first_and_last(losses)
    assert last < first

    task = task_of(made.held_out[system.measured_on])
    untrained = load_encoder(untrained_model(recipe, tmp_path / "untrained"), precision="float32")
    after = evaluate(load_encoder(str(out), precision="float32"), task, baseline=untrained)
    comparison = after.metrics["MRR@10"].comparison
    assert comparison is not None
    assert comparison.difference > 0
    for half in (out / "Q", out / "A") if system.recipe.endswith("asymmetric") else (out,):
        check_card(system, half, [text.text for text in task.documents])


def check_card(system: System, folder: Path, texts: list[str]) -> None:
    """What the published card says holds for the folder, and sentence-transformers reads the same model from it."""
    model = Encoder(folder, precision="float32").model
    assert model.architecture.family == system.family
    assert (model.pooling.modes, model.normalized) == ((system.pooling,), system.normalized)
    assert (model.similarity, model.max_tokens, model.dimensions) == (system.similarity, system.max_tokens, 32)
    ours = Encoder(folder, precision="float32").encode(texts)
    theirs = SentenceTransformer(str(folder), device="cpu")
    assert theirs.max_seq_length == system.max_tokens
    assert theirs.similarity_fn_name == system.similarity
    assert ours == pytest.approx(theirs.encode(texts), abs=1e-5)
    lengths = np.linalg.norm(ours, axis=1)
    assert (np.abs(lengths - 1).max() < 1e-5) == system.normalized


def untrained_model(recipe: Recipe, path: Path) -> str:
    """The model that the run began with, written as the run would have written it."""
    path.mkdir()
    write_model(start_model(recipe), path, readme="untrained\n")
    return str(path)
