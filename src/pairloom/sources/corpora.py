"""The files of the published lists of datasets: from which corpus each was made, where that is published, and how we make it.

The lists name files of ready pairs. `PUBLISHED` says for each what pairs it holds, so that it can be made again from the raw
dump, with the view of the source that reads it. Where we read no raw dump, only the ready file can be used.

The numbers of pairs will not be those of the lists: the dumps have grown since, and the filters of some files are not known.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pairloom.listing import bare_name, find_listing, packaged_listings, read_listing
from pairloom.sources import SOURCES
from pairloom.sources.dumps import Dumps, unnamed
from pairloom.sources.stackexchange import find_sites

Find = Callable[[Dumps, re.Match[str]], list[Path]]
"""From the files at hand, and the match of the dataset's name, to the inputs of the source; none if the dump is not there."""

_SMALL = "small_stackexchanges"
_READY = "https://huggingface.co/datasets/sentence-transformers/embedding-training-data"


@dataclass(frozen=True)
class Corpus:
    """A corpus.

    Args:
        title: What it is called.
        address: Where it is published, or described by those who did.
        dump: What of it is needed, under which names.
        licence: Of the texts.
    """

    title: str
    address: str
    dump: str
    licence: str


@dataclass(frozen=True)
class Published:
    """Files of the lists that are made in the same way.

    Args:
        names: Matches the whole names of these datasets.
        corpus: What they were made from.
        source: Which source reads its dump; None if none does.
        view: Which view makes these pairs.
        settings: Of the source, where its defaults make other pairs.
        find: Finds the dump.
        num_columns: Of the ready file, and of the view: 2 for pairs, 3 for triplets and past contexts.
    """

    names: re.Pattern[str]
    corpus: Corpus
    source: str | None = None
    view: str | None = None
    settings: tuple[str, ...] = ()
    find: Find = lambda dumps, match: []
    num_columns: int = 2

    @property
    def ready_view(self) -> str:
        """Which view of pair files reads the ready file."""
        if self.view == "contexts":
            return "contexts"
        return "triplets" if self.num_columns == 3 else "pairs"


def published(name: str) -> tuple[Published, re.Match[str]] | None:
    """How the dataset of this name is made, and the match of its name; None if none of the lists has it."""
    for one in PUBLISHED:
        if (match := one.names.fullmatch(name)) is not None:
            return one, match
    return None


def _named(*patterns: str) -> Find:
    return lambda dumps, match: dumps.named(*patterns)


def _find_site(dumps: Dumps, match: re.Match[str]) -> list[Path]:
    """The posts of a site; of the file of small sites those of all that have no file of their own."""
    if match["site"] != _SMALL:
        return dumps.sites.get(match["site"].removesuffix("-Posts"), [])
    return [path for site in unnamed(dumps.sites, _sites_with_files(match["folder"])) for path in dumps.sites[site]]


def _find_linked(dumps: Dumps, match: re.Match[str]) -> list[Path]:
    """The posts of all sites whose links are there, too."""
    paths = [path for site in unnamed(dumps.sites, ()) for path in dumps.sites[site]]
    return [path for path in paths if all(links is not None for _, links in find_sites(path))]


def _find_months(dumps: Dumps, match: re.Match[str]) -> list[Path]:
    return dumps.named(rf"RC_{match['year']}-\d\d(?:\.\w+)?")


def _find_paq(dumps: Dumps, match: re.Match[str]) -> list[Path]:
    questions = dumps.named(r"PAQ\.metadata\.jsonl", r"PAQ[^/]*metadata[^/]*\.jsonl")
    return [*questions, *dumps.named(r"psgs_w100\.tsv", r"psgs[^/]*\.tsv")] if questions else []


@cache
def _sites_with_files(folder: str) -> set[str]:
    """The sites that the published lists name in a folder."""
    paths = [path for name in packaged_listings() if (path := find_listing(name)) is not None]
    names = {bare_name(dataset.name) for path in paths for dataset in read_listing(path)}
    return {name.removeprefix(f"{folder}/").removesuffix("-Posts") for name in names if name.startswith(f"{folder}/")}


def _corpus(title: str, source: str, address: str, dump: str) -> Corpus:
    return Corpus(title, address, dump, SOURCES[source].licence)


def _ready(title: str, address: str, licence: str) -> Corpus:
    return Corpus(title, address, f"the ready file; the collection {_READY} has it, under this or a like name", licence)


def _stack_exchange(names: str, view: str, find: Find) -> Published:
    return Published(re.compile(names), _STACK_EXCHANGE, "stackexchange", view, find=find)


def _yahoo_answers(names: str, view: str) -> Published:
    find = _named(r"[^/]*yahoo[^/]*/(?:.*/)?train\.csv")
    return Published(re.compile(names), _YAHOO_ANSWERS, "yahoo-answers", view, find=find)


