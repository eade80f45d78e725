"""Tiny models that the tests make themselves, so that none is downloaded and none is committed."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import install_import_hook

# Shapes in annotations are checked while the tests run.
install_import_hook(
    [
        "pairloom.network",
        "pairloom.train.gradient_cache",
        "pairloom.train.losses",
        "pairloom.train.objective",
        "pairloom.train.step",
    ],
    "beartype.beartype",
)

import torch  # noqa: E402
import transformers  # noqa: E402
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors  # noqa: E402

from pairloom.pairs.clean import text_hash  # noqa: E402
from pairloom.pairs.shards import CONTEXT_COLUMNS, PAIR_COLUMNS, TRIPLET_COLUMNS, Layout, new_shards  # noqa: E402
from pairloom.recipe import Recipe, parse_recipe  # noqa: E402

FAMILIES = ("bert", "roberta", "xlm-roberta", "distilbert", "mpnet")
SHARED = Path(__file__).resolve().parents[1].parent / "shared"

WORDS = (
    "the a of to and in how do i what is why can you my not it on for with python list file error water coffee bean "
    "grind brew cup hot cold train model text search vector answer question open close read write run stop fast slow"
).split()


@pytest.fixture(scope="session", autouse=True)
def heeded_interrupts() -> None:
    """Whoever is started in the background ignores Ctrl-C, and so would the commands that the tests start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real samples, beside the checkout where there is one."""
    if not SHARED.is_dir():
        pytest.skip("real samples are not at hand (../shared)")
    return SHARED


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a bare random backbone of a family, as transformers saves it; one of each is made a session."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            save_backbone(family, made[family])
        return made[family]

    return make


@pytest.fixture(scope="session")
def model_folder(backbone_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT sentence encoder in the older dialect: mean pooling, normalised, 64 tokens."""
    import shutil

    path = tmp_path_factory.mktemp("model") / "tiny"
    shutil.copytree(backbone_folder("bert"), path)
    write_modules(path)
    return path


@pytest.fixture(autouse=True)
def _fresh_logger() -> Iterator[None]:
    """The command line sets the logger up; other tests want it as it was."""
    logger = logging.getLogger("pairloom")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def make_shards(path: Path, rows: Sequence[tuple[str, ...]], *, contexts: bool = False) -> Path:
    """A shards folder of these pairs or triplets, or of replies with what was said before."""
    three = CONTEXT_COLUMNS if contexts else TRIPLET_COLUMNS
    with new_shards(path, Layout(three if len(rows[0]) == 3 else PAIR_COLUMNS)) as writer:
        for texts in rows:
            writer.write(texts, [text_hash(text) for text in texts])
    return path


def make_pairs(count: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """Different pairs that can be learnt: the positive repeats words of its anchor."""
    dice = np.random.default_rng(seed)
    pairs = []
    for number in range(count):
        words = dice.choice(WORDS, size=4, replace=False)
        code = " ".join(str(number))
        pairs.append((f"{' '.join(words)} {code}", f"{words[1]} {words[0]} {dice.choice(WORDS)} {code} ."))
    return pairs


@pytest.fixture
def recipe_for(model_folder: Path, tmp_path: Path) -> Callable[..., Recipe]:
    """Makes a recipe of a small run over 40 learnable pairs; keyword arguments go into its ``[train]`` section."""
    shards = make_shards(tmp_path / "pairs", make_pairs(40))

    def make(tasks: Sequence[Path] = (), **train: Any) -> Recipe:
        settings = {"steps": 6, "batch_size": 8, "warmup_steps": 2, "learning_rate": 1e-3, "micro_batch_tokens": 64}
        raw = {
            "model": {"base": str(model_folder)},
            "data": {"datasets": [{"shards": shards}]},
            "train": {**settings, **train},
            "evaluate": {"tasks": list(tasks)},
        }
        return parse_recipe(raw, where="test")

    return make


@pytest.fixture
def task_folder(tmp_path: Path) -> Path:
    """A retrieval task of 12 queries over 12 documents."""
    path = tmp_path / "task"
    (path / "qrels").mkdir(parents=True)
    pairs = list(enumerate(make_pairs(12, seed=5)))
    queries = [json.dumps({"_id": f"q{number}", "text": anchor}) for number, (anchor, _) in pairs]
    documents = [json.dumps({"_id": f"d{number}", "title": "", "text": positive}) for number, (_, positive) in pairs]
    judgements = [f"q{number}\td{number}\t1" for number, _ in pairs]
    (path / "queries.jsonl").write_text("\n".join(queries))
    (path / "corpus.jsonl").write_text("\n".join(documents))
    (path / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judgements]))
    return path


def write_modules(path: Path, *, normalize: bool = True, max_tokens: int = 64, similarity: str = "cosine") -> None:
    """Adds the older dialect's module files to a backbone's folder."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")] + ([("2_Normalize", "Normalize")] if normalize else [])
    entries = [
        {"idx": number, "name": str(number), "path": folder, "type": f"sentence_transformers.models.{name}"}
        for number, (folder, name) in enumerate(modules)
    ]
    (path / "modules.json").write_text(json.dumps(entries))
    (path / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    limits = {"max_seq_length": max_tokens, "do_lower_case": False}
    (path / "sentence_bert_config.json").write_text(json.dumps(limits))
    (path / "config_sentence_transformers.json").write_text(json.dumps({"similarity_fn_name": similarity}))


def save_backbone(family: str, path: Path) -> None:
    """Saves a random model of two layers, with dropout, and a tokenizer over `WORDS`."""
    torch.manual_seed(FAMILIES.index(family))
    roberta_like = family in ("roberta", "xlm-roberta", "mpnet")
    tokenizer = make_tokenizer(roberta_like=roberta_like)
    size = tokenizer.backend_tokenizer.get_vocab_size()
    common = {"vocab_size": size, "pad_token_id": 1 if roberta_like else 0}
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 162 if roberta_like else 160,
    }
    match family:
        case "bert":
            model = transformers.BertModel(transformers.BertConfig(**common, **sizes))
        case "roberta":
            model = transformers.RobertaModel(transformers.RobertaConfig(**common, **sizes, type_vocab_size=1))
        case "xlm-roberta":
            model = transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**common, **sizes, type_vocab_size=1))
        case "mpnet":
            model = transformers.MPNetModel(transformers.MPNetConfig(**common, **sizes))
        case "distilbert":
            config = transformers.DistilBertConfig(
                **common, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=160
            )
            model = transformers.DistilBertModel(config)
    # The initial weights are so small that a wrong bias or norm would hardly show.
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def make_tokenizer(*, roberta_like: bool) -> transformers.PreTrainedTokenizerFast:
    """A word-piece tokenizer over `WORDS` and single letters."""
    if roberta_like:
        first, pad, last, unknown, mask = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
        special = [first, pad, last, unknown]
    else:
        first, pad, last, unknown, mask = "[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"
        special = [pad, unknown, first, last]
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789?!.,")
    vocabulary = [*special, *WORDS, *letters, *("##" + letter for letter in letters), mask]
    unique = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    backend = Tokenizer(models.WordPiece(unique, unk_token=unknown))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, unique[first]), (last, unique[last])]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        cls_token=first,
        sep_token=last,
        pad_token=pad,
        unk_token=unknown,
        mask_token=mask,
        model_max_length=160,
    )
