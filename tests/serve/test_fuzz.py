"""Bodies of all bad kinds, over a real connection: refused with a reason, and the server goes on as before."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.serve.fuzzing import MIB, Target, faults, make_collection, start, why_a_fault, why_not_refused

DEEP = 100_000
MANY = 100_000
HUGE = "1" + "0" * 400

NO_JSON: dict[str, bytes] = {
    "nothing": b"",
    "a bracket": b"{",
    "half a word": b"nul",
    "half a string": b'{"input": "a',
    "two bodies": b"{}{}",
    "a list": b"[]",
    "null": b"null",
    "a number": b"3",
    "a huge number": HUGE.encode(),
    "a number of 100,000 digits": b"1" * 100_000,
    "infinity": b"1e400",
    "not a number": b"NaN",
    "a string": b'"text"',
    "no UTF-8": b"\xff\xfe\xfd",
    "no UTF-8 in a key": b'{"\xff": 1}',
    "UTF-16": '{"input": "a"}'.encode("utf-16"),
    "NUL bytes": b"\x00" * 1_000,
    "a NUL byte in a key": b'{"in\x00put": "a"}',
    "deep lists": b"[" * DEEP,
    "deep lists that end": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP,
    "deep objects that end": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "single quotes": b"{'input': 'a'}",
    "a form": b"input=a&model=b",
}
# As they stand in JSON, by the type that would be right.
WRONG: dict[type, tuple[str, ...]] = {
    str: ("true", "3", "1.5", "1e400", HUGE, "[]", "{}", '["a"]', '"\\ud800"', '"half \\udc00"'),
    int: ('"3"', "true", "1.5", "-1", "0", "1e400", "-1e400", HUGE, "-" + HUGE, "[]", "{}", "[3]"),
    bool: ('"true"', "3", "1e400", HUGE, "[]", "{}", "[true]"),
    list: ('"text"', "true", "3", "1.5", "1e400", HUGE, "{}", "[null]", "[[]]", "[3]", "[true]", '["a", 3]', "[1e400]"),
    dict: ('"text"', "true", "3", "1.5", HUGE, "[]", "[{}]"),
}
NO_INPUT = (
    *("null", "true", "3", "1.5", "1e400", HUGE, "{}", "[]", "[[]]", "[[], []]", "[null]", "[{}]", "[true]", "[1.5]"),
    *('["a", 1]', '["a", null]', '[1, "a"]', '[[1], "a"]', "[[1], []]", "[[[1]]]", '[["a"]]', "[[1.5]]", "[[true]]"),
    *("[-1]", "[1e400]", f"[{HUGE}]", "[2147483648]", "[9223372036854775808]", "[999999]", "[[-1]]", f"[[{HUGE}]]"),
    *('"\\ud800"', '["a", "\\udfff"]', "[" * 100 + "]" * 100, "[" * DEEP + "]" * DEEP),
)
NO_SENSE = {
    "filter": (
        *(
            "{}",
            '{"or": []}',
            '{"tag": {"in": []}}',
            '{"tag": {"nothing": 1}}',
            '{"tag": null}',
            '{"not": 3}',
        ),
        *(
            '{"year": {"gte": "soon"}}',
            '{"year": {"gte": 1e400}}',
            '{"tag": "\\ud800"}',
            f'{{"year": {{"gte": {HUGE}}}}}',
        ),
        '{"not": ' * 1_000 + '{"tag": "a"}' + "}" * 1_000,
        '{"and": [' * DEEP + '{"tag": "a"}' + "]}" * DEEP,
        json.dumps({"tag": {"in": [str(number) for number in range(MANY)]}}),
        json.dumps({"or": [{"tag": str(number)} for number in range(MANY)]}),
    ),
    "metadata": (
        *('{"n": 1e400}', f'{{"n": {HUGE}}}', '{"tag": "\\ud800"}', '{"\\ud800": 1}'),
        '{"a": ' * 100 + "1" + "}" * 100,
        '{"a": ' + "[" * DEEP + "]" * DEEP + "}",
        json.dumps({str(number): number for number in range(MANY)}),
        json.dumps({"a": list(range(MANY))}),
    ),
}
# Which may be right or wrong.
ODD = ("null", '""', '"\\u0000"', '"a\\u0000b"', '"\\uffff\\ufffe"', json.dumps("long " * 20_000), '"\\ud83d\\ude00"')


@pytest.fixture(scope="module")
def target(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    collection = make_collection(tmp_path_factory.mktemp("fuzz") / "collection", model_folder)
    with start(model_folder, "--collection", str(collection)) as server:
        yield Target(server)


def bodies(model: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path, and a body that is right."""
    document = {"id": "new", "text": "hot water", "metadata": {"tag": "coffee"}}
    kind = {"input_type": "query"}
    embed = {"model": model, "input": "a", "encoding_format": "float", "dimensions": 8, "user": "me", "truncate": True}
    search = {"query": "coffee", "k": 3, "mode": "hybrid", "filter": {"tag": "coffee"}, "highlights": True}
    return [
        ("POST", "/v1/embeddings", embed | kind),
        ("POST", f"/v1/inference/{model}", {"inputs": ["a"], "normalize": True, "truncate": True} | kind),
        ("POST", "/v1/similarity", {"model": model, "text": "a", "others": ["b"]} | kind),
        ("POST", "/v1/similarity", {"model": model, "texts": ["a", "b"]} | kind),
        ("POST", "/v1/search", search),
        ("POST", "/v1/documents", {"documents": [document]}),
        ("DELETE", "/v1/documents", {"ids": ["none"]}),
        ("DELETE", "/v1/documents", {"filter": {"tag": "none"}}),
    ]


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where a body has values; what is in metadata and filters is the user's affair."""
    if at:
        yield at
    if at and at[-1] in ("metadata", "filter"):
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def with_value(body: dict[str, Any], at: tuple[str | int, ...], written: str) -> bytes:
    """The body with a value as it is ``written`` in JSON at one of its places."""
    changed: Any = copy.deepcopy(body)
    inner = changed
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = "@here@"
    return json.dumps(changed).replace('"@here@"', written).encode()


