"""What may befall a run: killed, interrupted, damaged, out of space, not finite; and how it goes on all the same."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pairloom.artifacts import verify
from pairloom.errors import ModelError, TrainingError
from pairloom.evaluate.evaluation import evaluate
from pairloom.models.read import read_model
from pairloom.models.weights import read_tensors
from pairloom.models.write import write_model
from pairloom.recipe import parse_recipe
from pairloom.train.checkpoint import STATE_TENSORS, checkpoints, latest_checkpoint, save_checkpoint
from pairloom.train.loop import TrainingInterruptedError, train
from tests.conftest import make_pairs, make_shards
from tests.train.command_jobs import run_as
from tests.train.test_world import FORKS, environment, free_port

FORKS.set_forkserver_preload(["tests.train.world_jobs", "tests.train.command_jobs"])

STEPS = 12
Raw = dict[str, Any]


class Commands:
    """Runs `pairloom train` in real processes, alone or as the ranks of a job."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder, self.out = folder, folder / "model"
        self.raw: Raw = {
            "model": {"base": str(base)},
            "data": {"datasets": [{"shards": str(make_shards(folder / "pairs", make_pairs(40)))}]},
            "train": {
                "steps": STEPS, "batch_size": 7, "warmup_steps": 2, "learning_rate": 1e-3, "micro_batch_tokens": 64,
                "checkpoint_every_steps": 3, "keep_checkpoints": 99, "average_decay": 0.9,
            },
            "loss": {"learn_scale": True},
            "evaluate": {},
        }  # fmt: skip
        self.started: list[ForkServerProcess] = []

    @property
    def run(self) -> Path:
        return self.out.with_name(self.out.name + ".run")

    def recipe(self) -> Path:
        path = self.folder / "recipe.toml"
        lines = []
        for section, values in self.raw.items():
            lines += [f"[{section}]"] + [
                f"{key} = {json.dumps(value)}" for key, value in values.items() if key != "datasets"
            ]
        for dataset in self.raw["data"]["datasets"]:
            lines += ["[[data.datasets]]"] + [f"{key} = {json.dumps(value)}" for key, value in dataset.items()]
        path.write_text("\n".join(lines))
        return path

    def arguments(self, *more: str) -> list[str]:
        return ["train", str(self.recipe()), "--out", str(self.out), "--device", "cpu", "--quiet", *more]

    def start(
        self,
        *more: str,
        size: int = 1,
        own: dict[int, list[str]] | None = None,
        max_file_bytes: int | None = None,
        grace_s: float = 0.1,
        name: str = "rank",
    ) -> list[ForkServerProcess]:
        """Ranks of a job; ``own`` are options that one of them has for itself."""
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        processes = []
        arguments = self.arguments(*more)  # which writes the recipe: not while a rank that was started before reads it
        for rank in range(size):
            variables = {**common, "WORLD_SIZE": str(size), "RANK": str(rank), "LOCAL_RANK": str(rank)}
            output = self.folder / f"{name}-{rank}"
            words = [*arguments, *(own or {}).get(rank, [])]
            process = FORKS.Process(target=run_as, args=(variables, words, output, max_file_bytes, grace_s))
            process.start()
            processes.append(process)
        self.started += processes
        return processes

    def finish(self, *more: str, size: int = 1, **options: Any) -> list[int | None]:
        return codes(self.start(*more, size=size, **options))

    def said(self, rank: int = 0, name: str = "rank") -> str:
        return (self.folder / f"{name}-{rank}").read_text()

    def records(self) -> list[dict[str, Any]]:
        file = self.run / "metrics.jsonl"
        # A process that is killed may leave half a line.
        lines = file.read_text().splitlines(keepends=True) if file.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def losses(self) -> list[float]:
        records = [record for record in self.records() if "loss" in record]
        assert [record["step"] for record in records] == list(range(1, self.raw["train"]["steps"] + 1))
        return [record["loss"] for record in records]

    def wait_for(self, what: Callable[[], Any], process: ForkServerProcess) -> None:
        end = time.monotonic() + 60
        while not what():
            assert time.monotonic() < end
            assert process.is_alive(), self.said()
            time.sleep(0.001)

    def wait_for_steps(self, count: int, process: ForkServerProcess) -> None:
        self.wait_for(lambda: len(self.records()) >= count, process)

    def copy(self, name: str, *, last_step: int | None = None) -> Commands:
        """The same run in another place, unfinished: as it was before the steps after ``last_step``."""
        twin = object.__new__(Commands)
        twin.__dict__.update(self.__dict__)
        twin.out, twin.raw = self.folder / name, json.loads(json.dumps(self.raw))
        if last_step is not None:
            shutil.copytree(self.run, twin.run)
            for path in checkpoints(twin.run / "checkpoints"):
                if int(path.name.removeprefix("step-")) > last_step:
                    shutil.rmtree(path)
        return twin


