"""What is to be embedded: a text, texts, the token ids of a text, or those of several."""

from __future__ import annotations

from typing import Any

from pairloom.serve.errors import RequestError

# Token ids are kept in 32 bits.
_TOO_LARGE = 2**31


def read_inputs(place: str, given: Any, max_inputs: int) -> list[str] | list[list[int]]:
    """Texts, or the token ids of texts, from what JSON holds; a single one becomes a list.

    Args:
        place: The name of the parameter.
        given: Its value.
        max_inputs: How many one request may have.

    Raises:
        RequestError: It is neither, empty, or too many.
    """
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list):
        raise _wrong(place, given, "a string, or a list of strings or of token ids")
    if not given:
        raise RequestError(f"{place}: is empty; give at least one text", param=place)
    if type(given[0]) is int:
        return [_token_ids(place, given)]
    check_count(place, len(given), max_inputs)
    if isinstance(given[0], list):
        return [_token_ids(f"{place}[{number}]", ids) for number, ids in enumerate(given)]
    for number, text in enumerate(given):
        if not isinstance(text, str):
            raise _wrong(f"{place}[{number}]", text, "a string")
    return given


def check_count(place: str, count: int, most: int) -> None:
    """Refuses more texts than one request may have."""
    if count > most:
        raise RequestError(
            f"{place}: {count:,} texts are more than the {most:,} that one request may have; send them in parts",
            param=place,
        )


def input_schema(max_inputs: int) -> dict[str, Any]:
    """How JSON Schema says what `read_inputs` takes."""
    text = {"type": "string"}
    token_ids = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": _TOO_LARGE - 1}, "minItems": 1}
    several = {"type": "array", "minItems": 1, "maxItems": max_inputs}
    return {"anyOf": [text, {**several, "items": text}, token_ids, {**several, "items": token_ids}]}


def _token_ids(place: str, given: Any) -> list[int]:
    if not isinstance(given, list):
        raise _wrong(place, given, "a list of token ids")
    if not given:
        raise RequestError(f"{place}: is empty; give at least one token id", param=place)
    for number, token in enumerate(given):
        if type(token) is not int or not 0 <= token < _TOO_LARGE:  # for isinstance True is an int
            raise _wrong(f"{place}[{number}]", token, "a token id, which is a whole number from 0")
    return given


def _wrong(place: str, given: Any, wanted: str) -> RequestError:
    kinds = {str: "a string", bool: "true or false", list: "a list", dict: "an object", type(None): "null"}
    found = kinds.get(type(given))
    return RequestError(f"{place}: must be {wanted}" + (f", but is {found}" if found else ""), param=place)
