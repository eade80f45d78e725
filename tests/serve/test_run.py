"""Servers as people start them: processes, signals, ports, keys, logs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from pairloom.encode.encoder import Encoder
from pairloom.records import Document
from pairloom.search.collection import Collection
from pairloom.serve.run import warn_if_open
from pairloom.serve.settings import Settings
from tests.serve.running import END_S, START_S, RunningServer, head, read_all, read_answer, serving

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")

SECRET = "zebra quagga okapi"


@pytest.fixture(scope="module")
def server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without keys, whose log is JSON, and which has searched and embedded the secret text."""
    with serving(tmp_path_factory.mktemp("home"), str(model_folder), "--set", "log_format=json") as running:
        yield running


def embed(server: RunningServer, text: str = SECRET, **headers: str) -> httpx.Response:
    return server.post("/v1/embeddings", {"model": "tiny", "input": text}, headers=headers)


def test_it_tells_how_to_try_it_and_that_works(server: RunningServer) -> None:
    line = server.wait_for(r"try: curl .*/v1/embeddings").string
    assert server.url in line
    answer = embed(server)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"][0]["embedding"]) == 32


def test_no_line_of_the_log_has_a_text_of_a_request(server: RunningServer) -> None:
    assert embed(server, SECRET, **{"X-Request-Id": "this-one"}).status_code == 200
    server.post("/v1/embeddings", {"model": SECRET, "input": SECRET, "encoding_format": SECRET})
    httpx.post(server.url + "/v1/embeddings", content=f'{{"input": "{SECRET}'.encode())
    httpx.get(server.url + "/v1/" + SECRET, params={"q": SECRET})
    last = httpx.get(server.url + "/v1/nothing", headers={"X-Request-Id": "the-last-one"})
    assert last.status_code == 404
    server.wait_for("the-last-one")
    (line,) = [json.loads(line) for line in server.lines if "this-one" in line]
    assert (line["route"], line["status"], line["texts"]) == ("/v1/embeddings", 200, 1)
    assert line["tokens"] > 0
    assert not re.search("zebra|quagga|okapi", server.log)


def test_every_line_is_an_object_for_programs(server: RunningServer) -> None:
    for line in server.lines:
        assert {"time", "level", "logger"} <= set(json.loads(line))


def test_a_page_under_a_strange_name_or_of_another_site_gets_nothing(server: RunningServer) -> None:
    assert httpx.get(server.url + "/v1/models", headers={"Host": "evil.example"}).status_code == 421
    body = {"model": "tiny", "input": "a"}
    assert server.post("/v1/embeddings", body, headers={"Origin": "https://evil.example"}).status_code == 403
    assert server.post("/v1/embeddings", body, headers={"Origin": server.url}).status_code == 200


def test_what_was_done_is_counted(server: RunningServer) -> None:
    embed(server)
    text = httpx.get(server.url + "/metrics").text
    assert re.search(r'pairloom_requests_total\{method="POST",route="/v1/embeddings",status="200"\} [1-9]', text)
    assert re.search(r'pairloom_tokens_total\{model="tiny"\} [1-9]', text)
    for stage in ("tokenize", "queue", "compute"):
        assert re.search(rf'pairloom_stage_seconds_count\{{stage="{stage}"\}} [1-9]', text), stage
    assert re.search(r"pairloom_batch_fill_ratio_count [1-9]", text)
    assert "pairloom_queue_tokens 0.0" in text


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered_before_it_ends(model_folder: Path, tmp_path: Path, sig: int) -> None:
    body = json.dumps({"model": "tiny", "input": "a text"}).encode()
    with serving(tmp_path, str(model_folder)) as server, server.connect() as slow, server.connect() as after:
        slow.sendall(head("/v1/embeddings", len(body)) + body[:5])
        embed(server)  # so that the slow one has been accepted by now
        server.process.send_signal(sig)
        assert read_all(after) == b""  # the listening ended, and so did what was idle
        with pytest.raises(ConnectionError):
            server.connect().close()
        slow.sendall(body[5:])
        status, answer = read_answer(slow)
        assert (status, len(json.loads(answer)["data"])) == (200, 1)
        assert server.process.wait(END_S) == 0
        assert "Traceback" not in server.log


def test_draining_has_an_end(model_folder: Path, tmp_path: Path) -> None:
    with serving(tmp_path, str(model_folder), "--set", "drain_s=0.5") as server, server.connect() as slow:
        slow.sendall(head("/v1/embeddings", 100) + b"{")
        embed(server)
        assert server.end() == 0
        assert read_all(slow).startswith(b"HTTP/1.1 503 ")
        assert "Traceback" not in server.log


def test_keys_are_asked_for_and_their_scopes_heeded(model_folder: Path, tmp_path: Path) -> None:
    add = [sys.executable, "-m", "pairloom", "serve", "--keys", "keys.toml", "--add-key"]
    made = [
        subprocess.run([*add, told], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=START_S)
        for told in ("web", "admin:write")
    ]
    web, admin = (done.stdout.strip() for done in made)
    assert "it is shown only now" in made[0].stderr
    with serving(tmp_path, str(model_folder), "--keys", "keys.toml") as server:
        assert embed(server).status_code == 401
        assert embed(server, Authorization=f"Bearer {web}").status_code == 200
        assert embed(server, Authorization=f"Bearer {admin}").status_code == 403
        assert httpx.get(server.url + "/").status_code == 200
        assert httpx.get(server.url + "/metrics").status_code == 401
        server.wait_for("client=web")
        assert web not in server.log
        assert admin not in server.log


