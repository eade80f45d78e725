"""A dump of each corpus of the published lists, with a record or two, under its usual name."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

# Datasets of the list multi-qa_v1 that can be made of these dumps: source, view and number of texts.
MADE = {
    "stackexchange_title_body/math.stackexchange.com": ("stackexchange", "title-body", 2),
    "stackexchange_Title_Answer/math.stackexchange.com": ("stackexchange", "title-answer", 2),
    "stackexchange_title_body/small_stackexchanges": ("stackexchange", "title-body", 2),
    "stackexchange_Title_Answer/small_stackexchanges": ("stackexchange", "title-answer", 2),
    "stackexchange_duplicate_questions_title_title": ("stackexchange", "duplicate-titles", 2),
    "TriviaQA_pairs": ("trivia-qa", "question-evidence", 2),
    "squad_pairs": ("squad", "question-paragraph", 2),
    "NQ-train_pairs": ("natural-questions", "question-paragraph", 2),
    "quora_duplicates_triplets": ("quora", "triplets", 3),
    "eli5_question_answer": ("eli5", "title-answer", 2),
    "yahoo_answers_title_question": ("yahoo-answers", "title-question", 2),
    "yahoo_answers_title_answer": ("yahoo-answers", "title-answer", 2),
    "PAQ_pairs": ("paq", "question-passage", 2),
    "WikiAnswers_pairs": ("wikianswers", "questions", 2),
    "searchQA_question_top5_snippets_merged": ("search-qa", "question-snippet", 2),
    "amazon-qa-train-pairs": ("amazon-qa", "question-answer", 2),
    "gooaq_pairs": ("gooaq", "question-answer", 2),
    "msmarco-query_passage_negative_v2": ("ms-marco", "triplets", 3),
}


def write_dumps(folder: Path) -> Path:
    """Writes all dumps into a folder and returns it."""
    write_site(folder / "stackexchange" / "math.stackexchange.com")
    write_site(folder / "stackexchange" / "coffee.stackexchange.com")
    contents: dict[str, Any] = {
        "gooaq/gooaq.jsonl": {
            "id": 1,
            "question": "why",
            "short_answer": None,
            "answer": "so",
            "answer_type": "feat_snip",
        },
        "squad/train-v1.1.json": {
            "data": [{"title": "t", "paragraphs": [{"context": "a text", "qas": [{"id": "1", "question": "which"}]}]}]
        },
        "quora/quora_duplicate_questions.tsv": (
            "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n0\t1\t2\thow\tin which way\t1\n1\t1\t3\thow\twhen\t0\n"
        ),
        "kilt/eli5-train-kilt.jsonl": {"id": "1", "input": "why", "output": [{"answer": "so", "meta": {"score": 2}}]},
        "yahoo_answers_csv/train.csv": '"1","a title","a question","an answer"\n',
        "SearchQA/train.txt": "<s> a snippet </s> ||| a clue ||| an answer\n",
        "amazon/qa_Baby.json": str({"question": "does it", "answer": "it does"}) + "\n",
        "paq/PAQ.metadata.jsonl": {"question": "who", "answer": "x", "answers": [{"passage_id": "1", "text": "x"}]},
        "paq/psgs_w100.tsv": "id\ttext\ttitle\n1\tit was x\tX\n",
        "wikianswers-1.0/part-00000": "q:what is it\tq:what is this\ta:a thing\n",
        "ms_marco/triples.train.small.tsv": "a query\ta passage\tanother\n",
        "nq/v1.0-simplified_simplified-nq-train.jsonl": {
            "question_text": "who",
            "document_text": "x <P> a text </P> y",
            "annotations": [{"long_answer": {"start_token": 1, "end_token": 5}, "short_answers": []}],
        },
        "triviaqa-rc/qa/web-train.json": {"Data": [{"Question": "who", "EntityPages": [{"Filename": "A.txt"}]}]},
        "triviaqa-rc/evidence/wikipedia/A.txt": "It was A.",
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content) + "\n")
    return folder


def write_site(folder: Path, num_questions: int = 2) -> None:
    """Questions with an answer each, of which every second is a duplicate of the one before, as a folder of tables."""
    folder.mkdir(parents=True)
    posts, links = [], []
    for number in range(1, 2 * num_questions, 2):
        title = f"{folder.name}: how is number {number} to be answered"
        posts.append(
            _row(Id=number, PostTypeId=1, Score=1, Title=title, Body=f"<p>This is question number {number}</p>")
        )
        posts.append(
            _row(Id=number + 1, PostTypeId=2, ParentId=number, Score=1, Body=f"<p>This is answer number {number}</p>")
        )
        if number % 4 == 3:
            links.append(_row(Id=number, PostId=number, RelatedPostId=number - 2, LinkTypeId=3))
    (folder / "Posts.xml").write_text(f"<posts>\n{''.join(posts)}</posts>")
    (folder / "PostLinks.xml").write_text(f"<postlinks>\n{''.join(links)}</postlinks>")


def _row(**attributes: object) -> str:
    written = [f'{key}="{html.escape(str(value))}"' for key, value in attributes.items()]
    return f"  <row {' '.join(written)} />\n"
