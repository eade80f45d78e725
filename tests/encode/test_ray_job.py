"""The same job by two workers of a Ray cluster on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

from pairloom import Encoder  # noqa: E402
from pairloom.artifacts import MANIFEST, verify  # noqa: E402
from pairloom.encode import ray_job  # noqa: E402
from pairloom.encode.bulk import encode_texts  # noqa: E402
from pairloom.encode.merge import merge_parts  # noqa: E402
from pairloom.encode.ray_job import RayJob, encode_on_ray  # noqa: E402
from pairloom.encode.sources import Sources  # noqa: E402
from pairloom.errors import ArtifactError, InputError, PairloomError, UsageError  # noqa: E402
from tests.encode.jobs import content, make_texts, write_texts  # noqa: E402

# Ray's own warnings are not our affair.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ENCODING = {"device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three blocks."""
    return write_texts(tmp_path / "texts.jsonl", make_texts(9000))


def encode(job: RayJob, out: Path, **options: Any) -> dict[str, Any]:
    return encode_on_ray(job, out, show_progress=False, **{"num_workers": 2, **options})


def test_two_workers_make_the_bytes_of_one_process(source: Path, model_folder: Path, tmp_path: Path) -> None:
    facts = encode(RayJob([str(model_folder)], [source], encoding=ENCODING, store="float16"), tmp_path / "by-ray")
    texts = Sources([source])
    encode_texts(
        Encoder(model_folder, device="cpu", precision="float32"),
        texts,
        tmp_path / "by-one",
        origin=texts.name,
        store="float16",
        show_progress=False,
    )
    assert content(tmp_path / "by-ray") == content(tmp_path / "by-one")
    assert facts["count"] == 9000
    verify(tmp_path / "by-ray", "vectors")
    assert {path.name for path in tmp_path.iterdir()} == {"texts.jsonl", "by-ray", "by-one"}


def test_parts_that_are_finished_are_not_done_again(
    source: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, out = RayJob([str(model_folder)], [source], encoding=ENCODING), tmp_path / "vectors"

    def times() -> dict[str, int]:
        folder = tmp_path / ".vectors.parts"
        return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob(f"*/{MANIFEST}")}

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("pairloom.encode.ray_job.merge_parts", interrupted)
        encode(job, out)
    before = times()
    assert set(before) == {"1-of-2", "2-of-2"}
    other = RayJob(job.model, job.sources, encoding=ENCODING, store="int8")
    with pytest.raises(
        PairloomError, match="begun with storage float32, not int8; give the same, or begin anew with --restart"
    ):
        encode(other, out)
    with pytest.raises(
        ArtifactError, match=r"begun as \d-of-2; give as many workers again, or begin anew with --restart"
    ):
        encode(job, out, num_workers=1)
    (tmp_path / ".vectors.parts" / "2-of-2" / MANIFEST).unlink()
    with pytest.raises(PairloomError, match=r"2-of-2: has no manifest\.json"):
        encode(job, out)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("pairloom.encode.ray_job.merge_parts", interrupted)
        encode(job, out, restart=True)
    again = times()
    assert again["1-of-2"] > before["1-of-2"]
    merge = merge_parts

    def noted(*arguments: Any, **options: Any) -> dict[str, Any]:
        assert times() == again
        return merge(*arguments, **options)

    monkeypatch.setattr(ray_job, "merge_parts", noted)
    assert encode(job, out)["count"] == 9000
    assert not (tmp_path / ".vectors.parts").exists()


def test_what_goes_wrong_is_one_sentence(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"coffee\n\xff\n")
    out = tmp_path / "vectors"
    job = RayJob([str(model_folder)], [tmp_path / "bad.txt"], encoding=ENCODING)
    with pytest.raises(PairloomError, match=r"bad\.txt, line 2: not UTF-8"):
        encode(job, out)
    replaced = RayJob(job.model, job.sources, {"errors": "replace"}, ENCODING)
    assert encode(replaced, out, num_workers=3)["count"] == 2, "more workers than there is room for"
    with pytest.raises(ArtifactError, match="already there"):
        encode(job, out)
    with pytest.raises(UsageError, match="stdin cannot be read by several workers"):
        encode(RayJob(job.model, ["-"]), tmp_path / "other")
    with pytest.raises(UsageError, match="0 workers"):
        encode(job, tmp_path / "other", num_workers=0)
    with pytest.raises(InputError, match="no such file"):
        encode(RayJob(job.model, [tmp_path / "nothing.txt"]), tmp_path / "other")
    with pytest.raises(PairloomError, match="no such folder"):
        encode(RayJob([str(tmp_path / "nothing")], job.sources), tmp_path / "other")
