from __future__ import annotations

import gzip
import re
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairloom.pairs.clean import clean_text
from pairloom.sources.html import _parsed, html_to_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        ("<p>one</p><p>two</p>", "one two"),
        ("one<br>two<br/>three<hr>four", "one two three four"),
        ("<h1>Head</h1>body<blockquote>quote</blockquote>end", "Head body quote end"),
        ("<ul><li>one</li><li class='x'>two</li></ul><ol><li>three</li></ol>", "- one - two - three"),
        ("<table><tr><th>a</th><td>b</td></tr><tr><td>c</td></tr></table>", "a b c"),
        ("10<sup>2</sup> <b>bo</b>ld, <em>x</em>.", "102 bold, x."),
        (
            "<pre><code>if a &lt; b:\n    print(&quot;&amp;amp;&quot;)\n</code></pre>after",
            'if a < b: print("&amp;") after',
        ),
        ("&eacute;&#233;&#x1F600;&nbsp;x &copy;", "éé😀 x ©"),
        ("a < b && c > d", "a < b && c > d"),
        ("<a href='x<li>y'>link</a>", "link"),
        ("<!-- language: lang-js --><p>x</p>", "x"),
        ("<!-- nothing -->", ""),
        ("<script>evil()</script>seen<style>p {}</style>", "seen"),
        ("<p>not closed <b>bold", "not closed bold"),
        ("<?xml version='1.0' encoding='latin-1'?><meta charset='latin-1'><p>é</p>", "é"),
        ("<P>UP</P><LI>per", "UP - per"),
    ],
)
def test_values(html: str, text: str) -> None:
    assert clean_text(html_to_text(html)) == text


def test_entities_are_not_declared_here() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "haha"><!ENTITY b "&a;&a;">]><p>&b;</p>'
    assert "haha" not in html_to_text(bomb).replace('"haha"', "")


def test_deep_nesting_is_read() -> None:
    assert "deep" in html_to_text("<div>" * 200 + "deep" + "</div>" * 200)


@given(st.text())
def test_anything_is_read(text: str) -> None:
    html_to_text(f"<p>{text}</p>")


@given(st.lists(st.text(st.characters(categories=("L", "N")), min_size=1), min_size=1))
def test_blocks_keep_their_words_apart(words: list[str]) -> None:
    html = "".join(f"<p>{word}</p>" for word in words)
    assert html_to_text(html).split() == words


def test_very_deep_nesting_loses_nothing() -> None:
    deep = "<p>START</p>" + "<blockquote>" * 3000 + "middle &amp; more" + "</blockquote>" * 3000 + "<p>END</p>"
    assert clean_text(html_to_text(deep)) == "START middle & more END"


TAGS = "p code pre strong em a li ul ol br hr blockquote td tr table h2 sup kbd img script title b x-y".split()
MARKUP = st.one_of(
    st.sampled_from([f"<{slash}{tag}>" for tag in TAGS for slash in ("", "/")]),
    st.sampled_from(
        ['<a href="https://example.org/?a=1&amp;b=2" rel="nofollow">', "<br />", '<img src="x.png" alt="a > b">']
    ),
    st.sampled_from(
        ["<!-- x -->", "<P>", "<p class='x'>", "<a href=x>", "a < b", "&lt;p&gt;", "&amp;", "&eacute;", "&#39;"]
    ),
    st.text("ab é.\n\t", max_size=4),
)


@given(st.lists(MARKUP, max_size=12))
def test_plain_markup_is_read_as_the_parser_reads_it(pieces: list[str]) -> None:
    html = "".join(pieces)
    if html:
        assert clean_text(html_to_text(html)) == clean_text(_parsed(html))


def test_real_posts_are_read_as_the_parser_reads_them(shared: Path) -> None:
    content = gzip.decompress((shared / "data/stackexchange/stackoverflow_first620/Posts.xml.gz").read_bytes())
    bodies = [unescape(body) for body in re.findall(r' Body="(.*?)"', content.decode("utf-8-sig"))]
    assert len(bodies) > 600
    for body in filter(None, bodies):
        assert clean_text(html_to_text(body)) == clean_text(_parsed(body))
