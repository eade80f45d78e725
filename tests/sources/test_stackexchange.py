from __future__ import annotations

import bz2
import gzip
import html
import re
import threading
from collections import Counter
from io import BytesIO
from pathlib import Path

import py7zr
import pytest
from backports import zstd

from pairloom.errors import InputError
from pairloom.recipe import StackExchangeSection
from pairloom.records import Pair
from pairloom.sources import pieces
from pairloom.sources.stackexchange import SOURCE, find, find_sites
from tests.sources.reading import read_view

HEAD = '\ufeff<?xml version="1.0" encoding="utf-8"?>\r\n<posts>\r\n'


def row(**attributes: object) -> str:
    written = [f'{key}="{html.escape(str(value))}"' for key, value in attributes.items()]
    return f"  <row {' '.join(written)} />\r\n"


def question(number: int, **attributes: object) -> str:
    known = {"Id": number, "PostTypeId": 1, "Score": 0, "Title": f"Question {number}", "Body": f"<p>Body {number}</p>"}
    return row(**{**known, **attributes})


def dump(*rows: str) -> bytes:
    return (HEAD + "".join(rows) + "</posts>").encode()


def answer(number: int, parent: int, score: int = 0, body: str = "", **attributes: object) -> str:
    text = f"<p>{body or f'This is answer number {number}'}</p>"
    return row(Id=number, PostTypeId=2, ParentId=parent, Score=score, Body=text, **attributes)


def link(duplicate: int, original: int, kind: int = 3) -> str:
    return row(Id=1, PostId=duplicate, RelatedPostId=original, LinkTypeId=kind)


def pairs(*paths: Path, view: str = "title-body", **settings: int) -> tuple[list[Pair], Counter[str]]:
    return read_view(SOURCE, *paths, view=view, **{"anchor_min_chars": 1, "positive_min_chars": 1, **settings})


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    return tmp_path / "Posts.xml"


def test_questions_become_pairs(posts: Path) -> None:
    wiki = row(Id=3, PostTypeId=5, Score=0, Body="")
    body = '<p>Is <code>a &lt; b</code> "so"?</p>\n<ul><li>é &amp; 😀</li></ul>'
    rows = [question(1, Body=body), answer(2, 1), wiki, question(4, Score=-1), question(5, Title=""), question(6)]
    posts.write_bytes(dump(*rows))
    found, dropped = pairs(posts)
    assert [" ".join(pair.positive.split()) for pair in found] == ['Is a < b "so"? - é & 😀', "Body 6"]
    assert [pair.anchor for pair in found] == ["Question 1", "Question 6"]
    assert dropped == {
        "not a question": 1,
        "neither question nor answer": 1,
        "score below 0": 1,
        "question without title or body": 1,
    }
    assert len(pairs(posts, min_score=-1)[0]) == 3


@pytest.mark.parametrize("view", ["title-answer", "title-body-answer"])
def test_the_best_answer(posts: Path, view: str) -> None:
    """By score; of equals the accepted one, then the oldest. Answers may stand before their question."""
    rows = [
        *(answer(10, 1, 3), question(1, AcceptedAnswerId=12), answer(11, 1, 5), answer(12, 1, 5), answer(13, 1, 1)),
        *(question(2), answer(20, 2, 0), answer(21, 2, 0)),
        *(question(3), question(4), answer(40, 4, -1), answer(50, 5, 1)),
        *(question(6), answer(60, 6, body="short"), question(7, Score=-1), answer(70, 7)),
    ]
    posts.write_bytes(dump(*rows))
    found, dropped = pairs(posts, view=view, positive_min_chars=6)
    anchors = (
        {1: "Question 1", 2: "Question 2"}
        if view == "title-answer"
        else {1: "Question 1 Body 1", 2: "Question 2 Body 2"}
    )
    assert found == [Pair(anchors[1], "This is answer number 12"), Pair(anchors[2], "This is answer number 20")]
    assert dropped == {
        "question without answer": 1,
        "best answer's score below 0": 1,
        "answer to a question that was not kept": 2,
        "best answer too short or too long": 1,
        "score below 0": 1,
    }


