"""The program that measures the server: at toy size, and its parts by hand."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from benchmarks._serve_connection import BROKEN, UNANSWERED, Connection
from benchmarks._serve_load import Load, quantiles, statuses
from benchmarks._serve_overload import rate_back_s, waits_back_s
from benchmarks._serve_process import Server, free_port
from benchmarks._serve_requests import Request, embeddings, mixed, prepare, read_requests, write_requests
from benchmarks._serve_soak import EXPECTED
from benchmarks._serve_table import failures, processors

from tests.test_benchmarks import command

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nConnection: keep-alive\r\n\r\nhello"
BUSY = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 3\r\nCONTENT-LENGTH: 0\r\n\r\n"


@pytest.mark.slow
def test_the_serving_program_at_toy_size_measures_both_sides() -> None:
    printed = run("throughput", "micro_batches", "start")
    for name in ("offline, all at once", "pairloom, base64", "pairloom, floats"):
        assert len(re.findall(rf"^  {name} .* requests/s .*processors: server", printed, re.MULTILINE)) == 2, name
    for precision in ("float32", "bfloat16"):
        assert f"sentence-transformers, {precision}: cosine to offline vectors at least" in printed
    assert len(re.findall(r"^   +(?:64|256) tokens +p50", printed, re.MULTILINE)) == 4
    assert re.search(r"^  pairloom serve: ready after ", printed, re.MULTILINE)


@pytest.mark.slow
def test_the_serving_program_overloads_and_soaks_and_searches_at_toy_size(tmp_path: Path) -> None:
    printed = run("overload", "soak", "search", words=["--cache", str(tmp_path)])
    assert "requests were due" in printed
    assert "of the rate again" in printed
    assert "NOT AS IT SHOULD BE" not in printed
    assert re.search(r"^  ended by SIGTERM with 0", printed, re.MULTILINE)
    for mode in ("hybrid", "vector", "words"):
        # By each kind of index, with one client and with two.
        assert len(re.findall(rf"^  {mode} +p50 .* searches/s", printed, re.MULTILINE)) == 4, mode
    assert re.findall(r"documents, index (\w+),", printed) == ["auto", "graph"]
    assert len(re.findall(r"of it the loop \d", printed)) == 12


def run(*parts: str, words: list[str] | None = None) -> str:
    printed = command("serve", "--toy", *(word for part in parts for word in ("--part", part)), *(words or []))
    assert "failed" not in printed
    return printed


@contextmanager
def answering(answer: Callable[[int], list[bytes] | None]) -> Iterator[int]:
    """A server whose answer to each request is by its number: pieces to send, or none to close the connection; its port."""
    loop = asyncio.new_event_loop()
    port: list[int] = []
    started, numbers = threading.Event(), iter(range(10**9))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                pieces = answer(next(numbers))
                for piece in pieces or ():
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if pieces is None or b"\r\nconnection: close\r\n" in b"".join(pieces):
                    break
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        finally:
            writer.close()

    async def main() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port.append(server.sockets[0].getsockname()[1])
            started.set()
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    started.wait()
    try:
        yield port[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()


@pytest.fixture
def requests(tmp_path: Path) -> str:
    made = [prepare("first", "/a", method="GET"), prepare("second", "/b", method="GET")]
    return str(write_requests(tmp_path / "requests.json", made))


def test_every_request_is_sent_once_and_counted_by_its_status(requests: str) -> None:
    def answer(number: int) -> list[bytes] | None:
        if number % 10 == 3:
            return None
        return [BUSY] if number % 5 == 1 else [OK]

    with answering(answer) as port:
        found = Load().closed(requests, port, clients=4, count=100, seconds=30.0)
    assert found["statuses"] == {"broken": 10, "200": 70, "429": 20}
    assert found["batch_size"] == len(found["calls_s"]) == 70
    assert 0 < max(found["calls_s"]) <= found["step_s"][0]


def test_answers_in_pieces_are_put_together_and_a_connection_that_is_to_close_is_not_used_again(requests: str) -> None:
    pieces = [OK[place : place + 7] for place in range(0, len(OK), 7)]
    closing = OK.replace(b"keep-alive", b"close").replace(b"Connection", b"connection")
    with answering(lambda number: [closing] if number % 2 else pieces) as port:
        found = Load().closed(requests, port, clients=2, count=20, seconds=30.0)
    assert found["statuses"] == {"200": 20}


def test_a_turn_ends_when_its_time_is_over_and_says_if_nothing_was_answered_well(requests: str) -> None:
    with answering(lambda number: [OK]) as port:
        found = Load().closed(requests, port, clients=2, count=10**6, seconds=0.2)
    assert 0 < found["batch_size"] < 10**6
    with answering(lambda number: [BUSY]) as port:
        assert "429" in Load().closed(requests, port, clients=1, count=3, seconds=1.0)["failed"]


def test_kinds_are_counted_apart(requests: str) -> None:
    with answering(lambda number: [BUSY] if number % 2 else [OK]) as port:
        found = Load().kinds(requests, port, clients=1, count=11, seconds=30.0)
    assert found["first"]["statuses"] == {"200": 6}
    assert found["second"]["statuses"] == {"429": 5}
    assert len(found["first"]["taken_s"]) == 3


def test_a_client_that_hangs_up_comes_back(tmp_path: Path) -> None:
    impatient = Request("impatient", prepare("", "/", method="GET").data, hang_up_s=0.01)
    path = write_requests(tmp_path / "requests.json", [impatient, prepare("patient", "/", method="GET")])
    assert read_requests(path)[0] == impatient
    with answering(lambda number: [OK] if number % 2 else [OK[:20]]) as port:
        found = Load().kinds(str(path), port, clients=1, count=6, seconds=30.0)
    assert found["impatient"]["statuses"] == {"broken": 3}
    assert found["patient"]["statuses"] == {"200": 3}


def test_a_stream_is_sent_at_its_rate_whatever_is_answered(requests: str) -> None:
    with answering(lambda number: [BUSY] if number % 2 else [OK]) as port:
        found = Load().overload(requests, port, rate=400, seconds=0.5, most=50, clients=2, recover_s=0.3)
    sent = sum(found["statuses"].values())
    assert found["due"] == sent + found["unsent"] <= 200
    assert found["due"] > 100
    assert found["statuses"].keys() <= {"200", "429"}
    assert found["retries"] == [found["statuses"]["429"], 3, 3, 3]
    assert sum(found["accepted_by_s"]) == found["statuses"]["200"]
    assert all(moment >= 0 for moment in found["finished_s"])
    assert found["after_statuses"].keys() == {"200", "429"}


def test_requests_that_are_due_while_no_connection_is_free_are_not_sent(requests: str) -> None:
    with answering(lambda number: [OK[:20]] if number < 3 else [OK]) as port:
        found = Load().overload(requests, port, rate=200, seconds=0.3, most=3, clients=1, recover_s=0.1)
    assert found["statuses"] == {"unanswered": 3}
    assert found["unsent"] == found["due"] - 3 > 0


def test_the_rate_is_back_when_a_whole_second_has_enough() -> None:
    slow, quick = np.arange(0, 3, 0.1), np.arange(3, 6, 0.01)
    found = rate_back_s([*slow, *quick], 90)
    assert found is not None
    assert 2.8 < found <= 3.0
    assert rate_back_s([*quick - 3], 90) == 0.0
    assert rate_back_s([*slow], 90) is None
    assert rate_back_s([], 90) is None


def test_waits_are_back_when_half_of_those_who_come_wait_no_longer() -> None:
    calls = [(moment, 0.5 if moment < 2 else 0.01) for moment in np.arange(0, 4, 0.1).tolist()]
    found = waits_back_s(calls, 0.02)
    assert found is not None
    assert 1.3 < found <= 1.6
    assert waits_back_s(calls, 0.001) is None
    assert waits_back_s([], 1.0) is None


def test_statuses_have_names_and_quantiles_of_nothing_are_none() -> None:
    assert statuses(np.array([200, BROKEN, 200, UNANSWERED], np.uint16)) == {"broken": 1, "200": 2, "unanswered": 1}
    assert quantiles(np.array([])) == []
    assert quantiles(np.array([1.0, 2.0, 3.0]))[::2] == [2.0, 3.0]


def test_what_is_busy_and_what_failed_is_taken_from_all_rounds() -> None:
    runs = [{"step_s": [2.0], "server_cpu_s": 3.0, "load_cpu_s": 0.5, "statuses": {"200": 5, "429": 2}}] * 2
    assert processors(runs) == "processors: server 1.50, load 0.25"
    assert failures(runs) == "  429: 4"
    assert failures([{"step_s": [1.0]}]) == processors([{"step_s": [1.0]}]) == ""


def test_requests_have_as_many_texts_as_are_asked_for_and_a_mixture_has_every_kind() -> None:
    one, three = (embeddings(["ä", "b", "c", "d"], "m", "base64", count) for count in (1, 3))
    assert [request.data.partition(b"\r\n\r\n")[2].count(b"model") for request in one] == [1] * 4
    assert ['["ä", "b", "c"]'.encode() in request.data for request in three] == [True, False]
    for request in one:
        head, _, body = request.data.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
    kinds = {request.kind for request in mixed(["a text", "another"], "m", 2_000)}
    assert EXPECTED.keys() < kinds
    assert mixed(["a text"], "m", 50) == mixed(["a text"], "m", 50)


def test_a_server_that_does_not_start_is_told_of_with_its_last_words() -> None:
    with pytest.raises(SystemExit, match="no such option"):
        Server(["python", "-c", "raise SystemExit('no such option')"], "/health/ready")


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", free_port()))


def test_a_connection_that_breaks_while_nothing_is_asked_is_no_answer() -> None:
    answers: list[Connection] = []
    connection = Connection(answers.append)
    connection.connection_lost(None)
    assert not answers
