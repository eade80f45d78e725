"""For mteb: an encoder that its tasks evaluate, and a search over a collection that its retrieval tasks evaluate."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pairloom.encode.dual_encoder import AnyEncoder, DualEncoder, halves, load_encoder, names
from pairloom.encode.encoder import Encoder
from pairloom.errors import MissingExtraError, UsageError
from pairloom.models.heads import Dense
from pairloom.models.model import Model
from pairloom.records import Document, Hit
from pairloom.search.collection import Collection
from pairloom.search.protocol import Mode
from pairloom.search.settings import Settings

try:
    from mteb._create_dataloaders import create_dataloader  # as mteb's own searches do: it makes texts of rows
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder, get_prompt_name
    from mteb.types import PromptType
except ImportError:
    raise MissingExtraError("an evaluation by mteb", "mteb 2.10 or newer", "mteb") from None

# Queries searched for at once: their hits, of which mteb wants a thousand each, come with texts.
_BLOCK_QUERIES = 64
# Where a filter finds the id of a document.
_ID_FIELD = "id"
_MODEL_TYPES = {"vector": "dense", "words": "sparse", "hybrid": "hybrid"}

Scores = dict[str, float]
"""Of documents, by their ids."""


class PairloomEncoder(AbsEncoder):
    """An encoder as mteb's tasks want it.

    Prompts are the model's own. The one that is named after the task or its type (``STS``, ``ArguAna-query``, as mteb has it)
    comes first; otherwise queries get the prompt for queries and documents that for documents, and texts that are neither
    the default prompt. Of a pair each half encodes its own, and texts that are neither go through that of the queries.

    What mteb is told is in `mteb_model_meta`, and is what the model's files say. Who knows its license, languages or training
    data adds them: ``encoder.mteb_model_meta = encoder.mteb_model_meta.model_copy(update={"license": "mit"})``.

    Example:
        >>> mteb.evaluate(PairloomEncoder("model"), mteb.get_tasks(["SciFact"]))

    Args:
        model: A name or folder, or an encoder that is there already.
        name: What mteb calls it, ``organization/model``; by default the model's name on the hub, or ``local/`` and the
            name of its folder or package. Its revision is its fingerprint, so that mteb never takes results of another
            model for its own.

    Raises:
        ModelError: There is no such model, or it cannot be read.
    """

    mteb_model_meta: ModelMeta

    def __init__(self, model: str | Path | AnyEncoder, *, name: str | None = None) -> None:
        self.encoder = model if isinstance(model, Encoder | DualEncoder) else load_encoder(model)
        self.mteb_model_meta = _model_meta(self.encoder, name)

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        prompt_type: PromptType | None = None,
        show_progress_bar: bool = False,
        precision: str = "float32",
        **others: Any,
    ) -> npt.NDArray[np.float32]:
        """The vectors [N, D] of the texts of some batches.

        Args:
            inputs: Batches with ``text``, N in all. How long they are means nothing: the encoder makes batches of its own.
            task_metadata: By which a prompt may be chosen.
            prompt_type: Whether they are queries, documents, or neither.
            show_progress_bar: Whether to show a progress bar on stderr.
            precision: Of the vectors; they are float32.
            others: What else mteb tells: split, subset, and the length of batches.

        Raises:
            UsageError: Vectors are wanted in another precision.
        """
        if precision != "float32":
            raise UsageError(
                f"precision is {precision!r}, and vectors are float32; Encoder says in which one to compute"
            )
        query, document = halves(self.encoder)
        half, own_prompt = query, None
        if prompt_type == PromptType.query:
            own_prompt = query.query_prompt
        elif prompt_type == PromptType.document:
            half, own_prompt = document, document.document_prompt
        return half.encode(
            [text for batch in inputs for text in batch["text"]],
            prompt_name=get_prompt_name(half.model.prompts, task_metadata, prompt_type) or own_prompt,
            show_progress=show_progress_bar,
        )


class PairloomSearch:
    """A collection as mteb's retrieval tasks want to search it; each corpus gets one of its own, in a temporary folder.

    It shows what words add to meaning, or what an index loses: things that an encoder alone cannot show. A collection knows
    the prompts for queries and for documents; one that is named after a task is not used.

    Example:
        >>> mteb.evaluate(PairloomSearch("model", mode="hybrid"), mteb.get_tasks(["SciFact"]))

    Args:
        model: A name or folder, or an encoder that is there already.
        mode: By what is searched: meaning, words, or both.
        settings: Of the collections. By default vectors are kept in float16, and searched over a graph where that is worth it.
        name: As in `PairloomEncoder`.

    Raises:
        ModelError: There is no such model, or it cannot be read.
    """

    def __init__(
        self,
        model: str | Path | AnyEncoder,
        *,
        mode: Mode = "hybrid",
        settings: Settings | None = None,
        name: str | None = None,
    ) -> None:
        self.encoder = model if isinstance(model, Encoder | DualEncoder) else load_encoder(model)
        self.mode = mode
        self.settings = settings or Settings()
        meta = _model_meta(self.encoder, name)
        how = {"search": mode, "index": self.settings.kind, "storage": self.settings.storage}
        self.mteb_model_meta = meta.model_copy(
            update={"model_type": [_MODEL_TYPES[mode]], "experiment_kwargs": {**(meta.experiment_kwargs or {}), **how}}
        )
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._collection: Collection | None = None

    def index(self, corpus: Any, *, task_metadata: Any, encode_kwargs: Mapping[str, Any], **others: Any) -> None:
        """Makes a collection of a corpus.

        Args:
            corpus: Rows with ``id``, ``text`` and perhaps ``title``.
            task_metadata: What the rows are like.
            encode_kwargs: How mteb wants them in batches.
            others: What else mteb tells: split, subset, and how many processes may read.
        """
        self._forget()
        self._folder = tempfile.TemporaryDirectory(prefix="pairloom-mteb-")
        path = Path(self._folder.name) / "collection"
        self._collection = Collection(path, self.encoder, create=True, settings=self.settings, background=False)
        rows = _rows(corpus, task_metadata, PromptType.document, encode_kwargs)
        try:
            self._collection.upsert(Document(id_, text, {_ID_FIELD: id_}) for id_, text in rows)
            self._collection.build()
        except BaseException:
            self._forget()
            raise

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        top_k: int,
        encode_kwargs: Mapping[str, Any],
        top_ranked: Mapping[str, list[str]] | None = None,
        **others: Any,
    ) -> dict[str, Scores]:
        """Searches the corpus that was indexed last, and forgets it.

        Args:
            queries: Rows with ``id`` and ``text``.
            task_metadata: What the rows are like.
            top_k: How many documents are wanted for each.
            encode_kwargs: How mteb wants them in batches.
            top_ranked: For each query the only documents that may be found, if not all may be.
            others: What else mteb tells: split, subset, and how many processes may read.

        Returns:
            For each query the scores of the documents that were found. A query without text finds nothing.

        Raises:
            UsageError: Nothing has been indexed.
        """
        if self._collection is None:
            raise UsageError("there is no corpus to search; index one before each search")
        rows = dict(_rows(queries, task_metadata, PromptType.query, encode_kwargs))
        asked = {query: text for query, text in rows.items() if text.strip()}
        found: dict[str, Scores] = {query: {} for query in rows}
        try:
            if top_ranked is None:
                found.update(self._among_all(self._collection, asked, top_k))
            else:
                found.update(self._among_few(self._collection, asked, top_k, top_ranked))
        finally:
            self._forget()
        return found

    def _among_all(self, collection: Collection, asked: Mapping[str, str], k: int) -> Iterator[tuple[str, Scores]]:
        ids, texts = list(asked), list(asked.values())
        for begin in range(0, len(texts), _BLOCK_QUERIES):
            block = slice(begin, begin + _BLOCK_QUERIES)
            hits = collection.search_many(texts[block], k, mode=self.mode)
            yield from zip(ids[block], map(_scores, hits), strict=True)

    def _among_few(
        self, collection: Collection, asked: Mapping[str, str], k: int, candidates: Mapping[str, list[str]]
    ) -> Iterator[tuple[str, Scores]]:
        for query, text in asked.items():
            if few := candidates.get(query):
                yield query, _scores(collection.search(text, k, mode=self.mode, filter={_ID_FIELD: {"in": few}}))

    def _forget(self) -> None:
        if self._collection is not None:
            self._collection.close()
            self._collection = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _rows(
    dataset: Any, task_metadata: Any, kind: PromptType, encode_kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Ids and texts as an encoder would get them: titles and instructions are in."""
    batches: Any = create_dataloader(dataset, task_metadata=task_metadata, prompt_type=kind, **encode_kwargs)
    for batch in batches:
        yield from zip(batch["id"], batch["text"], strict=True)


