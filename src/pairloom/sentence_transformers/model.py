"""`SentenceTransformer` as sentence-transformers 6.2 has it, over `pairloom.Encoder`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from pairloom.artifacts import new_artifact
from pairloom.choices import Similarity
from pairloom.encode.similarity import normalize
from pairloom.models.dual import AnyModel, DualModel, read_any
from pairloom.models.model import Model
from pairloom.models.names import find_model
from pairloom.models.read import has_router
from pairloom.models.router import Task, default_task
from pairloom.models.write import write_model
from pairloom.sentence_transformers.arguments import (
    DOCUMENT_PROMPTS,
    Device,
    as_texts,
    check_encoding,
    device_name,
    merge_prompts,
    prompts_of_two,
    take_task,
)
from pairloom.sentence_transformers.card import write_card
from pairloom.sentence_transformers.half import Half
from pairloom.sentence_transformers.quantization import quantize_embeddings
from pairloom.sentence_transformers.refusals import (
    ArgumentError,
    UnsupportedError,
    formerly,
    missing_attribute,
    refuse_options,
    refuse_pools,
)
from pairloom.sentence_transformers.similarity import SimilarityFunction
from pairloom.sentence_transformers.tensors import Embeddings
from pairloom.sentence_transformers.tokenizer import TextTokenizer

logger = logging.getLogger("pairloom")

# Two special tokens and one of the text's own.
_LEAST_TOKENS = 3


class SentenceTransformer:
    """Texts to embeddings, under the names of sentence-transformers.

    What `Encoder` has no use for is refused with a sentence that says what to do instead.

    A model may be two encoders: then `encode_query` goes through the one and `encode_document` through the other, and `encode`
    through that of the default route of a Router folder, or through that of the queries of a folder with ``Q`` and ``A``.

    Args:
        model_name_or_path: A model folder, the name of an installed package that carries a model, or a name on the hub.
        device: By default the best there is.
        prompts: Name to text that is put before an input; over those of the model.
        default_prompt_name: The prompt that is used when none is named; by default the model's.
        similarity_fn_name: ``cosine``, ``dot``, ``euclidean`` or ``manhattan``; by default the model's.
        truncate_dim: Embeddings are cut to so many components; by default the model's number, or not at all.
        options: Other arguments of sentence-transformers, at their defaults.

    Raises:
        ModelError: The model is not found or cannot be read.
        UsageError: There is no such device, prompt or similarity, or an option asks for what is not supported.
    """

    def __init__(
        self,
        model_name_or_path: str | Path,
        *,
        device: Device | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | SimilarityFunction | None = None,
        truncate_dim: int | None = None,
        **options: Any,
    ) -> None:
        refuse_options(options)
        path = find_model(model_name_or_path)
        stored = read_any(path, str(model_name_or_path))
        self._name = stored.name
        self._default_task: Task | None = "query"
        if isinstance(stored, DualModel):
            query, document = stored.query, stored.document
            self._query, self._document = Half(query, device), Half(document, device)
            if has_router(path):
                self._default_task = default_task(path)
        else:
            query = document = stored
            self._query = self._document = Half(stored, device)
        self.truncate_dim = (query.output_size or document.output_size) if truncate_dim is None else truncate_dim
        self.similarity_fn_name = similarity_fn_name or stored.similarity
        self.prompts = merge_prompts(prompts or {}, prompts_of_two(query.prompts, document.prompts))
        self.default_prompt_name = default_prompt_name or query.default_prompt
        self._prompt(None, None)

    @formerly("sentences", "inputs")
    def encode(
        self,
        inputs: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Device | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: None = None,
        chunk_size: None = None,
        **options: Any,
    ) -> Any:
        """Encodes texts.

        Args:
            inputs: Several texts, or one.
            prompt_name: One of `prompts`, put before each text; by default that of `default_prompt_name`.
            prompt: A text that is put before each text instead.
            batch_size: Without effect: micro-batches are made by their tokens, and embeddings do not depend on them.
            show_progress_bar: Whether to show progress on stderr; by default if pairloom's logger has level INFO or DEBUG.
            output_value: ``sentence_embedding``; nothing else is supported.
            precision: See `quantize_embeddings`.
            convert_to_numpy: Whether to return an array, and not tensors.
            convert_to_tensor: Whether to return one tensor; goes before ``convert_to_numpy``.
            device: Where to compute; the model is moved there.
            normalize_embeddings: Whether to scale embeddings to length 1.
            truncate_dim: Embeddings are cut to so many components, before they are scaled.
            pool: Not supported.
            chunk_size: Not supported.
            options: ``task``, by which one of two encoders is chosen: ``query`` or ``document``.

        Returns:
            An array or tensor [N, D], or without both a list of tensors [D]; of one text, an array or tensor [D]. Of no
            text, an empty array or tensor [0], or an empty list.

        Raises:
            UsageError: Something among the texts is not a string, or an argument has no sense or is not supported.
        """
        half = self._half(take_task(options))
        refuse_pools(device, pool, chunk_size)
        size = self.truncate_dim if truncate_dim is None else truncate_dim
        check_encoding(batch_size, output_value, precision, size)
        text_before = self._prompt(prompt_name, prompt)
        if device is not None:
            self.to(device)
        texts, single = as_texts(inputs)
        show = (
            logger.getEffectiveLevel() in (logging.INFO, logging.DEBUG)
            if show_progress_bar is None
            else show_progress_bar
        )
        embeddings = np.zeros(0, dtype=np.float32)
        if texts:
            embeddings = np.ascontiguousarray(half.encode(texts, text_before, show_progress=show)[:, :size])
        if normalize_embeddings:
            embeddings = normalize(embeddings)
        quantized = bool(texts) and precision not in (None, "float32")
        made: Any = quantize_embeddings(embeddings, str(precision)) if quantized else embeddings
        if convert_to_tensor or not convert_to_numpy:
            made = torch.from_numpy(made).to("cpu" if quantized else self.device)
            made = made if convert_to_tensor else list(made)
        return made[0] if single else made

    @formerly("sentences", "inputs")
    def encode_query(
        self,
        inputs: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """As `encode`, as the task ``query``, and with the prompt of that name unless another is given."""
        if prompt_name is None and prompt is None:
            prompt_name = self._first_prompt("query")
        return self.encode(inputs, prompt_name, prompt, *more, task="query", **options)

    @formerly("sentences", "inputs")
    def encode_document(
        self,
        inputs: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """As `encode`, as the task ``document``.

        Takes the first prompt there is of ``document``, ``passage`` and ``corpus`` unless another is given.
        """
        if prompt_name is None and prompt is None:
            prompt_name = self._first_prompt(*DOCUMENT_PROMPTS)
        return self.encode(inputs, prompt_name, prompt, *more, task="document", **options)

    @property
    def _halves(self) -> tuple[Half, ...]:
        return (self._query,) if self._document is self._query else (self._query, self._document)

    def _half(self, task: object) -> Half:
        """What encodes texts of a task; of one encoder the only one, whatever they are for."""
        task = self._default_task if task is None else task
        if self._document is self._query or task == "query":
            return self._query
        if task == "document":
            return self._document
        which = "texts of which no task is told" if task is None else f"the task {task!r}"
        raise ArgumentError(f"{self._name} has no encoder for {which}; use encode_query or encode_document")

    @property
    def similarity_fn_name(self) -> str:
        """``cosine``, ``dot``, ``euclidean`` or ``manhattan``."""
        return self._similarity.value

    @similarity_fn_name.setter
    def similarity_fn_name(self, name: str | SimilarityFunction | None) -> None:
        self._similarity = SimilarityFunction.named("cosine" if name is None else name)

    def similarity(self, embeddings1: Embeddings, embeddings2: Embeddings) -> Tensor:
        """The similarity of all with all: [N, D] and [M, D] to [N, M]. A single embedding [D] is one row."""
        return SimilarityFunction.to_similarity_fn(self._similarity)(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Embeddings, embeddings2: Embeddings) -> Tensor:
        """The similarity of each with its own: [N, D] and [N, D] to [N]."""
        return SimilarityFunction.to_similarity_pairwise_fn(self._similarity)(embeddings1, embeddings2)

    @property
    def max_seq_length(self) -> int:
        """Longer texts are cut to so many tokens, special ones included; of two encoders the larger number."""
        return max(half.model.max_tokens for half in self._halves)

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        most = min(half.model.architecture.max_tokens for half in self._halves)
        if not isinstance(value, int) or not _LEAST_TOKENS <= value <= most:
            raise ArgumentError(f"max_seq_length is {value!r}; this model takes {_LEAST_TOKENS} to {most} tokens")
        for half in self._halves:
            half.set_max_tokens(value)

    def get_max_seq_length(self) -> int:
        """See `max_seq_length`."""
        return self.max_seq_length

    def get_embedding_dimension(self) -> int:
        """Components of an embedding."""
        size = self._query.model.dimensions
        return min(size, self.truncate_dim or size)

    def get_sentence_embedding_dimension(self) -> int:
        """Components of an embedding; the name until release 5."""
        return self.get_embedding_dimension()

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Within this context embeddings are cut to so many components."""
        before, self.truncate_dim = self.truncate_dim, truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    truncate_sentence_embeddings = truncate_embeddings

    @property
    def tokenizer(self) -> TextTokenizer:
        """The model's tokenizer; of two encoders that which `encode` uses."""
        return (self._document if self._default_task == "document" else self._query).tokenizer

    def tokenize(self, texts: Iterable[str]) -> dict[str, Tensor]:
        """``input_ids`` and ``attention_mask`` [N, T] of texts, cut and padded as the model sees them."""
        return self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self._query.device

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and embeddings: float32, whatever the folder has."""
        return torch.float32

    def to(self, device: Device | torch.dtype) -> SentenceTransformer:
        """Moves the model; returns it."""
        if isinstance(device, torch.dtype):
            raise missing_attribute("half")
        if device_name(device) != str(self.device):
            for half in self._halves:
                half.move(device)
        return self

    def cpu(self) -> SentenceTransformer:
        """Moves the model to the CPU; returns it."""
        return self.to("cpu")

    def cuda(self, device: Device | None = None) -> SentenceTransformer:
        """Moves the model to a GPU; returns it."""
        return self.to("cuda" if device is None else device)

    def eval(self) -> SentenceTransformer:
        """Does nothing, since the model never trains; returns it."""
        return self

    def set_pooling_include_prompt(self, include_prompt: bool) -> None:
        """Whether a prompt's tokens take part in pooling."""
        for half in self._halves:
            half.set_include_prompt(include_prompt)

    def save(
        self,
        path: str | Path,
        model_name: str | None = None,
        create_model_card: bool = True,
        *,
        safe_serialization: bool = True,
    ) -> None:
        """Writes a model folder that pairloom and sentence-transformers read; two encoders become one folder each in it, ``Q`` and ``A``.

        Args:
            path: The folder; nothing may stand there.
            model_name: What the card calls the model; by default the folder's name.
            create_model_card: Whether to write a README.md.
            safe_serialization: Weights are written as safetensors only.

        Raises:
            ArtifactError: Something stands at ``path``, or it cannot be written.
            UnsupportedError: Pickled weights are asked for, or a similarity that the folder could not keep.
        """
        if not safe_serialization:
            raise UnsupportedError("safe_serialization=False is not supported: weights are written as safetensors only")
        model = self._as_it_is()
        with new_artifact(Path(path), "model") as draft:
            write_model(model, draft.path, readme=write_card(model_name or Path(path).name, model))
            if not create_model_card:
                (draft.path / "README.md").unlink()
            draft.facts.update(fingerprint=model.fingerprint)

    save_pretrained = save

    def __repr__(self) -> str:
        return f"SentenceTransformer({self._name!r}, device={str(self.device)!r})"

    def __getattr__(self, name: str) -> Any:
        raise missing_attribute(name)

    def _prompt(self, name: str | None, text: str | None) -> str:
        if text is not None:
            if name is not None:
                logger.warning("both a prompt and a prompt_name are given; the prompt is taken")
            return text
        name = self.default_prompt_name if name is None else name
        if name is not None and name not in self.prompts:
            raise ArgumentError(f"prompt {name!r} is not one of the model's ({', '.join(self.prompts)})")
        return "" if name is None else self.prompts[name]

    def _first_prompt(self, *names: str) -> str | None:
        return next((name for name in names if name in self.prompts), None)

    def _as_it_is(self) -> AnyModel:
        """The model with what was set on this object."""
        if self.similarity_fn_name not in ("cosine", "dot"):
            raise UnsupportedError(
                f"a model folder keeps cosine or dot as its similarity, not {self.similarity_fn_name}; set "
                "model.similarity_fn_name before saving"
            )
        models = [self._half_as_it_is(half) for half in self._halves]
        return models[0] if len(models) == 1 else DualModel(self._name, *models)

    def _half_as_it_is(self, half: Half) -> Model:
        # A prompt that only the other half had is not for this one, and would make another model of it.
        foreign = {name for other in self._halves for name in other.stored.prompts} - half.stored.prompts.keys()
        prompts = {name: text for name, text in self.prompts.items() if name not in foreign}
        default = self.default_prompt_name
        return dataclasses.replace(
            half.model,
            prompts=prompts,
            default_prompt=default if default in prompts else None,
            similarity=cast("Similarity", self.similarity_fn_name),
            output_size=self.truncate_dim,
        )