def value_at(body: Any, at: tuple[str | int, ...]) -> Any:
    for key in at:
        body = body[key]
    return body


def test_the_bodies_that_are_made_wrong_are_right(target: Target) -> None:
    for method, path, body in bodies(target.model):
        answer = target.ask(method, path, json.dumps(body).encode())
        assert answer.status == 200, (method, path, answer)


def test_what_is_no_json_is_refused_with_a_reason(target: Target) -> None:
    ways = {(method, path) for method, path, _ in bodies(target.model)}
    cases = (
        (f"{method} {path}: {name}", partial(target.ask, method, path, body), why_not_refused)
        for method, path in sorted(ways)
        for name, body in NO_JSON.items()
    )
    with target.bounded(64 * MIB):
        assert not faults(target, cases)


def test_values_of_wrong_types_are_refused_with_a_reason(target: Target) -> None:
    cases = (
        (
            f"{path}: {at} = {written[:30]}",
            partial(target.ask, method, path, with_value(body, at, written)),
            why_not_refused,
        )
        for method, path, body in bodies(target.model)
        for at in places(body)
        if at[0] not in ("input", "inputs")
        for written in WRONG[type(value_at(body, at))]
    )
    assert not faults(target, cases)


def test_inputs_that_are_neither_texts_nor_token_ids_are_refused_with_a_reason(target: Target) -> None:
    cases = (
        (
            f"{path}: {written[:30]}",
            partial(target.ask, "POST", path, with_value(body, (key,), written)),
            why_not_refused,
        )
        for _, path, body in bodies(target.model)
        for key in ("input", "inputs")
        if key in body
        for written in NO_INPUT
    )
    assert not faults(target, cases)


def test_odd_values_are_no_fault_of_the_server(target: Target) -> None:
    cases = (
        (
            f"{path}: {at} = {written[:30]}",
            partial(target.ask, method, path, with_value(body, at, written)),
            why_a_fault,
        )
        for method, path, body in bodies(target.model)
        for at in (*places(body), *((("documents", 0, "metadata", "tag"),) if "documents" in body else ()))
        for written in ODD
    )
    assert not faults(target, cases)


def test_missing_and_unknown_keys_are_refused_with_a_reason(target: Target) -> None:
    cases = (
        (f"{method} {path} {name}", partial(target.ask, method, path, json.dumps(body).encode()), why_not_refused)
        for method, path, right in bodies(target.model)
        for name, body in (("empty", {}), ("with a key too many", {**right, "nonsense": 1}))
    )
    assert not faults(target, cases)


