"""What `pairloom prepare` keeps of each source: a section a source."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pairloom.recipe.section import Section


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