def codes(processes: list[ForkServerProcess]) -> list[int | None]:
    for process in processes:
        process.join(timeout=60)
    return [process.exitcode for process in processes]


@pytest.fixture(autouse=True)
def _speed_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairloom.train.flops._CPU_SECONDS_A_SIZE", 0.01)


@pytest.fixture
def commands(tmp_path: Path, model_folder: Path) -> Iterator[Commands]:
    made = Commands(tmp_path, model_folder)
    try:
        yield made
    finally:
        for process in made.started:
            process.kill()
            process.join()
            process.close()


def same_bits(one: Path, two: Path) -> bool:
    ours, theirs = read_model(one).weights, read_model(two).weights
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


def train_here(commands: Commands, **options: Any) -> dict[str, Any]:
    """With one thread, as the commands: another number adds up in another order."""
    recipe = parse_recipe(commands.raw, where="test")
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train(recipe, commands.out, device="cpu", show_progress=False, **options).facts
    finally:
        torch.set_num_threads(num_threads)


# Several processes


def test_torchrun_makes_one_model_and_one_report(commands: Commands) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pairloom"]
    done = subprocess.run(
        command + [one for one in commands.arguments() if one != "--quiet"],
        env=environment(PYTHONWARNINGS="default"), cwd=commands.folder, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wrote ") == 1
    assert "Warning" not in done.stderr
    facts = verify(commands.out, "model").facts
    assert facts["device"] == "2 × cpu"
    assert [path.name for path in commands.folder.glob("**/metrics.jsonl") if path.parent == commands.run]
    two = commands.losses()

    alone = commands.copy("alone")
    train_here(alone)
    np.testing.assert_allclose(two, alone.losses(), rtol=1e-5)


def test_a_run_goes_on_with_another_number_of_processes(commands: Commands) -> None:
    commands.raw["data"] |= {"anchor_max_tokens": 7, "positive_max_tokens": 7}  # so that some texts are cut
    one, two = commands.copy("one"), commands.copy("two")
    assert one.finish(size=1) == [0]
    assert two.finish(size=2) == [0, 0]
    texts = verify(one.out, "model").facts["texts"]
    assert all(0 < side["truncated"] < side["count"] == 12 * 7 for side in texts.values())
    assert verify(two.out, "model").facts["texts"] == texts
    for unbroken, size in ((one, 2), (two, 1), (two, 3)):
        resumed = unbroken.copy(f"{unbroken.out.name}-then-{size}", last_step=6)
        assert resumed.finish("--resume", size=size) == [0] * size
        assert verify(resumed.out, "model").facts["texts"] == texts, "with those of the steps before"
        said = [resumed.said(rank).count("resuming after step 6") for rank in range(size)]
        assert said == [1] + [0] * (size - 1)
        np.testing.assert_allclose(resumed.losses(), one.losses(), rtol=1e-5)
        ours, theirs = read_model(resumed.out).weights, read_model(one.out).weights
        for name, weight in theirs.items():
            np.testing.assert_allclose(ours[name], weight, rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_killed_rank_ends_the_job_with_a_reason_and_the_job_goes_on(commands: Commands) -> None:
    commands.raw["train"]["steps"] = 60
    unbroken = commands.copy("unbroken")
    assert unbroken.finish(size=2) == [0, 0]
    ranks = commands.start(size=2, grace_s=60)
    commands.wait_for_steps(5, ranks[0])
    os.kill(int(ranks[1].pid or 0), signal.SIGKILL)
    time.sleep(1)
    os.kill(int(ranks[0].pid or 0), signal.SIGTERM)  # as torchrun does; it says why all the same
    assert codes(ranks) == [1, -signal.SIGKILL]
    (line,) = commands.said().splitlines()
    assert "one of them has ended or cannot be reached" in line
    assert line.endswith("the same command with --resume goes on from the last checkpoint")
    assert commands.finish("--resume", size=2) == [0, 0]
    assert commands.losses() == unbroken.losses()
    assert same_bits(commands.out, unbroken.out)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "train.seed=1"], "train.seed = 1, rank 0 with 0; start all ranks with the same recipe"),
        (["--resume"], "--resume = true, rank 0 with false; start all ranks with the same options"),
    ],
)
def test_all_ranks_say_that_one_was_started_otherwise(commands: Commands, options: list[str], said: str) -> None:
    assert commands.finish(size=3, own={1: options}) == [2, 2, 2]
    for rank in range(3):
        (line,) = commands.said(rank).splitlines()
        assert line.endswith(f"rank 1 was started with {said}")
    assert not commands.out.exists()


