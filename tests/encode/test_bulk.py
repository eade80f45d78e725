"""Bulk encoding: killed, cut, refused, taken up, and the same bytes at the end. Parts are in test_merge.py."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairloom import Encoder
from pairloom.artifacts import verify
from pairloom.encode import blocks, bulk, vector_files
from pairloom.encode import job as job_module
from pairloom.encode.bulk import encode_texts
from pairloom.encode.job_input import WHOLE, Behind, Shard, parse_shard, source_state
from pairloom.encode.vectors import VectorSet
from pairloom.errors import ArtifactError, InputError, ModelError, UsageError
from pairloom.records import Text
from tests.encode.jobs import BLOCK_TEXTS, Command, MeanEngine, content, make_texts, write_texts

NUM_TEXTS = 300

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has neither kill -9 nor limits on files")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few texts, each of which is written down; files of 100 rows."""
    monkeypatch.setattr(blocks, "BLOCK_TEXTS", BLOCK_TEXTS)
    monkeypatch.setattr(bulk, "_COMMIT_EVERY_S", 0.0)
    monkeypatch.setattr(vector_files, "ROWS_PER_FILE", 100)


class Job:
    """A job in this process; what it encodes is counted."""

    def __init__(self, model: Path, out: Path) -> None:
        self.model, self.out = model, out
        self.texts = make_texts(NUM_TEXTS)
        self.num_encoded = 0

    @property
    def folder(self) -> Path:
        return self.out.parent / f".{self.out.name}.encoding"

    def run(self, *, stop_at: int | None = None, **options: Any) -> dict[str, Any]:
        """Encodes the texts; ``stop_at`` presses Ctrl-C before this text is read."""
        engine = options.pop("engine", None) or MeanEngine()
        encoder = options.pop("encoder", None) or Encoder(self.model, precision="float32", engine=engine)
        try:
            return encode_texts(
                encoder,
                self._read(stop_at),
                options.pop("out", self.out),
                origin="texts",
                show_progress=False,
                **options,
            )
        finally:
            self.num_encoded = engine.num_texts

    def _read(self, stop_at: int | None) -> Iterator[Text]:
        for number, text in enumerate(self.texts):
            if number == stop_at:
                raise KeyboardInterrupt
            yield text

    def stop(self, at: int, **options: Any) -> int:
        """Returns how many texts are encoded and written down: all before it but for the blocks in work."""
        with pytest.raises(KeyboardInterrupt):
            self.run(stop_at=at, **options)
        return self.num_done()

    def num_done(self) -> int:
        lines = (self.folder / "journal.jsonl").read_text().splitlines()
        rows: int = json.loads(lines[-1][9:])["done"]["rows"]
        assert rows % BLOCK_TEXTS == 0
        return rows


@pytest.fixture
def job(model_folder: Path, tmp_path: Path) -> Job:
    return Job(model_folder, tmp_path / "vectors")


