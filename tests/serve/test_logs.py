"""Lines on stderr."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import select
import sys
from collections.abc import Iterator

import pytest

from pairloom.serve.logs import JsonLines, RoundHandler, TextLines

TEXT = "a secret text"


def record(message: object, *arguments: object, failed: bool = False) -> logging.LogRecord:
    made = logging.LogRecord("pairloom.serve", logging.INFO, __file__, 1, message, arguments, None)
    made.created, made.msecs = 1_777_636_800.25, 250.0
    if failed:
        try:
            raise ValueError(TEXT)
        except ValueError:
            made.exc_info = sys.exc_info()
    return made


def test_facts_are_words_for_people() -> None:
    line = TextLines(log_texts=False).format(record({"id": "a", "ms": 1.5, "route": "/v1/x", "body": 'two "words"\n'}))
    assert line == '2026-05-01T12:00:00.250Z info id=a ms=1.5 route=/v1/x body="two \\"words\\"\\n"'


def test_facts_are_an_object_for_programs() -> None:
    line = JsonLines(log_texts=False).format(record({"id": "a", "ms": 1.5, "body": "zwei\nWörter"}))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-05-01T12:00:00.250Z",
        "level": "info",
        "logger": "pairloom.serve",
        "id": "a",
        "ms": 1.5,
        "body": "zwei\nWörter",
    }


def test_a_message_cannot_pretend_to_be_two() -> None:
    message = record("worker %s has died", "1\n2026-05-01T12:00:00.000Z info all is well")
    assert "\n" not in TextLines(log_texts=False).format(message)
    assert json.loads(JsonLines(log_texts=False).format(message))["message"].startswith("worker 1\n2026")


@pytest.mark.parametrize("kind", [TextLines, JsonLines])
def test_an_error_says_where_but_not_what_it_choked_on(kind: type[TextLines] | type[JsonLines]) -> None:
    line = kind(log_texts=False).format(record("it failed", failed=True))
    assert TEXT not in line
    assert "ValueError" in line
    assert "test_logs.py" in line
    assert TEXT in kind(log_texts=True).format(record("it failed", failed=True))


class Written(io.StringIO):
    """Keeps what is written call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def write(self, text: str) -> int:
        if text:
            self.calls.append(text)
        return len(text)


@pytest.fixture
def written() -> Iterator[tuple[logging.Logger, Written]]:
    stream, log = Written(), logging.Logger("of a test", logging.INFO)
    handler = RoundHandler(stream)
    log.addHandler(handler)
    yield log, stream
    handler.close()


def test_lines_of_a_round_of_the_loop_are_written_together(written: tuple[logging.Logger, Written]) -> None:
    log, stream = written

    async def work() -> None:
        for round_ in "ab":
            for number in range(3):
                log.info("%s%d", round_, number)
            await asyncio.sleep(0)

    asyncio.run(work())
    assert stream.calls == ["a0\na1\na2\n", "b0\nb1\nb2\n"]


def test_many_lines_are_written_in_parts_that_a_pipe_does_not_cut(written: tuple[logging.Logger, Written]) -> None:
    log, stream = written
    lines = [f"{number} {'ä' * (number * 37 % 900)}" for number in range(50)] + ["x" * 10_000, "the last one"]

    async def work() -> None:
        for line in lines:
            log.info(line)
        await asyncio.sleep(0)

    asyncio.run(work())
    assert "".join(stream.calls) == "".join(f"{line}\n" for line in lines)
    assert all(call.endswith("\n") for call in stream.calls)
    sizes = [len(call.encode()) for call in stream.calls]
    assert sum(size > select.PIPE_BUF for size in sizes) == 1
    assert len(stream.calls) < len(lines) / 2


def test_what_cannot_be_written_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    log = logging.Logger("of a test", logging.INFO)
    log.addHandler(RoundHandler(Full()))

    async def work() -> str:
        log.info("one")
        await asyncio.sleep(0)
        return "goes on"

    assert asyncio.run(work()) == "goes on"
    log.warning("two")
    assert capsys.readouterr().err.count("OSError: [Errno 28]") == 2


def test_a_warning_is_written_at_once_after_what_came_before_it(written: tuple[logging.Logger, Written]) -> None:
    log, stream = written

    async def work() -> list[str]:
        log.info("before")
        log.warning("it burns")
        calls = list(stream.calls)
        log.info("after")
        return calls

    assert asyncio.run(work()) == ["before\nit burns\n"]
    log.handlers[0].flush()
    assert "".join(stream.calls) == "before\nit burns\nafter\n"


def test_where_there_is_no_loop_lines_are_written_at_once(written: tuple[logging.Logger, Written]) -> None:
    log, stream = written
    log.info("starts")
    assert stream.calls == ["starts\n"]

    async def work() -> list[str]:
        await asyncio.to_thread(log.info, "from a thread")
        return list(stream.calls)

    assert asyncio.run(work()) == ["starts\n", "from a thread\n"]


def test_what_an_ended_loop_has_not_written_is_written_at_the_end(written: tuple[logging.Logger, Written]) -> None:
    log, stream = written

    async def work() -> None:
        log.info("the last words")

    loop = asyncio.new_event_loop()
    task = loop.create_task(work())
    task.add_done_callback(lambda _: loop.stop())
    loop.run_forever()
    loop.close()
    log.handlers[0].flush()
    assert stream.calls == ["the last words\n"]


def test_a_line_that_cannot_be_made_takes_no_other_with_it(
    written: tuple[logging.Logger, Written], capsys: pytest.CaptureFixture[str]
) -> None:
    log, stream = written

    async def work() -> None:
        log.info("one")
        log.info("%d", "no number")
        log.info("two")
        await asyncio.sleep(0)

    asyncio.run(work())
    assert stream.calls == ["one\ntwo\n"]
    assert "Logging error" in capsys.readouterr().err
