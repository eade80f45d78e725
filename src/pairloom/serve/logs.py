"""Lines on stderr, for people or as JSON: one a request, and whatever else happens.

No line has a text of a request in it unless that was asked for, not even one about an error: messages of exceptions like to quote
what they choked on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import select
import sys
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, TextIO

logger = logging.getLogger("pairloom.serve")
requests = logging.getLogger("pairloom.serve.requests")

# What is written into a pipe in one piece: no less by POSIX; Windows, which says nothing of it, has one worker only.
_PIPE_BYTES: int = getattr(select, "PIPE_BUF", 512)
_PLAIN = re.compile(r"[\w./:{}+-]+")


def set_up(log_format: Literal["text", "json"], *, log_texts: bool) -> None:
    """Sends what the process logs to stderr, instead of wherever it went before."""
    handler = RoundHandler(sys.stderr)
    handler.setFormatter(JsonLines(log_texts=log_texts) if log_format == "json" else TextLines(log_texts=log_texts))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("pairloom").setLevel(logging.INFO)
    # What it warns of are malformed requests and too many connections: as many lines as somebody cares to cause.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class RoundHandler(logging.StreamHandler[TextIO]):
    """Writes together what the event loop logs in one of its rounds; what is worse than a report, and other threads', at once.

    Each line by itself would be a call of the system, during which other threads take the interpreter's lock.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._unwritten: list[str] = []
        self._last: logging.LogRecord

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._unwritten.append(self.format(record) + self.terminator)
        except Exception:  # whatever it is, as every handler does: who logs does not fail by it
            self.handleError(record)
            return
        self._last = record
        loop = _running_loop() if record.levelno <= logging.INFO else None
        if loop is None:
            self.flush()
        elif len(self._unwritten) == 1:
            loop.call_soon(self.flush)

    def flush(self) -> None:
        """Writes what is not written yet."""
        assert self.lock is not None
        with self.lock:
            lines, self._unwritten = self._unwritten, []
            try:
                for part in _parts(lines):
                    self.stream.write(part)
                    super().flush()
            except Exception:  # likewise
                self.handleError(self._last)


def _parts(lines: list[str]) -> Iterator[str]:
    """Whole lines, as many at a time as a pipe takes in one piece: several workers may write into the same one."""
    begin, num_bytes = 0, 0
    for end, line in enumerate(lines):
        size = len(line.encode("utf-8", "replace"))
        if num_bytes + size > _PIPE_BYTES and end > begin:
            yield "".join(lines[begin:end])
            begin, num_bytes = end, 0
        num_bytes += size
    if begin < len(lines):
        yield "".join(lines[begin:])


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class _Lines(logging.Formatter):
    def __init__(self, *, log_texts: bool) -> None:
        super().__init__()
        self._log_texts = log_texts

    def _failure(self, record: logging.LogRecord) -> str:
        """Where it happened, as a traceback has it; the error's own words only if texts may be shown."""
        if not record.exc_info or (error := record.exc_info[1]) is None:
            return ""
        if self._log_texts:
            return "".join(traceback.format_exception(error)).rstrip()
        frames = "".join(traceback.format_tb(error.__traceback__))
        return f"Traceback (most recent call last):\n{frames}{type(error).__module__}.{type(error).__qualname__}"


class TextLines(_Lines):
    """``2026-05-01T12:00:00.000Z info what happened``; facts as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.msg, Mapping):
            message = " ".join([f"{name}={_word(value)}" for name, value in record.msg.items()])
        else:
            message = _one_line(record.getMessage())
        failure = self._failure(record)
        return f"{_time(record)} {record.levelname.lower()} {message}" + (f"\n{failure}" if failure else "")


class JsonLines(_Lines):
    """An object a line: ``time``, ``level``, ``logger``, and ``message`` or the facts."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        if isinstance(record.msg, Mapping):
            line |= record.msg
        else:
            line["message"] = record.getMessage()
        if failure := self._failure(record):
            line["exception"] = failure
        return json.dumps(line, default=str, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    return f"{_second(int(record.created))}.{int(record.msecs):03}Z"


@lru_cache(maxsize=2)  # a busy second has thousands of lines
def _second(since_epoch: int) -> str:
    return datetime.fromtimestamp(since_epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _word(value: Any) -> str:
    if type(value) is int or type(value) is float:
        return str(value)
    text = str(value)
    # As JSON has it, a value that holds spaces, quotes or line breaks is still one word.
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _one_line(text: str) -> str:
    return text if text.isprintable() else text.replace("\r", "\\r").replace("\n", "\\n")
