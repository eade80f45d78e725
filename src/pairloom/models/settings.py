"""The small JSON files of a model folder, checked on reading: types, bounds, and nothing taken on trust."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pairloom.errors import ModelError
from pairloom.json_types import Bounds, JsonTypeError, from_json

_PositiveInt = Annotated[int, Bounds(least=1, below=2**31)]
# Two special tokens and one of the text's own.
_TokenLimit = Annotated[int, Bounds(least=3, below=2**31)]


@dataclass(frozen=True)
class SentenceSettings:
    """``sentence_bert_config.json``; the newer dialect has other keys in it."""

    max_seq_length: _TokenLimit | None = None
    do_lower_case: bool = False
    query_length: _TokenLimit | None = None
    document_length: _TokenLimit | None = None


@dataclass(frozen=True)
class TokenizerSettings:
    """``tokenizer_config.json``. Tokenizers without a limit say so with a number like 1e30."""

    model_max_length: Annotated[float, Bounds(least=3)] | None = None


@dataclass(frozen=True)
class EncoderSettings:
    """``config_sentence_transformers.json``."""

    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None
    similarity_fn_name: str | None = None
    truncate_dim: _PositiveInt | None = None


@dataclass(frozen=True)
class PoolingSettings:
    """``1_Pooling/config.json``, of both dialects."""

    word_embedding_dimension: _PositiveInt | None = None
    embedding_dimension: _PositiveInt | None = None
    pooling_mode: str | list[str] | None = None
    pooling_mode_cls_token: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    pooling_mode_lasttoken: bool = False
    include_prompt: bool = True


@dataclass(frozen=True)
class DenseSettings:
    """``2_Dense/config.json``."""

    activation_function: str = "torch.nn.modules.activation.Tanh"
    module_input_name: str = "sentence_embedding"
    module_output_name: str | None = "sentence_embedding"
    use_residual: bool = False


@dataclass(frozen=True)
class ModuleEntry:
    """An entry of ``modules.json``."""

    type: str
    path: str

    @property
    def class_name(self) -> str:
        """The last part of the class's name: the dialects differ in the rest."""
        return self.type.rsplit(".", 1)[-1]


@dataclass(frozen=True)
class RouterParameters:
    """What a Router was made with; of its default route only those make use who name no task."""

    route_mappings: dict[str, str] | None = None
    default_route: str | None = None
    allow_empty_key: bool = True


@dataclass(frozen=True)
class RouterSettings:
    """``router_config.json``: the modules of each route, and each module's class."""

    types: dict[str, str]
    structure: dict[str, list[str]]
    parameters: RouterParameters = field(default_factory=RouterParameters)


SettingsType = TypeVar("SettingsType")


def read_settings(path: Path, kind: type[SettingsType], *, required: bool = True) -> SettingsType:
    """Reads a JSON file as one of the classes above, or as ``list[ModuleEntry]``.

    Args:
        path: The file.
        kind: What it must be.
        required: Whether the file must be there; otherwise one that is missing counts as ``{}``.

    Raises:
        ModelError: It is missing, not JSON, or not of that kind; the message names the key.
    """
    content = {} if not required and not path.exists() else read_json(path)
    try:
        return from_json(kind, content)
    except JsonTypeError as error:
        raise ModelError(f"{path}: {error}") from None


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Raises:
        ModelError: It is missing, not JSON, or something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ModelError(f"{path}: must hold a JSON object")
    return content


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        ModelError: It is missing or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path}: missing, so {path.parent} is not a whole model folder") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON ({error})") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
