"""What of sentence-transformers is not here, and what to use instead: refused with a sentence, never taken in silence."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from pairloom.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")


class ArgumentError(UsageError, ValueError):
    """An argument has a value that makes no sense; a ValueError, as in sentence-transformers."""


class UnsupportedError(UsageError, NotImplementedError):
    """Sentence-transformers can do it, pairloom cannot."""


class UnsupportedNameError(UsageError, AttributeError):
    """Sentence-transformers has such a method, pairloom has not; an AttributeError, so that ``hasattr`` says no."""


# Arguments of the constructor that do nothing at their default, and how to get what they do elsewhere.
_OPTIONS = {
    "modules": "a model is read from a folder; give its path",
    "cache_folder": "the hub's cache is moved by the environment variable HF_HUB_CACHE",
    "trust_remote_code": "code from a model folder is never run; leave it out if the model is one of the supported families, "
    "and use sentence-transformers if it needs code of its own",
    "revision": "download it with huggingface_hub.snapshot_download(…, revision=…), and give the folder",
    "local_files_only": "set the environment variable HF_HUB_OFFLINE=1",
    "token": "log in with `hf auth login`, or set the environment variable HF_TOKEN",
    "use_auth_token": "log in with `hf auth login`, or set the environment variable HF_TOKEN",
    "model_kwargs": "weights are float32 here; pairloom.Encoder(…, precision='bfloat16') computes in bfloat16",
    "processor_kwargs": "the tokenizer is read as the folder has it; set model.max_seq_length for another limit",
    "tokenizer_kwargs": "the tokenizer is read as the folder has it; set model.max_seq_length for another limit",
    "config_kwargs": "the configuration is read as the folder has it",
    "model_card_data": "write the README.md of the saved folder",
    "backend": "torch computes; use sentence-transformers for ONNX and OpenVINO",
}
_POOLS = "one process computes on one device; run a process for each device, each with its share of the texts"
_TRAINING = "training is `pairloom train RECIPE`"
_NO_MODULE = "this is no torch module; pairloom.network.encoder.EncoderNetwork is one"
_NAMES = {
    "start_multi_process_pool": _POOLS,
    "stop_multi_process_pool": _POOLS,
    "encode_multi_process": _POOLS,
    "fit": _TRAINING,
    "old_fit": _TRAINING,
    "train": _TRAINING,
    "merge": "merge with sentence-transformers; pairloom reads the folder",
    "gradient_checkpointing_enable": _TRAINING,
    "evaluate": "measure with `pairloom evaluate MODEL TASK`, or call the evaluator with this model",
    "push_to_hub": "save the model, and upload the folder with huggingface_hub.upload_folder",
    "save_to_hub": "save the model, and upload the folder with huggingface_hub.upload_folder",
    "half": "weights are float32 here; pairloom.Encoder(…, precision='bfloat16') computes in bfloat16",
    "bfloat16": "weights are float32 here; pairloom.Encoder(…, precision='bfloat16') computes in bfloat16",
    "compile": _NO_MODULE,
    "forward": _NO_MODULE,
    "modules": _NO_MODULE,
    "parameters": _NO_MODULE,
    "named_parameters": _NO_MODULE,
    "state_dict": _NO_MODULE,
    "transformers_model": _NO_MODULE,
    "config": "the configuration is pairloom.models.read.read_model(folder).config",
    "processor": "texts are all that is encoded; their tokenizer is model.tokenizer",
    "preprocess": "use model.tokenize(texts)",
}


def refuse_options(options: Mapping[str, Any]) -> None:
    """Refuses arguments of the constructor that pairloom does not act on, unless they ask for nothing.

    Raises:
        TypeError: There is no such argument.
        UnsupportedError: There is one in sentence-transformers; the sentence says what to do instead.
    """
    for name, value in options.items():
        if name not in _OPTIONS:
            raise TypeError(f"SentenceTransformer() got an unexpected keyword argument {name!r}")
        if value and not (name == "backend" and value == "torch"):
            # Without the value, which may be a secret token.
            raise UnsupportedError(f"{name}=… is not supported: {_OPTIONS[name]}")


def refuse_pools(device: object, pool: object, chunk_size: object) -> None:
    """Refuses what spreads texts over several processes.

    Raises:
        UnsupportedError: One of the arguments asks for that.
    """
    asked = {"device": device if isinstance(device, list | tuple) else None, "pool": pool, "chunk_size": chunk_size}
    for name, value in asked.items():
        if value is not None:
            raise UnsupportedError(f"{name} with several processes is not supported: {_POOLS}")


def missing_attribute(name: str) -> AttributeError:
    """The error for an attribute that a model has not."""
    if name in _NAMES:
        return UnsupportedNameError(f"SentenceTransformer.{name} is not supported: {_NAMES[name]}")
    return AttributeError(f"'SentenceTransformer' object has no attribute {name!r}")


def formerly(old: str, new: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Lets a function take an argument by the name that it had in earlier releases, too."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(f"{function.__name__}() got {new!r} and {old!r}, which are the same")
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate
