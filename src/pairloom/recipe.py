"""Every knob of a run: a TOML file becomes frozen sections with bounds.

A recipe has up to five sections, ``[model] [data] [loss] [train] [evaluate]``; what is left out takes its default, or, with
``faithful = true`` above them, what the published models were trained with.
Paths are relative to the folder in which the command is run. The filters of `pairloom prepare` are sections, too, one for
each source.
"""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pairloom.errors import InputError, RecipeError
from pairloom.listing import bare_name, find_listing, packaged_listings, read_listing

_MAX_FAULTS = 5
# How the published models were trained, in settings; docs/faithful.md says of each where it is known from.
_ORIGINALS: dict[str, dict[str, Any]] = {
    "data": {"datasets_per_batch": 1, "steps_per_group": 8, "datasets_per_group": 2},
    "loss": {"symmetric": True, "mask_false_negatives": False},
    "train": {
        "learning_rate": 2e-5,
        "warmup_steps": 500,
        "schedule": "linear",
        "betas": [0.9, 0.999],
        "epsilon": 1e-6,
        "weight_decay": 0.0,
        "max_gradient_norm": 1.0,
    },
}
_PACKAGED = Path(__file__).parent / "recipes"
# A part of a key may be quoted, as in TOML, for the sake of the dots in it.
_KEY_PART = re.compile(r'"([^"]+)"|([^".]+)')
_KEY = re.compile(rf"(?:{_KEY_PART.pattern})(?:\.(?:{_KEY_PART.pattern}))*")

Precision = Literal["float32", "bfloat16", "float16"]
Similarity = Literal["cosine", "dot"]
WeightRule = Literal["given", "equal", "proportional", "power", "capped"]
Schedule = Literal["linear", "cosine", "warmup-stable-decay"]
PoolingMode = Literal["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


class Section(BaseModel):
    """A part of a recipe: immutable, and closed to keys that nobody reads."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, strict=True
    )


class ModelSection(Section):
    """What is trained, and what the finished model says of itself."""

    base: str
    """A model folder, a model that an installed package carries, or a name on the Hugging Face hub. With two encoders it
    may be a model of two."""
    encoders: Literal["shared", "two"] = "shared"
    """One encoder for both sides, or two: one for anchors, which are the queries, and one for positives and negatives,
    which are the documents. Each of two has its own optimizer, and its gradient is clipped by its own norm."""
    document_base: str | None = None
    """Of two encoders, what that of the documents starts from; by default the same base."""
    pooling: PoolingMode | None = None
    """How token vectors become one vector; by default what the base says, and mean if it says nothing."""
    normalize: bool | None = None
    """Whether vectors get length 1; by default what the base says, and for a bare backbone: with cosine."""
    similarity: Similarity | None = None
    """How two vectors are compared; by default what the base says, and cosine if it says nothing."""
    max_tokens: int | None = Field(default=None, ge=3)
    """Longest text of the finished model, special tokens included; by default what the base says."""

    @model_validator(mode="after")
    def _document_base_is_for_two(self) -> ModelSection:
        if self.document_base is not None and self.encoders != "two":
            raise ValueError(f'document_base is for encoders = "two", but encoders is "{self.encoders}"')
        return self


class DatasetSection(Section):
    """One dataset of the mixture."""

    shards: Path
    """The folder that `pairloom prepare` wrote."""
    name: str | None = Field(default=None, min_length=1)
    """What it is called in reports and in checkpoints, and the key to the order of its rows; by default the name of the
    folder."""
    weight: float = Field(default=1.0, gt=0, le=1e12)
    """How often it is drawn, relative to the other datasets."""
    batch_size: int | None = Field(default=None, ge=2)
    """Pairs an optimizer step that draws from it; by default ``train.batch_size``."""
    max_epochs: int | None = Field(default=None, ge=1)
    """After so many it is passed over; by default it is repeated for as long as the run lasts."""
    swap: bool = False
    """Let anchors and positives change places."""
    anchor_prompt: str = ""
    """Put before each anchor."""
    positive_prompt: str = ""
    """Put before each positive, negative and past context."""
    anchor_max_tokens: int | None = Field(default=None, ge=3)
    """Longer anchors are cut, prompt included; by default as ``data.anchor_max_tokens`` says."""
    positive_max_tokens: int | None = Field(default=None, ge=3)
    """Longer positives, negatives and past contexts are cut; by default as ``data.positive_max_tokens`` says."""

    num_rows: int | None = Field(default=None, ge=1, lt=2**63)
    """How many rows it has, for `pairloom mixture` where the shards are not at hand; where they are, they know better."""
    divisor: float | None = Field(default=None, gt=0, le=1e12)
    """Divides the weight that the rule ``capped`` computes; by default 1."""

    @property
    def dataset_name(self) -> str:
        """The name, or that of the folder."""
        return self.name or self.shards.name or str(self.shards)


class BlockShuffleSection(Section):
    """An order of rows that is kind to disks: blocks are shuffled, and the rows within a window of some blocks."""

    rows_per_block: int = Field(default=16384, ge=1)
    """Rows that lie together on disk."""
    blocks_per_window: int = Field(default=64, ge=1)
    """Blocks whose rows are mixed. More of them are nearer to a full shuffle, and must fit into memory."""


class ListingSection(Section):
    """Keys of ``[data]`` that stand for datasets. When a recipe is read they are replaced by what they stand for."""

    configuration: str | None = Field(default=None, min_length=1)
    """A list of datasets and weights: one that comes with pairloom, such as ``multi-qa_v1``, or a JSON file in the form of the
    published ``data_config.json``. What stands in ``datasets`` besides changes the dataset of this name, or is added."""
    shards_folder: str = Field(default="shards", min_length=1)
    """Where the shards of the listed datasets are: each in a folder called as its file, without ``.jsonl.gz``."""
    only: tuple[str, ...] = ()
    """Names, or patterns with ``*``, of the datasets to take, such as ``["squad*", "gooaq_pairs"]``; by default all. Their
    weights stay as they are."""
    without: tuple[str, ...] = ()
    """Names or patterns of the datasets not to take."""


class DataSection(Section):
    """What the model is trained on; `ListingSection` has further keys, which stand for datasets."""

    datasets: Annotated[tuple[DatasetSection, ...], Field(min_length=1)]
    """The datasets; each batch comes from one of them, or from some."""
    weights: WeightRule = "given"
    """Computed from the numbers of rows, unless ``given``; a dataset with a weight of its own is an exception to the rule."""
    weights_alpha: float | None = Field(default=None, ge=0, le=10)
    """Of the rule ``power``: 0 is ``equal``, 1 is ``proportional``; by default 0.5."""
    weights_total: int | None = Field(default=None, ge=1, le=10**12)
    """Of the rule ``capped``: what the weights add up to before divisors and rounding up; by default 10,000."""
    weights_cap: int | None = Field(default=None, ge=1, le=10**12)
    """Of the rule ``capped``: rows beyond do not count; by default 1,000,000."""
    missing: Literal["refuse", "leave-out"] = "refuse"
    """What to do about datasets whose shards are not there: refuse to train, or train on the others."""
    datasets_per_batch: int = Field(default=1, ge=1)
    """Datasets that share a batch. With one, the negatives of a pair are all from its own domain."""
    steps_per_group: int = Field(default=1, ge=1, le=4096)
    """Steps that are drawn together: no text comes twice in them. Their batches come from datasets of one format, each for
    some steps in a row."""
    datasets_per_group: int = Field(default=1, ge=1, le=4096)
    """Draws of a dataset by weight in a group, each for as many steps; two may find the same. At most one a step is made."""
    block_shuffle: BlockShuffleSection | None = None
    """For data that is much larger than memory, on a disk that is slow at reading here and there; by default all rows
    of a dataset are shuffled."""
    prefetch_batches: int = Field(default=2, ge=0, le=1024)
    """Batches that are drawn and tokenized ahead of the model; 0: none. It changes no batch."""
    anchor_max_tokens: int = Field(default=128, ge=3)
    """Longer anchors are cut."""
    positive_max_tokens: int = Field(default=128, ge=3)
    """Longer positives, negatives and past contexts are cut."""

    @model_validator(mode="after")
    def _names_differ(self) -> DataSection:
        names = [dataset.dataset_name for dataset in self.datasets]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(
                f"two datasets are called {twice[0]}; give one of them another name with data.datasets.N.name"
            )
        return self

    @model_validator(mode="after")
    def _rule_reads_its_parameters(self) -> DataSection:
        given = [
            (f"data.datasets.{number}.divisor", "capped", dataset.divisor)
            for number, dataset in enumerate(self.datasets)
        ]
        given += [
            ("data.weights_alpha", "power", self.weights_alpha),
            ("data.weights_total", "capped", self.weights_total),
            ("data.weights_cap", "capped", self.weights_cap),
        ]
        for key, rule, value in given:
            if value is not None and rule != self.weights:
                raise ValueError(f'{key} is for weights = "{rule}", but weights is "{self.weights}"')
        return self


class LossSection(Section):
    """In-batch negatives: each anchor must find its own positive among all candidates of the batch."""

    scale: float = Field(default=20.0, gt=0, le=1e6)
    """Multiplies the similarities: 20 for cosine and 1 for dot product in the published models."""
    symmetric: bool = True
    """For pairs, also those with a past context: let each positive find its anchor, too. Batches with hard negatives are
    always one way."""
    learn_scale: bool = False
    """Train the logarithm of the scale with the model, as CLIP does; it starts from ``scale`` and is kept at most 100."""
    query_query: bool = False
    """Let the other anchors be negatives of an anchor, too. All terms, both ways included, then share one denominator."""
    document_document: bool = False
    """Let the candidates of other rows be negatives of a positive, too. All terms, both ways included, then share one
    denominator."""
    mask_false_negatives: bool = True
    """Leave candidates out whose text is, as the model reads it, equal to the anchor or to its positive; false reproduces
    the published models."""
    matryoshka_dimensions: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Take the mean of the losses over the first so many components of each vector; rising, such as [64, 128, 384]. Name
    the full dimension, too, if the whole vector is to be trained. By default only the whole vector is."""

    @model_validator(mode="after")
    def _learnt_scale_has_room(self) -> LossSection:
        if self.learn_scale and self.scale > 100:
            raise ValueError(f"scale is {self.scale:g}, but learn_scale keeps it at most 100; lower it")
        return self

    @model_validator(mode="after")
    def _dimensions_rise(self) -> LossSection:
        if list(self.matryoshka_dimensions) != sorted(set(self.matryoshka_dimensions)):
            raise ValueError(
                f"matryoshka_dimensions is {list(self.matryoshka_dimensions)}; write each once, the smallest first"
            )
        return self


class TrainSection(Section):
    """The optimisation."""

    steps: int = Field(gt=0, lt=2**40)
    """Optimizer steps."""
    batch_size: int = Field(default=128, ge=2)
    """Pairs an optimizer step."""
    micro_batch_tokens: int = Field(default=2048, ge=32)
    """Texts of a forward pass times the longest of them. 2,048 keeps two CPU cores busy within their cache; GPUs want
    more."""
    graph_memory_mib: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """Memory for the graphs of a batch, on each device. Micro-batches whose graphs do not fit are computed twice, which
    changes no number on a CPU; 0: all are (gradient caching). By default half of the free main memory, or most of a GPU's."""
    checkpoint_layers: bool = False
    """Keep only the input of each layer for the backward pass, and compute the rest again: for micro-batches of long
    texts that would not fit otherwise."""
    learning_rate: float = Field(default=2e-5, gt=0, le=10)
    """At the end of the warm-up."""
    warmup_steps: int = Field(default=500, ge=0)
    """Linear rise of the learning rate."""
    schedule: Schedule = "linear"
    """How it falls after the warm-up, so that it would reach 0 one step after the last: in a straight line, along half a
    cosine, or in a straight line at the end only."""
    decay_steps: int | None = Field(default=None, ge=1)
    """Of warmup-stable-decay: steps of the fall; by default a tenth of the run."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Of AdamW."""
    epsilon: float = Field(default=1e-6, gt=0)
    """Of AdamW."""
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    """Of AdamW; not applied to biases and layer norms."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients with a larger global norm are scaled down to it."""
    max_skipped_steps: int = Field(default=0, ge=0)
    """Batches whose loss or gradient is not a number may be passed over so often; one more stops the run."""
    freeze_embeddings: bool = False
    """Leave the tables of words and positions, and the norm after them, as they are."""
    freeze_layers: int = Field(default=0, ge=0)
    """Leave so many layers as they are, from the first on. (MPNet's relative bias belongs to all layers and is trained.)"""
    average_decay: float | None = Field(default=None, gt=0, lt=1)
    """Make the model from a moving average of the weights, of which so much is kept at a step, such as 0.999."""
    seed: int = Field(default=0, ge=0, lt=2**40)
    """Order of the pairs, and dropout."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the forward and backward pass; weights and optimizer stay in float32."""
    checkpoint_every_steps: int = Field(default=500, gt=0)
    """A checkpoint is also written at the end and on Ctrl-C."""
    keep_checkpoints: int = Field(default=2, gt=0)
    """Older ones are removed."""
    peer_timeout_s: int = Field(default=600, ge=1, le=604_800)
    """Of several processes: seconds without an answer after which the others give one up. They load the model and the data
    within it, too."""
    tensorboard: bool = False
    """Write the metrics as TensorBoard events, too, beside ``metrics.jsonl``; needs the extra ``tensorboard``."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> TrainSection:
        if self.warmup_steps >= self.steps and self.warmup_steps > 0:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps}, but must be less than steps, {self.steps}; "
                "lower it with --set train.warmup_steps=0"
            )
        return self

    @model_validator(mode="after")
    def _schedule_reads_its_parameter(self) -> TrainSection:
        if self.decay_steps is not None and self.schedule != "warmup-stable-decay":
            raise ValueError(f'decay_steps is for schedule = "warmup-stable-decay", but schedule is "{self.schedule}"')
        return self


class EvaluateSection(Section):
    """Measurements on held-out tasks, during training and after it."""

    tasks: tuple[Path, ...] = ()
    """Task folders (BEIR layout), sentence-pair files, and files of candidate sets."""
    every_steps: int = Field(default=0, ge=0)
    """0: only before the first step and after the last."""


class SourceSection(Section):
    """Which pairs of a source are kept; lengths are in characters of clean text."""

    anchor_min_chars: int = Field(default=1, ge=1)
    """Pairs with a shorter anchor are dropped."""
    anchor_max_chars: int | None = Field(default=None, ge=1)
    """Pairs with a longer anchor are dropped."""
    positive_min_chars: int = Field(default=1, ge=1)
    """Pairs with a shorter positive are dropped."""
    positive_max_chars: int | None = Field(default=None, ge=1)
    """Pairs with a longer positive are dropped."""
    max_broken_records: int = Field(default=10, ge=0)
    """Records that cannot be read are counted and left out; more of them stop the run."""


class StackExchangeSection(SourceSection):
    """Stack Exchange dumps. The defaults are those of the published training data."""

    anchor_min_chars: int = Field(default=20, ge=1)
    """Of the title."""
    positive_min_chars: int = Field(default=20, ge=1)
    """Of each body, of questions and of answers."""
    positive_max_chars: int | None = Field(default=4096, ge=1)
    """Of each body."""
    min_score: int = 0
    """Questions that were voted below it are dropped, and those whose best answer was."""
    worst_max_score: int = -1
    """An answer with at most this score is a negative in the view best-worst."""
    worst_min_gap: int = Field(default=100, ge=1)
    """So is one that has so many votes fewer than the best."""


class PythonDocsSection(SourceSection):
    """Docstrings. A one-word summary says too little to find its description by."""

    anchor_min_chars: int = Field(default=16, ge=1)
    """Of the summary."""
    anchor_max_chars: int | None = Field(default=256, ge=1)
    """Of the summary: a longer first paragraph is prose and not a summary."""
    positive_min_chars: int = Field(default=48, ge=1)
    """Of the description."""
    positive_max_chars: int | None = Field(default=16384, ge=1)
    """Of the description."""


class PairFilesSection(SourceSection):
    """Files of ready pairs: the names of their columns in CSV, TSV, Parquet, or JSON objects."""

    anchor: str = "anchor"
    """Column with the anchors."""
    positive: str = "positive"
    """Column with the positives."""
    negative: str = "negative"
    """Column with the negatives, in triplets."""
    max_broken_records: int = Field(default=0, ge=0)
    """Ready pairs are made by a program: one that cannot be read means that it failed."""


class RedditSection(SourceSection):
    """Comments on Reddit. The defaults are those of PolyAI's conversational datasets."""

    comment_min_chars: int = Field(default=9, ge=1)
    """A comment that is shorter is neither response nor context."""
    comment_max_chars: int = Field(default=127, ge=1)
    """Nor is one that is longer; as an earlier context it is cut."""
    max_contexts: int = Field(default=10, ge=1)
    """Comments that the positive of the view multi-context has at most, the one that is answered included. In the view
    contexts that one stands by itself, and the past context has one comment less."""
    split: Literal["train", "test", "all"] = "train"
    """Which threads are read."""
    train_share: float = Field(default=0.9, gt=0, lt=1)
    """The share of the threads that are for training."""


class WikiAnswersSection(SourceSection):
    """Clusters of questions that ask the same."""

    pairs_per_cluster: int = Field(default=3, ge=1)
    """How many pairs a cluster gives at most."""


class PaqSection(SourceSection):
    """Questions generated from passages."""

    passages_per_question: int = Field(default=1, ge=1)
    """With how many of the passages that it was generated from a question is paired at most."""
    with_title: bool = False
    """Whether the title of its article stands before a passage."""


class QuoraSection(SourceSection):
    """Question pairs."""

    quoted: bool = True
    """Whether the table has quotation marks as in CSV; copies in benchmarks have not."""


class AmazonQASection(SourceSection):
    """Questions about products."""


class GooAQSection(SourceSection):
    """Questions to Google."""


class SplitSection(SourceSection):
    """A source that is published in splits."""

    split: str = Field(default="train", min_length=1)
    """Of a folder, the files with this word in their names are read; a file given by its name always is."""


class SquadSection(SplitSection):
    """SQuAD."""


class NaturalQuestionsSection(SplitSection):
    """Natural Questions."""

    paragraphs_only: bool = False
    """Drop long answers that are a table or a list."""


class TriviaQASection(SplitSection):
    """TriviaQA."""

    evidence: str | None = None
    """The folder with ``wikipedia`` and ``web`` in it; by default it is looked for beside the questions."""
    evidence_max_chars: int = Field(default=4096, ge=1)
    """A longer document is cut after the last word that fits."""
    max_evidence: int | None = Field(default=None, ge=1)
    """So many documents of a question at most: pages of Wikipedia first, then of the web."""


class MSMarcoSection(SplitSection):
    """MS MARCO."""


class Eli5Section(SplitSection):
    """ELI5."""


class SearchQASection(SplitSection):
    """SearchQA."""

    num_snippets: int = Field(default=5, ge=1)
    """So many of a question's snippets are taken, the first that have a text."""
    joined: bool = False
    """Make one text of them, instead of a pair of each."""


class YahooAnswersSection(SplitSection):
    """Yahoo Answers."""


class SourcesSection(Section):
    """What `pairloom prepare` keeps of each source. Not part of a training recipe: its result is in the shards."""

    stackexchange: StackExchangeSection = StackExchangeSection()
    reddit: RedditSection = RedditSection()
    wikianswers: WikiAnswersSection = WikiAnswersSection()
    paq: PaqSection = PaqSection()
    quora: QuoraSection = QuoraSection()
    amazon_qa: AmazonQASection = Field(default=AmazonQASection(), alias="amazon-qa")
    gooaq: GooAQSection = GooAQSection()
    squad: SquadSection = SquadSection()
    natural_questions: NaturalQuestionsSection = Field(default=NaturalQuestionsSection(), alias="natural-questions")
    trivia_qa: TriviaQASection = Field(default=TriviaQASection(), alias="trivia-qa")
    ms_marco: MSMarcoSection = Field(default=MSMarcoSection(), alias="ms-marco")
    eli5: Eli5Section = Eli5Section()
    search_qa: SearchQASection = Field(default=SearchQASection(), alias="search-qa")
    yahoo_answers: YahooAnswersSection = Field(default=YahooAnswersSection(), alias="yahoo-answers")
    python_docs: PythonDocsSection = Field(default=PythonDocsSection(), alias="python-docs")
    pair_files: PairFilesSection = Field(default=PairFilesSection(), alias="pair-files")


class Recipe(Section):
    """A whole run."""

    faithful: bool = False
    """What the recipe does not say is as the published models were trained, not as is best; see ``docs/faithful.md``."""
    model: ModelSection
    data: DataSection
    train: TrainSection
    loss: LossSection = LossSection()
    evaluate: EvaluateSection = EvaluateSection()


class DataRecipe(Section):
    """A recipe of which only the data matters: other sections are checked, but may be missing."""

    faithful: bool = False
    """As in `Recipe`."""
    data: DataSection
    train: TrainSection | None = None
    model: ModelSection | None = None
    loss: LossSection | None = None
    evaluate: EvaluateSection | None = None


def load_recipe(path: Path, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """Reads a recipe and lays ``section.key=value`` overrides over it.

    Args:
        path: The TOML file, or the name of a recipe that comes with pairloom, such as ``adapt``.
        overrides: Values are TOML (``train.steps=100``, ``evaluate.tasks=["a","b"]``); what is not TOML is a string.
            A number in the path counts into a list, and a dataset may stand there by its name:
            ``data.datasets.0.shards=pairs``, ``data.datasets.gooaq_pairs.weight=200``.

    Raises:
        RecipeError: The file is missing or not TOML, or a key is unknown, of the wrong type or out of bounds;
            the message has its path.
    """
    return _checked(Recipe, _read(path, overrides), str(path))


def load_data_recipe(path: Path, overrides: tuple[str, ...] | list[str] = ()) -> DataRecipe:
    """Reads a recipe of which only the data matters, as `load_recipe` does."""
    return _checked(DataRecipe, _read(path, overrides), str(path))


def _read(path: Path, overrides: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """The recipe as a dictionary with all datasets and what ``faithful`` fills in; overrides of single datasets find those of a list, too."""
    raw = _read_toml(path)
    of_one = [override for override in overrides if override.lstrip().startswith("data.datasets.")]
    for override in overrides:
        if override not in of_one:
            _lay_over(raw, override)
    raw = _with_listed(raw, str(path))
    for override in of_one:
        _lay_over(raw, override)
    return _with_originals(raw)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.name == str(path) and not path.exists() and (packaged := _PACKAGED / f"{path}.toml").is_file():
            path = packaged
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in _PACKAGED.glob("*.toml")))
        raise RecipeError(f"{path}: no such recipe; those that come with pairloom are: {known}") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a directory; give a TOML file") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 ({error.reason} at byte {error.start + 1})") from None
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path}: not TOML: {str(error)[:200]}") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from None


