from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pairloom.errors import InputError
from pairloom.records import Pair
from tests.sources.preparing import prepare_pairs

HEADER = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
QUESTIONS = [f"What is question {number}?" for number in range(10)]


def row(first: int, second: int, is_duplicate: int) -> list[str]:
    return ["0", str(first), str(second), QUESTIONS[first], QUESTIONS[second], str(is_duplicate)]


def table(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER, delimiter: str = "\t") -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([header, *rows])
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "quora_duplicate_questions.tsv"


def triplet(anchor: int, positive: int, negative: int) -> Pair:
    return Pair(QUESTIONS[anchor], QUESTIONS[positive], (QUESTIONS[negative],))


def test_duplicates(path: Path) -> None:
    odd = ["9", "8", "9", 'Say "hi",\nor\tnot?', 'It\'s "hi"?', "1"]
    found, facts = prepare_pairs("quora", table(path, [row(1, 2, 1), row(3, 4, 0), odd]).parent)
    assert found == {Pair(QUESTIONS[1], QUESTIONS[2]), Pair('Say "hi", or not?', 'It\'s "hi"?')}
    assert facts["dropped"] == {"pair marked as no duplicate": 1}
    assert facts["num_records"] == 3


def test_triplets(path: Path) -> None:
    rows = [row(1, 2, 1), row(1, 3, 0), row(4, 2, 0), row(5, 6, 1), row(7, 8, 0)]
    found, facts = prepare_pairs("quora", table(path, rows), view="triplets")
    assert found == {triplet(1, 2, 3), triplet(2, 1, 4)}
    assert facts["columns"] == ["anchor", "positive", "negative"]
    # 3, 4, 7 and 8 have no duplicate; 5 and 6 have nothing else.
    assert facts["dropped"] == {"question without a duplicate": 4, "duplicate of a question without a negative": 2}


def test_negatives_are_given_in_turn(path: Path) -> None:
    rows = [row(1, 2, 1), row(3, 1, 1), row(1, 4, 1), row(5, 1, 0), row(1, 6, 0)]
    found, _ = prepare_pairs("quora", table(path, rows), view="triplets")
    assert found == {triplet(1, 2, 5), triplet(1, 3, 6), triplet(1, 4, 5)}
    again, _ = prepare_pairs("quora", table(path, rows[::-1]), view="triplets")
    assert again == found


def test_a_contradiction_is_no_negative(path: Path) -> None:
    rows = [row(1, 2, 1), row(2, 1, 0), row(1, 3, 0), ["1", "1", "4", QUESTIONS[1], " ", "0"]]
    found, facts = prepare_pairs("quora", table(path, rows), view="triplets")
    assert found == {triplet(1, 2, 3)}
    assert facts["dropped"] == {
        "question marked both as a duplicate and as none": 2,
        "duplicate of a question without a negative": 1,
        "question without a duplicate": 1,
        "pair with an empty question": 1,
    }


def test_commas_and_other_columns(tmp_path: Path) -> None:
    header = [*HEADER[::-1], "more"]
    path = table(tmp_path / "train.csv", [[*row(1, 2, 1)[::-1], "x"]], header, ",")
    assert prepare_pairs("quora", path)[0] == {Pair(QUESTIONS[1], QUESTIONS[2])}


def test_without_quoting(path: Path) -> None:
    text = '0\t1\t2\t"What" is?\t"Why\t1\r\n\r\n1\t3\t4\tone\ttwo\t1\r\n'
    path.write_text("\ufeff" + "\t".join(HEADER) + "\r\n" + text)
    assert prepare_pairs("quora", path, quoted=False)[0] == {Pair('"What" is?', '"Why'), Pair("one", "two")}
    with pytest.raises(InputError, match=r"quora_duplicate_questions\.tsv, line 2: not sound CSV"):
        prepare_pairs("quora", path)


@pytest.mark.parametrize(
    ("column", "value", "view", "message"),
    [
        (5, "2", "duplicates", "is_duplicate is '2', neither 0 nor 1"),
        (5, "", "triplets", "is_duplicate is '', neither 0 nor 1"),
        (1, "x1", "triplets", "the id of a question is 'x1', not a number"),
        (2, "-3", "triplets", "the id of a question is '-3', not a number"),
        (2, "9" * 19, "triplets", "the id of a question is '9999999999999999999', not a number"),
    ],
)
def test_broken_rows_are_named(path: Path, column: int, value: str, view: str, message: str) -> None:
    bad = row(5, 6, 1)
    bad[column] = value
    rows = [row(1, 2, 1), row(1, 3, 0), bad, ["half", "a", "row"]]
    found, facts = prepare_pairs("quora", table(path, rows), view=view)
    assert len(found) == 1
    assert facts["broken"]["places"] == [f"{path}, line 4: {message}", f"{path}, line 5: 3 columns instead of 6"]


def test_broken_tables_are_named(path: Path) -> None:
    table(path, [row(1, 2, 1)], [*HEADER[:-1], "label"])
    with pytest.raises(InputError, match=r"tsv, line 1: has no column 'is_duplicate', only id, qid1, .*, label$"):
        prepare_pairs("quora", path)
    table(path, [row(1, 2, 1), row(1, 3, 1)]).write_bytes(path.read_bytes().replace(b"question 2", b"caf\xe9", 1))
    found, facts = prepare_pairs("quora", path)
    assert found == {Pair(QUESTIONS[1], QUESTIONS[3])}
    assert facts["broken"]["places"] == [f"{path}, line 2: not UTF-8 (byte 38 of the line)"]
    path.write_text("\t".join(HEADER) + "\n")
    with pytest.raises(InputError, match=r"tsv: holds no record"):
        prepare_pairs("quora", path)
    with pytest.raises(InputError, match=r"holds no quora_duplicate_questions\.tsv$"):
        path.unlink()
        prepare_pairs("quora", path.parent)


@pytest.mark.parametrize(("view", "mark"), [("duplicates", "1"), ("triplets", "1")])
def test_real_file(shared: Path, view: str, mark: str) -> None:
    path = shared / "formats" / "quora" / "quora_duplicate_questions.tsv"
    rows: list[Any] = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    expected = {Pair(row[3], row[4]) for row in rows if row[5] == mark}
    assert len(expected) == 1
    if view == "duplicates":
        found, facts = prepare_pairs("quora", path.parent, view=view)
        assert (found, facts["num_records"]) == (expected, len(rows))
    else:  # the sample has no negative for its duplicates
        with pytest.raises(
            InputError, match=r"no pair is left; dropped: .*duplicate of a question without a negative: 2"
        ):
            prepare_pairs("quora", path.parent, view=view)
