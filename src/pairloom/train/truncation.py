"""Texts of a run that were longer than the limit and were cut: how many, and the sentence that says it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_SIDES = {"anchors": "anchor_max_tokens", "candidates": "positive_max_tokens"}


def count_texts(records: Iterable[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Texts of the steps that made the model, over all resumptions; a text that was drawn twice counts twice.

    Args:
        records: The lines of ``metrics.jsonl``. Those of earlier versions do not tell, and do not count.

    Returns:
        For ``anchors`` and ``candidates`` (positives, negatives and past contexts) the ``count`` and the number ``truncated``.
    """
    told = [record["texts"] for record in records if "texts" in record]
    return {side: {key: sum(texts[side][key] for texts in told) for key in ("count", "truncated")} for side in _SIDES}


def truncation_note(facts: dict[str, Any]) -> str:
    """A sentence that says what share of the texts was cut; empty if none was, or if nobody knows.

    Args:
        facts: The manifest's facts.
    """
    texts, limits = facts.get("texts", {}), {side: _limits(facts, side) for side in _SIDES}
    if limits["anchors"] == limits["candidates"]:
        texts = {"texts": {key: sum(one[key] for one in texts.values()) for key in ("count", "truncated")}}
        limits = {"texts": limits["anchors"]}
    parts = [
        f"{_share(one['truncated'] / one['count'])} of the {side} ({one['truncated']:,} of {one['count']:,}) were longer than "
        f"{limits[side]} tokens"
        for side, one in texts.items()
        if one["truncated"]
    ]
    return f"{' and '.join(parts)}; they were cut" if parts else ""


def _limits(facts: dict[str, Any], side: str) -> str:
    data, key = facts["recipe"]["data"], _SIDES[side]
    limits = sorted({one.get(key) or data[key] for one in data["datasets"]})
    return f"{limits[0]:,}" if len(limits) == 1 else f"their limit of {limits[0]:,} to {limits[-1]:,}"


def _share(share: float) -> str:
    return "less than 0.01 %" if share < 1e-4 else f"{100 * share:.3g} %"
