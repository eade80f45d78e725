"""Reddit: comments and their replies, in the way of PolyAI's conversational datasets.

The dumps have a comment a line as a JSON object with ``id``, ``parent_id``, ``link_id`` (the thread), ``body``,
``author``, ``subreddit`` and more; the monthly ones are called ``RC_2015-01.zst``, and some are ``.bz2`` or ``.xz``. A
JSON file that holds one list of such objects is read as well. ``parent_id`` is ``t1_`` and the id of a comment, or
``t3_`` and the id of the thread for one that answers the post itself. Bodies are Markdown in which ``&``, ``<`` and
``>`` are written as entities.

A response is a comment with the comment that it answers, which is its context. A pair is dropped if one of the two is
deleted or removed, or has fewer than 9 or more than 127 characters. Further contexts, up the thread, are cut instead.
Of the two views with further contexts, multi-context puts them all into one text, in the order in which they were
written; contexts keeps the past ones apart, the latest first, for training that scores them by themselves and together
with the context (as ConveRT does; where a text is cut to a number of tokens, the earliest go first). A response to the
first comment of a thread has no past context. It is left out of the view contexts: the empty text says nothing of the
response, and it could stand in a batch only once.
Threads fall to training and test by the MD5 of their id, so both parts are the same as the original's. What differs
from it: lengths are those of the clean text, with its entities replaced; earlier contexts that are deleted are left out
of the text; and what answers the post is not mistaken for the answer to a comment with the same id.

The card of the published model counts 726,484,430 pairs of response and context, in this order. The texts belong to
their authors.

References: Henderson et al. 2019, A Repository of Conversational Datasets, https://arxiv.org/abs/1904.06472;
https://github.com/PolyAI-LDN/conversational-datasets/tree/master/reddit;
Henderson et al. 2020, ConveRT: Efficient and Accurate Conversational Representations from Transformers,
https://arxiv.org/abs/1911.03688 (past contexts)
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pairloom.errors import RecordError
from pairloom.files import open_binary
from pairloom.pairs.clean import clean_text
from pairloom.recipe import RedditSection
from pairloom.records import Pair
from pairloom.sources.entities import replace_entities
from pairloom.sources.folders import find_files
from pairloom.sources.formats import JSON_LINES, Format, InputFile, field_of, json_items, kind_of, text_of
from pairloom.sources.source import Intake, Keyed, Source, View

_PUBLISHED = re.compile(r"RC_.+|.+_comments(\.(json|jsonl|ndjson))?")
_LIST = json_items("item")
_DELETED = {"[deleted]", "[removed]", "[ Removed by Reddit ]"}
_SPLIT_STEPS = 4096  # of the original
_KIND_PREFIX = re.compile(r"t\d_")
# Up to 11 digits in base 36 are less than 2^57; all else is told apart from them by bit 62.
_BASE_36 = re.compile(r"0|[1-9a-z][0-9a-z]{0,10}")
_HASHED = 1 << 62


class _Comment(NamedTuple):
    """What a comment sends to its thread.

    ``parent`` is None if it answers the post; ``fault`` says why it is neither response nor context, if it is not.
    """

    thread: str
    id: str
    parent: str | None
    text: str
    fault: str


def read_comments(record: Any, file: InputFile, settings: RedditSection, intake: Intake) -> Iterator[Keyed]:
    """Comments, to be joined by their thread."""
    thread = _bare_id(text_of(record, "link_id"))
    if settings.split != "all" and (settings.split == "train") != is_train(thread, settings.train_share):
        intake.drop(f"comment of a thread that is not in the split {settings.split}")
        return
    parent = field_of(record, "parent_id")
    if not isinstance(parent, str | None):
        raise RecordError(f"parent_id is {kind_of(parent)}, not a text")
    if parent is not None:
        parent = None if parent.startswith("t3_") else _bare_id(parent)
    text, fault = _body(record, settings)
    yield Keyed(_key(thread), "comment", _Comment(thread, _bare_id(text_of(record, "id")), parent, text, fault))


def join_single_context(group: list[Keyed], settings: RedditSection, intake: Intake) -> Iterator[Pair]:
    """A response ↔ the comment that it answers."""
    for response, contexts in _exchanges(group, intake):
        yield Pair(response.text, next(contexts).text)


def join_multi_context(group: list[Keyed], settings: RedditSection, intake: Intake) -> Iterator[Pair]:
    """A response ↔ the comments that led to it, the oldest first."""
    for response, contexts in _exchanges(group, intake):
        texts = [comment.text for comment in islice(contexts, settings.max_contexts) if comment.text]
        yield Pair(response.text, "\n".join(reversed(texts)))


def join_contexts(group: list[Keyed], settings: RedditSection, intake: Intake) -> Iterator[Pair]:
    """A response ↔ the comment that it answers, and the comments before that, the latest first."""
    for response, contexts in _exchanges(group, intake):
        context, *past = islice(contexts, settings.max_contexts)
        texts = [comment.text for comment in past if comment.text]
        if texts:
            yield Pair(response.text, context.text, context="\n".join(texts))
        else:
            intake.drop("reply without past contexts")


def is_train(thread: str, share: float) -> bool:
    """Whether a thread, by its id without ``t3_``, is for training: everywhere the same, and as in the original."""
    digest = hashlib.md5(thread.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return (1 + int.from_bytes(digest, "big") % _SPLIT_STEPS) / _SPLIT_STEPS < share


def _exchanges(group: list[Keyed], intake: Intake) -> Iterator[tuple[_Comment, Iterator[_Comment]]]:
    """Each response, and what it answers, from its parent to the beginning of the thread.

    Only what can be reached from a beginning is walked through, so a circle of comments that answer each other ends
    nothing and is never entered.
    """
    comments: dict[tuple[str, str], _Comment] = {}
    for part in group:
        comment = _Comment(*part.fields)
        if comments.setdefault((comment.thread, comment.id), comment) is not comment:
            intake.drop("comment that occurs twice")
    reached, answers = [], defaultdict(list)
    for comment in comments.values():
        if comment.parent is not None and (comment.thread, comment.parent) in comments:
            answers[comment.thread, comment.parent].append(comment)
        else:
            reached.append(comment)
            intake.drop("comment on the post itself" if comment.parent is None else "comment whose parent is missing")
    num_first = len(reached)
    for comment in reached:  # grows as it is walked through
        reached += answers[comment.thread, comment.id]
    for response in reached[num_first:]:
        contexts = _contexts(response, comments)
        context = comments[response.thread, str(response.parent)]
        if response.fault:
            intake.drop(f"comment {response.fault}")
        elif context.fault:
            intake.drop(f"reply to a comment {context.fault}")
        else:
            yield response, contexts
    for _ in range(len(comments) - len(reached)):
        intake.drop("comment in a circle of replies")


def _contexts(response: _Comment, comments: dict[tuple[str, str], _Comment]) -> Iterator[_Comment]:
    comment = response
    while comment.parent is not None and (comment.thread, comment.parent) in comments:
        comment = comments[comment.thread, comment.parent]
        yield comment


def _body(record: Any, settings: RedditSection) -> tuple[str, str]:
    """A comment's text, cut if it is too long, and why it is not to be used on its own, if so."""
    body = "[deleted]" if field_of(record, "body") is None else text_of(record, "body")
    if body in _DELETED:
        return "", "deleted or removed"
    # Twice: the dump has escaped the text, and in the text an author has written an entity.
    text = clean_text(replace_entities(replace_entities(body)))
    shortest, longest = settings.comment_min_chars, settings.comment_max_chars
    if len(text) < shortest:
        return text, f"shorter than {shortest} characters"
    if len(text) > longest:
        return _cut(text, longest), f"longer than {longest} characters"
    return text, ""


