"""What the tests of inputs have in common: a file with some content, its texts, or what is said to be wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pairloom.encode.inputs import read_texts
from pairloom.errors import InputError
from pairloom.records import Text


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts_of(path: Path | str, field: str | None = None, **settings: Any) -> list[Text]:
    return list(read_texts(path, field, **settings))


def fault(path: Path | str, field: str | None = None, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        texts_of(path, field, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "FILE") if isinstance(path, Path) else str(caught.value)