def test_the_worst_answer_is_a_negative(posts: Path) -> None:
    rows = [
        *(question(1), answer(10, 1, 3), answer(11, 1, 1), answer(12, 1, -1)),
        *(question(2), answer(20, 2, 120), answer(21, 2, 20)),
        *(question(3), answer(30, 3, 119), answer(31, 3, 20)),
        *(question(4), answer(40, 4, 5)),
        *(question(5), answer(50, 5, 5), answer(51, 5, -5, body="x" * 5000)),
    ]
    posts.write_bytes(dump(*rows))
    found, dropped = pairs(posts, view="best-worst")
    assert found == [
        Pair("Question 1 Body 1", "This is answer number 10", ("This is answer number 12",)),
        Pair("Question 2 Body 2", "This is answer number 20", ("This is answer number 21",)),
    ]
    assert dropped == {"question without a bad answer": 2, "worst answer too short or too long": 1}
    assert len(pairs(posts, view="best-worst", worst_min_gap=99)[0]) == 3
    assert len(pairs(posts, view="best-worst", worst_max_score=-2)[0]) == 1


def test_duplicates(tmp_path: Path, posts: Path) -> None:
    posts.write_bytes(dump(*map(question, range(1, 7)), question(7, Score=-1)))
    links = [link(1, 2), link(3, 2), link(4, 5, 1), link(6, 7), link(7, 6), link(2, 4), link(5, 99)]
    (tmp_path / "PostLinks.xml").write_bytes(dump(*links).replace(b"posts>", b"postlinks>"))
    found, dropped = pairs(posts, view="duplicate-titles")
    expected = [(1, 2), (3, 2), (2, 4)]
    assert sorted(map(str, found)) == sorted(str(Pair(f"Question {a}", f"Question {b}")) for a, b in expected)
    assert dropped == {
        "link that is not to a duplicate": 1,
        "score below 0": 1,
        "duplicate that is not among the questions kept": 1,
        "original that is not among the questions kept": 2,
    }
    bodies = {pair.anchor: pair.positive for pair in pairs(tmp_path, view="duplicate-bodies")[0]}
    assert {key.strip(): text.strip() for key, text in bodies.items()} == {
        f"Body {a}": f"Body {b}" for a, b in expected
    }
    both = pairs(tmp_path, view="duplicate-title-body")[0]
    assert Pair("Question 1 Body 1", "Question 2 Body 2") in both
    (tmp_path / "PostLinks.xml").unlink()
    with pytest.raises(InputError, match=r"Posts\.xml: has no PostLinks beside it"):
        pairs(posts, view="duplicate-titles")


def test_sites_are_kept_apart(tmp_path: Path) -> None:
    """Every site numbers its posts from 1."""
    for site in ("a", "b"):
        (tmp_path / site).mkdir()
        rows = [question(1, Title=f"Of {site}"), answer(2, 1, body=f"Answer of {site}")]
        (tmp_path / site / "Posts.xml").write_bytes(dump(*rows))
    found = pairs(tmp_path, view="title-answer")[0]
    assert found == [Pair("Of a", "Answer of a"), Pair("Of b", "Answer of b")]


def test_plain_compressed_and_archived_give_the_same(
    tmp_path: Path, posts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 10_000)
    content = dump(*map(question, range(3000)))
    posts.write_bytes(content)
    (tmp_path / "Posts.xml.gz").write_bytes(gzip.compress(content))
    (tmp_path / "Posts.xml.bz2").write_bytes(bz2.compress(content))
    (tmp_path / "Posts.xml.zst").write_bytes(zstd.compress(content))
    with py7zr.SevenZipFile(tmp_path / "site.7z", "w") as archive:
        archive.writef(BytesIO(b"<badges/>"), "Badges.xml")
        archive.writef(BytesIO(content), "Posts.xml")
    expected = pairs(posts)[0]
    assert len(expected) == 3000
    for name in ("Posts.xml.gz", "Posts.xml.bz2", "Posts.xml.zst", "site.7z"):
        assert pairs(tmp_path / name)[0] == expected