@pytest.mark.parametrize("interrupted", [(0, 1), (1,)])
def test_an_interrupted_job_saves_where_it_is(commands: Commands, interrupted: tuple[int, ...]) -> None:
    commands.raw["train"] |= {"steps": 60, "checkpoint_every_steps": 100}
    unbroken = commands.copy("unbroken")
    assert unbroken.finish(size=2) == [0, 0]
    ranks = commands.start(size=2)
    commands.wait_for_steps(4, ranks[0])
    for rank in interrupted * 2:  # as under torchrun: from the terminal, and passed on
        os.kill(int(ranks[rank].pid or 0), signal.SIGINT)
    assert codes(ranks) == [130, 130]
    (saved,) = checkpoints(commands.run / "checkpoints")
    step = int(saved.name.removeprefix("step-"))
    assert [record["step"] for record in commands.records()] == list(range(1, step + 1))
    *before, last = commands.said().splitlines()
    assert last.endswith(f"stopped; step {step} of 60 is saved: run the same command with --resume to go on")
    assert ["stopping after this step" in line for line in before] == [True] * (0 in interrupted)
    assert "rank 1 has stopped, too" in commands.said(1)
    assert len(commands.said(1).splitlines()) == 1
    assert commands.finish("--resume", size=2) == [0, 0]
    assert commands.losses() == unbroken.losses()
    assert same_bits(commands.out, unbroken.out)


def test_an_interrupted_evaluation_ends_all_ranks(commands: Commands, task_folder: Path) -> None:
    """The others are waiting for the first, which evaluates after a step that is saved."""
    with (task_folder / "corpus.jsonl").open("a") as stream:
        for number, (_, text) in enumerate(make_pairs(3000, seed=6)):
            stream.write("\n" + json.dumps({"_id": f"more{number}", "title": "", "text": text}))
    commands.raw["evaluate"] = {"tasks": [str(task_folder)], "every_steps": 3}
    ranks = commands.start(size=2)
    commands.wait_for((commands.run / "checkpoints" / "step-00000003").is_dir, ranks[0])
    for rank in ranks:
        os.kill(int(rank.pid or 0), signal.SIGINT)
    assert codes(ranks) == [130, 130]
    assert (
        commands.said().splitlines()[-1].endswith("step 3 of 12 is saved: run the same command with --resume to go on")
    )


def test_only_one_process_at_a_time_works_at_a_run(commands: Commands) -> None:
    commands.raw["train"] |= {"steps": 10_000}
    first = commands.start()
    commands.wait_for_steps(1, first[0])
    for options in ([], ["--resume"]):
        assert commands.finish(*options, name="second") == [1]
        (line,) = commands.said(name="second").splitlines()
        assert line.endswith("model.run: another process is at work here; wait for it or stop it")
    assert first[0].is_alive()
    os.kill(int(first[0].pid or 0), signal.SIGTERM)
    assert codes(first) == [130]


