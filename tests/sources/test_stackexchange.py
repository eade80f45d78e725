from __future__ import annotations

import gzip
import html
import re
import threading
from io import BytesIO
from pathlib import Path

import py7zr
import pytest

from pairloom.errors import InputError
from pairloom.recipe import StackExchangeSection
from pairloom.records import Pair
from pairloom.sources.source import Intake
from pairloom.sources.stackexchange import find_posts, read_rows, title_body

HEAD = '\ufeff<?xml version="1.0" encoding="utf-8"?>\r\n<posts>\r\n'


def row(**attributes: object) -> str:
    written = [f'{key}="{html.escape(str(value))}"' for key, value in attributes.items()]
    return f"  <row {' '.join(written)} />\r\n"


def question(number: int, **attributes: object) -> str:
    known = {"Id": number, "PostTypeId": 1, "Score": 0, "Title": f"Question {number}", "Body": f"<p>Body {number}</p>"}
    return row(**{**known, **attributes})


def dump(*rows: str) -> bytes:
    return (HEAD + "".join(rows) + "</posts>").encode()


def pairs(*paths: Path, **settings: int) -> tuple[list[Pair], Intake]:
    intake = Intake()
    return list(title_body([str(path) for path in paths], StackExchangeSection(**settings), intake)), intake


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    return tmp_path / "Posts.xml"


def test_questions_become_pairs(posts: Path) -> None:
    answer = row(Id=2, PostTypeId=2, ParentId=1, Score=5, Body="<p>Answer</p>")
    wiki = row(Id=3, PostTypeId=5, Score=0, Body="")
    body = '<p>Is <code>a &lt; b</code> "so"?</p>\n<ul><li>é &amp; 😀</li></ul>'
    rows = [question(1, Body=body), answer, wiki, question(4, Score=-1), question(5, Title=""), question(6)]
    posts.write_bytes(dump(*rows))
    found, intake = pairs(posts)
    assert [" ".join(pair.positive.split()) for pair in found] == ['Is a < b "so"? - é & 😀', "Body 6"]
    assert [pair.anchor for pair in found] == ["Question 1", "Question 6"]
    assert intake.dropped == {"not a question": 2, "score below 0": 1, "question without title or body": 1}
    assert len(pairs(posts, min_score=-1)[0]) == 3


def test_what_was_read_is_noted(posts: Path) -> None:
    posts.write_bytes(dump())
    (origin,) = pairs(posts)[1].origins
    assert origin["name"] == str(posts)
    assert origin["bytes"] == len(dump())
    assert len(origin["sha256"]) == 64


def test_plain_gzip_and_7z_give_the_same(tmp_path: Path, posts: Path) -> None:
    content = dump(*map(question, range(3000)))
    posts.write_bytes(content)
    (tmp_path / "Posts.xml.gz").write_bytes(gzip.compress(content))
    with py7zr.SevenZipFile(tmp_path / "site.7z", "w") as archive:
        archive.writef(BytesIO(b"<badges/>"), "Badges.xml")
        archive.writef(BytesIO(content), "Posts.xml")
    expected = pairs(posts)[0]
    assert len(expected) == 3000
    assert pairs(tmp_path / "Posts.xml.gz")[0] == expected
    assert pairs(tmp_path / "site.7z")[0] == expected


def test_stopping_early_in_a_7z_ends_its_thread(tmp_path: Path) -> None:
    with py7zr.SevenZipFile(tmp_path / "site.7z", "w") as archive:
        archive.writef(BytesIO(dump(*map(question, range(20_000)))), "Posts.xml")
    generator = title_body([str(tmp_path / "site.7z")], StackExchangeSection(), Intake())
    next(generator)
    assert any(thread.name == "7z Posts.xml" for thread in threading.enumerate())
    generator.close()
    assert not any(thread.name == "7z Posts.xml" for thread in threading.enumerate())


def test_posts_are_found_in_folders(tmp_path: Path) -> None:
    names = ["a/Posts.xml", "a/a.7z", "b/Posts.xml.gz", "b/PostLinks.xml.gz", "c/c.7z", "d/notes.txt", ".e/Posts.xml"]
    names += ["f/so-Posts.7z", "f/so-Votes.7z", "f/so-PostLinks.7z"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_posts(tmp_path)]
    assert found == ["a/Posts.xml", "b/Posts.xml.gz", "c/c.7z", "f/so-Posts.7z"]
    assert find_posts(tmp_path / "a") == [tmp_path / "a" / "Posts.xml"]
    with pytest.raises(InputError, match=r"d: holds no Posts\.xml"):
        find_posts(tmp_path / "d")
    with pytest.raises(InputError, match=r"nowhere: no such file or folder"):
        find_posts(tmp_path / "nowhere")


GOOD = question(1)
BOMB = '<!DOCTYPE posts [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>\n<posts><row Title="&b;"/></posts>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"Posts\.xml: is empty"),
        (b" \n\n", r"Posts\.xml: is empty"),
        (b"Id,Title\n1,x\n", r"Posts\.xml, line 1: not XML in UTF-8"),
        (b"<html><body>Not found</body></html>", r"Posts\.xml, line 1: holds <html>, not <posts>; give Posts\.xml"),
        (dump().replace(b"posts", b"postlinks"), r"Posts\.xml, line 2: holds <postlinks>, not <posts>"),
        (dump().decode().encode("utf-16"), r"Posts\.xml, line 1: not XML in UTF-8"),
        (dump(GOOD, GOOD)[:-60], r"Posts\.xml, line 4: not sound XML \(.+\); if the dump is cut, fetch it again"),
        (dump(GOOD)[:-8], r"Posts\.xml, line 4: not sound XML"),
        (
            dump(GOOD, question(2, Title="caf?")).replace(b"?", b"?", 1).replace(b"caf?", b"caf\xe9"),
            r"line 4: not sound XML",
        ),
        (dump(GOOD, "<row Title='x' <oops/>"), r"Posts\.xml, line 4: not sound XML"),
        (dump(GOOD, "<row Title='&unknown;'/>"), r"Posts\.xml, line 4: not sound XML"),
        (dump(GOOD, question(7, Score="many")), r"line 4: post 7 has no score that is a number: 'many'"),
        (dump(GOOD) + dump(GOOD), r"Posts\.xml, line 4: not sound XML"),
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


def test_rows_are_forgotten(posts: Path) -> None:
    posts.write_bytes(dump(*map(question, range(20_000))))
    rows = read_rows(posts)
    first = next(rows)
    assert first.get("Id") == "0"
    # What is left in the tree are the rows of the block that the parser has got ahead.
    assert max(len(row.getparent()) for row in rows) < 1000  # type: ignore[attr-defined]
    assert first.get("Id") is None


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
    found, intake = pairs(folder)
    assert (intake.dropped["not a question"], intake.dropped["score below 0"], len(found)) == (others, low, good)
    assert good > 100
    assert not any(re.search(r"</?(p|code|pre|strong|em|li)>", pair.positive) for pair in found[:20])


def test_a_folder_of_real_sites_is_read_at_once(shared: Path) -> None:
    folder = shared / "data" / "stackexchange"
    assert [path.parent.name for path in find_posts(folder)] == sorted(SITES)