def test_stopping_early_in_a_7z_ends_its_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 10_000)
    with py7zr.SevenZipFile(tmp_path / "site.7z", "w") as archive:
        archive.writef(BytesIO(dump(*map(question, range(20_000)))), "Posts.xml")
    (file,) = find([str(tmp_path / "site.7z")], "title-body", StackExchangeSection())
    tasks = pieces.plan(0, file, lambda _: None)
    next(tasks)
    assert any(thread.name == "7z Posts.xml" for thread in threading.enumerate())
    tasks.close()  # type: ignore[attr-defined]
    assert not any(thread.name == "7z Posts.xml" for thread in threading.enumerate())


def test_posts_are_found_in_folders(tmp_path: Path) -> None:
    names = ["a/Posts.xml", "a/a.7z", "b/Posts.xml.gz", "b/PostLinks.xml.gz", "c/c.7z", "d/notes.txt", ".e/Posts.xml"]
    names += ["f/so-Posts.7z", "f/so-Votes.7z", "f/so-PostLinks.7z"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [tuple(path and path.relative_to(tmp_path).as_posix() for path in site) for site in find_sites(tmp_path)]
    assert found == [
        ("a/Posts.xml", None),
        ("b/Posts.xml.gz", "b/PostLinks.xml.gz"),
        ("c/c.7z", "c/c.7z"),
        ("f/so-Posts.7z", "f/so-PostLinks.7z"),
    ]
    assert find_sites(tmp_path / "a") == [(tmp_path / "a" / "Posts.xml", None)]
    with pytest.raises(InputError, match=r"d: holds no Posts\.xml"):
        find_sites(tmp_path / "d")
    with pytest.raises(InputError, match=r"nowhere: no such file or folder"):
        find_sites(tmp_path / "nowhere")


GOOD = question(1)
BOMB = '<!DOCTYPE posts [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>\n<posts><row Title="&b;"/></posts>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"Posts\.xml: is empty"),
        (b" \n\n", r"Posts\.xml: is empty"),
        (b"Id,Title\n1,x\n", r"Posts\.xml, line 1: not XML in UTF-8"),
        (b"<html><body>Not found</body></html>", r"Posts\.xml, line 1: holds <html>, not <posts>"),
        (dump().replace(b"posts", b"postlinks"), r"Posts\.xml, line 2: holds <postlinks>, not <posts>"),
        (dump().decode().encode("utf-16"), r"Posts\.xml, line 1: not XML in UTF-8"),
        (dump(GOOD, GOOD)[:-60], r"Posts\.xml: ends without </posts>; the dump is cut, fetch it again"),
        (dump(GOOD)[:-8], r"Posts\.xml: ends without </posts>"),
        (dump(GOOD, GOOD[:40], GOOD), r"Posts\.xml, line 4: not sound XML"),
        (
            dump(GOOD, question(2, Title="caf?")).replace(b"?", b"?", 1).replace(b"caf?", b"caf\xe9"),
            r"line 4: not sound XML",
        ),
        (dump(GOOD, "<row Title='x' <oops/>"), r"Posts\.xml, line 4: not sound XML"),
        (dump(GOOD, "<row Title='&unknown;'/>"), r"Posts\.xml, line 4: not sound XML"),
        (dump(GOOD, question(7, Score="many")), r"line 4: post 7 has no score that is a number: 'many'"),
        (dump(GOOD) + dump(GOOD), r"Posts\.xml, line 3: not sound XML"),
        (BOMB.encode(), r"Posts\.xml, line 1: declares a document type or entities, which no dump does"),
        (b'<?xml version="1.0"?>\n<!-- x -->\n' + BOMB.encode(), r"Posts\.xml, line 3: declares a document type"),
        (b'<!DOCTYPE posts SYSTEM "http://127.0.0.1:9/x.dtd"><posts/>', r"line 1: declares a document type"),
        (b"<!-- " + b"x" * 100_000 + b" -->" + BOMB.encode(), r"Posts\.xml, line 1: (not XML|declares)"),
    ],
)
def test_bad_dumps_are_refused_in_a_sentence(posts: Path, content: bytes, message: str) -> None:
    posts.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        pairs(posts)
    assert "\n" not in str(caught.value)