# Kills


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_makes_the_same_model(commands: Commands) -> None:
    commands.raw["train"] |= {"steps": 100, "checkpoint_every_steps": 1, "keep_checkpoints": 2}
    unbroken = commands.copy("unbroken")
    assert unbroken.finish() == [0]
    folder = commands.run / "checkpoints"
    dice = random.Random(7)
    killed_while_writing = 0
    for kill in range(7):
        options = ["--resume"] if checkpoints(folder) else []
        (process,) = commands.start(*options)
        begin = int(checkpoints(folder)[-1].name.removeprefix("step-")) if options else 0
        if kill == 2:  # while it starts
            time.sleep(dice.uniform(0, 0.5))
        else:
            number = begin + dice.randrange(1, 5)
            commands.wait_for(lambda n=number: (folder / f"step-{n:08d}").is_dir(), process)  # type: ignore[misc]
            if kill % 2:  # in the middle of a checkpoint
                commands.wait_for(lambda: list(folder.glob(".step-*.partial-*")), process)
                time.sleep(dice.uniform(0, 0.01))
            else:  # anywhere
                time.sleep(dice.uniform(0, 0.05))
        os.kill(int(process.pid or 0), signal.SIGKILL)
        assert codes([process]) == [-signal.SIGKILL]
        killed_while_writing += bool(list(folder.glob(".step-*.partial-*")))
    assert killed_while_writing, "else this test would not have come to its point"
    (process,) = commands.start("--resume")  # and once more, in the middle of the finished model
    while process.is_alive() and not list(commands.folder.glob(".model.partial-*")):
        time.sleep(0.0005)
    process.kill()
    assert codes([process]) in ([0], [-signal.SIGKILL])
    if not commands.out.exists():
        assert commands.finish("--resume") == [0]
    verify(commands.out, "model")
    assert not list(commands.folder.glob(".*"))
    assert same_bits(commands.out, unbroken.out)
    assert commands.losses() == unbroken.losses()
    assert not list(folder.glob(".*")), "what the killed ones left is cleared"
    for name in (STATE_TENSORS, "state.json"):
        assert (folder / "step-00000100" / name).read_bytes() == (
            unbroken.run / "checkpoints" / "step-00000100" / name
        ).read_bytes()