@pytest.fixture
def unbroken(job: Job, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What one process makes that is let alone."""

    def make(**options: Any) -> dict[str, Any]:
        job.run(out=tmp_path / "unbroken", **options)
        return content(tmp_path / "unbroken")

    return make


@pytest.fixture
def command(model_folder: Path, tmp_path: Path) -> Callable[..., Command]:
    """A job over the same texts in a process of its own."""
    source = write_texts(tmp_path / "texts.jsonl", make_texts(NUM_TEXTS))

    def make(**options: Any) -> Command:
        return Command(model_folder, source, **{"out": tmp_path / "vectors", "rows_per_file": 100, **options})

    return make


# Going on.


@pytest.mark.parametrize("store", ["float32", "float16", "int8"])
@pytest.mark.parametrize("stops", [[150], [100, 101, 299], [80, 112, 128, 224, 272]])
def test_what_is_done_is_not_done_again(
    job: Job, unbroken: Callable[..., dict[str, Any]], store: str, stops: list[int]
) -> None:
    expected = unbroken(store=store)
    done = 0
    for stop in stops:
        before, done = done, job.stop(stop, store=store)
        assert not job.out.exists()
        assert 0 < done <= stop
        assert before <= done <= before + job.num_encoded <= stop
    facts = job.run(store=store)
    assert job.num_encoded == NUM_TEXTS - done
    assert facts["count"] == NUM_TEXTS
    assert content(job.out) == expected
    verify(job.out)
    assert [path.name for path in job.out.parent.iterdir() if path.name.startswith(".")] == []


def test_seconds_of_all_processes_count(job: Job) -> None:
    done = job.stop(112, engine=MeanEngine(seconds=0.05))
    assert done > 0
    assert job.run()["seconds"] >= 0.05 * done / BLOCK_TEXTS


def test_a_kill_at_any_moment(
    command: Callable[..., Command], unbroken: Callable[..., dict[str, Any]], job: Job
) -> None:
    expected = unbroken()
    dice = random.Random(1)
    journal = job.folder / "journal.jsonl"
    sizes = [0]
    for _ in range(4):
        process = command(block_s=0.02).start()
        while not journal.exists() or journal.stat().st_size <= sizes[-1]:
            time.sleep(0.005)
            assert process.poll() is None, process.communicate()
        time.sleep(dice.uniform(0, 0.08))
        process.kill()
        process.communicate()
        sizes.append(journal.stat().st_size)
    code, said, num_encoded = command().run()
    assert (code, said) == (0, "")
    assert num_encoded <= NUM_TEXTS - 3 * BLOCK_TEXTS
    assert content(job.out) == expected


@pytest.mark.parametrize(
    ("rows_per_file", "limits"),
    [
        (1000, [5_000, 12_345, 20_001]),  # in a file of vectors
        (5, [1_300, 4_000, 7_777]),  # in the journal: nothing else is as long
    ],
)
def test_a_kill_in_the_middle_of_a_write(
    command: Callable[..., Command],
    unbroken: Callable[..., dict[str, Any]],
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    rows_per_file: int,
    limits: list[int],
) -> None:
    monkeypatch.setattr(vector_files, "ROWS_PER_FILE", rows_per_file)
    expected = unbroken()
    for limit in limits:
        code, _, _ = command(rows_per_file=rows_per_file, max_file_bytes=limit, die=True).run()
        assert code == -signal.SIGXFSZ
        cut = [file.name for file in job.folder.rglob("*") if file.is_file() and file.stat().st_size == limit]
        assert cut == (["journal.jsonl"] if rows_per_file == 5 else ["vectors-00000.npy"])
    _, said, num_encoded = command(rows_per_file=rows_per_file).run()
    assert said == ""
    assert num_encoded < NUM_TEXTS
    assert content(job.out) == expected


def test_a_kill_just_before_the_folder_is_put_in_place(
    command: Callable[..., Command], unbroken: Callable[..., dict[str, Any]], job: Job
) -> None:
    assert command(kill_in="_rename").run()[0] == -signal.SIGKILL
    assert command().run() == (0, "", 0)
    assert content(job.out) == unbroken()


@pytest.mark.parametrize("fault", ["cut", "changed"])
def test_journals_whose_last_lines_are_not_whole(job: Job, unbroken: Callable[..., dict[str, Any]], fault: str) -> None:
    expected = unbroken()
    job.stop(250)
    journal = job.folder / "journal.jsonl"
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    place = len(b"".join(lines[:9])) + 30  # in the ninth block
    journal.write_bytes(whole[:place] if fault == "cut" else whole[:place] + b"~" + whole[place + 1 :])
    job.run()
    assert job.num_encoded == NUM_TEXTS - 8 * BLOCK_TEXTS
    assert content(job.out) == expected


def test_a_journal_without_its_first_line_is_no_journal(job: Job) -> None:
    job.stop(100)
    journal = job.folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:20])
    job.run()
    assert job.num_encoded == NUM_TEXTS


def test_data_that_has_gone_is_said(job: Job) -> None:
    job.stop(250)
    file = job.folder / "artifact" / "vectors-00000.npy"
    os.truncate(file, 1000)
    with pytest.raises(
        ArtifactError, match=r"vectors-00000\.npy: is missing or shorter than it was; begin anew with --restart"
    ):
        job.run()
    (job.folder / "artifact" / "texts-00002.jsonl").unlink()
    with pytest.raises(ArtifactError, match=r"is missing or shorter"):
        job.run()
    assert job.run(restart=True)["count"] == NUM_TEXTS


def test_a_full_disk_is_one_sentence_and_what_is_done_stays(
    command: Callable[..., Command], unbroken: Callable[..., dict[str, Any]], job: Job
) -> None:
    code, said, _ = command(max_file_bytes=9_000).run()
    assert code == 0
    assert said == (
        f"{job.out}: the disk is full; free some space and run again (what is encoded stays, and it goes on from there)"
    )
    _, said, num_encoded = command().run()
    assert said == ""
    assert num_encoded < NUM_TEXTS - BLOCK_TEXTS
    assert content(job.out) == unbroken()


def test_a_fault_in_the_input_costs_nothing_that_is_done(job: Job) -> None:
    def texts() -> Iterator[Text]:
        yield from job.texts[:200]
        raise InputError("not UTF-8", "texts", 201)

    encoder = Encoder(job.model, precision="float32", engine=MeanEngine())
    with pytest.raises(InputError, match="texts, line 201: not UTF-8"):
        encode_texts(encoder, texts(), job.out, origin="texts", show_progress=False)
    done = job.num_done()
    job.run()
    assert 0 < job.num_encoded == NUM_TEXTS - done


# What is refused.


def test_another_job_is_refused_with_what_differs(job: Job, tmp_path: Path) -> None:
    files = [write_texts(tmp_path / name, job.texts) for name in ("a.jsonl", "b.jsonl")]
    state = source_state(files[:1], field="body", id_field=None)
    job.stop(100, job=state)
    journal = (job.folder / "journal.jsonl").read_bytes()
    for options, expected in (
        ({"store": "int8"}, "begun with storage float32, not int8"),
        ({"shard": Shard(1, 3)}, "begun with part none, not 2/3"),
        ({"job": source_state(files[:1], field="title")}, "begun with field body, not title"),
        ({"job": source_state(files[:1])}, "begun with field body, not none"),
        ({"job": source_state(files[1:], field="body")}, f"begun with the input {files[0]}, not {files[1]}"),
    ):
        with pytest.raises(ArtifactError) as caught:
            job.run(**{"job": state, **options})  # type: ignore[arg-type]
        assert str(caught.value) == f"{job.out}: {expected}; give the same, or begin anew with --restart"
    os.utime(files[0], ns=(0, 0))
    with pytest.raises(ArtifactError, match=f"begun before its input {files[0]} was changed; give"):
        job.run(job=source_state(files[:1], field="body"))
    assert (job.folder / "journal.jsonl").read_bytes() == journal
    assert job.run(job=state)["count"] == NUM_TEXTS


def test_another_model_and_precision_are_refused(job: Job, backbone_folder: Callable[[str], Path]) -> None:
    job.stop(100)
    other = Encoder(backbone_folder("bert"), precision="float32", engine=MeanEngine())
    with pytest.raises(
        ArtifactError, match=r"begun with model [0-9a-f]{32}, not [0-9a-f]{32}; give the same, or begin anew"
    ):
        job.run(encoder=other)
    other = Encoder(job.model, engine=MeanEngine(precision="bfloat16"))
    with pytest.raises(ArtifactError, match="begun with precision float32, not bfloat16"):
        job.run(encoder=other)
    facts = job.run(encoder=other, restart=True)
    assert (facts["precision"], facts["count"]) == ("bfloat16", NUM_TEXTS)


@pytest.mark.parametrize("place", [0, 64, 111])
def test_texts_that_are_not_those_encoded_are_refused(job: Job, place: int) -> None:
    done = job.stop(250)
    job.texts[place] = Text(job.texts[place].id, "something else")
    expected = (
        f"texts: its first {done} texts are not those that were encoded before; give the same input, or begin anew"
    )
    with pytest.raises(ArtifactError, match=expected):
        job.run()
    job.texts = make_texts(NUM_TEXTS)[: done - 1]
    with pytest.raises(ArtifactError, match=expected):
        job.run()
    assert job.num_encoded == 0


def test_a_text_that_is_not_yet_encoded_may_change(job: Job) -> None:
    done = job.stop(120)
    job.texts[done] = Text("new", "something else")
    job.run()
    assert VectorSet(job.out).texts([done]) == [Text("new", "something else")]


def test_two_processes_at_once(job: Job) -> None:
    job.stop(100)

    def texts() -> Iterator[Text]:
        with pytest.raises(ArtifactError, match="another process is at work here"):
            job.run()
        with pytest.raises(ArtifactError, match="another process is at work here"):
            job.run(restart=True)
        yield from job.texts

    encoder = Encoder(job.model, precision="float32", engine=MeanEngine())
    encode_texts(encoder, texts(), job.out, origin="texts", show_progress=False)
    assert len(VectorSet(job.out)) == NUM_TEXTS


def test_something_at_the_place(job: Job, tmp_path: Path) -> None:
    job.out.mkdir()
    (job.out / "mine").touch()
    with pytest.raises(ArtifactError, match="vectors: already there"):
        job.run()
    assert [path.name for path in tmp_path.iterdir()] == ["vectors"]


def test_something_at_the_place_at_the_end_costs_nothing(job: Job) -> None:
    def texts() -> Iterator[Text]:
        yield from job.texts
        job.out.write_text("mine")

    encoder = Encoder(job.model, precision="float32", engine=MeanEngine())
    with pytest.raises(ArtifactError, match="vectors: already there"):
        encode_texts(encoder, texts(), job.out, origin="texts", show_progress=False)
    assert job.out.read_text() == "mine"
    job.out.unlink()
    job.run()
    assert job.num_encoded == 0


def test_nothing_to_encode_leaves_nothing(job: Job, tmp_path: Path) -> None:
    job.texts = []
    with pytest.raises(InputError, match="texts: holds no text"):
        job.run()
    with pytest.raises(InputError, match="texts: holds no text"):
        job.run(shard=Shard(0, 2))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_before_anything_is_done_leaves_nothing(job: Job, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        job.run(stop_at=5)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_the_first_line_is_written_keeps_it(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    write = job_module.Job._write

    def interrupted(self: job_module.Job, record: dict[str, Any]) -> None:
        write(self, record)
        if "done" in record:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(job_module.Job, "_write", interrupted)
        job.run()
    assert job.num_done() == BLOCK_TEXTS
    job.run()
    assert job.num_encoded == NUM_TEXTS - BLOCK_TEXTS


class BadEngine(MeanEngine):
    """Makes a number of the row 3 of each block something else."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self._number = number

    def embed(self, tokens: Any, *, skip_tokens: int = 0) -> Any:
        vectors = super().embed(tokens, skip_tokens=skip_tokens)
        vectors[3, 7] = self._number
        return vectors


def test_numbers_that_cannot_be_stored(job: Job, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tiny: its vector of text tëxt 3 is no number; do not use it"):
        job.run(engine=BadEngine(np.nan))
    with pytest.raises(ModelError, match=r"its vector of text tëxt 3 is too large for float16; store float32"):
        job.run(engine=BadEngine(1e6), store="float16")
    assert list(tmp_path.iterdir()) == []
    job.run(engine=BadEngine(1e6), store="int8")
    assert VectorSet(job.out).rows([3])[0, 7] == pytest.approx(1e6)


def test_an_error_of_the_disk_that_is_not_its_size_is_not_hidden(job: Job) -> None:
    def texts() -> Iterator[Text]:
        yield from job.texts[:20]
        raise OSError(errno.EIO, "Input/output error")

    encoder = Encoder(job.model, precision="float32", engine=MeanEngine())
    with pytest.raises(OSError, match="Input/output error"):
        encode_texts(encoder, texts(), job.out, origin="texts", show_progress=False)


# The input's parts and what is known of it.


def test_parts_are_named_from_1() -> None:
    assert parse_shard("1/1") == WHOLE
    assert parse_shard("2/3") == Shard(1, 3)
    assert str(Shard(1, 3)) == "2/3"
    assert [block for block in range(7) if block in Shard(1, 3)] == [1, 4]
    for wrong in ("0/2", "3/2", "1", "/", "a/b", "-1/2", "1/2/3", "1.0/2", ""):
        with pytest.raises(UsageError, match="such as 1/4, 2/4, 3/4 and 4/4"):
            parse_shard(wrong)


def test_the_hash_is_of_ids_and_texts_and_where_they_end() -> None:
    def after(*texts: Text) -> Behind:
        return Behind().after(texts)

    one = after(Text("1", "ab"), Text("2", "c"))
    assert one == after(Text("1", "ab"), Text("2", "c"))
    others = [
        after(Text("1", "a"), Text("2", "bc")),
        after(Text("1", "ab"), Text("", "2c")),
        after(Text("1", "ab"), Text("3", "c")),
        after(Text("2", "c"), Text("1", "ab")),
        after(Text("1", "ab")).after([Text("2", "c")]),
        after(Text("1", "ab"), Text("2", "\ud800")),
    ]
    assert len({one.sha256, *(other.sha256 for other in others)}) == 7
    assert (one.blocks, one.texts) == (1, 2)


def test_the_state_of_a_source(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "file"
    file.write_text("one")
    states = [source_state([tmp_path / "folder"]), source_state([file])]
    assert states == [source_state([tmp_path / "folder"]), source_state([file])]
    file.write_text("other")
    assert source_state([tmp_path / "folder"]) != states[0]
    assert source_state([file]) != states[1]
    assert source_state(["-"], field="a", id_field=None) == {"input": {"-": "standard input"}, "field": "a"}


def test_speed_and_time_left_are_shown(
    job: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairloom.progress._PLAIN_LINE_EVERY_S", 0.0)
    share = iter(np.linspace(0.1, 1.0, 100).tolist())
    encoder = Encoder(job.model, precision="float32", engine=MeanEngine(seconds=0.01))
    encode_texts(encoder, job.texts, job.out, origin="texts", share_read=lambda: next(share))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == -(-NUM_TEXTS // BLOCK_TEXTS)
    assert "encoding: 16 texts" in lines[0]
    assert lines[0].endswith("tokens/s")
    assert "% read, 0:00:0" in lines[5]
    assert lines[5].endswith(" left")
    assert json.loads((job.out / "manifest.json").read_text())["facts"]["count"] == NUM_TEXTS
