"""Random models in folders that pairloom, transformers and sentence-transformers open alike."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from pairloom.models.heads import Normalize
from pairloom.models.model import Model
from pairloom.models.read import read_model
from pairloom.models.write import write_model

Family = Literal["bert", "distilbert", "mpnet"]
# Beside the 30,522 of BERT, MPNet's tokenizer has four special tokens at the beginning and a mask at the end.
VOCABULARY = {"bert": 30_522, "distilbert": 30_522, "mpnet": 30_527}


@dataclasses.dataclass(frozen=True)
class Size:
    """The shape of a random model.

    Args:
        family: Which network.
        num_layers: Transformer layers.
        hidden_size: Width of a token vector; heads are 64 wide, or 32 in narrow models, as in the published ones.
        vocabulary_size: Rows of the word table.
    """

    family: Family
    num_layers: int
    hidden_size: int
    vocabulary_size: int

    @property
    def num_heads(self) -> int:
        return self.hidden_size // (64 if self.hidden_size >= 768 else 32) or 1


def make_model(
    path: Path, size: Size, tokenizer: Any, *, max_tokens: int, spread: float = 0.02, dropout: float = 0.1
) -> Path:
    """Saves a random model with mean pooling and normalisation.

    Args:
        path: A folder to make.
        size: Its shape.
        tokenizer: One of transformers', with the special tokens of the family.
        max_tokens: Longest text.
        spread: Standard deviation of the weights. With 0.02, as all training begins, the vectors of all texts are nearly
            the same; larger ones show errors better.
        dropout: At every place.
    """
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    backbone = _backbone(size, spread, dropout)
    with tempfile.TemporaryDirectory() as bare:
        backbone.save_pretrained(bare)
        tokenizer.save_pretrained(bare)
        model = read_model(Path(bare), path.name)
    path.mkdir(parents=True)
    write_model(
        dataclasses.replace(model, heads=(Normalize(),), max_tokens=max_tokens), path, readme="random weights\n"
    )
    return path


def without_dropout(model: Model) -> Model:
    """The same model with all dropout at zero."""
    still = dataclasses.replace(
        model.architecture, hidden_dropout=0.0, attention_output_dropout=0.0, attention_dropout=0.0
    )
    return dataclasses.replace(model, architecture=still)


def _backbone(size: Size, spread: float, dropout: float) -> Any:
    vocabulary, hidden = size.vocabulary_size, size.hidden_size
    common = {"vocab_size": vocabulary, "initializer_range": spread}
    if size.family == "distilbert":
        return transformers.DistilBertModel(
            transformers.DistilBertConfig(
                **common,
                dim=hidden,
                n_layers=size.num_layers,
                n_heads=size.num_heads,
                hidden_dim=4 * hidden,
                dropout=dropout,
                attention_dropout=dropout,
            )
        )
    shape = {
        "hidden_size": hidden,
        "num_hidden_layers": size.num_layers,
        "num_attention_heads": size.num_heads,
        "intermediate_size": 4 * hidden,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
    }
    if size.family == "mpnet":
        config = transformers.MPNetConfig(**common, **shape, max_position_embeddings=514, pad_token_id=1)
        return transformers.MPNetModel(config)
    return transformers.BertModel(transformers.BertConfig(**common, **shape))


def real_tokenizer(family: Family, vocabulary: list[str]) -> Any:
    """A tokenizer over BERT's vocabulary; MPNet's has its special tokens before it, and a mask behind it."""
    if family == "mpnet":
        vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *vocabulary, "<mask>"]
    backend = Tokenizer(models.WordPiece({token: number for number, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _finished(backend, family)


def word_tokenizer(family: Family, vocabulary_size: int) -> Any:
    """A tokenizer to which each number below the vocabulary's size, beyond the special ones, is a word."""
    special = list(_special(family).values())
    words = [*special, *map(str, range(len(special), vocabulary_size))]
    backend = Tokenizer(
        models.WordLevel({token: number for number, token in enumerate(words)}, unk_token=_special(family)["unk"])
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _finished(backend, family)


NUM_SPECIAL = 4


def _special(family: Family) -> dict[str, str]:
    # In an order in which padding has the number that the family's networks expect: 1 in MPNet, 0 in the others.
    if family == "mpnet":
        return {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "[UNK]"}
    return {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]"}


def _finished(backend: Tokenizer, family: Family) -> Any:
    special = _special(family)
    first, last = special["cls"], special["sep"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(token, backend.token_to_id(token)) for token in (first, last)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{f"{name}_token": token for name, token in special.items()},
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    )