def test_a_cut_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "Posts.xml.gz"
    path.write_bytes(gzip.compress(dump(*map(question, range(500))))[:-200])
    with pytest.raises(InputError, match=r"Posts\.xml\.gz: the gzip stream ends too early"):
        pairs(path)


def test_a_7z_that_is_cut_is_named_rather_than_its_xml(tmp_path: Path) -> None:
    path = tmp_path / "site.7z"
    with py7zr.SevenZipFile(path, "w") as archive:
        archive.writef(BytesIO(dump(*map(question, range(5000)))), "Posts.xml")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"site\.7z: not a sound 7z archive"):
        pairs(path)


def raw_posts(folder: Path) -> bytes:
    for path in folder.iterdir():
        if path.name == "Posts.xml.gz":
            return gzip.decompress(path.read_bytes())
        if path.suffix == ".7z":
            factory = py7zr.io.BytesIOFactory(1 << 30)
            with py7zr.SevenZipFile(path) as archive:
                archive.extract(targets=["Posts.xml"], factory=factory)
            return factory.products["Posts.xml"].read()
    raise AssertionError(folder)


def count_by_hand(content: bytes) -> tuple[int, int, int]:
    """Posts that are no questions; questions voted below 0; the other questions. By regular expressions."""
    rows = re.findall(r"^\s*<row .*?/>\s*$", content.decode("utf-8-sig"), re.MULTILINE)
    scores = [int(re.search(r' Score="(-?\d+)"', text)[1]) for text in rows if ' PostTypeId="1"' in text]  # type: ignore[index]
    return len(rows) - len(scores), sum(score < 0 for score in scores), sum(score >= 0 for score in scores)


SITES = ["ai", "beer", "coffee", "genai", "iot", "quantumcomputing"]
SITES = [f"{site}.stackexchange.com" for site in SITES] + ["meta.datascience", "stackoverflow_first620"]


@pytest.mark.parametrize("site", SITES)
def test_real_dumps_give_as_many_pairs_as_counted_by_hand(shared: Path, site: str) -> None:
    folder = shared / "data" / "stackexchange" / site
    others, low, good = count_by_hand(raw_posts(folder))
    found, dropped = pairs(folder)
    no_questions = dropped["not a question"] + dropped["neither question nor answer"]
    assert (no_questions, dropped["score below 0"], len(found)) == (others, low, good)
    assert good > 100
    assert not any(re.search(r"</?(p|code|pre|strong|em|li)>", pair.positive) for pair in found[:20])


def test_a_folder_of_real_sites_is_read_at_once(shared: Path) -> None:
    folder = shared / "data" / "stackexchange"
    assert [posts.parent.name for posts, _ in find_sites(folder)] == sorted(SITES)


def test_real_answers_and_duplicates_are_as_many_as_counted_by_hand(shared: Path) -> None:
    folder = shared / "data" / "stackexchange" / "ai.stackexchange.com"
    content = raw_posts(folder).decode("utf-8-sig")
    rows = re.findall(r"^\s*<row .*?/>\s*$", content, re.MULTILINE)

    def value(text: str, name: str) -> str:
        found = re.search(rf' {name}="(.*?)"', text)
        return found[1] if found else ""

    kept = {value(text, "Id") for text in rows if value(text, "PostTypeId") == "1" and int(value(text, "Score")) >= 0}
    answered: dict[str, int] = {}
    for text in rows:
        if value(text, "PostTypeId") == "2":
            parent = value(text, "ParentId")
            answered[parent] = max(answered.get(parent, -99), int(value(text, "Score")))
    expected = sum(score >= 0 for parent, score in answered.items() if parent in kept)
    found, _ = pairs(folder, view="title-answer", positive_max_chars=10**9)
    assert len(found) == expected > 100
    links = gzip.decompress((folder / "PostLinks.xml.gz").read_bytes()).decode("utf-8-sig")
    duplicates = re.findall(r' PostId="(\d+)" RelatedPostId="(\d+)" LinkTypeId="3"', links)
    expected = sum(a in kept and b in kept for a, b in duplicates)
    assert len(pairs(folder, view="duplicate-titles")[0]) == expected > 0
