"""A synthetic Stack Exchange dump of any size, with the lengths and the mark-up of real ones.

The quantiles and the rates of tags are those of eight sites of the public dump, 9,608 questions and answers in all.
"""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np

# Of the HTML of bodies, and of titles, in characters: deciles.
_QUESTION = (38, 189, 270, 347, 439, 550, 685, 861, 1117, 1639, 12107)
_ANSWER = (41, 294, 424, 577, 718, 890, 1102, 1393, 1823, 2704, 21025)
_TITLE = (15, 30, 36, 42, 47, 52, 58, 65, 73, 86, 150)
_ANSWERS_A_QUESTION = 1.8
# The chance that a word is marked up, so that tags come as often per character as in the real dumps.
_INLINE = {"a": 0.007, "strong": 0.0026, "em": 0.0024, "code": 0.0015}
_BLOCKS = ("p",) * 20 + ("blockquote", "li", "li", "li", "pre")
_SYLLABLES = "ba ce di fo gu la me ni po ru sa te vi wo xu za tion ing er ly".split()
_POOL = 4000


def write_dump(path: Path, num_bytes: int, seed: int = 0) -> None:
    """Writes ``Posts.xml`` of about so many bytes; every post is different."""
    random = np.random.default_rng(seed)
    words = ["".join(random.choice(_SYLLABLES, size)) for size in random.integers(1, 5, 30_000)]
    frequency = 1 / np.arange(2, len(words) + 2)
    frequency /= frequency.sum()
    questions, answers = (
        [_body(int(length), words, frequency, random) for length in _lengths(table, random)]
        for table in (_QUESTION, _ANSWER)
    )
    titles = [_words(int(length), words, frequency, random) for length in _lengths(_TITLE, random)]
    with path.open("w", encoding="utf-8") as stream:
        stream.write('\ufeff<?xml version="1.0" encoding="utf-8"?>\n<posts>\n')
        number, first_question, written = 0, 1, 0
        while written < num_bytes:
            rows = []
            for pick, score, kind, back in zip(
                random.integers(_POOL, size=1000),
                random.negative_binomial(1, 0.3, 1000) - 1,
                random.random(1000),
                random.integers(1, 2000, 1000),
                strict=True,
            ):
                number += 1
                date = f'CreationDate="2015-03-{pick % 28 + 1:02d}T09:53:22.917" Score="{score}"'
                if kind * (1 + _ANSWERS_A_QUESTION) < 1 or number == first_question:
                    rows.append(
                        f'  <row Id="{number}" PostTypeId="1" {date} ViewCount="{pick}" Body="{questions[pick]}'
                        f'&lt;p&gt;number {number}&lt;/p&gt;&#xA;" OwnerUserId="{pick}" LastActivityDate="2015-03-01"'
                        f' Title="{titles[(pick + number) % _POOL]} {number}" Tags="|one|two|" AnswerCount="2"'
                        f' CommentCount="3" ContentLicense="CC BY-SA 3.0" />\n'
                    )
                else:
                    # Its parent may be an answer and so be missing, as happens in a real dump after deletions.
                    rows.append(
                        f'  <row Id="{number}" PostTypeId="2" ParentId="{max(1, number - back)}" {date}'
                        f' Body="{answers[pick]}&lt;p&gt;number {number}&lt;/p&gt;&#xA;" OwnerUserId="{pick}"'
                        f' LastActivityDate="2015-03-01" CommentCount="0" ContentLicense="CC BY-SA 3.0" />\n'
                    )
            written += stream.write("".join(rows))
        stream.write("</posts>\n")


def _lengths(deciles: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    return np.interp(random.random(_POOL), np.linspace(0, 1, len(deciles)), deciles)


def _words(length: int, words: list[str], frequency: np.ndarray, random: np.random.Generator) -> str:
    picked = random.choice(len(words), size=length // 6 + 1, p=frequency)
    return " ".join(words[word] for word in picked)


def _body(length: int, words: list[str], frequency: np.ndarray, random: np.random.Generator) -> str:
    """HTML as it stands in an attribute: paragraphs, lists, code, links, entities."""
    blocks, size = [], 0
    while size < length:
        tag = _BLOCKS[random.integers(len(_BLOCKS))]
        text = _words(min(int(random.integers(60, 500)), length - size), words, frequency, random).split()
        for inline, chance in _INLINE.items():
            for place in np.flatnonzero(random.random(len(text)) < chance):
                attributes = ' href="https://example.org/questions/1234" rel="nofollow"' if inline == "a" else ""
                text[place] = f"<{inline}{attributes}>{text[place]}</{inline}>"
        inner = " ".join(text)
        if tag == "pre":
            inner = "<code>" + "\n    ".join(inner.split(". ")) + " &lt; x &amp;&amp; y</code>"
        block = f"<ul>\n<li>{inner}</li>\n</ul>" if tag == "li" else f"<{tag}>{inner}</{tag}>"
        blocks.append(block)
        size += len(block)
    return html.escape("\n\n".join(blocks)).replace("\n", "&#xA;")