def test_limits_hold_for_a_real_client(model_folder: Path, tmp_path: Path) -> None:
    limits = ["--set", "max_body_bytes=2000", "--set", "body_s=1", "--set", "max_inputs=2"]
    with serving(tmp_path, str(model_folder), *limits) as server:
        assert embed(server, "a " * 2_000).status_code == 413
        assert server.post("/v1/embeddings", {"model": "tiny", "input": ["a"] * 3}).status_code in (400, 413)
        with server.connect() as slow:
            slow.sendall(head("/v1/embeddings", 100) + b"{")
            assert read_all(slow).startswith(b"HTTP/1.1 408 ")
        assert embed(server, "a").status_code == 200


def test_a_collection_brings_its_model_and_is_written_to_and_searched(model_folder: Path, tmp_path: Path) -> None:
    with Collection(tmp_path / "texts", Encoder(model_folder)) as collection:
        collection.upsert([Document("one", "water is hot"), Document("two", "a python list")])
    with serving(tmp_path, "--collection", "texts") as server:
        assert [model["id"] for model in httpx.get(server.url + "/v1/models").json()["data"]] == ["tiny"]
        found = server.post("/v1/search", {"query": "hot water", "k": 1})
        assert found.status_code == 200, found.text
        assert found.json()["hits"][0]["id"] == "one"
        written = server.post("/v1/documents", {"documents": [{"id": "three", "text": "cold coffee"}]})
        assert written.status_code == 200, written.text
        assert server.end() == 0
    with Collection(tmp_path / "texts") as collection:
        assert [document is not None for document in collection.get(["one", "three"])] == [True, True]


def _workers(server: RunningServer) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(child) for child in children if _is_there(int(child))]


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_until_gone(pids: list[int]) -> bool:
    until = time.monotonic() + END_S
    while time.monotonic() < until and any(map(_is_there, pids)):
        time.sleep(0.05)
    return not any(map(_is_there, pids))


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="there is no /proc to look at")


@needs_proc
@pytest.mark.slow
def test_several_workers_serve_are_replaced_and_end_together(model_folder: Path, tmp_path: Path) -> None:
    environment = {"TMPDIR": str(tmp_path)}
    with serving(tmp_path, str(model_folder), "--workers", "2", environment=environment) as server:
        first = _workers(server)
        assert len(first) == 2
        (folder,) = tmp_path.glob("pairloom-metrics-*")
        os.kill(first[0], signal.SIGKILL)
        server.wait_for(rf"worker {first[0]} has died \(signal 9\)")
        until = time.monotonic() + START_S
        while len(_workers(server)) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        second = _workers(server)
        assert len(set(second) - set(first)) == 1
        server.wait_until_ready()
        for _ in range(20):
            assert embed(server).status_code == 200
        # One of them answers for all, the dead one included.
        counted = re.search(r'pairloom_texts_total\{model="tiny"\} (\S+)', httpx.get(server.url + "/metrics").text)
        assert counted is not None
        assert float(counted[1]) == 20
        body = json.dumps({"model": "tiny", "input": "a text"}).encode()
        with server.connect() as slow:
            slow.sendall(head("/v1/embeddings", len(body)) + body[:5])
            time.sleep(0.5)
            server.process.terminate()
            time.sleep(1.0)
            slow.sendall(body[5:])
            assert read_answer(slow)[0] == 200
        assert server.process.wait(END_S) == 0
        assert not any(map(_is_there, second))
        assert not folder.exists()


@needs_proc
@pytest.mark.slow
def test_workers_end_when_the_supervisor_is_killed(model_folder: Path, tmp_path: Path) -> None:
    with serving(tmp_path, str(model_folder), "--workers", "2") as server:
        workers = _workers(server)
        server.process.kill()
        server.process.wait(END_S)
        try:
            assert _wait_until_gone(workers)
        finally:
            for pid in workers:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def refused(home: Path, *words: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and stderr of a server that cannot start."""
    done = subprocess.run(
        [sys.executable, "-m", "pairloom", "serve", *words],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=START_S,
        env={**os.environ, **(environment or {})},
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.strip()


def test_a_taken_port_is_one_sentence(model_folder: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = refused(tmp_path, str(model_folder), "--port", str(port))
    assert code == 1
    assert len(said.splitlines()) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_model_that_is_not_there_is_one_sentence(tmp_path: Path, workers: str) -> None:
    code, said = refused(tmp_path, "./nothing", "--port", "0", "--workers", workers)
    assert code == 1
    assert len(said.splitlines()) == 1
    assert "nothing" in said


def test_wrong_settings_are_one_sentence(tmp_path: Path) -> None:
    assert refused(tmp_path)[0] == 2
    code, said = refused(tmp_path, "m", environment={"PAIRLOOM_SERVE_PROT": "1"})
    assert (code, len(said.splitlines())) == (2, 1)
    assert "PAIRLOOM_SERVE_PROT is not a setting" in said
    code, said = refused(tmp_path, "m", "--keys", "none.toml")
    assert (code, len(said.splitlines())) == (1, 1)
    assert "none.toml: cannot be read" in said


def test_a_server_for_all_without_keys_warns(caplog: pytest.LogCaptureFixture) -> None:
    warn_if_open(Settings(host="0.0.0.0"))
    assert "everybody who reaches 0.0.0.0 may use the server" in caplog.text
    caplog.clear()
    warn_if_open(Settings())
    warn_if_open(Settings(host="0.0.0.0", keys=Path("keys.toml")))
    warn_if_open(Settings(host="0.0.0.0", api_keys=SecretStr("web:key")))
    assert caplog.text == ""