class _ListingRecipe(Section):
    """For checking these keys alone, and naming them with their path."""

    data: ListingSection
    """The other keys of the section are left out."""


def _with_listed(raw: dict[str, Any], where: str) -> dict[str, Any]:
    """Replaces the keys of `ListingSection` by the datasets that they stand for."""
    data = raw.get("data")
    if not isinstance(data, dict) or not data.keys() & ListingSection.model_fields.keys():
        return raw
    rest = {key: value for key, value in data.items() if key not in ListingSection.model_fields}
    keys = {key: value for key, value in data.items() if key not in rest}
    listing = _checked(_ListingRecipe, {"data": keys}, where).data
    if listing.configuration is None and "shards_folder" in keys:
        raise RecipeError(f"{where}: data.shards_folder is for the datasets of data.configuration, which is not given")
    given = rest.get("datasets", [])
    if not isinstance(given, list) or not all(isinstance(dataset, dict) for dataset in given):
        return {**raw, "data": rest}  # which will be refused
    listed = _listed(listing, rest, where)
    added = []
    for dataset in given:
        if (name := _name_of(dataset)) in listed:
            listed[name] |= {**dataset, "name": name}
        else:
            added.append(dataset)
    datasets = [*listed.values(), *added]
    names = [_name_of(dataset) for dataset in datasets]
    taken = _matching(names, listing.only, f"{where}: data.only") if listing.only else set(names)
    taken -= _matching(names, listing.without, f"{where}: data.without")
    chosen = [dataset for name, dataset in zip(names, datasets, strict=True) if name in taken]
    return {**raw, "data": {**rest, "datasets": chosen}}


