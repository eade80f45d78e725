from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from pairloom.errors import InputError
from pairloom.recipe import RedditSection
from pairloom.records import Pair
from pairloom.sources.formats import JSON_LINES, InputFile
from pairloom.sources.reddit import is_train, join_contexts, join_multi_context, join_single_context, read_comments
from pairloom.sources.source import Intake, Keyed
from tests.sources.preparing import prepare_pairs

FILE = InputFile(Path("RC"), JSON_LINES)
ALL = RedditSection(split="all")


def comment(number: str, parent: str, body: str | None = None, thread: str = "82ymmx") -> dict[str, Any]:
    return {
        "id": number,
        "parent_id": parent,
        "link_id": f"t3_{thread}",
        "body": f"this is comment {number}" if body is None else body,
        "author": "somebody",
        "subreddit": "test",
        "score": 1,
    }


def lines(path: Path, records: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def keyed(records: Sequence[Any], settings: RedditSection = ALL) -> tuple[list[Keyed], Intake]:
    intake = Intake()
    parts = [part for record in records for part in read_comments(record, FILE, settings, intake)]
    return sorted(parts, key=lambda part: json.dumps(part.fields)), intake


THREAD = [
    comment("a", "t3_82ymmx"),
    comment("b", "t1_a"),
    comment("c", "t1_b", "Tom &amp;amp; Jerry\n\n&gt; are  friends"),
    comment("d", "t1_c"),
    comment("d2", "t1_c", "x" * 127),
    comment("long", "t1_a", "word " * 25 + "endless"),
    comment("f", "t1_long"),
    comment("g", "t1_f"),
    comment("short", "t1_g", " 8 chars \n"),
    comment("h", "t1_short"),
    comment("i", "t1_h"),
    comment("deleted", "t1_a", "[deleted]"),
    comment("j", "t1_deleted"),
    comment("k", "t1_j"),
    comment("removed", "t1_a", "[removed]"),
    comment("orphan", "t1_nowhere"),
    comment("l", "t1_orphan"),
    comment("self", "t1_self"),
    comment("x", "t1_y"),
    comment("y", "t1_x"),
    comment("z", "t1_y"),
    comment("b", "t1_a"),
]
TEXT = {record["id"]: record["body"] for record in THREAD} | {"c": "Tom & Jerry > are friends"}


def test_single_context(tmp_path: Path) -> None:
    found, facts = prepare_pairs("reddit", lines(tmp_path / "RC_2018-03", THREAD), split="all")
    exchanges = ["b a", "c b", "d c", "d2 c", "g f", "i h", "k j", "l orphan"]
    assert found == {Pair(TEXT[response], TEXT[context]) for response, context in map(str.split, exchanges)}
    assert facts["dropped"] == {
        "comment on the post itself": 1,
        "comment whose parent is missing": 1,
        "comment in a circle of replies": 4,
        "comment that occurs twice": 1,
        "comment deleted or removed": 2,
        "comment longer than 127 characters": 1,
        "comment shorter than 9 characters": 1,
        "reply to a comment deleted or removed": 1,
        "reply to a comment longer than 127 characters": 1,
        "reply to a comment shorter than 9 characters": 1,
    }
    assert facts["num_records"] == len(THREAD) == len(found) + sum(facts["dropped"].values())
    assert facts["broken"]["count"] == 0


def test_multi_context(tmp_path: Path) -> None:
    path = lines(tmp_path / "comments.jsonl", THREAD)
    found, _ = prepare_pairs("reddit", path, view="multi-context", split="all")
    positives = {pair.anchor: pair.positive for pair in found}
    assert positives[TEXT["d"]] == f"{TEXT['a']} {TEXT['b']} {TEXT['c']}"
    # What is too long is cut between words; what is too short stays; what is deleted leaves no trace.
    assert positives[TEXT["g"]] == f"{TEXT['a']} {'word ' * 24}word {TEXT['f']}"
    assert positives[TEXT["i"]].endswith(f"{TEXT['g']} 8 chars {TEXT['h']}")
    assert positives[TEXT["k"]] == f"{TEXT['a']} {TEXT['j']}"
    assert len(found) == 8
    found, _ = prepare_pairs("reddit", path, view="multi-context", split="all", max_contexts=2)
    positives = {pair.anchor: pair.positive for pair in found}
    assert positives[TEXT["d"]] == f"{TEXT['b']} {TEXT['c']}"
    assert positives[TEXT["k"]] == TEXT["j"]


def test_ten_contexts_as_in_the_original(tmp_path: Path) -> None:
    chain = [comment(str(number), f"t1_{number - 1}") for number in range(100, 120)]
    found, _ = prepare_pairs("reddit", lines(tmp_path / "RC", chain), view="multi-context", split="all")
    positives = {pair.anchor: pair.positive for pair in found}
    assert positives["this is comment 119"] == " ".join(f"this is comment {number}" for number in range(109, 119))


def test_contexts(tmp_path: Path) -> None:
    path = lines(tmp_path / "RC", THREAD)
    found, facts = prepare_pairs("reddit", path, view="contexts", split="all")
    assert facts["columns"] == ["anchor", "positive", "context"]
    rows = {pair.anchor: pair for pair in found}
    assert rows[TEXT["c"]] == Pair(TEXT["c"], TEXT["b"], context=TEXT["a"])
    # The latest first, and cut where they are too long.
    assert rows[TEXT["d"]] == Pair(TEXT["d"], TEXT["c"], context=f"{TEXT['b']} {TEXT['a']}")
    assert rows[TEXT["g"]].context == f"{'word ' * 24}word {TEXT['a']}"
    assert rows[TEXT["i"]].context == f"8 chars {TEXT['g']} {TEXT['f']} {'word ' * 24}word {TEXT['a']}"
    # What is deleted leaves no trace; where nothing else was said before, there is no row.
    assert rows[TEXT["k"]] == Pair(TEXT["k"], TEXT["j"], context=TEXT["a"])
    assert facts["dropped"]["reply without past contexts"] == 2
    assert len(found) == 6
    singles, _ = prepare_pairs("reddit", path, split="all")
    assert {(pair.anchor, pair.positive) for pair in found} < {(pair.anchor, pair.positive) for pair in singles}


def test_past_contexts_are_one_less_than_contexts(tmp_path: Path) -> None:
    chain = [comment(str(number), f"t1_{number - 1}") for number in range(100, 120)]
    path = lines(tmp_path / "RC", chain)
    found, _ = prepare_pairs("reddit", path, view="contexts", split="all")
    contexts = {pair.anchor: pair.context for pair in found}
    assert contexts["this is comment 119"] == " ".join(f"this is comment {number}" for number in range(117, 108, -1))
    with pytest.raises(InputError, match="no pair is left; dropped: reply without past contexts: 19"):
        prepare_pairs("reddit", path, view="contexts", split="all", max_contexts=1)


def test_a_long_text_without_spaces_is_cut(tmp_path: Path) -> None:
    thread = [comment("a", "t3_82ymmx", "字" * 200), comment("b", "t1_a"), comment("c", "t1_b")]
    found, _ = prepare_pairs("reddit", lines(tmp_path / "RC", thread), view="multi-context", split="all")
    assert found == {Pair("this is comment c", "字" * 127 + " this is comment b")}


def test_lengths_are_settings(tmp_path: Path) -> None:
    thread = [comment("a", "t3_82ymmx", "1234"), comment("b", "t1_a", "12345"), comment("c", "t1_b", "123")]
    path = lines(tmp_path / "RC", thread)
    found, _ = prepare_pairs("reddit", path, split="all", comment_min_chars=3, comment_max_chars=5)
    assert found == {Pair("12345", "1234"), Pair("123", "12345")}
    found, _ = prepare_pairs("reddit", path, split="all", comment_min_chars=4, comment_max_chars=5)
    assert found == {Pair("12345", "1234")}


def test_what_answers_the_post_answers_no_comment_of_that_id(tmp_path: Path) -> None:
    thread = [comment("82ymmx", "t3_82ymmx"), comment("a", "t3_82ymmx"), comment("b", "t1_82ymmx")]
    found, _ = prepare_pairs("reddit", lines(tmp_path / "RC", thread), split="all")
    assert found == {Pair("this is comment b", "this is comment 82ymmx")}


def test_a_thread_may_lie_in_several_files_of_any_compression(tmp_path: Path) -> None:
    chain = [comment(str(number), f"t1_{number - 1}") for number in range(10, 20)]
    encoded = [json.dumps(record).encode() + b"\r\n" for record in chain]
    (tmp_path / "RC_2015-01").write_bytes(b"\xef\xbb\xbf" + encoded[0] + encoded[7])
    (tmp_path / "RC_2015-02.gz").write_bytes(gzip.compress(encoded[1] + b"\n" + encoded[6]))
    (tmp_path / "RC_2015-03.bz2").write_bytes(bz2.compress(encoded[3] + encoded[8]))
    (tmp_path / "RC_2015-04.xz").write_bytes(lzma.compress(encoded[2] + encoded[9]))
    (tmp_path / "RC_2015-05.zst").write_bytes(zstd.compress(encoded[5]))
    (tmp_path / "test_comments.json").write_text(json.dumps([chain[4]], indent=1))
    (tmp_path / "RS_2015-05.zst").write_bytes(b"submissions")
    found, facts = prepare_pairs("reddit", tmp_path, split="all")
    assert len(found) == 9
    assert [Path(origin["name"]).name[:10] for origin in facts["origins"]] == [f"RC_2015-0{n}" for n in range(1, 6)] + [
        "test_comme"
    ]


def test_threads_fall_to_training_or_test(tmp_path: Path) -> None:
    threads = [f"{number:x}abc" for number in range(1, 200)]
    records = [
        record
        for thread in threads
        for record in (
            comment("a", f"t3_{thread}", f"question {thread}", thread),
            comment("b", "t1_a", f"answer to {thread}", thread),
        )
    ]
    path = lines(tmp_path / "RC", records)
    train, facts = prepare_pairs("reddit", path)
    test, _ = prepare_pairs("reddit", path, split="test")
    both, _ = prepare_pairs("reddit", path, split="all")
    assert train | test == both
    assert len(train) + len(test) == len(both) == len(threads)
    # The formula of the original, in its own words.
    expected = [t for t in threads if (1 + int(hashlib.md5(t.encode()).hexdigest(), 16) % 4096) / 4096.0 < 0.9]
    assert {pair.anchor for pair in train} == {f"answer to {thread}" for thread in expected}
    assert facts["dropped"]["comment of a thread that is not in the split train"] == 2 * len(test)
    assert len(prepare_pairs("reddit", path, train_share=0.5)[0]) < len(train)


def test_the_split_never_changes() -> None:
    threads = ["82ymmx", "2", "3", "thread-A", "q", "zz", "é"]
    assert [thread for thread in threads if not is_train(thread, 0.5)] == ["82ymmx", "3", "zz"]


def test_ids_that_are_no_numbers() -> None:
    names = ["82ymmx", "082ymmx", "thread-A", "thread-B", "Thread-A", "0", "00", "", "z" * 11, "z" * 12, "é", "\ud800"]
    parts, _ = keyed([comment("a", "t3_x", thread=name) for name in names])
    keys = {part.fields[0]: part.key for part in parts}
    assert keys["82ymmx"] == int("82ymmx", 36)
    assert len(set(keys.values())) == len(names)
    assert all(0 <= key < 1 << 63 for key in keys.values())


def test_threads_of_one_key_stay_apart() -> None:
    threads = [
        comment("a", "t3_s"),
        comment("b", "t1_a"),
        comment("a", "t3_t", "other beginning", "t"),
        comment("b", "t1_a", "other answer", "t"),
        comment("c", "t1_z"),
        comment("z", "t1_c", thread="t"),
    ]
    parts, _ = keyed(threads)
    found = set(join_single_context([Keyed(1, part.kind, part.fields) for part in parts], ALL, Intake()))
    assert found == {Pair("this is comment b", "this is comment a"), Pair("other answer", "other beginning")}


PARENTS = st.lists(st.integers(-1, 12), min_size=1, max_size=12)


@settings(deadline=None)
@given(parents=PARENTS, seed=st.randoms(use_true_random=False), depth=st.integers(1, 4))
def test_against_walking_up(parents: list[int], seed: Any, depth: int) -> None:
    """An oracle: a comment is a response if the way up from its parent ends somewhere."""
    expected = set()
    for number, parent in enumerate(parents):
        way = []
        while 0 <= parent < len(parents) and parent not in way:
            way.append(parent)
            parent = parents[parent]
        if way and not 0 <= parent < len(parents):
            above = " ".join(f"this is comment {step}" for step in reversed(way[:depth]))
            expected.add((f"this is comment {number}", above))
    records = [
        comment(str(number), "t3_82ymmx" if parent < 0 else f"t1_{parent}") for number, parent in enumerate(parents)
    ]
    parts, _ = keyed(records)
    seed.shuffle(parts)
    intake = Intake()
    found = list(join_multi_context(parts, RedditSection(max_contexts=depth), intake))
    assert {(pair.anchor, pair.positive.replace("\n", " ")) for pair in found} == expected
    assert len(found) == len(expected) == len(records) - sum(intake.dropped.values())


@pytest.mark.parametrize("join", [join_single_context, join_multi_context, join_contexts])
def test_a_thread_of_a_hundred_thousand(join: Any) -> None:
    deep = [Keyed(1, "comment", ("t", str(n), str(n - 1), "some long text", "")) for n in range(100_000)]
    wide = [Keyed(1, "comment", ("t", f"w{n}", "7", "some long text", "")) for n in range(1000)]
    limit = sys.getrecursionlimit()
    without_past = int(join is join_contexts)  # the reply to the first comment
    assert sum(1 for _ in join(deep + wide, ALL, Intake())) == 100_999 - without_past > limit


BAD: dict[str, tuple[Any, str]] = {
    "link_id": (None, "link_id is null, not a text"),
    "id": (7, "id is a number, not a text"),
    "parent_id": (7, "parent_id is a number, not a text"),
    "body": ([], "body is a list, not a text"),
}


@pytest.mark.parametrize("key", BAD)
def test_broken_comments_are_named(tmp_path: Path, key: str) -> None:
    value, message = BAD[key]
    path = lines(tmp_path / "RC", [*THREAD, {**comment("m", "t1_a"), key: value}])
    _, facts = prepare_pairs("reddit", path, split="all")
    assert facts["broken"] == {"count": 1, "places": [f"{path}, line 23: {message}"]}
    missing = comment("m", "t1_a")
    del missing[key]
    with pytest.raises(InputError, match=rf"RC, line 1: has no {key}; its keys are '"):
        prepare_pairs("reddit", lines(tmp_path / "RC", [missing]), split="all", max_broken_records=0)


def test_a_null_body_is_a_deleted_one_and_a_null_parent_the_post(tmp_path: Path) -> None:
    records = [*THREAD, {**comment("m", "t1_a"), "body": None}, {**comment("n", ""), "parent_id": None}]
    _, facts = prepare_pairs("reddit", lines(tmp_path / "RC", records), split="all")
    assert facts["dropped"]["comment deleted or removed"] == 3
    assert facts["dropped"]["comment on the post itself"] == 2


def test_broken_files_are_named(tmp_path: Path) -> None:
    whole = "".join(json.dumps(record) + "\n" for record in THREAD).encode()
    broken = whole.replace(b"comment g", b"comment \xe9", 1).replace(b'"author"', b'"auth', 1)
    (tmp_path / "a").write_bytes(broken[:-40])
    _, facts = prepare_pairs("reddit", tmp_path / "a", split="all")
    first, second, third = facts["broken"]["places"]
    assert "line 1: not JSON" in first
    assert "line 8: not UTF-8 (byte " in second
    assert "line 22: not JSON" in third
    (tmp_path / "a.zst").write_bytes(zstd.compress(whole)[:-20])
    with pytest.raises(InputError, match=r"a\.zst: the zstd stream ends too early"):
        prepare_pairs("reddit", tmp_path / "a.zst")
    (tmp_path / "list.json").write_text(json.dumps(THREAD)[:-100])
    with pytest.raises(InputError, match=r"list\.json: not whole JSON"):
        prepare_pairs("reddit", tmp_path / "list.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no files of comments such as RC_2015-01\.zst"):
        prepare_pairs("reddit", tmp_path / "empty")
    with pytest.raises(
        InputError, match=r"more than 10 records are broken; the first: .+line 1: holds a number, not an object"
    ):
        prepare_pairs("reddit", lines(tmp_path / "RC", [0] * 20), split="all")


def test_real_thread(shared: Path) -> None:
    path = shared / "formats" / "reddit" / "thread.json"
    comments = {record["id"]: record for record in json.loads(path.read_text())}
    fits = {name for name, record in comments.items() if 9 <= len(record["body"].strip()) <= 127}
    expected = [name for name in fits if comments[name]["parent_id"].removeprefix("t1_") in fits]
    found, facts = prepare_pairs("reddit", path, split="all")
    assert len(found) == len(expected) == 1
    assert facts["num_records"] == len(comments) == 13
    found, _ = prepare_pairs(
        "reddit", path, view="multi-context", split="all", comment_min_chars=1, comment_max_chars=2000
    )
    replies = [record for record in comments.values() if record["parent_id"].removeprefix("t1_") in comments]
    assert len(found) == len(replies) == 6
    deepest = next(pair for pair in found if pair.anchor.startswith(comments["dvhvg4m"]["body"][:40]))
    above = " ".join(comments[name]["body"] for name in ("dve3v95", "dvhjrkc", "dvhktmd", "dvhn7hh"))
    assert deepest.positive == " ".join(above.split())


def test_simple_thread(shared: Path) -> None:
    path = shared / "formats" / "reddit" / "simple_thread.json"
    found, facts = prepare_pairs("reddit", path, split="all", comment_min_chars=4, comment_max_chars=10)
    assert found == {Pair("BBBB", "AAAA"), Pair("CCCC", "BBBB"), Pair("DDDD", "BBBB"), Pair("EEEE", "DDDD")}
    assert facts["dropped"]["comment whose parent is missing"] == 2