def _scores(hits: list[Hit]) -> Scores:
    """Scores that fall with each hit: mteb would order equal ones (in float32) by id, and fused ranks often are equal."""
    scores = {}
    last = np.float32(np.inf)
    for hit in hits:
        last = min(np.float32(hit.score), np.nextafter(last, np.float32(-np.inf)))
        scores[hit.id] = float(last)
    return scores


def _model_meta(encoder: AnyEncoder, name: str | None) -> ModelMeta:
    """What is known of a model; None is what is not."""
    models = [half.model for half in dict.fromkeys(halves(encoder))]
    num_parameters = sum(map(_num_parameters, models))
    precisions = sorted({half.precision for half in halves(encoder)} - {"float32"})
    return ModelMeta(
        loader=None,
        name=name or _name(encoder),
        revision=encoder.fingerprint,
        release_date=None,
        languages=None,
        n_parameters=num_parameters,
        n_embedding_parameters=sum(model.weights["embeddings.word.weight"].size for model in models),
        memory_usage_mb=num_parameters * 4 / 2**20,  # as mteb reckons: in float32
        max_tokens=min(model.max_tokens for model in models),
        embed_dim=encoder.dimensions,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=[],  # it is none of those that mteb knows
        similarity_fn_name=encoder.similarity_name,
        use_instructions=any(text for model in models for text in model.prompts.values()),
        training_datasets=None,
        # Vectors differ a little; results by one precision are not those by another.
        experiment_kwargs={"precision": "+".join(precisions)} if precisions else None,
    )


def _num_parameters(model: Model) -> int:
    heads = [weight for head in model.heads if isinstance(head, Dense) for weight in (head.weight, head.bias)]
    return sum(weight.size for weight in (*model.weights.values(), *heads) if weight is not None)


def _name(encoder: AnyEncoder) -> str:
    own = names(encoder)
    if len(own) == 1 and own[0].count("/") == 1 and not Path(own[0]).exists():
        return own[0]
    return "local/" + "+".join(Path(name).resolve().name for name in own)