def _matching(names: list[str], patterns: tuple[str, ...], where: str) -> set[str]:
    """The names that match any of some patterns, each of which must match one."""
    matching: set[str] = set()
    for number, pattern in enumerate(patterns):
        found = {name for name in names if fnmatchcase(name, bare_name(pattern))}
        if not found:
            raise RecipeError(f"{where}.{number} = {json.dumps(pattern)}: no dataset is called so")
        matching |= found
    return matching


def _listed(listing: ListingSection, data: dict[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """The datasets of the list by name, as a recipe has them."""
    if listing.configuration is None:
        return {}
    path = find_listing(listing.configuration)
    where = f"{where}: data.configuration = {json.dumps(listing.configuration)}"
    if path is None:
        known = ", ".join(packaged_listings())
        raise RecipeError(f"{where}: no such list; those that come with pairloom are: {known}; or give a JSON file")
    try:
        listed = read_listing(path)
    except (RecipeError, InputError) as error:
        raise RecipeError(f"{where}: {error}") from None
    datasets: dict[str, dict[str, Any]] = {}
    for one in listed:
        name = bare_name(one.name)
        if name in datasets:
            raise RecipeError(f"{where}: {path} has two files of the name {name}; remove or rename one")
        dataset: dict[str, Any] = {"shards": f"{listing.shards_folder}/{name}", "name": name, "weight": one.weight}
        if one.num_rows is not None:
            dataset["num_rows"] = one.num_rows
        if data.get("weights", "given") != "given":
            del dataset["weight"]  # it would be an exception to the rule
        datasets[name] = dataset
    return datasets


def _name_of(dataset: dict[str, Any]) -> str:
    """What a dataset is called that is still a dictionary; an empty text if nothing tells it."""
    name = dataset.get("name")
    if isinstance(name, str) and name:
        return name
    shards = dataset.get("shards")
    return Path(shards).name if isinstance(shards, str | Path) else ""


def parse_recipe(raw: dict[str, Any], *, where: str) -> Recipe:
    """Checks a recipe that is already a dictionary; ``where`` says in errors what it came from."""
    return _checked(Recipe, _with_originals(_with_listed(raw, where)), where)


def _with_originals(raw: dict[str, Any]) -> dict[str, Any]:
    """A faithful recipe with the settings of the published models wherever it has none of its own."""
    if raw.get("faithful") is not True:
        return raw
    filled = dict(raw)
    for section, settings in _ORIGINALS.items():
        # A missing section is left for the check to miss; without [loss] there is still a loss.
        given = raw.get(section, {} if section == "loss" else None)
        if isinstance(given, dict):
            filled[section] = {**settings, **given}
    return filled


def load_sources(overrides: tuple[str, ...] | list[str] = ()) -> SourcesSection:
    """Lays ``source.key=value`` overrides over the default filters of the sources.

    Args:
        overrides: ``stackexchange.min_score=1``; values as in `load_recipe`.

    Raises:
        RecipeError: A key is unknown, or its value of the wrong type or out of bounds.
    """
    raw: dict[str, Any] = {}
    for override in overrides:
        _lay_over(raw, override)
    return _checked(SourcesSection, raw, "--set")


_SectionType = TypeVar("_SectionType", bound=Section)


def _checked(section: type[_SectionType], raw: dict[str, Any], where: str) -> _SectionType:
    # Strict types as JSON has them: a path may be a string and a tuple a list, but no number a string.
    try:
        return section.model_validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        faults = [_sentence(fault, raw) for fault in error.errors()]
        more = f"; and {len(faults) - _MAX_FAULTS} more" if len(faults) > _MAX_FAULTS else ""
        raise RecipeError(f"{where}: " + "; ".join(faults[:_MAX_FAULTS]) + more) from None


def _sentence(fault: Any, raw: dict[str, Any]) -> str:
    key = _path(fault["loc"], raw) or "recipe"
    match fault["type"]:
        case "extra_forbidden":
            return f"{key} is not a setting"
        case "missing":
            return f"{key} is missing"
        case "value_error":
            return f"{key}: {fault['ctx']['error']}"
        case _:
            return f"{key} = {json.dumps(fault['input'], default=str)[:60]}: {fault['msg']}"


def _path(place: tuple[str | int, ...], raw: dict[str, Any]) -> str:
    """Where a value stands, as ``--set`` takes it: a dataset with a name by its name, as its number may be that in a list."""
    parts = list(map(str, place))
    if place[:2] == ("data", "datasets") and len(place) > 2 and isinstance(place[2], int):
        dataset = raw["data"]["datasets"][place[2]]
        name = dataset.get("name") if isinstance(dataset, dict) else None
        if isinstance(name, str) and name:
            parts[2] = f'"{name}"' if "." in name else name
    return ".".join(parts)


def _lay_over(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not _KEY.fullmatch(key.strip()):
        raise RecipeError(f"--set {override[:200]}: write section.key=value")
    parts = [quoted or plain for quoted, plain in _KEY_PART.findall(key.strip())]
    here: Any = raw
    try:
        for part in parts[:-1]:
            here = here[_item(here, part)] if isinstance(here, list) else here.setdefault(part, {})
        here[_item(here, parts[-1]) if isinstance(here, list) else parts[-1]] = _toml_value(value.strip())
    except (IndexError, ValueError, TypeError, AttributeError):
        raise RecipeError(f"--set {override[:200]}: the recipe has no place {key[:200]}") from None


def _item(items: list[Any], part: str) -> int:
    """The number of an item, given as such or by the name of the dataset that it is; raises ValueError."""
    names = [_name_of(item) if isinstance(item, dict) else "" for item in items]
    return names.index(part) if part in names else int(part)


def _toml_value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text
