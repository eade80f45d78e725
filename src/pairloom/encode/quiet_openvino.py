"""openvino without what its import does besides; other modules import it from here.

``import openvino`` also imports its model converter, ``openvino.tools.ovc``. That takes longer than all the rest, and
sends the event "import" to Google Analytics, from a process that it forks, unless the user has said no in a file or an
environment variable says that this is CI; a client's number stays in the home folder. Building and compiling a graph
needs none of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_TOOLS = "openvino.tools"


@contextmanager
def _without_converter() -> Iterator[None]:
    """In this block ``import openvino`` leaves the converter out; ``openvino.convert_model`` imports it when it is asked for.

    Where openvino has been imported before, that was somebody else's decision, and nothing is changed.
    """
    if "openvino" in sys.modules:
        yield
        return
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    modules[_TOOLS] = None  # to import it is now an ImportError, which openvino passes over
    try:
        yield
    finally:
        del modules[_TOOLS]
    sys.modules["openvino"].__getattr__ = _convert_model  # type: ignore[method-assign]


def _convert_model(name: str) -> Any:
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    from openvino.tools.ovc import convert_model

    return convert_model


with _without_converter():
    import openvino
    from openvino import opset13 as op

__all__ = ["op", "openvino"]
