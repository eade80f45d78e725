from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairloom.pairs.clean import clean_text
from pairloom.sources.html import html_to_text


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
