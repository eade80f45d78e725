from __future__ import annotations

import math

import pytest

from pairloom.models.published import published_architecture


@pytest.mark.parametrize(
    ("name", "num_weights", "max_tokens"),
    [
        # As transformers counts them, less the pooler that no sentence encoder uses (hidden² + hidden).
        ("microsoft/mpnet-base", 109_486_464 - 768 * 769, 512),
        ("distilbert-base-uncased", 66_362_880, 512),
        ("distilbert/distilbert-base-uncased", 66_362_880, 512),
        ("nreimers/MiniLM-L6-H384-uncased", 22_713_216 - 384 * 385, 512),
    ],
)
def test_published_bases_have_their_published_sizes(name: str, num_weights: int, max_tokens: int) -> None:
    architecture = published_architecture(name)
    assert architecture is not None
    assert sum(math.prod(shape) for _, shape in architecture.weight_shapes()) == num_weights
    assert architecture.max_tokens == max_tokens


def test_other_names_are_not_known() -> None:
    assert published_architecture("mpnet-base") is None