_STACK_EXCHANGE = _corpus(
    "Stack Exchange",
    "stackexchange",
    "https://archive.org/details/stackexchange",
    "<site>.7z, or a folder called <site> with Posts.xml in it, and PostLinks.xml for duplicates",
)
_REDDIT = _corpus(
    "Reddit comments",
    "reddit",
    "https://github.com/PolyAI-LDN/conversational-datasets/tree/master/reddit",
    "the monthly files RC_<year>-<month>.zst (.bz2, .xz) of a year",
)
_YAHOO_ANSWERS = _corpus(
    "Yahoo Answers",
    "yahoo-answers",
    "https://www.kaggle.com/soumikrakshit/yahoo-answers-dataset",
    "train.csv, in a folder whose name has yahoo in it",
)
_MS_MARCO = _corpus(
    "MS MARCO",
    "ms-marco",
    "https://microsoft.github.io/msmarco/",
    "triples.train.small.tsv, or qidpidtriples.train.*.tsv beside collection.tsv and queries.train.tsv",
)
_S2ORC = _ready("S2ORC", "https://github.com/allenai/s2orc", "ODC-By 1.0, not for commercial use")

_SITE = r"(?P<site>[^/]+)"

PUBLISHED: tuple[Published, ...] = (
    _stack_exchange(rf"(?P<folder>stackexchange_title_body)/{_SITE}", "title-body", _find_site),
    _stack_exchange(rf"(?P<folder>stackexchange_Title_Answer)/{_SITE}", "title-answer", _find_site),
    _stack_exchange(rf"(?P<folder>stackexchange_TitleBody_Answer)/{_SITE}", "title-body-answer", _find_site),
    _stack_exchange("stackexchange_duplicate_questions_title_title", "duplicate-titles", _find_linked),
    _stack_exchange("stackexchange_duplicate_questions_body_body", "duplicate-bodies", _find_linked),
    _stack_exchange("stackexchange_duplicate_questions_title-body_title-body", "duplicate-title-body", _find_linked),
    Published(re.compile(r"reddit/reddit_(?P<year>\d{4})"), _REDDIT, "reddit", "single-context", find=_find_months),
    Published(
        re.compile(r"reddit_contexts/reddit_(?P<year>\d{4})"),
        _REDDIT,
        "reddit",
        "contexts",
        num_columns=3,
        find=_find_months,
    ),
    Published(
        re.compile("WikiAnswers_pairs"),
        _corpus(
            "WikiAnswers",
            "wikianswers",
            "https://github.com/afader/oqa#wikianswers-corpus",
            "part-*.gz, in a folder whose name has wikianswers in it",
        ),
        "wikianswers",
        "questions",
        find=_named(r"[^/]*wikianswers[^/]*/(?:.*/)?part-\d+(?:\.txt|\.tsv)?", r"[^/]*wikianswers[^/]*\.(?:txt|tsv)"),
    ),
    Published(
        re.compile("PAQ_pairs"),
        _corpus(
            "PAQ",
            "paq",
            "https://github.com/facebookresearch/PAQ",
            "PAQ.metadata.jsonl.gz and psgs_w100.tsv.gz",
        ),
        "paq",
        "question-passage",
        find=_find_paq,
    ),
    # The files with and without v2 have different numbers of triples; which, is not known.
    Published(
        re.compile(r"msmarco-query_passage_negative(?:_v2)?"),
        _MS_MARCO,
        "ms-marco",
        "triplets",
        find=_named(r"triples\.train\.small\.tsv", r"qidpidtriples\.train[\w.-]*\.tsv"),
        num_columns=3,
    ),
    Published(
        re.compile("gooaq_pairs"),
        _corpus("GooAQ", "gooaq", "https://github.com/allenai/gooaq", "gooaq.jsonl"),
        "gooaq",
        "question-answer",
        find=_named(r"gooaq\.jsonl"),
    ),
    Published(
        re.compile("amazon-qa-train-pairs"),
        _corpus("Amazon QA", "amazon-qa", "http://jmcauley.ucsd.edu/data/amazon/qa/", "qa_*.json.gz"),
        "amazon-qa",
        "question-answer",
        find=_named(r"qa_[^/]+\.json"),
    ),
    _yahoo_answers("yahoo_answers_title_answer", "title-answer"),
    _yahoo_answers("yahoo_answers_title_question", "title-question"),
    _yahoo_answers("yahoo_answers_question_answer", "question-answer"),
    # The published file has the questions of all splits; those for testing stay out here.
    Published(
        re.compile("searchQA_question_top5_snippets_merged"),
        _corpus(
            "SearchQA",
            "search-qa",
            "https://github.com/nyu-dl/dl4ir-searchQA",
            "train.zip or train.txt, in a folder whose name has searchqa in it",
        ),
        "search-qa",
        "question-snippet",
        find=_named(r"[^/]*search[-_]?qa[^/]*/(?:.*/)?train\.zip", r"[^/]*search[-_]?qa[^/]*/(?:.*/)?train\.txt"),
    ),
    Published(
        re.compile("eli5_question_answer"),
        _corpus("ELI5", "eli5", "https://github.com/facebookresearch/KILT", "eli5-train-kilt.jsonl"),
        "eli5",
        "title-answer",
        find=_named(r"[^/]*(?:eli5|explainlikeimfive)[^/]*train[^/]*\.jsonl?"),
    ),
    Published(
        re.compile("quora_duplicates_triplets"),
        _corpus(
            "Quora Question Pairs",
            "quora",
            "https://quoradata.quora.com/First-Quora-Dataset-Release-Question-Pairs",
            "quora_duplicate_questions.tsv",
        ),
        "quora",
        "triplets",
        find=_named(r"quora_duplicate_questions\.tsv", r"[^/]*quora[^/]*/(?:.*/)?train\.csv"),
        num_columns=3,
    ),
    # "Paragraph", says the card, and the number is nearer to that of paragraphs than to that of all long answers.
    Published(
        re.compile("NQ-train_pairs"),
        _corpus(
            "Natural Questions",
            "natural-questions",
            "https://ai.google.com/research/NaturalQuestions",
            "nq-train-*.jsonl.gz, or v1.0-simplified_simplified-nq-train.jsonl.gz; KILT's has no paragraphs",
        ),
        "natural-questions",
        "question-paragraph",
        ("natural-questions.paragraphs_only=true",),
        find=_named(r"(?:v1\.0-)?(?:simplified[_-])*nq-train(?:-\d+)?\.jsonl"),
    ),
    # The card says 2.0, but 87,599 is the number of questions of 1.1.
    Published(
        re.compile("squad_pairs"),
        _corpus(
            "SQuAD",
            "squad",
            "https://rajpurkar.github.io/SQuAD-explorer/",
            "train-v1.1.json or train-v2.0.json",
        ),
        "squad",
        "question-paragraph",
        find=_named(r"train-v1\.1\.json", r"train-v2\.0\.json"),
    ),
    # There are several documents a question; the published number is near that of one each.
    Published(
        re.compile("TriviaQA_pairs"),
        _corpus(
            "TriviaQA",
            "trivia-qa",
            "https://nlp.cs.washington.edu/triviaqa/",
            "triviaqa-rc: qa/web-train.json, and evidence/ beside qa/",
        ),
        "trivia-qa",
        "question-evidence",
        ("trivia-qa.max_evidence=1",),
        find=_named(r"web-train\.json", r"wikipedia-train\.json", r"unfiltered-web-train\.json"),
    ),
    Published(re.compile(r"S2ORC_(?:title_abstract|citation_pairs|citation_pairs_abstract)"), _S2ORC),
    Published(
        re.compile("specter_train_triples"),
        _ready("SPECTER", "https://github.com/allenai/specter", "not stated"),
        num_columns=3,
    ),
    Published(
        re.compile("AllNLI"),
        _ready(
            "SNLI and MultiNLI",
            "https://nlp.stanford.edu/projects/snli/ and https://cims.nyu.edu/~sbowman/multinli/",
            "CC BY-SA 4.0; several",
        ),
        num_columns=3,
    ),
    Published(
        re.compile("codesearchnet"),
        _ready("CodeSearchNet", "https://github.com/github/CodeSearchNet", "those of the repositories"),
    ),
    Published(
        re.compile("flickr30k_captions"),
        _ready("Flickr30k", "https://shannon.cs.illinois.edu/DenotationGraph/", "for research that is not commercial"),
    ),
    Published(
        re.compile("coco_captions"),
        _ready("COCO captions", "https://cocodataset.org/", "CC BY 4.0"),
    ),
    Published(
        re.compile("SimpleWiki"),
        _ready("Simple Wikipedia", "https://cs.pomona.edu/~dkauchak/simplification/", "CC BY-SA 3.0"),
    ),
    Published(
        re.compile("altlex"),
        _ready("AltLex", "https://github.com/chridey/altlex", "not stated"),
    ),
    Published(
        re.compile("wikihow"),
        _ready("wikiHow", "https://github.com/pvl/wikihow_pairs_dataset", "CC BY-NC-SA 3.0"),
    ),
    Published(
        re.compile("sentence-compression"),
        _ready(
            "Sentence compression", "https://github.com/google-research-datasets/sentence-compression", "not stated"
        ),
    ),
)
"""All files of all lists, each by one entry."""