def test_too_many_items_are_refused_with_a_reason(target: Target) -> None:
    model = target.model
    many = ["a"] * MANY
    cases: list[tuple[str, str, Any]] = [
        ("/v1/embeddings", "texts", {"model": model, "input": many}),
        ("/v1/embeddings", "texts of token ids", {"model": model, "input": [[5]] * MANY}),
        (f"/v1/inference/{model}", "texts", {"inputs": many}),
        ("/v1/similarity", "others", {"model": model, "text": "a", "others": many}),
        ("/v1/similarity", "texts", {"model": model, "texts": many}),
        ("/v1/documents", "documents", {"documents": [{"id": str(number), "text": "a"} for number in range(MANY)]}),
        ("/v1/search", "hits", {"query": "coffee", "k": MANY}),
    ]
    with target.bounded(128 * MIB):
        assert not faults(
            target,
            (
                (f"{path}: {name}", partial(target.ask, "POST", path, json.dumps(body).encode()), why_not_refused)
                for path, name, body in cases
            ),
        )


def test_lists_that_are_longer_than_the_model_or_sense_are_no_fault_of_the_server(target: Target) -> None:
    token_ids = {"model": target.model, "input": [5] * MANY}
    ids = {"ids": [f"none {number}" for number in range(MANY)]}
    cases = (
        ("token ids", partial(target.ask, "POST", "/v1/embeddings", json.dumps(token_ids).encode()), why_a_fault),
        ("ids", partial(target.ask, "DELETE", "/v1/documents", json.dumps(ids).encode()), why_a_fault),
    )
    with target.bounded(128 * MIB):
        assert not faults(target, cases)


def test_filters_and_metadata_that_make_no_sense_are_refused_with_a_reason(target: Target) -> None:
    ways = {(method, path, tuple(at)): body for method, path, body in bodies(target.model) for at in places(body)}
    cases = (
        (
            f"{method} {path}: {written[:30]}",
            partial(target.ask, method, path, with_value(body, at, written)),
            why_not_refused,
        )
        for (method, path, at), body in ways.items()
        if at[-1] in NO_SENSE
        for written in NO_SENSE[str(at[-1])]
    )
    with target.bounded(128 * MIB):
        assert not faults(target, cases)


def test_a_body_in_another_coding_or_of_another_type_is_refused_with_a_reason(target: Target) -> None:
    right = json.dumps({"model": target.model, "input": "a"}).encode()
    bomb = gzip.compress(b" " * (32 * MIB))
    send = partial(target.ask, "POST", "/v1/embeddings")
    cases = [
        ("gzip", partial(send, gzip.compress(right), Content_Encoding="gzip")),
        ("a gzip bomb", partial(send, bomb, Content_Encoding="gzip")),
        ("deflate", partial(send, b"\x78\x9c", Content_Encoding="deflate")),
        ("an unknown coding", partial(send, b"\x00", Content_Encoding="nonsense")),
        ("plain text", partial(send, right, Content_Type="text/plain")),
        ("a form", partial(send, b"input=a", Content_Type="application/x-www-form-urlencoded")),
        ("no type", partial(send, right, Content_Type="")),
    ]
    with target.bounded(16 * MIB):
        assert not faults(target, ((name, send, why_not_refused) for name, send in cases))


def test_a_document_with_odd_letters_comes_back_as_it_went_or_is_refused(target: Target) -> None:
    for text in ("a\x00b", "\ufffe\uffff", "é\u0301\u200b", "\U0010ffff", "' OR 1=1 --", '"NEAR(a b)" *'):
        document = {"id": f"odd {text}", "text": f"coffee {text}", "metadata": {"tag": text}}
        answer = target.ask("POST", "/v1/documents", json.dumps({"documents": [document]}).encode())
        assert why_a_fault(answer) is None, (text, answer)
        if answer.status == 200:
            body = json.dumps({"query": f"coffee {text}", "k": 10, "filter": {"tag": text}}).encode()
            hits = json.loads(target.ask("POST", "/v1/search", body).body)["hits"]
            assert [(hit["id"], hit["text"]) for hit in hits] == [(document["id"], document["text"])], text