def test_an_evaluation_that_was_cut_off_is_done_again(commands: Commands, task_folder: Path) -> None:
    commands.raw["evaluate"] = {"tasks": [str(task_folder)], "every_steps": 3}
    facts = train_here(commands)
    measured = [evaluation["step"] for evaluation in facts["evaluations"]]
    assert measured == [0, 3, 6, 9, 12]
    for done in (True, False):
        resumed = commands.copy(f"done-{done}", last_step=6)
        lines = [
            line for line in resumed.records() if line["step"] < 7 and (done or line["step"] < 6 or "loss" in line)
        ]
        (resumed.run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        again = train_here(resumed, resume=True)
        assert again["evaluations"] == facts["evaluations"]
        assert [(record["step"], "loss" in record) for record in resumed.records()] == [
            (record["step"], "loss" in record) for record in commands.records()
        ]


# Signals for this very process are laid before the interpreter; those for the command line, above, go through the kernel.


@pytest.mark.parametrize(("every", "saved"), [(100, 4), (3, 3)])
def test_an_interruption_of_an_evaluation_on_the_way_loses_no_step(
    commands: Commands, task_folder: Path, monkeypatch: pytest.MonkeyPatch, every: int, saved: int
) -> None:
    """At once where the step is saved, otherwise when the next one is."""
    calls = []

    def interrupting_the_second_time(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            interrupt_main(signal.SIGINT)
        return evaluate(*arguments, **options)

    commands.raw["evaluate"] = {"tasks": [str(task_folder)], "every_steps": 3}
    commands.raw["train"]["checkpoint_every_steps"] = every
    monkeypatch.setattr("pairloom.train.measuring.evaluate", interrupting_the_second_time)
    with pytest.raises(TrainingInterruptedError, match=f"step {saved} of 12 is saved"):
        train_here(commands)
    facts = train_here(commands, resume=True)
    assert [evaluation["step"] for evaluation in facts["evaluations"]] == [0, 3, 6, 9, 12]
    assert len(commands.losses()) == STEPS


@pytest.mark.parametrize("number", [1, 4])
def test_an_interruption_while_a_step_is_saved_stops_after_it(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The last step, too: what follows is the evaluation, which may be long."""
    calls = []

    def interrupted(*arguments: Any, **options: Any) -> Path:
        calls.append(1)
        if len(calls) == number:
            interrupt_main(signal.SIGINT)
        return save_checkpoint(*arguments, **options)

    monkeypatch.setattr("pairloom.train.loop.save_checkpoint", interrupted)
    with pytest.raises(TrainingInterruptedError, match=f"step {3 * number} of 12 is saved"):
        train_here(commands)
    train_here(commands, resume=True)
    assert len(commands.losses()) == STEPS


# Checkpoints that are not whole


@pytest.fixture(scope="module")
def two_checkpoints(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of steps 1 and 2, made by a short run."""
    commands = Commands(tmp_path_factory.mktemp("two"), model_folder)
    commands.raw["train"] |= {"steps": 2, "warmup_steps": 0, "checkpoint_every_steps": 1}
    train_here(commands)
    return commands.run / "checkpoints"


def origin_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((checkpoints(folder)[0] / "state.json").read_bytes())["origin"])


FILES = ("manifest.json", "state.json", STATE_TENSORS, "model/model.safetensors", "model/1_Pooling/config.json")


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x40
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_damage_of_any_kind_is_named_and_the_checkpoint_before_is_used(
    two_checkpoints: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None], name: str
) -> None:
    folder = Path(shutil.copytree(two_checkpoints, tmp_path / "checkpoints"))
    origin = origin_of(folder)
    damage(folder / "step-00000002" / name)
    found = latest_checkpoint(folder, origin=origin)
    if name == "manifest.json" and damage is flip and found.step == 2:
        pytest.skip("the flipped byte says nothing of the checkpoint")
    assert found.step == 1
    assert "checkpoint step-00000002 is damaged, so the one before it is used: " in caplog.text
    assert name in caplog.text
    damage(folder / "step-00000001" / name)
    with pytest.raises(TrainingError, match="holds no whole checkpoint, so there is nothing to resume; start without"):
        latest_checkpoint(folder, origin=origin)
    assert len(list(folder.glob("damaged-step-0000000[12]-*"))) == 2, "they are kept, out of the way"


def test_no_flipped_byte_of_a_manifest_is_taken_for_another_recipe(two_checkpoints: Path, tmp_path: Path) -> None:
    """The manifest has the recipe, too, and no checksum of itself."""
    folder = Path(shutil.copytree(two_checkpoints, tmp_path / "checkpoints"))
    origin = origin_of(folder)
    newest = folder / "step-00000002"
    manifest = newest / "manifest.json"
    content = manifest.read_bytes()
    states = {step: json.loads((folder / f"step-0000000{step}" / "state.json").read_bytes()) for step in (1, 2)}
    found = []
    for place in range(0, len(content), 13):
        manifest.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        checkpoint = latest_checkpoint(folder, origin=origin)
        assert checkpoint.mixture == states[checkpoint.step]["mixture"]
        found.append(checkpoint.step)
        for renamed in folder.glob("damaged-*"):
            renamed.rename(newest)
    assert set(found) == {1, 2}


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"step": 2, "skipped": 0, "mixture": {}}', "\ud800"])
def test_a_state_that_makes_no_sense_is_damage_though_its_checksum_is_right(
    two_checkpoints: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    import hashlib

    folder = Path(shutil.copytree(two_checkpoints, tmp_path / "checkpoints"))
    origin = origin_of(folder)
    raw = content.encode(errors="surrogatepass")
    (folder / "step-00000002" / "state.json").write_bytes(raw)
    manifest = json.loads((folder / "step-00000002" / "manifest.json").read_bytes())
    manifest["files"]["state.json"] = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    (folder / "step-00000002" / "manifest.json").write_text(json.dumps(manifest))
    assert latest_checkpoint(folder, origin=origin).step == 1
    assert "state.json: cannot be read" in caplog.text


def test_a_setting_that_an_earlier_version_had_not_was_as_its_default(two_checkpoints: Path, tmp_path: Path) -> None:
    import hashlib

    folder = Path(shutil.copytree(two_checkpoints, tmp_path / "checkpoints"))
    origin = origin_of(folder)
    newest = folder / "step-00000002"
    state, manifest = (json.loads((newest / name).read_bytes()) for name in ("state.json", "manifest.json"))
    del state["origin"]["recipe"]["data"]["steps_per_group"], state["origin"]["recipe"]["loss"]["symmetric"]
    raw = json.dumps(state).encode()
    (newest / "state.json").write_bytes(raw)
    manifest["files"]["state.json"] = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    (newest / "manifest.json").write_text(json.dumps(manifest))
    assert latest_checkpoint(folder, origin=origin).step == 2
    origin["recipe"]["data"]["steps_per_group"] = 8
    with pytest.raises(
        TrainingError, match=r"made with data\.steps_per_group = 1, the recipe says 8; .*--allow-changes"
    ):
        latest_checkpoint(folder, origin=origin)
    origin["recipe"]["loss"]["symmetric"] = False
    with pytest.raises(TrainingError, match=r"loss\.symmetric = true, the recipe says false"):
        latest_checkpoint(folder, origin=origin, allow_changes=True)


def test_checkpoints_follow_their_numbers_however_long(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000, 3):
        (tmp_path / f"step-{step:08d}").mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000003", "step-99999999", "step-100000000"]


def test_what_killed_writers_of_other_hosts_left_is_cleared(two_checkpoints: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(two_checkpoints, tmp_path / "checkpoints"))
    abandoned = folder / ".step-00000002.partial-elsewhere-1-abcdef"
    abandoned.mkdir()
    (abandoned / "half").touch()
    base = read_model(folder / "step-00000002" / "model")
    save_checkpoint(folder, step=3, num_skipped=0, model=base, tensors={}, mixture={}, origin=origin_of(folder), keep=3)
    assert sorted(path.name for path in folder.iterdir()) == [f"step-0000000{step}" for step in (1, 2, 3)]


def test_what_does_not_change_the_result_may_change_on_the_way(commands: Commands) -> None:
    train_here(commands)
    resumed = commands.copy("resumed", last_step=6)
    resumed.raw["train"] |= {
        "graph_memory_mib": 0, "micro_batch_tokens": 96, "peer_timeout_s": 7, "checkpoint_every_steps": 5,
        "keep_checkpoints": 1, "max_skipped_steps": 3,
    }  # fmt: skip
    resumed.raw["data"]["prefetch_batches"] = 0
    train_here(resumed, resume=True)
    np.testing.assert_allclose(resumed.losses(), commands.losses(), rtol=1e-5)
    for section, key, value, said in (
        ("loss", "scale", 10.0, r"loss.scale = 20.0, the recipe says 10.0"),
        ("train", "average_decay", 0.5, r"train.average_decay = 0.9, the recipe says 0.5"),
        ("train", "precision", "bfloat16", r'train.precision = "float32", the recipe says "bfloat16"'),
        ("data", "anchor_max_tokens", 9, r"data.anchor_max_tokens = 128, the recipe says 9"),
    ):
        other = commands.copy(f"other-{key}", last_step=6)
        other.raw[section][key] = value
        with pytest.raises(TrainingError, match=f"step-00000006: was made with {said}"):
            train_here(other, resume=True)


# A full disk


def test_after_a_full_disk_the_run_goes_on_to_the_same_weights(commands: Commands) -> None:
    commands.raw["data"]["prefetch_batches"] = 0
    train_here(commands)
    size = (commands.run / "checkpoints" / "step-00000003" / "model" / "model.safetensors").stat().st_size
    lines = (commands.run / "metrics.jsonl").read_text().splitlines(keepends=True)
    # In a checkpoint; and in the middle of a line of the metrics, between two checkpoints.
    for name, limit, fails_at in (
        ("weights", size // 2, "step-00000006"),
        ("metrics", sum(map(len, lines[:4])) + 50, ""),
    ):
        broken = commands.copy(name, last_step=3)
        assert broken.finish("--resume", max_file_bytes=limit) == [1]
        _, line = broken.said().splitlines()
        assert "the disk is full; free some space and run again" in line
        assert fails_at in line
        (kept,) = (broken.run / "checkpoints").iterdir()
        assert verify(kept, "checkpoint").facts["step"] == 3
        assert broken.finish("--resume") == [0]
        assert same_bits(broken.out, commands.out)
        assert broken.losses() == commands.losses()


def test_a_full_disk_ends_all_ranks(commands: Commands) -> None:
    for name, limit, said in (
        ("weights", 10_000, "rank 0 has stopped the job: "),
        ("metrics", 700, " with the other processes of the job: one of them has ended"),
    ):
        job = commands.copy(name)
        assert job.finish(size=2, max_file_bytes=limit) == [1, 1]
        (line,) = job.said().splitlines()
        assert "the disk is full; free some space and run again" in line
        (line,) = job.said(1).splitlines()
        assert said in line


# Batches that are not finite


def with_a_bad_dataset(commands: Commands) -> None:
    """A base with one word whose vector is too large to be squared, and a dataset in which every text has the word."""
    model = read_model(Path(commands.raw["model"]["base"]))
    (identity,) = model.tokenizer()(["question"]).ids[1:-1].tolist()
    model.weights["embeddings.word.weight"][identity] = 1e30
    base = commands.folder / "base"
    base.mkdir()
    write_model(model, base, readme="")
    commands.raw["model"] = {"base": str(base)}
    good = [pair for pair in make_pairs(60, seed=2) if not any("question" in text for text in pair)]
    bad = [(f"question {anchor}", positive) for anchor, positive in good]
    datasets = [
        {"shards": str(make_shards(commands.folder / name, rows)), "weight": weight}
        for name, rows, weight in (("good", good, 2.0), ("bad", bad, 1.0))
    ]
    commands.raw["data"] = {"datasets": datasets}
    commands.raw["train"] |= {"checkpoint_every_steps": 1, "max_skipped_steps": STEPS}


def test_batches_that_are_not_finite_are_passed_over_and_counted(commands: Commands) -> None:
    with_a_bad_dataset(commands)
    facts = train_here(commands)
    skipped = [record["step"] for record in commands.records() if "skipped" in record]
    assert len(skipped) >= 3
    assert facts["steps_skipped"] == len(skipped)
    assert sorted([*skipped, *(record["step"] for record in commands.records() if "loss" in record)]) == list(
        range(1, STEPS + 1)
    )
    folder = commands.run / "checkpoints"
    for step in range(2, STEPS + 1):
        before, after = (read_tensors(folder / f"step-{number:08d}" / STATE_TENSORS) for number in (step - 1, step))
        unchanged = all(np.array_equal(before[name], after[name]) for name in before)
        paths = [folder / f"step-{number:08d}" / "model" for number in (step - 1, step)]
        assert unchanged == same_bits(*paths) == (step in skipped), step

    # The count goes on after a resumption: one is allowed beyond those that were passed over before it.
    resumed = commands.copy("resumed", last_step=skipped[1])
    shutil.rmtree(resumed.run / "not-finite")
    resumed.raw["train"]["max_skipped_steps"] = 2
    with pytest.raises(TrainingError) as stopped:
        train_here(resumed, resume=True)
    saved = resumed.run / "not-finite" / f"step-{skipped[2]:08d}.jsonl"
    assert str(stopped.value).startswith(f"step {skipped[2]}: the loss is nan; the batch came from bad, rows ")
    assert f"(saved in {saved})" in str(stopped.value)
    lines = [json.loads(line) for line in saved.read_text().splitlines()]
    assert len(lines) == 7
    assert all(line["dataset"] == "bad" and line["texts"][0].startswith("question ") for line in lines)
    resumed.raw["train"]["max_skipped_steps"] = len(skipped)
    train_here(resumed, resume=True)
    assert same_bits(resumed.out, commands.out)


def test_several_processes_pass_over_the_same_batches(commands: Commands) -> None:
    with_a_bad_dataset(commands)
    alone = commands.copy("alone")
    train_here(alone)
    assert commands.finish(size=2) == [0, 0]
    ours, theirs = ([r["step"] for r in one.records() if "skipped" in r] for one in (commands, alone))
    assert ours == theirs
    assert commands.said().count("is passed over") == len(ours), "rank 0 says it"
    assert commands.said(1) == ""
    for file in (alone.run / "not-finite").iterdir():
        assert (commands.run / "not-finite" / file.name).read_bytes() == file.read_bytes()


# A base that cannot be trained


def test_a_tokenizer_that_knows_more_tokens_than_the_weights_is_refused(commands: Commands, model_folder: Path) -> None:
    base = Path(shutil.copytree(model_folder, commands.folder / "base"))
    file = base / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["model"]["vocab"]["foreign"] = 5000
    file.write_text(json.dumps(tokenizer))
    commands.raw["model"]["base"] = str(base)
    with pytest.raises(ModelError, match=r"tokenizer.json knows 5,001 tokens, but the weights have only \d+"):
        train_here(commands)
    assert not commands.run.exists()