def _cut(text: str, length: int) -> str:
    """The first characters of a text, up to the last space among them if there is one."""
    head, space, _ = text[: length + 1].rpartition(" ")
    return head if space else text[:length]


def _bare_id(name: str) -> str:
    return _KIND_PREFIX.sub("", name, count=1) if name.startswith("t") else name


def _key(thread: str) -> int:
    if _BASE_36.fullmatch(thread):
        return int(thread, 36)
    digest = hashlib.blake2b(thread.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return _HASHED | int.from_bytes(digest, "big") >> 2


def find(inputs: Sequence[str], view: str, settings: RedditSection) -> list[InputFile]:
    """Files of comments, as they are named in the monthly dumps or in those of single subreddits."""
    wanted = "files of comments such as RC_2015-01.zst or AskReddit_comments.zst"
    return [InputFile(path, _format(path)) for path in find_files(inputs, _PUBLISHED, wanted)]


def _format(path: Path) -> Format:
    with open_binary(path) as stream:
        head = stream.read(1 << 12)
    return _LIST if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[") else JSON_LINES


SOURCE = Source(
    name="reddit",
    description="Comments on Reddit and their replies",
    inputs="RC_*.zst (.bz2, .xz, .gz, plain), other JSON lines, a JSON list, or a folder",
    licence="that of the authors; Reddit's terms",
    citation="Henderson et al. 2019, A Repository of Conversational Datasets, https://arxiv.org/abs/1904.06472",
    find=find,
    views=(
        View(
            "single-context",
            "a response ↔ the comment that it answers",
            read_comments,
            (join_single_context,),
            anchor_answers=True,
            num_published=726_484_430,
        ),
        View(
            "multi-context",
            "a response ↔ the comments that led to it, the oldest first",
            read_comments,
            (join_multi_context,),
            anchor_answers=True,
        ),
        View(
            "contexts",
            "a response ↔ the comment that it answers, and those before it, the latest first",
            read_comments,
            (join_contexts,),
            has_context=True,
            anchor_answers=True,
        ),
    ),
)
